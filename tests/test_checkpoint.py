"""Checkpoints: what goes in comes out, and nothing else ever does."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from collections import OrderedDict

import numpy as np
import pytest

import pyengine as pe
from pyengine.io import CheckpointError, atomic_file, load, save, write_atomic

hypothesis = pytest.importorskip("hypothesis")
st = pytest.importorskip("hypothesis.strategies")

DTYPES = ["bool", "uint8", "int32", "int64", "float32", "float64"]


def round_trip(obj, **options):
    file = io.BytesIO()
    save(obj, file)
    file.seek(0)
    return load(file, **options)


def assert_same(a, b):
    assert type(a) is type(b)
    if isinstance(a, pe.Tensor):
        assert a.dtype == b.dtype
        a, b = a.numpy(), b.numpy()
    if isinstance(a, (np.ndarray, np.generic)):
        assert a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    elif isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=False):
            assert_same(x, y)
    elif isinstance(a, float):
        assert np.float64(a).tobytes() == np.float64(b).tobytes()
    else:
        assert a == b


def example():
    rng = np.random.default_rng(0)
    return {
        "model": OrderedDict(
            weight=pe.from_numpy(rng.standard_normal((6, 1, 5, 5)).astype(np.float32)),
            bias=pe.from_numpy(np.arange(6.0)),
            steps=pe.from_numpy(np.array(3)),
            none=pe.from_numpy(np.zeros((0, 3), np.float32)),
        ),
        "optimizer": {
            "state": {0: {"step": 10}, 1: {}},
            "groups": [{"lr": 0.1, "betas": (0.9, 0.999), "nesterov": False}],
        },
        "history": [
            [1, 0.5, None],
            "résumé \ud800",
            b"\x00\xff",
            float("nan"),
            float("-inf"),
            -0.0,
            2**200,
            -(2**63) - 1,
        ],
        (1, "a"): np.float32(1.5),
    }


@pytest.fixture(scope="module")
def file_bytes():
    file = io.BytesIO()
    save(example(), file)
    return file.getvalue()


def test_round_trip(tmp_path):
    save(example(), tmp_path / "a.ckpt")
    assert_same(load(tmp_path / "a.ckpt"), example())
    assert_same(load(str(tmp_path / "a.ckpt"), map_location="cpu", weights_only=True), example())
    assert os.listdir(tmp_path) == ["a.ckpt"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 0, 2), (5, 7), (2, 3, 4, 5)])
def test_tensors_and_arrays(dtype, shape):
    array = np.resize(np.array([1, 0, 1], dtype), shape)
    assert_same(round_trip([pe.from_numpy(array), array]), [pe.from_numpy(array), array])


def test_arrays_of_other_kinds():
    arrays = [np.arange(6, dtype=dtype).reshape(2, 3) for dtype in ("f2", "i2", "u8", "c8", "c16")]
    assert_same(round_trip(arrays), arrays)
    assert_same(round_trip(np.arange(3, dtype=">f4")), np.arange(3, dtype="<f4"))
    assert_same(round_trip(np.arange(10)[::-2]), np.arange(10)[::-2])


def test_memory_order_is_kept():
    channels_last = pe.from_numpy(np.arange(48.0).reshape(2, 2, 3, 4)).permute(0, 3, 1, 2)
    loaded = round_trip(channels_last)
    assert_same(loaded, channels_last)
    assert loaded.stride() == channels_last.stride()
    assert_same(round_trip(pe.from_numpy(np.arange(3.0)).expand(4, 3)), pe.from_numpy(np.tile(np.arange(3.0), (4, 1))))


def test_parameters_become_tensors():
    tensor = pe.from_numpy(np.ones(3, np.float32)).requires_grad_()
    loaded = round_trip(tensor)
    assert not loaded.requires_grad and loaded.tolist() == [1, 1, 1]
    loaded += 1  # its memory is its own and writable


def test_same_data_same_bytes(file_bytes):
    file = io.BytesIO()
    save(example(), file)
    assert file.getvalue() == file_bytes


leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(2**60, 2**80)
    | st.floats()
    | st.text()
    | st.binary(max_size=70)
)
keys = st.text() | st.integers() | st.booleans() | st.none() | st.tuples(st.integers(), st.text())
trees = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(keys, inner, max_size=4)
        | st.dictionaries(st.text(), inner, max_size=4).map(OrderedDict)
    ),
    max_leaves=20,
)


@hypothesis.given(trees)
@hypothesis.settings(deadline=None)
def test_any_plain_data(tree):
    assert_same(round_trip(tree), tree)


# --- what cannot be saved


class Flag(int):
    pass


@pytest.mark.parametrize(
    "obj, place",
    [
        ({"a": [1, {"b": object()}]}, r"object\['a'\]\[1\]\['b'\]"),
        ([set()], r"object\[0\]: a builtins.set"),
        (lambda: None, "object"),
        ([Flag(3)], "Flag"),
        ({"x": np.array(["text"])}, r"object\['x'\].*dtype"),
        ({"x": np.array([object()])}, r"object\['x'\].*dtype object"),
        ({np.int64(3): 1}, "key"),
    ],
)
def test_unsupported_objects(obj, place, tmp_path):
    path = tmp_path / "a.ckpt"
    path.write_bytes(b"old")
    with pytest.raises(TypeError, match=place):
        save(obj, path)
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["a.ckpt"]


def test_endless_objects(tmp_path):
    cycle = {"a": []}
    cycle["a"].append(cycle)
    with pytest.raises(ValueError, match="contains itself"):
        save(cycle, tmp_path / "a")
    deep = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ValueError, match="deep"):
        save(deep, tmp_path / "a")
    shared = [1]
    assert round_trip([shared, shared]) == [[1], [1]]
    assert os.listdir(tmp_path) == []


# --- damage


def damaged(data):
    with pytest.raises(CheckpointError) as caught:
        load(io.BytesIO(data))
    return str(caught.value)


def test_every_flipped_byte_is_found(file_bytes):
    for position in range(len(file_bytes)):
        for bits in (0x01, 0x80, 0xFF):
            data = bytearray(file_bytes)
            data[position] ^= bits
            damaged(bytes(data))


def test_every_truncation_is_found(file_bytes):
    for size in range(len(file_bytes)):
        damaged(file_bytes[:size])


def test_damage_in_files(file_bytes, tmp_path):
    path = tmp_path / "run.ckpt"
    cases = {
        b"": "empty",
        b"PK\x03\x04 a zip file": "not a pyengine checkpoint",
        file_bytes[:30]: "truncated",
        file_bytes[:-1]: f"truncated, it has {len(file_bytes) - 1} bytes",
        file_bytes + b"x": f"has {len(file_bytes) + 1} bytes",
        file_bytes[:8] + b"\x02" + file_bytes[9:]: "version 2",
        file_bytes[:100] + b"\x00" + file_bytes[101:]: "checksum",
        file_bytes[:-200] + b"\x77" + file_bytes[-199:]: "checksum",
    }
    for data, words in cases.items():
        path.write_bytes(data)
        with pytest.raises(CheckpointError, match=words) as caught:
            load(path)
        assert str(path) in str(caught.value)
        assert isinstance(caught.value, ValueError) and isinstance(caught.value, RuntimeError)
    with pytest.raises(FileNotFoundError, match="missing.ckpt"):
        load(tmp_path / "missing.ckpt")


@hypothesis.given(st.binary(max_size=300))
@hypothesis.settings(deadline=None)
def test_random_bytes(data):
    damaged(data)
    damaged(b"\x89PECKPT\n\x01" + bytes(7) + data)


@pytest.mark.parametrize(
    "header",
    [
        "[]",
        "{}",
        '{"arrays": [], "object": {"eval": "1"}}',
        '{"arrays": [], "object": {}}',
        '{"arrays": [-64, 64], "object": 1}',
        '{"arrays": [64], "object": 1}',
        '{"arrays": [1e30], "object": 1}',
        '{"arrays": ["x"], "object": 1}',
        '{"arrays": [0], "object": {"tensor": {"at": 0, "dtype": "object", "shape": [0]}}}',
        '{"arrays": [0], "object": {"tensor": {"at": 0, "dtype": "float32", "shape": [9]}}}',
        '{"arrays": [0], "object": {"tensor": {"at": 1, "dtype": "float32", "shape": [0]}}}',
        '{"arrays": [0], "object": {"tensor": {"at": 0, "dtype": "float32", "shape": [0, 1], "order": [0, 0]}}}',
        '{"arrays": [], "object": {"dict": [[[], 1]]}}',
        '{"arrays": [], "object": ' + "[" * 5000 + "]" * 5000 + "}",
        "not json",
    ],
)
def test_malformed_headers_with_right_checksums(header):
    from hashlib import sha256

    text = header.encode().ljust(-(-len(header) // 64) * 64)
    start = b"\x89PECKPT\n" + (1).to_bytes(4, "little") + bytes(4)
    start += len(text).to_bytes(8, "little") + (96 + len(text)).to_bytes(8, "little") + sha256(text).digest()
    assert "malformed" in damaged(start + text + sha256(start + text).digest())


# --- writing


class Full(io.RawIOBase):
    """A file on a full disk."""

    def write(self, data):
        raise OSError(28, "No space left on device")


def test_the_old_file_survives_a_failing_save(tmp_path, monkeypatch):
    path = tmp_path / "a.ckpt"
    save({"epoch": 1}, path)
    before = path.read_bytes()
    for name in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, lambda *arguments: (_ for _ in ()).throw(OSError(28, "No space left on device")))
            with pytest.raises(OSError, match="No space"):
                save({"epoch": 2}, path)
    with pytest.raises(KeyboardInterrupt), atomic_file(path) as file:
        file.write(b"half of it")
        raise KeyboardInterrupt
    with pytest.raises(OSError, match="No space"):
        save({"epoch": 2}, Full())
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["a.ckpt"]
    with pytest.raises(OSError):
        save(1, tmp_path / "no such folder" / "a.ckpt")
    with pytest.raises(IsADirectoryError):
        save(1, tmp_path)


KILLED = """
import sys
import numpy as np
from pyengine.io import save
for number in range(10**6):
    save({"number": number, "data": np.full(300_000, number)}, sys.argv[1])
    print(number, flush=True)
"""


def test_killed_while_saving(tmp_path):
    path = tmp_path / "a.ckpt"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for attempt in range(4):
        process = subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, env=environment)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.003 * attempt)
        process.kill()
        process.communicate()
        loaded = load(path)
        assert (loaded["data"] == loaded["number"]).all()


def test_links_and_pipes(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"old")
    link.symlink_to(target)
    write_atomic(link, "neu: ü")
    assert link.is_symlink() and target.read_text() == "neu: ü"
    write_atomic("/dev/null", b"gone")
    assert not os.path.isfile("/dev/null")


def test_files_that_cannot_seek_and_several_in_one(file_bytes):
    class Pipe(io.BytesIO):
        def seekable(self):
            return False

    assert_same(load(Pipe(file_bytes)), example())
    both = io.BytesIO()
    save([1], both)
    save([2], both)
    both.seek(0)
    assert (load(both), load(both)) == ([1], [2])
