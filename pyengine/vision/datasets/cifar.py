"""CIFAR-10, from its official binary version."""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pyengine.io.atomic import atomic_file

from .download import download_from
from .errors import DatasetCorruptError, DatasetError
from .image_dataset import ImageDataset
from .raw_file import RawFile

_RECORD = 1 + 3 * 32 * 32  # a label, then the red, green and blue planes
_SIZE = 10000 * _RECORD


class CIFAR10(ImageDataset):
    """50,000 training and 10,000 test photographs of 32×32 in ten classes (A. Krizhevsky, 2009).

    The files of the binary version are looked for in `<root>/cifar-10-batches-bin/`, plain, `.gz` or `.xz`, and checked
    against the published content. `download=True` fetches and unpacks the archive when one is missing or damaged.
    `data` is a uint8 NumPy array (N, 32, 32, 3), `targets` a list of N ints; see `ImageDataset` for the samples.
    Raises DatasetNotFoundError (a FileNotFoundError), DatasetCorruptError, or DatasetError when a download fails.
    """

    folder = "cifar-10-batches-bin"
    mirrors = ["https://www.cs.toronto.edu/~kriz/"]
    archive = "cifar-10-binary.tar.gz"
    archive_checksum: str | None = "md5:c32a1d4ab5d03f1284b67883e8d87530"
    train_files = [
        RawFile(name, _SIZE, f"sha256:{digest}")
        for name, digest in [
            ("data_batch_1.bin", "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5"),
            ("data_batch_2.bin", "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed"),
            ("data_batch_3.bin", "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67"),
            ("data_batch_4.bin", "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48"),
            ("data_batch_5.bin", "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add"),
        ]
    ]
    test_files = [
        RawFile("test_batch.bin", _SIZE, "sha256:8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b")
    ]
    # As in batches.meta.txt, which comes with the files and is not needed.
    classes = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    mean = (0.4914, 0.4822, 0.4465)
    std = (0.2470, 0.2435, 0.2616)

    def __init__(
        self,
        root: str | os.PathLike[str],
        train: bool = True,
        transform: Callable[[np.ndarray], Any] | None = None,
        target_transform: Callable[[int], Any] | None = None,
        download: bool = False,
    ) -> None:
        super().__init__(Path(root), train, transform, target_transform)
        self.raw_folder = Path(root) / self.folder
        if download:
            self.download()
        files = self.train_files if train else self.test_files
        contents = self._read(files)
        for file, content in zip(files, contents, strict=False):
            labels = content[::_RECORD]
            if len(content) % _RECORD or labels.max(initial=0) >= len(self.classes):
                raise DatasetCorruptError(
                    f"{self.raw_folder / file.name}: {len(content)} bytes are not records of {_RECORD}, labels 0 to 9"
                )
        records = np.concatenate(contents).reshape(-1, _RECORD)
        self.targets = records[:, 0].tolist()
        self.data = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)

    def download(self) -> None:
        """Fetches the archive and unpacks the data files, unless all of them are there and sound."""
        files = [*self.train_files, *self.test_files]
        try:
            self._read(files)
            return
        except DatasetError:
            pass
        self.raw_folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".download-", dir=self.raw_folder.parent) as folder:
            archive = Path(folder) / self.archive
            download_from(self.mirrors, self.archive, archive, self.archive_checksum)
            try:
                self._unpack(archive, [file.name for file in files] + ["batches.meta.txt"])
            except (tarfile.TarError, KeyError, EOFError) as error:
                raise DatasetCorruptError(f"{self.archive} cannot be unpacked: {error}") from error

    def _unpack(self, archive: Path, names: list[str]) -> None:
        """Only the files expected are read, by name: an archive cannot write anywhere else."""
        with tarfile.open(archive) as tar:
            for name in names:
                source = tar.extractfile(f"{self.folder}/{name}")
                if source is None:
                    raise KeyError(f"{name} is not a file")
                with source, atomic_file(self.raw_folder / name) as file:
                    shutil.copyfileobj(source, file)

    def _read(self, files: list[RawFile]) -> list[np.ndarray]:
        """In two threads: the decompression of `.xz` takes a second per file and releases Python's lock."""
        from concurrent.futures import ThreadPoolExecutor

        def read(file: RawFile) -> np.ndarray:
            return file.read(self.raw_folder, "put it there or pass download=True")

        with ThreadPoolExecutor(2) as executor:
            return list(executor.map(read, files))
