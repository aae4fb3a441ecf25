"""Downloads a file so that it is either there, whole and verified, or not there."""

from __future__ import annotations

import hashlib
import importlib
import os
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from pyengine.io.atomic import atomic_file

from .errors import DatasetCorruptError, DatasetError
from .raw_file import check_digest

_CHUNK = 1 << 18
_TIMEOUT = 30  # seconds without a byte


def download(url: str, path: str | os.PathLike[str], checksum: str | None = None) -> None:
    """Fetches `url` to the file `path`, whose folder is made.

    `checksum` is "sha256:..." or "md5:...". The file appears under its name only when it is whole and fits the
    checksum; what came until then is removed. Shows progress on a terminal where tqdm is installed.
    Raises DatasetError, naming the address, when it cannot be reached, and DatasetCorruptError when it sent something
    else.
    """
    # Here, for they take longer to import than the rest of the package.
    import http.client
    import urllib.error
    import urllib.request

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    request = urllib.request.Request(url, headers={"User-Agent": "pyengine"})
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as response, atomic_file(path) as file:
            _receive(response, file, url, checksum, path.name)
    except urllib.error.HTTPError as error:
        raise DatasetError(f"{url}: the server says {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise DatasetError(f"{url}: {error.reason}") from error
    except (http.client.HTTPException, TimeoutError, ConnectionError) as error:
        raise DatasetError(f"{url}: {error!r}") from error


def download_from(mirrors: Sequence[str], name: str, path: Path, checksum: str | None) -> None:
    """Tries `mirrors`, addresses of folders, one after the other. Raises DatasetError with every mirror's reason."""
    reasons = []
    for mirror in mirrors:
        try:
            return download(mirror.rstrip("/") + "/" + name, path, checksum)
        except DatasetError as error:
            reasons.append(str(error))
    raise DatasetError(f"{path.name} could not be downloaded: {'; '.join(reasons) or 'no mirrors'}")


def _receive(response: Any, file: Any, url: str, checksum: str | None, name: str) -> None:
    length = response.headers.get("Content-Length")
    expected = int(length) if length is not None and length.isdigit() else None
    method, _, digest = (checksum or "sha256:").partition(":")
    received, hasher = 0, hashlib.new(method, usedforsecurity=False)
    with _progress(name, expected) as progress:
        while chunk := response.read(_CHUNK):
            file.write(chunk)
            hasher.update(chunk)
            received += len(chunk)
            if progress is not None:
                progress.update(len(chunk))
    if expected is not None and received != expected:
        raise DatasetCorruptError(f"{url}: the connection ended after {received} of {expected} bytes")
    if checksum is not None:
        check_digest(f"what {url} sent", method, digest, hasher.hexdigest())


def _progress(name: str, total: int | None) -> AbstractContextManager[Any]:
    if sys.stderr is None or not sys.stderr.isatty():
        return nullcontext()
    try:
        tqdm: Any = importlib.import_module("tqdm").tqdm
    except ImportError:
        return nullcontext()
    progress: AbstractContextManager[Any] = tqdm(desc=name, total=total, unit="B", unit_scale=True)
    return progress
