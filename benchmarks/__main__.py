"""The command: python -m benchmarks {steps,overhead,import,memory,ops,all}."""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from . import machine, memory, ops, overhead, report, start, steps
from .networks import NETWORKS
from .processes import ChildError
from .settings import TORCH_MODES, Settings

BENCHMARKS: dict[str, Callable[[Settings], report.Section]] = {
    "steps": steps.run,
    "overhead": overhead.run,
    "import": start.run,
    "memory": memory.run,
    "ops": ops.run,
}
RESULTS = Path(__file__).with_name("results")


def parser() -> argparse.ArgumentParser:
    """The options; every benchmark takes all of them."""
    top = argparse.ArgumentParser(prog="python -m benchmarks", description="Measures pyengine against PyTorch.")
    commands = top.add_subparsers(dest="benchmark", metavar="BENCHMARK", required=True)
    texts = {
        "steps": "training steps of whole networks",
        "overhead": "what a call costs on four elements",
        "import": "import time and size",
        "memory": "peak memory of a training run",
        "ops": "every operation of the tests' case table",
        "all": "all of them, in one report",
    }
    for name, text in texts.items():
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--threads", type=int, default=2, metavar="N", help="for every engine (default: 2)")
        command.add_argument("--rounds", type=int, metavar="N", help="turns for each engine (default: 15)")
        command.add_argument("--seconds", type=float, metavar="S", help="length of a turn (default: 1)")
        command.add_argument(
            "--networks", nargs="+", choices=sorted(NETWORKS), default=list(NETWORKS), metavar="NAME",
            help=f"which networks (default: {' '.join(NETWORKS)})",
        )  # fmt: skip
        command.add_argument(
            "--torch-modes", nargs="+", choices=TORCH_MODES, default=None, metavar="MODE",
            help=f"which modes of PyTorch (default: {' '.join(TORCH_MODES)})",
        )  # fmt: skip
        command.add_argument("--no-torch", action="store_true", help="measure pyengine alone")
        command.add_argument("--wheel", type=Path, metavar="FILE", help="a wheel whose size is reported")
        command.add_argument("--cases", default="", metavar="REGEX", help="which operations of `ops` (default: all)")
        command.add_argument("--out", type=Path, metavar="DIR", help="for the report (default: benchmarks/results)")
        command.add_argument(
            "--quick", action="store_true", help="only to see that everything runs; prints, and writes nothing"
        )
    return top


def settings_of(options: argparse.Namespace) -> Settings:
    """The options with the defaults that depend on others."""
    torch = not options.no_torch and importlib.util.find_spec("torch") is not None
    if not torch and not options.no_torch:
        print("PyTorch is not installed: pyengine is measured alone, without ratios.", file=sys.stderr)
    return Settings(
        threads=options.threads,
        rounds=options.rounds or (2 if options.quick else 15),
        seconds=options.seconds or (0.02 if options.quick else 1.0),
        networks=tuple(options.networks),
        torch_modes=tuple(options.torch_modes or (("eager",) if options.quick else TORCH_MODES)),
        torch=torch,
        quick=options.quick,
        wheel=options.wheel,
        cases=options.cases,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    if options.wheel and not options.wheel.is_file():
        print(f"--wheel: {options.wheel} is not a file", file=sys.stderr)
        return 2
    settings = settings_of(options)
    facts = machine.describe()
    if os.getloadavg()[0] > 0.3 * (os.cpu_count() or 1) and not settings.quick:
        print("The machine is busy with other work; these figures will not be worth keeping.", file=sys.stderr)
    names = list(BENCHMARKS) if options.benchmark == "all" else [options.benchmark]
    sections = []
    try:
        for name in names:
            print(f"measuring: {name}", file=sys.stderr)
            sections.append(BENCHMARKS[name](settings))
    except ChildError as error:
        print(f"a measuring process failed: {error}", file=sys.stderr)
        return 1
    print(report.markdown(facts, sections))
    if not settings.quick or options.out:
        for path in report.write(options.out or RESULTS, options.benchmark, facts, sections):
            print(f"wrote {path}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
