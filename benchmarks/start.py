"""The time that an import takes, and the size of what is installed."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from typing import Any

from .processes import Child
from .report import Section, Spread, ratio, table
from .settings import Settings

CODE = "import time; start = time.perf_counter(); import {}; print(time.perf_counter() - start)"


def seconds_to_import(module: str) -> float:
    """In a fresh process; the interpreter's own start does not count."""
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(module)],
        capture_output=True,
        text=True,
        check=True,
        cwd=tempfile.gettempdir(),
    )
    return float(done.stdout)


def run(settings: Settings) -> Section:
    """Milliseconds for numpy, pyengine and torch, in turns, and megabytes."""
    modules = ["numpy", "pyengine", "pyengine, numpy", *(["torch"] if settings.torch else [])]
    for module in modules:
        seconds_to_import(module)  # fills the file cache
    times: dict[str, list[float]] = {module: [] for module in modules}
    for _ in range(settings.rounds):
        for module in modules:
            times[module].append(seconds_to_import(module))
    rows = [
        [f"`import {m}`", Spread.of(t).text(1e3), ratio(t, times["numpy"]).text() if m != "numpy" else "1"]
        for m, t in times.items()
    ]
    child = Child("as shipped", engine="pyengine", job="overhead", seconds=0.001, threads=settings.threads)
    child.close()
    sizes: dict[str, Any] = {"compiled module": child.facts["module bytes"]}
    if settings.wheel:
        sizes["wheel"] = settings.wheel.stat().st_size
    size_rows = [[name, f"{size / 1e6:.2f}"] for name, size in sizes.items()]
    text = (
        f"## Import and size\n\nMilliseconds in a fresh process: the median of {settings.rounds} rounds and the "
        "quartiles; the ratio is to NumPy, which pyengine imports when it first needs it.\n\n"
        f"{table(['', 'ms', 'ratio'], rows)}\n\n{table(['', 'MB'], size_rows)}"
    )
    return Section("import", text, {"seconds": times, "bytes": sizes}, {"pyengine": child.facts})
