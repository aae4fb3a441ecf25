"""The folder of a run: which files it holds, and whether a new run may begin there."""

from pathlib import Path

from pyengine.train.errors import UserError

CHECKPOINT = "checkpoint.pe"
METRICS = ("metrics.jsonl", "metrics.csv")
CURVE = "curve.png"
FILES = (CHECKPOINT, *METRICS, CURVE)


def checkpoint_in(path: Path) -> Path:
    """The checkpoint that `path` means: itself, or the one in the run's folder."""
    file = path / CHECKPOINT if path.is_dir() else path
    if not file.exists():
        raise UserError(f"no checkpoint at {file}")
    return file


def check_unused(out: Path) -> None:
    """An error when `out` holds a run."""
    if _files_of_run(out):
        raise UserError(f"{out} holds a run already: --resume goes on with it, --overwrite replaces it")


def prepare_folder(out: Path) -> None:
    """Makes the folder where it is missing, and removes what a process that was killed while it wrote has left."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            for left in out.glob(f".{name}.*.tmp"):
                left.unlink()
    except OSError as error:
        raise _cannot_write(out, error) from None


def clear_folder(out: Path) -> None:
    """Removes an earlier run's files, and no others."""
    try:
        for file in _files_of_run(out):
            file.unlink()
    except OSError as error:
        raise _cannot_write(out, error) from None


def _files_of_run(out: Path) -> list[Path]:
    return [out / name for name in FILES if (out / name).exists()]


def _cannot_write(out: Path, error: OSError) -> UserError:
    return UserError(f"cannot write to --out {out}: {error.strerror or error}")


def new_folder(model: str, data: str, base: Path = Path("runs")) -> Path:
    """runs/lenet5-digits, or the first of runs/lenet5-digits-2, -3, ... that does not exist."""
    folder, number = base / f"{model}-{data}", 1
    while folder.exists():
        number += 1
        folder = base / f"{model}-{data}-{number}"
    return folder
