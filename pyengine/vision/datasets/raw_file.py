"""Finds, decompresses and verifies one file of a data set."""

from __future__ import annotations

import hashlib
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from .errors import DatasetCorruptError, DatasetNotFoundError

SUFFIXES = ("", ".gz", ".xz")


@dataclass(frozen=True)
class RawFile:
    """A file as its publisher made it, whether it lies there plain or compressed.

    `size` and `checksum` ("sha256:..." or "md5:...") are those of the uncompressed content; None: not checked.
    `archive_checksum` is that of the `.gz` file which the mirrors offer.
    """

    name: str
    size: int | None = None
    checksum: str | None = None
    archive_checksum: str | None = None

    def candidates(self, folder: Path) -> Iterator[Path]:
        """The existing files that may hold it: plain, `.gz`, `.xz`."""
        return (path for suffix in SUFFIXES if (path := folder / (self.name + suffix)).is_file())

    def read(self, folder: Path, how_to_get: str) -> np.ndarray:
        """The content, uint8, writable. A damaged file is passed over, with a warning, where a sound copy is beside it.

        Raises DatasetNotFoundError, whose message ends with `how_to_get`, and DatasetCorruptError.
        """
        errors: list[DatasetCorruptError] = []
        for path in self.candidates(folder):
            try:
                content = self._read(path)
            except DatasetCorruptError as error:
                errors.append(error)
                continue
            for passed_over in errors:
                warnings.warn(f"{passed_over}; {path.name} is read instead", stacklevel=2)
            return content
        if errors:
            raise errors[0]
        raise DatasetNotFoundError(
            f"{folder / self.name} (or the same name with .gz or .xz) does not exist; {how_to_get}"
        )

    def _read(self, path: Path) -> np.ndarray:
        try:
            with open_compressed(path) as stream:
                # One byte more than expected tells a longer file without reading all of it, however far it expands.
                content = bytearray(stream.read(-1 if self.size is None else self.size + 1))
        except _decompression_errors() as error:
            raise DatasetCorruptError(f"{path} is truncated or damaged: {error}") from error
        if self.size is not None and len(content) != self.size:
            found = f"more than {self.size}" if len(content) > self.size else f"{len(content)}"
            raise DatasetCorruptError(f"{path} holds {found} bytes, expected {self.size}: it is truncated or damaged")
        verify(path, content, self.checksum)
        return np.frombuffer(content, np.uint8)


def open_compressed(path: Path) -> IO[bytes]:
    """The file's content as a stream, decompressed as its suffix says."""
    opener: Any = open
    if path.suffix == ".gz":
        import gzip

        opener = gzip.open
    elif path.suffix == ".xz":
        import lzma

        opener = lzma.open
    stream: IO[bytes] = opener(path, "rb")
    return stream


def verify(what: object, content: bytes | bytearray, checksum: str | None) -> None:
    """Raises DatasetCorruptError when `content` has another checksum ("sha256:..." or "md5:...") than expected."""
    if checksum is None:
        return
    method, expected = checksum.split(":")
    check_digest(what, method, expected, hashlib.new(method, content, usedforsecurity=False).hexdigest())


def check_digest(what: object, method: str, expected: str, actual: str) -> None:
    if actual != expected:
        raise DatasetCorruptError(f"{what} is damaged: its {method} is {actual}, expected {expected}")


def _decompression_errors() -> tuple[type[Exception], ...]:
    import gzip
    import lzma

    return EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError
