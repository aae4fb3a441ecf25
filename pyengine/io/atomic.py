"""Files that are either the old ones or the new ones, never something in between."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from typing import BinaryIO


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Opens a temporary file beside `path` for writing; when the block ends well it takes `path`'s place.

    The data are on disk before the name changes. After an exception the temporary file is removed; after a kill at any
    point `path` is what it was (and a `.name.*.tmp` may be left beside it). A symbolic link keeps pointing to the file.
    Something that is not an ordinary file, such as a pipe, is written to directly.
    """
    target = os.path.realpath(path)
    if os.path.exists(target) and not os.path.isfile(target):
        with open(target, "wb") as file:
            yield file
        return
    folder, name = os.path.split(target)
    # 200 characters of the name: the longest that file systems allow is 255 bytes.
    temporary = os.path.join(folder, f".{name[:200]}.{secrets.token_hex(6)}.tmp")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    _sync_folder(folder)


def write_atomic(path: str | os.PathLike[str], data: bytes | str) -> None:
    """Makes `data` (text as UTF-8) the content of the file `path`, atomically. Raises OSError where that fails."""
    with atomic_file(path) as file:
        file.write(data.encode() if isinstance(data, str) else data)


def _sync_folder(folder: str) -> None:
    """Brings the new name to disk too. Some file systems cannot; the file is complete all the same."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
