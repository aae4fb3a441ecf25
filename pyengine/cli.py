"""The command `pyengine`: train, evaluate, info.

What a command does lives in the library (`pyengine.train`); here are the flags, the texts and the exit codes: 0 for
success, 2 for an error (one line on stderr), 128 + the signal's number for a run that was stopped (130 for Ctrl-C).
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

Command = Callable[[argparse.Namespace], int]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"pyengine: error: {message} (see {self.prog} --help)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command with the arguments given, or the process's own, and returns its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parser(arguments).parse_args(arguments)
    command: Command = options.command
    try:
        return command(options)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        message = _message(error)
        if message is None:
            raise
        return _fail(message)


def _message(error: Exception) -> str | None:
    """What to tell the user; None for an error that only a programmer can mend."""
    from pyengine.train.errors import DivergedError, UserError

    if isinstance(error, (UserError, DivergedError)):
        return str(error)
    if isinstance(error, MemoryError):
        return f"not enough memory: {error}"
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else str(error)
    return None


def _fail(message: str) -> int:
    print("pyengine: error:", " ".join(message.split()), file=sys.stderr)
    return 2


def _parser(arguments: Sequence[str]) -> _Parser:
    parser = _Parser(prog="pyengine", description="Trains neural networks on images.", allow_abbrev=False)
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)
    _add_train(commands, asked_for="train" in arguments)
    _add_evaluate(commands)
    _add_info(commands)
    return parser


# --- train ---


def _add_train(commands: Any, asked_for: bool) -> None:
    parser = commands.add_parser(
        "train",
        help="train a network",
        description="Trains a network on images. Without options: LeNet-5 on the digits that come with the package.",
        epilog="The last line on stdout is the test accuracy. The run's folder holds checkpoint.pe, metrics.jsonl, "
        "metrics.csv and, where matplotlib is installed, curve.png.",
        allow_abbrev=False,
    )
    if not asked_for:  # then nothing needs its options, whose import costs more than all the rest
        return
    from pyengine.train.config import options_of_run

    run = parser.add_argument_group("the run")
    for option in options_of_run():
        run.add_argument(
            option.flag,
            dest=option.name,
            type=option.type,
            metavar=option.metavar,
            help=option.help,
            default=argparse.SUPPRESS,  # only what was given decides whether a resumed run is still the same
        )
    files = parser.add_argument_group("its files and what is shown")
    files.add_argument("--out", type=Path, metavar="DIR", help="the run's folder (default: a new one under runs/)")
    files.add_argument("--resume", action="store_true", help="go on with the run in --out, exactly where it stood")
    files.add_argument("--overwrite", action="store_true", help="replace an earlier run in --out")
    files.add_argument("--download", action="store_true", help="fetch the data set into --data-dir where it is missing")
    files.add_argument("--no-progress", action="store_true", help="no bar, only a line per epoch")
    files.add_argument("--quiet", action="store_true", help="nothing but the result")
    parser.set_defaults(command=_train)


def _train(options: argparse.Namespace) -> int:
    from pyengine.train import Interrupted, StopSignals, UserError, choose_progress, new_job, resumed_job, run_job
    from pyengine.train.config import options_of_run

    names = {option.name for option in options_of_run()}
    given = {name: value for name, value in vars(options).items() if name in names}
    if options.resume and options.out is None:
        raise UserError("--resume needs --out, the folder of the run to go on with")
    if options.resume and options.overwrite:
        raise UserError("--resume and --overwrite exclude each other")
    if options.resume:
        job = resumed_job(given, options.out, options.download)
    else:
        job = new_job(given, options.out, options.overwrite, options.download)
    with StopSignals() as stop:
        try:
            state = run_job(job, choose_progress(bar=not options.no_progress, quiet=options.quiet), stop)
        except Interrupted:
            assert stop.received is not None
            print(
                f"pyengine: stopped by {stop.received.name}; go on with: pyengine train --resume --out {job.out}",
                file=sys.stderr,
            )
            return 128 + stop.received
    if not options.quiet:
        print(f"saved to {job.out}", file=sys.stderr)
    _print_accuracy(state.history[-1]["test_accuracy"])
    return 0


# --- evaluate ---


def _add_evaluate(commands: Any) -> None:
    parser = commands.add_parser(
        "evaluate",
        help="test a saved network",
        description="Tests a saved network on the test images of its data set, or of another one of the same shape.",
        allow_abbrev=False,
    )
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="a checkpoint, or the folder of a run")
    parser.add_argument("--data", metavar="NAME", help="the data set (default: the one it was trained on)")
    parser.add_argument("--data-dir", metavar="DIR", help="where the data set's files lie (default: as in training)")
    parser.add_argument("--threads", type=int, metavar="N", help="threads to compute with (default: all cores)")
    parser.set_defaults(command=_evaluate)


def _evaluate(options: argparse.Namespace) -> int:
    from pyengine.train import evaluate_checkpoint

    metrics = evaluate_checkpoint(options.checkpoint, options.data, options.data_dir, options.threads)
    print(f"test images {metrics.images}, loss {metrics.loss:.4f}, {metrics.images_per_second:,.0f} images/s")
    _print_accuracy(metrics.accuracy)
    return 0


def _print_accuracy(accuracy: float) -> None:
    print(f"test accuracy {100 * accuracy:.1f} %", flush=True)


# --- info ---


def _add_info(commands: Any) -> None:
    parser = commands.add_parser(
        "info", help="version, instruction set, threads, memory, devices", description="What this engine runs on."
    )
    parser.add_argument("--json", action="store_true", help="the same as JSON")
    parser.set_defaults(command=_info)


def _info(options: argparse.Namespace) -> int:
    facts = collect_info()
    if options.json:
        import json

        print(json.dumps(facts, indent=2))
    else:
        for name, value in facts.items():
            shown = f"{value / 2**20:,.1f} MiB" if name.endswith("_bytes") else value
            shown = ", ".join(shown) if isinstance(shown, list) else shown
            print(f"{name.removesuffix('_bytes').replace('_', ' '):<20}{shown}")
    return 0


def collect_info() -> dict[str, Any]:
    """The facts that `pyengine info` shows; sizes in bytes."""
    import platform

    import numpy

    from pyengine import _C

    memory = {f"memory_{name}": size for name, size in _C.memory_stats().items()}
    return {
        "version": _C.__version__,
        "processor": _C.cpu_name(),
        "instruction_set": _C.cpu_isa(),
        "instruction_sets": _C.cpu_isas(),
        "threads": _C.get_num_threads(),
        "devices": ["cpu"],
        **memory,
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "system": f"{platform.system()} {platform.machine()}",
    }
