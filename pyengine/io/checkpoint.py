"""The checkpoint file: nested data with tensors, safe to load from anyone, checked to the last byte.

    offset  size
         0     8  magic
         8     4  version of the format, uint32
        12     4  zero
        16     8  size of the header, uint64
        24     8  size of the file, uint64
        32    32  SHA-256 of the header
        64     .  the header, JSON in UTF-8: {"arrays": [size, ...], "object": tree}, see structure.py
         .     .  the arrays, each starting at a multiple of 64 bytes, zeros in between
    end-32    32  SHA-256 of all bytes before it

All numbers are little-endian. The same data always give the same bytes.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import struct
from collections.abc import Iterator
from hashlib import sha256
from typing import Any, BinaryIO

import numpy as np

import pyengine as pe

from .atomic import atomic_file
from .structure import decode, encode

MAGIC = b"\x89PECKPT\n"
VERSION = 1
ALIGNMENT = 64
_PREAMBLE = struct.Struct("<8sI4xQQ32s")
_DIGEST_SIZE = 32


class CheckpointError(ValueError, RuntimeError):
    """The file is not a checkpoint, is damaged or incomplete, or comes from a newer version."""


def save(obj: Any, f: str | os.PathLike[str] | BinaryIO) -> None:
    """Writes `obj` to the file `f` (a path, or a binary file to write to).

    `obj` may be nested lists, tuples, dicts and OrderedDicts of tensors, NumPy arrays of numbers, None, bool, int,
    float, str and bytes. A tensor's values, dtype, shape and memory order are kept, its gradient and shared storage are
    not, and a Parameter comes back as a tensor. A path is written atomically: whatever happens, the file is the old one
    or the new.
    Raises TypeError, before anything is written, naming the place of what is not plain data; OSError when writing
    fails.
    """
    try:
        tree, arrays = encode(obj)
        header = _make_header(tree, arrays)
    except RecursionError:
        raise ValueError("cannot save an object that is nested this deeply") from None
    if not isinstance(f, (str, os.PathLike)):
        _write(f, header, arrays)
        return
    with atomic_file(f) as file:
        _write(file, header, arrays)


def load(f: str | os.PathLike[str] | BinaryIO, map_location: Any = None, weights_only: bool = True) -> Any:
    """What `save` wrote to `f` (a path, or a binary file to read from).

    Tensors are on the CPU, or on the device `map_location`. `weights_only` is accepted for PyTorch's sake: loading
    never runs code from the file.
    Raises CheckpointError, with the path and the reason, for a file that is not a whole and sound checkpoint, and
    FileNotFoundError for one that is missing.
    """
    if isinstance(f, (str, os.PathLike)):
        with open(f, "rb") as file:
            return _load(file, os.fspath(f), map_location, whole_file=True)
    name = str(getattr(f, "name", "the checkpoint"))
    seekable = getattr(f, "seekable", lambda: False)()
    return _load(f if seekable else io.BytesIO(f.read()), name, map_location, whole_file=False)


def _make_header(tree: Any, arrays: list[np.ndarray]) -> bytes:
    content = {"arrays": [array.nbytes for array in arrays], "object": tree}
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    header = text.encode("utf-8", "surrogatepass")
    return header.ljust(_aligned(len(header)))


def _write(file: BinaryIO, header: bytes, arrays: list[np.ndarray]) -> None:
    file_size = _PREAMBLE.size + len(header) + sum(_aligned(array.nbytes) for array in arrays) + _DIGEST_SIZE
    digest = sha256()

    def write(data: bytes | memoryview) -> None:
        digest.update(data)
        file.write(data)

    write(_PREAMBLE.pack(MAGIC, VERSION, len(header), file_size, sha256(header).digest()))
    write(header)
    for array in arrays:
        write(array.reshape(-1).view(np.uint8).data)
        write(bytes(_aligned(array.nbytes) - array.nbytes))
    file.write(digest.digest())


def _load(file: BinaryIO, name: str, map_location: Any, whole_file: bool) -> Any:
    def to_tensor(array: np.ndarray) -> Any:
        tensor = pe.from_numpy(array)
        return tensor if map_location is None else tensor.to(map_location)

    tree, arrays = _read(file, name, whole_file)
    with _malformed(name):
        return decode(tree, arrays, to_tensor)


def _read(file: BinaryIO, name: str, whole_file: bool) -> tuple[Any, list[np.ndarray]]:
    """The header's tree and the arrays' bytes, all checked. Nothing is believed before its checksum was."""
    start = file.tell()
    available = file.seek(0, io.SEEK_END) - start
    file.seek(start)

    preamble = file.read(_PREAMBLE.size)
    if not preamble:
        raise CheckpointError(f"{name}: not a pyengine checkpoint, it is empty")
    if preamble[: len(MAGIC)] != MAGIC[: len(preamble)]:
        raise CheckpointError(f"{name}: not a pyengine checkpoint (it starts with {preamble[:8]!r})")
    if len(preamble) < _PREAMBLE.size:
        raise CheckpointError(f"{name}: truncated, it ends after {available} bytes")
    _, version, header_size, file_size, header_digest = _PREAMBLE.unpack(preamble)
    if version != VERSION:
        raise CheckpointError(f"{name}: format version {version}, this pyengine reads version {VERSION}")
    if available < file_size or (whole_file and available > file_size):
        what = "truncated" if available < file_size else "damaged"
        raise CheckpointError(f"{name}: {what}, it has {available} bytes where its header says {file_size}")
    if header_size > file_size - _PREAMBLE.size - _DIGEST_SIZE:
        raise CheckpointError(f"{name}: damaged, its header cannot have {header_size} bytes")

    header = file.read(header_size)
    if sha256(header).digest() != header_digest:
        raise CheckpointError(f"{name}: damaged, its header does not fit its checksum")
    with _malformed(name):
        content = json.loads(header.decode("utf-8", "surrogatepass"))
        tree, sizes = content["object"], content["arrays"]
        expected_size = _PREAMBLE.size + header_size + sum(map(_aligned, sizes)) + _DIGEST_SIZE
        if file_size != expected_size or min(sizes, default=0) < 0:
            raise ValueError(f"arrays of {sizes} bytes in a file of {file_size}")

    digest = sha256(preamble)
    digest.update(header)
    arrays = []
    for size in sizes:
        array = np.empty(size, np.uint8)
        _read_into(file, array.data, name)
        digest.update(array.data)
        digest.update(file.read(_aligned(size) - size))
        arrays.append(array)
    if file.read(_DIGEST_SIZE) != digest.digest():
        raise CheckpointError(f"{name}: damaged, its content does not fit its checksum")
    return tree, arrays


def _read_into(file: BinaryIO, view: memoryview, name: str) -> None:
    while len(view) > 0:
        count = file.readinto(view)  # type: ignore[attr-defined]
        if not count:
            raise CheckpointError(f"{name}: truncated while it was read")
        view = view[count:]


@contextlib.contextmanager
def _malformed(name: str) -> Iterator[None]:
    """A file with right checksums can still say nonsense: some other program has written it."""
    try:
        yield
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError, struct.error) as error:
        raise CheckpointError(f"{name}: malformed, {error!r}") from error


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
