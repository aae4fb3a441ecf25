"""Instruction sets: which one runs, how it is chosen, that each passes the tests of the operations, and that no code of
one leaks into another."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import pyengine as pe

ROOT = Path(__file__).resolve().parents[1]
KNOWN = ("avx512", "avx2", "neon", "scalar")
OTHERS = [isa for isa in pe.cpu_isas() if isa != pe.cpu_isa()]
FORCED = "PYENGINE_CPU_ISA" in os.environ


def python(code: str, isa: str | None, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "PYENGINE_CPU_ISA"}
    if isa is not None:
        environment["PYENGINE_CPU_ISA"] = isa
    package = str(Path(pe.__file__).resolve().parents[1])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [package, environment.get("PYTHONPATH", "")]))
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True, timeout=120
    )


# --- choosing


def test_the_widest_is_the_default():
    result = python("import pyengine as pe; print(pe.cpu_isa(), *pe.cpu_isas())", None)
    assert result.returncode == 0, result.stderr
    running, *available = result.stdout.split()
    assert running == available[0]
    assert available == [isa for isa in KNOWN if isa in available] and available[-1] == "scalar"
    assert available == pe.cpu_isas()


@pytest.mark.parametrize("isa", pe.cpu_isas())
def test_each_can_be_forced(isa):
    code = (
        "import pyengine as pe; x = pe.ones(33, 3); print(pe.cpu_isa(), x.sum().item(), pe.eye(33).mm(x).sum().item())"
    )
    result = python(code, isa)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == [isa, "99.0", "99.0"]


def test_an_empty_name_is_the_default():
    result = python("import pyengine as pe; print(pe.cpu_isa())", "")
    assert result.stdout.split() == [pe.cpu_isas()[0]]


@pytest.mark.parametrize("name", ["sse9", "AVX2", "avx2 ", "avx", "0"])
def test_an_unknown_name_is_an_import_error(name):
    result = python("import pyengine", name)
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith(f"ImportError: PYENGINE_CPU_ISA: unknown instruction set '{name}'; this build has ")
    assert all(isa in last for isa in pe.cpu_isas())


def test_an_unsupported_one_is_an_import_error():
    result = python("import pyengine", "sse9")
    built = result.stderr.strip().splitlines()[-1].split("this build has ")[1].split(", ")
    missing = [isa for isa in built if isa not in pe.cpu_isas()]
    if not missing:
        pytest.skip("this processor runs every instruction set of this build")
    result = python("import pyengine", missing[0])
    last = result.stderr.strip().splitlines()[-1]
    assert result.returncode == 1
    assert re.fullmatch(rf"ImportError: PYENGINE_CPU_ISA: this processor \(.+\) cannot run '{missing[0]}'", last)


def test_a_child_process_keeps_the_choice():
    child = "import pyengine as pe; print(pe.cpu_isa(), flush=True)"
    code = f"{child}; import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
    assert python(code, "scalar", child).stdout.split() == ["scalar", "scalar"]


# --- the operations, on every instruction set


@pytest.mark.skipif(FORCED, reason="PYENGINE_CPU_ISA is set: this run is for one instruction set only")
@pytest.mark.parametrize(
    "isa", OTHERS or [pytest.param("none", marks=pytest.mark.skip(reason="this processor runs one instruction set"))]
)
def test_operations_on(isa):
    """test_ops.py but its second derivatives, which are built of operations that it has tested by then, and Winograd's
    convolution."""
    package = str(Path(pe.__file__).resolve().parents[1])
    environment = os.environ | {"PYENGINE_CPU_ISA": isa}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH", "")]))
    code = f"import sys, pyengine as pe, pytest; assert pe.cpu_isa() == {isa!r}; sys.exit(pytest.main(sys.argv[1:]))"
    arguments = [
        "-q",
        "-x",
        "-p",
        "no:cacheprovider",
        "-k",
        "not gradgradcheck",
        "--tb=short",
        "-r",
        "f",
        str(ROOT / "tests" / "test_ops.py"),
        str(ROOT / "tests" / "test_winograd.py"),
    ]
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=900
    )
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-2000:]
    assert re.search(r"\d{3,} passed", result.stdout), result.stdout[-1000:]


# --- the object files of a build folder: PYENGINE_BUILD_DIR, or build/ in the source tree


def kernel_objects() -> dict[str, list[Path]]:
    """Each instruction set's object files, of an optimized build: others keep inline functions apart."""
    given = os.environ.get("PYENGINE_BUILD_DIR")
    roots = [Path(given)] if given else sorted(p.parent for p in (ROOT / "build").glob("*/CMakeCache.txt"))
    for root in roots:
        cache = (root / "CMakeCache.txt").read_text()
        if "CMAKE_BUILD_TYPE:STRING=Release" not in cache and "CMAKE_BUILD_TYPE:UNINITIALIZED=Release" not in cache:
            explicit = re.search(r"CMAKE_BUILD_TYPE:\w+=(.+)", cache)
            if explicit:
                continue
        if re.search(r"PYENGINE_SANITIZE:\w+=.+", cache):
            continue
        found = {
            d.name[len("kernels_") : -len(".dir")]: sorted(d.rglob("*.o"))
            for d in root.glob("CMakeFiles/kernels_*.dir")
        }
        if found and all(found.values()):
            return found
    return {}


OBJECTS = kernel_objects()
needs_objects = pytest.mark.skipif(
    not OBJECTS, reason="no build folder with an optimized build; PYENGINE_BUILD_DIR names one"
)


def output_of(tool: str, *arguments: str) -> str:
    if not shutil.which(tool):
        pytest.skip(f"{tool} is not installed")
    return subprocess.run([tool, *arguments], capture_output=True, text=True, check=True).stdout


@needs_objects
@pytest.mark.parametrize("isa", sorted(OBJECTS))
def test_kernels_share_no_symbol(isa):
    """A weak symbol in an object file of one instruction set may be the copy that the linker gives to everyone; so each
    object defines strong symbols of its own namespace only."""
    for path in OBJECTS[isa]:
        symbols = [line.split()[-2:] for line in output_of("nm", "--defined-only", str(path)).splitlines() if line]
        shared = [name for kind, name in symbols if kind in "WVuwv"]
        assert not shared, f"{path.name} of {isa} has weak symbols: {shared}"
        foreign = [name for kind, name in symbols if kind.isupper() and not name.startswith(f"_ZN2pe{len(isa)}{isa}")]
        assert not foreign, f"{path.name} of {isa} defines {foreign}"


@needs_objects
@pytest.mark.parametrize(
    ("isa", "has", "lacks"), [("scalar", None, "[yz]mm"), ("avx2", "ymm", "zmm"), ("avx512", "zmm", None)]
)
def test_kernels_use_their_registers(isa, has, lacks):
    if isa not in OBJECTS:
        pytest.skip(f"this build has no {isa}")
    for path in OBJECTS[isa]:
        if path.name.startswith(("gemm", "unary", "batch_norm", "optim")):
            code = output_of("objdump", "-d", "--no-show-raw-insn", str(path))
            assert has is None or re.search(rf"%{has}\d", code), f"{path.name} of {isa} has no {has} register"
            found = re.search(rf".*%{lacks}\d.*", code) if lacks else None
            assert found is None, f"{path.name} of {isa}: {found and found.group()}"
