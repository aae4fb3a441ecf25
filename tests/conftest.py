"""Makes sure that the tests see the installed package."""

import gc
import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def _without_source_folder() -> None:
    """Takes the repository's root, which `python -m pytest` puts first, off the path: pyengine/ there has no compiled
    module unless one was built in place, and would hide the installed package."""
    if not any((ROOT / "pyengine").glob("_C.*so")):
        sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]


_without_source_folder()


@pytest.fixture(scope="session", autouse=True)
def _away_from_the_source_folder(tmp_path_factory: pytest.TempPathFactory):
    """Processes that tests start must not find the source folder in the current folder either."""
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("elsewhere"))
    os.environ["PYTHONSAFEPATH"] = "1"  # for those that are started in the root (Python 3.11 and later)
    yield
    del os.environ["PYTHONSAFEPATH"]
    os.chdir(before)


@pytest.fixture
def no_leak():
    """Fails a test after which tensors hold more memory than before it."""
    import pyengine as pe

    before = pe.memory_stats()["live_bytes"]
    yield
    if pe.memory_stats()["live_bytes"] != before:
        gc.collect()
    assert pe.memory_stats()["live_bytes"] <= before
