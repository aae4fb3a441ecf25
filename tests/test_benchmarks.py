"""The benchmarks run; what they measure is not judged here."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def benchmark(*arguments: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "benchmarks", *map(str, arguments)]
    # `-m benchmarks` is found in the current folder, which conftest.py otherwise keeps off the path.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONSAFEPATH"}
    return subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)


def test_all_quick(tmp_path):
    done = benchmark("all", "--quick", "--no-torch", "--threads", 1, "--cases", "^(relu|add)", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    for title in ("## Training steps", "## Overhead of a call", "## Import and size", "## Memory", "## Operations"):
        assert title in done.stdout
    assert (tmp_path / "all.md").read_text() in done.stdout + "\n"
    results = json.loads((tmp_path / "all.json").read_text())
    steps = results["steps"]["results"]["as shipped"]
    assert set(steps) == {"lenet5", "mlp"}
    assert all(t > 0 for network in steps.values() for t in network["seconds per step"]["pyengine"])
    assert results["machine"]["processor"] and results["memory"]["results"]["bytes"]["mlp"]["pyengine"]["peak"] > 1e6


def test_against_torch():
    pytest.importorskip("torch")
    done = benchmark("steps", "--quick", "--networks", "mlp")
    assert done.returncode == 0, done.stderr
    row = next(line for line in done.stdout.splitlines() if line.startswith("| mlp"))
    assert "eager" in row and "failed" not in row


def test_errors():
    unknown = benchmark("steps", "--networks", "resnet-1000")
    assert unknown.returncode == 2 and "invalid choice" in unknown.stderr
    missing = benchmark("import", "--wheel", "no.whl")
    assert missing.returncode == 2 and missing.stderr.strip() == "--wheel: no.whl is not a file"


def test_a_failing_process_is_reported_by_its_last_words(tmp_path):
    (tmp_path / "pyengine.py").write_text("raise ImportError('broken on purpose')")
    line = [sys.executable, "-m", "benchmarks", "steps", "--quick", "--no-torch"]
    done = subprocess.run(
        line, cwd=ROOT, capture_output=True, text=True, timeout=100, env={"PYTHONPATH": str(tmp_path)}
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "a measuring process failed: ImportError: broken on purpose"
