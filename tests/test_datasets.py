"""The image data sets: official files, damage, downloads; and the transforms."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import http.server
import io
import lzma
import os
import socket
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest

import pyengine as pe
from pyengine.data import DataLoader, default_collate
from pyengine.vision import transforms
from pyengine.vision.datasets import (
    CIFAR10,
    MNIST,
    DatasetCorruptError,
    DatasetError,
    DatasetNotFoundError,
    Digits,
    FashionMNIST,
    download,
)
from pyengine.vision.datasets.digits import upsample
from pyengine.vision.datasets.raw_file import RawFile

DATA = Path(os.environ.get("PYENGINE_DATA") or Path(__file__).parents[2] / "shared" / "data")


def needs(*paths):
    missing = [path for path in paths if not (DATA / path).exists()]
    return pytest.mark.skipif(bool(missing), reason=f"no {', '.join(missing)} in {DATA} (set PYENGINE_DATA)")


def sha256(data):
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


# --- small files in MNIST's and CIFAR-10's layouts


def small_mnist():
    rng = np.random.default_rng(0)
    images = {"train": rng.integers(0, 256, (7, 28, 28), np.uint8), "test": rng.integers(0, 256, (4, 28, 28), np.uint8)}
    labels = {split: np.arange(len(images[split]), dtype=np.uint8) for split in images}
    contents = {f"{split} images": idx(images[split]) for split in images}
    contents |= {f"{split} labels": idx(labels[split]) for split in labels}
    archives = {key: gzip.compress(content, mtime=0) for key, content in contents.items()}

    class SmallMNIST(MNIST):
        files = {
            key: RawFile(MNIST.files[key].name, len(content), sha256(content), sha256(archives[key]))
            for key, content in contents.items()
        }
        mirrors = []

    return SmallMNIST, images, contents, archives


def write_mnist(root, cls, contents, suffix=""):
    compress = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress}[suffix]
    for key, content in contents.items():
        path = root / cls.folder / (cls.files[key].name + suffix)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(compress(content))


def small_cifar():
    rng = np.random.default_rng(1)
    records = {
        name: rng.integers(0, 256, (3, 3073), np.uint8)
        for name in ("data_batch_1.bin", "data_batch_2.bin", "test_batch.bin")
    }
    for record in records.values():
        record[:, 0] %= 10
    files = [RawFile(name, record.nbytes, sha256(record.tobytes())) for name, record in records.items()]

    class SmallCIFAR10(CIFAR10):
        train_files, test_files = files[:2], files[2:]
        archive_checksum = None
        mirrors = []

    return SmallCIFAR10, records


@pytest.mark.parametrize("suffix", ["", ".gz", ".xz"])
def test_mnist_files(tmp_path, suffix):
    cls, images, contents, _ = small_mnist()
    write_mnist(tmp_path, cls, contents, suffix)
    train, test = cls(tmp_path), cls(str(tmp_path), train=False)
    assert (len(train), len(test)) == (7, 4)
    assert train.data.dtype == pe.uint8 and train.targets.dtype == pe.int64
    assert np.array_equal(train.data.numpy(), images["train"]) and test.targets.tolist() == [0, 1, 2, 3]
    image, label = train[3]
    assert label == 3 and isinstance(label, int)
    assert image.dtype == pe.float32 and tuple(image.shape) == (1, 28, 28)
    assert np.array_equal(image.numpy()[0], images["train"][3].astype(np.float32) / np.float32(255))
    assert train.class_to_idx["3 - three"] == 3
    assert "SmallMNIST(7 train images of shape (28, 28)" in repr(train)
    with pytest.raises(IndexError):
        train[7]


@pytest.mark.parametrize("suffix", ["", ".gz", ".xz"])
def test_cifar_files(tmp_path, suffix):
    cls, records = small_cifar()
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    compress = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress}[suffix]
    for name, record in records.items():
        (folder / (name + suffix)).write_bytes(compress(record.tobytes()))
    train, test = cls(tmp_path), cls(tmp_path, train=False)
    assert train.data.shape == (6, 32, 32, 3) and train.data.dtype == np.uint8 and len(test) == 3
    assert train.targets == [*records["data_batch_1.bin"][:, 0], *records["data_batch_2.bin"][:, 0]]
    image, label = train[4]
    expected = records["data_batch_2.bin"][1]
    assert label == expected[0]
    assert np.array_equal(image.numpy(), expected[1:].reshape(3, 32, 32).astype(np.float32) / np.float32(255))
    assert np.array_equal(train.data[4, :, :, 2].ravel(), expected[1 + 2048 :])


def test_transforms_get_numpy_images(tmp_path):
    cls, images, contents, _ = small_mnist()
    write_mnist(tmp_path, cls, contents)
    dataset = cls(tmp_path, transform=lambda pixels: pixels, target_transform=lambda label: -label)
    pixels, label = dataset[2]
    assert isinstance(pixels, np.ndarray) and pixels.dtype == np.uint8 and pixels.shape == (28, 28) and label == -2


def test_batches_equal_single_samples(tmp_path):
    cls, images, contents, _ = small_mnist()
    write_mnist(tmp_path, cls, contents)
    pipelines = [
        None,
        transforms.ToTensor(),
        transforms.Compose([transforms.ToTensor(), transforms.Normalize(0.1, 0.3)]),
    ]
    pipelines += [
        lambda pixels: pixels,
        transforms.Compose([transforms.Lambda(lambda pixels: pixels[:9]), transforms.ToTensor()]),
    ]
    for transform in pipelines:
        dataset = cls(tmp_path, transform=transform)
        whole = list(DataLoader(dataset, batch_size=3))
        single = list(DataLoader(dataset, batch_size=3, collate_fn=default_collate))
        for (x, y), (u, v) in zip(whole, single, strict=False):
            assert x.dtype == u.dtype and np.array_equal(x.numpy(), u.numpy())
            assert y.dtype == v.dtype == pe.int64 and y.tolist() == v.tolist()


def test_data_may_be_replaced(tmp_path):
    cls, images, contents, _ = small_mnist()
    write_mnist(tmp_path, cls, contents)
    dataset = cls(tmp_path)
    dataset.data, dataset.targets = dataset.data[2:5], dataset.targets[2:5]
    assert len(dataset) == 3 and dataset[0][1] == 2
    assert [batch[1].tolist() for batch in DataLoader(dataset, batch_size=2)] == [[2, 3], [4]]


def test_tensors(tmp_path):
    cls, images, contents, _ = small_mnist()
    write_mnist(tmp_path, cls, contents)
    dataset = cls(tmp_path)
    plain, labels = dataset.tensors(normalize=False)
    assert tuple(plain.shape) == (7, 1, 28, 28) and plain.dtype == pe.float32 and labels.dtype == pe.int64
    assert np.array_equal(plain.numpy()[:, 0], images["train"].astype(np.float32) / np.float32(255))
    normalised, _ = dataset.tensors()
    assert np.allclose(normalised.numpy(), (plain.numpy() - 0.1307) / 0.3081, atol=1e-6)
    own, _ = dataset.tensors(mean=0.5, std=[0.25])
    assert np.allclose(own.numpy(), (plain.numpy() - 0.5) / 0.25, atol=1e-6)
    assert dataset.data.numpy().max() > 1  # untouched


# --- missing and damaged files


def test_missing_files(tmp_path):
    for cls, folder in (
        (MNIST, "MNIST/raw/train-images-idx3-ubyte"),
        (CIFAR10, "cifar-10-batches-bin/data_batch_1.bin"),
    ):
        with pytest.raises(DatasetNotFoundError, match="download=True") as caught:
            cls(tmp_path)
        assert str(tmp_path / folder) in str(caught.value)
        assert isinstance(caught.value, FileNotFoundError) and isinstance(caught.value, RuntimeError)


@pytest.mark.parametrize("suffix", ["", ".gz", ".xz"])
def test_truncated_and_damaged_files(tmp_path, suffix):
    cls, _, contents, _ = small_mnist()
    write_mnist(tmp_path, cls, contents, suffix)
    path = tmp_path / "MNIST" / "raw" / ("train-images-idx3-ubyte" + suffix)
    whole = path.read_bytes()
    damages = [whole[: len(whole) // 2], whole[:-1], b"", whole[:1000] + bytes([whole[1000] ^ 4]) + whole[1001:]]
    if suffix == "":
        damages.append(whole + b"more")
    for data in damages:
        path.write_bytes(data)
        with pytest.raises(DatasetCorruptError) as caught:
            cls(tmp_path)
        assert str(path) in str(caught.value)
    cls(tmp_path, train=False)


def test_messages_say_expected_and_actual(tmp_path):
    cls, _, contents, _ = small_mnist()
    write_mnist(tmp_path, cls, contents)
    path = tmp_path / "MNIST" / "raw" / "train-labels-idx1-ubyte"
    path.write_bytes(contents["train labels"][:-1])
    with pytest.raises(DatasetCorruptError, match="holds 14 bytes, expected 15"):
        cls(tmp_path)
    path.write_bytes(contents["train labels"][:-1] + b"\x09")
    with pytest.raises(DatasetCorruptError, match="its sha256 is [0-9a-f]{64}, expected [0-9a-f]{64}"):
        cls(tmp_path)


def test_a_sound_copy_beside_a_damaged_file(tmp_path):
    cls, _, contents, _ = small_mnist()
    write_mnist(tmp_path, cls, contents, ".gz")
    (tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte").write_bytes(b"half")
    with pytest.warns(UserWarning, match="train-images-idx3-ubyte holds 4 bytes.*ubyte.gz is read instead"):
        assert len(cls(tmp_path)) == 7


def test_a_file_that_expands_without_end(tmp_path):
    cls, _, contents, _ = small_mnist()
    write_mnist(tmp_path, cls, contents, ".gz")
    bomb = gzip.compress(bytes(50_000_000))
    (tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte.gz").write_bytes(bomb)
    with pytest.raises(DatasetCorruptError, match="more than"):
        cls(tmp_path)


@pytest.mark.parametrize(
    "content, words",
    [
        (b"\0\0\x08", "3 bytes"),
        (idx(np.zeros((2, 3), np.uint8)), "starts with 00000802"),
        (b"\0\0\x0d\x03" + bytes(20), "starts with 00000d03"),
        (idx(np.zeros((2, 3, 4), np.uint8))[:-1], r"39 bytes.*\[2, 3, 4\] asks for 40"),
        (idx(np.zeros((2, 3, 4), np.uint8)) + b"x", "asks for 40"),
        (b"\0\0\x08\x03" + b"\xff" * 12, "asks for"),
    ],
)
def test_idx_headers(tmp_path, content, words):
    class Unchecked(MNIST):
        files = {key: RawFile(file.name) for key, file in MNIST.files.items()}

    write_mnist(tmp_path, Unchecked, dict.fromkeys(MNIST.files, content))
    with pytest.raises(DatasetCorruptError, match=words):
        Unchecked(tmp_path)


def test_labels_must_fit(tmp_path):
    class Unchecked(MNIST):
        files = {key: RawFile(file.name) for key, file in MNIST.files.items()}

    images = idx(np.zeros((3, 28, 28), np.uint8))
    for labels in ([1, 2], [1, 2, 10]):
        contents = {"train images": images, "train labels": idx(np.array(labels, np.uint8))}
        write_mnist(tmp_path, Unchecked, contents)
        with pytest.raises(DatasetCorruptError, match="do not fit"):
            Unchecked(tmp_path)


def test_cifar_records(tmp_path):
    class Unchecked(CIFAR10):
        train_files = [RawFile("data_batch_1.bin")]

    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    for content in (bytes(3072), b"\x0a" + bytes(3072)):
        (folder / "data_batch_1.bin").write_bytes(content)
        with pytest.raises(DatasetCorruptError, match="data_batch_1.bin"):
            Unchecked(tmp_path)


# --- downloads, from a server on this machine


class Server:
    """Serves `files`, {path: bytes}; `cut` ends each answer early."""

    def __init__(self):
        self.files, self.cut, self.requests = {}, 0, []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.requests.append(self.path)
                content = outer.files.get(self.path)
                if content is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: len(content) - outer.cut])

            def log_message(self, *arguments):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server()
    thread = threading.Thread(target=server.server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.server.shutdown()
    server.server.server_close()
    thread.join()


def closed_port():
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/"


def test_download(server, tmp_path):
    server.files["/a.bin"] = bytes(range(256)) * 4000
    path = tmp_path / "new" / "a.bin"
    md5 = hashlib.md5(server.files["/a.bin"], usedforsecurity=False).hexdigest()
    for checksum in (None, sha256(server.files["/a.bin"]), f"md5:{md5}"):
        download(server.url + "a.bin", path, checksum)
        assert path.read_bytes() == server.files["/a.bin"] and os.listdir(path.parent) == ["a.bin"]


def test_failed_downloads_leave_nothing_behind(server, tmp_path):
    server.files["/a.bin"] = b"x" * 1000
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(DatasetError, match=r"missing.bin: the server says 404"):
        download(server.url + "missing.bin", path)
    with pytest.raises(DatasetCorruptError, match="a.bin sent is damaged"):
        download(server.url + "a.bin", path, sha256(b"something else"))
    server.cut = 10
    with pytest.raises(DatasetError, match="990"):
        download(server.url + "a.bin", path)
    with pytest.raises(DatasetError, match="refused"):
        download(closed_port() + "a.bin", path)
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["a.bin"]


def test_mnist_download(server, tmp_path):
    cls, _, contents, archives = small_mnist()
    names = {key: cls.files[key].name + ".gz" for key in archives}
    server.files = {f"/data/{names[key]}": archive for key, archive in archives.items()}
    cls.mirrors = [closed_port(), server.url + "nothing/here", server.url + "data/"]
    assert len(cls(tmp_path, download=True)) == 7
    assert sorted(os.listdir(tmp_path / "MNIST" / "raw")) == sorted(names.values())

    server.requests.clear()
    assert len(cls(tmp_path, train=False, download=True)) == 4
    assert server.requests == []  # nothing is fetched twice

    damaged = tmp_path / "MNIST" / "raw" / names["test images"]
    damaged.write_bytes(damaged.read_bytes()[:100])
    assert len(cls(tmp_path, train=False, download=True)) == 4
    assert server.requests == [f"/nothing/here/{names['test images']}", f"/data/{names['test images']}"]


def test_all_mirrors_fail(server, tmp_path):
    cls, _, _, archives = small_mnist()
    name = cls.files["train images"].name + ".gz"
    server.files = {"/wrong/" + name: b"something else"}
    cls.mirrors = [closed_port(), server.url, server.url + "wrong/"]
    with pytest.raises(DatasetError, match="refused.*404.*damaged") as caught:
        cls(tmp_path, download=True)
    assert name in str(caught.value)
    assert list((tmp_path / "MNIST" / "raw").iterdir()) == []


def make_archive(records, folder="cifar-10-batches-bin"):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, content in [
            *((name, record.tobytes()) for name, record in records.items()),
            ("batches.meta.txt", b"airplane\n"),
        ]:
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
        entry = tarfile.TarInfo("../outside")
        tar.addfile(entry, io.BytesIO(b""))
    return stream.getvalue()


def test_cifar_download(server, tmp_path):
    cls, records = small_cifar()
    cls.mirrors = [server.url]
    archive = make_archive(records)
    root = tmp_path / "root"
    for content in (archive[:-500], b"no archive", make_archive(records, "elsewhere")):
        server.files["/cifar-10-binary.tar.gz"] = content
        with pytest.raises(DatasetCorruptError, match="cannot be unpacked"):
            cls(root, download=True)
    server.files["/cifar-10-binary.tar.gz"] = archive
    assert len(cls(root, download=True)) == 6
    assert sorted(os.listdir(root / "cifar-10-batches-bin")) == ["batches.meta.txt", *sorted(records)]
    assert os.listdir(root) == ["cifar-10-batches-bin"] and os.listdir(tmp_path) == ["root"]
    server.requests.clear()
    cls(root, train=False, download=True)
    assert server.requests == []


# --- the digits that come with the package


def test_digits():
    train, test = Digits(), Digits(train=False)
    assert (len(train), len(test)) == (1438, 359)
    assert train.data.dtype == pe.uint8 and tuple(train.data.shape) == (1438, 8, 8) and train.targets.dtype == pe.int64
    assert np.bincount(test.targets.numpy()).tolist() == [36, 36, 35, 37, 36, 36, 36, 36, 35, 36]
    assert train.data.numpy().max() == 255 and train.data.numpy()[0, 0].tolist() == [0, 0, 80, 207, 143, 16, 0, 0]
    assert test.targets.tolist()[:10] == Digits("anywhere", False).targets.tolist()[:10]
    images, _ = train.tensors()
    assert abs(float(images.numpy().mean())) < 1e-5 and abs(float(images.numpy().std()) - 1) < 1e-5


def test_digits_never_change():
    split = Digits(train=False, size=28)
    digest = hashlib.sha256(split.data.numpy().tobytes() + bytes(split.targets.tolist())).hexdigest()
    assert digest == "9b275153321b7aa31cc65bfdde1c83af0cdcaa5dd0ed2b745f89e7abbcd545c7"


@pytest.mark.parametrize("size", [8, 9, 16, 28, 32])
def test_upsampling(size):
    pixels = np.random.default_rng(0).integers(0, 17, (5, 8, 8))
    place = np.clip((np.arange(size) + 0.5) * 8 / size - 0.5, 0, 7)
    rows = np.stack([[np.interp(place, range(8), row) for row in image] for image in pixels])
    both = np.stack([[np.interp(place, range(8), column) for column in image.T] for image in rows]).transpose(0, 2, 1)
    result = upsample(pixels, size)
    assert result.dtype == np.uint8 and result.shape == (5, size, size)
    assert np.abs(result - both * 255 / 16).max() <= 0.5 + 1e-9


@pytest.mark.parametrize("size", [7, 0, 28.0, "28"])
def test_digits_check_the_size(size):
    with pytest.raises(ValueError, match="size"):
        Digits(size=size)


# --- transforms


def generator(seed=0):
    return np.random.default_rng(seed)


def test_to_tensor_and_normalize():
    image = np.random.default_rng(0).integers(0, 256, (5, 4, 3), np.uint8)
    tensor = transforms.ToTensor()(image)
    assert tensor.dtype == pe.float32 and tuple(tensor.shape) == (3, 5, 4)
    assert np.array_equal(tensor.numpy(), image.transpose(2, 0, 1).astype(np.float32) / np.float32(255))
    assert np.array_equal(
        transforms.ToTensor()(image[..., 0] / 7.0).numpy()[0], (image[..., 0] / 7.0).astype(np.float32)
    )
    normalised = transforms.Normalize((0.1, 0.2, 0.3), (0.5, 0.6, 0.7))(tensor)
    mean, std = (np.array(values, np.float32).reshape(3, 1, 1) for values in ((0.1, 0.2, 0.3), (0.5, 0.6, 0.7)))
    assert np.array_equal(normalised.numpy(), (tensor.numpy() - mean) / std)
    with pytest.raises(TypeError, match="ToTensor"):
        transforms.Normalize(0.5, 0.5)(image)
    with pytest.raises(ValueError, match="3 means"):
        transforms.Normalize((0.1, 0.2, 0.3), (0.5, 0.6, 0.7))(tensor[:2])
    with pytest.raises(ValueError, match="std"):
        transforms.Normalize(0.5, 0)
    with pytest.raises(ValueError, match="shape"):
        transforms.ToTensor()(image[0, 0])
    with pytest.raises(TypeError, match="int64"):
        transforms.ToTensor()(image.astype(np.int64))


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 3)])
def test_random_transforms(shape):
    image = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    as_tensor = transforms.ToTensor()
    assert np.array_equal(transforms.RandomHorizontalFlip(1.0)(image), image[:, ::-1])
    assert np.array_equal(transforms.RandomHorizontalFlip(0.0)(image), image)
    crops = set()
    for seed in range(80):
        crop = transforms.RandomCrop((4, 3), generator=generator(seed))(image)
        places = [(y, x) for y in range(3) for x in range(3) if np.array_equal(crop, image[y : y + 4, x : x + 3])]
        assert len(places) == 1
        crops.add(places[0])
        for transform in (transforms.RandomCrop(4, padding=2), transforms.RandomHorizontalFlip()):
            transform.generator = generator(seed)
            on_array = as_tensor(transform(image)).numpy()
            transform.generator = generator(seed)
            assert np.array_equal(on_array, transform(as_tensor(image)).numpy())
    assert len(crops) == 9


def test_random_crop_padding():
    image = np.ones((3, 3), np.uint8)
    crop = transforms.RandomCrop((7, 5), padding=(1, 2), fill=9)(image)
    assert np.array_equal(crop, np.pad(image, ((2, 2), (1, 1)), constant_values=9))
    assert transforms.RandomCrop(6, padding=(1, 1, 2, 2), padding_mode="edge")(image).tolist() == [[1] * 6] * 6
    for arguments in ((0,), (3, (1, 2, 3)), (3, -1), (3, 1, 0, "wrap")):
        with pytest.raises(ValueError):
            transforms.RandomCrop(*arguments)
    with pytest.raises(ValueError, match=r"\(4, 4\) does not fit"):
        transforms.RandomCrop(4)(image)
    with pytest.raises(ValueError):
        transforms.RandomHorizontalFlip(1.5)


def test_augmentation_does_not_depend_on_the_workers():
    pipeline = transforms.Compose(
        [transforms.RandomCrop(8, padding=2), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
    )
    for collate_fn in (None, default_collate):
        epochs = []
        for options in ({"prefetch_factor": 0}, {}, {"num_workers": 3}):
            seeded = pe.Generator()
            seeded.manual_seed(2)
            loader = DataLoader(
                Digits(transform=pipeline), 50, True, generator=seeded, collate_fn=collate_fn, **options
            )
            epochs.append(np.concatenate([batch[0].numpy() for batch in loader]))
        assert all(np.array_equal(epoch, epochs[0]) for epoch in epochs)


def test_compose_and_lambda():
    pipeline = transforms.Compose([transforms.Lambda(lambda x: x + 1), transforms.ToTensor()])
    assert float(pipeline(np.zeros((2, 2), np.float32)).numpy().max()) == 1
    assert pipeline.batch(np.zeros((1, 2, 2))) is NotImplemented
    assert "ToTensor()" in repr(pipeline)
    with pytest.raises(TypeError):
        transforms.Lambda(3)


# --- the real files


@needs("MNIST", "FashionMNIST")
@pytest.mark.parametrize("cls, first", [(MNIST, [5, 0, 4, 1, 9]), (FashionMNIST, [9, 0, 0, 3, 0])])
def test_real_mnist(cls, first):
    train, test = cls(DATA), cls(DATA, train=False)
    assert (len(train), len(test)) == (60000, 10000)
    assert train.targets.tolist()[:5] == first
    pixels = train.data.numpy() / 255
    assert abs(pixels.mean() - cls.mean[0]) < 1e-4 and abs(pixels.std() - cls.std[0]) < 1e-4


@needs("cifar-10-batches-bin")
def test_real_cifar10():
    test = CIFAR10(DATA, train=False)
    assert len(test) == 10000 and np.bincount(test.targets).tolist() == [1000] * 10
    assert [test.classes[label] for label in test.targets[:4]] == ["cat", "ship", "ship", "airplane"]
    images, labels = test.tensors()
    assert tuple(images.shape) == (10000, 3, 32, 32) and labels.tolist() == test.targets
    assert np.abs(images.numpy().mean((0, 2, 3))).max() < 0.05


@needs("cifar-10-batches-bin")
def test_real_cifar10_training_images():
    train = CIFAR10(DATA)
    assert len(train) == 50000
    for channel in range(3):
        pixels = np.repeat(np.arange(256) / 255, np.bincount(train.data[..., channel].ravel(), minlength=256))
        assert abs(pixels.mean() - train.mean[channel]) < 1e-4 and abs(pixels.std() - train.std[channel]) < 1e-4
