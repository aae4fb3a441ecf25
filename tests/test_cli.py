"""The command `pyengine`, run as a user runs it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import pyengine as pe
from pyengine import cli
from pyengine import io as engine_io

TINY = ("--epochs", "1", "--limit", "200")


def command(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "pyengine", *map(str, arguments)]
    return subprocess.run(line, cwd=cwd, capture_output=True, text=True, timeout=300)


def here(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """The command within this process, which saves the import: exit code, stdout, stderr."""
    try:
        code = cli.main([str(argument) for argument in arguments])
    except SystemExit as stop:
        code = int(stop.code or 0)
    output = capsys.readouterr()
    return code, output.out, output.err


def weights(folder: Path) -> dict[str, bytes]:
    model = engine_io.load(folder / "checkpoint.pe")["parts"]["model"]
    return {name: np.asarray(value).tobytes() for name, value in model.items()}


def rows(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(autouse=True)
def same_number_of_threads():
    """--threads sets the process's number."""
    threads = pe.get_num_threads()
    yield
    pe.set_num_threads(threads)


# --- train and evaluate ---


def test_train_then_evaluate(tmp_path):
    done = command("train", *TINY, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1]
    assert re.fullmatch(r"test accuracy \d+\.\d %", last)
    lines = done.stderr.splitlines()
    assert lines[0].startswith("epoch 1/1  loss ")
    assert lines[1:] == ["saved to runs/lenet5-digits"]  # no bar without a terminal
    out = tmp_path / "runs" / "lenet5-digits"
    assert {"checkpoint.pe", "metrics.csv", "metrics.jsonl"} <= {file.name for file in out.iterdir()}
    again = command("evaluate", out)
    assert again.returncode == 0, again.stderr
    assert again.stdout.splitlines()[-1] == last
    assert command("evaluate", out / "checkpoint.pe", "--threads", 1).stdout.splitlines()[-1] == last


def test_each_run_without_out_has_a_folder_of_its_own(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for folder in ("mlp-digits", "mlp-digits-2", "mlp-digits-3"):
        code, _, error = here(capsys, "train", "--model", "mlp", *TINY)
        assert code == 0 and f"saved to runs/{folder}" in error


def test_quiet_says_only_the_result(tmp_path, capsys):
    code, out, error = here(capsys, "train", "--model", "mlp", *TINY, "--out", tmp_path, "--quiet")
    assert (code, error) == (0, "") and len(out.splitlines()) == 1


@pytest.mark.parametrize("model", ["lenet5", "small_cnn"])
def test_the_number_of_threads_changes_no_bit(tmp_path, capsys, model):
    for threads in (1, 2, 3):
        out = tmp_path / str(threads)
        code, _, error = here(capsys, "train", "--model", model, *TINY, "--out", out, "--threads", threads)
        assert code == 0, error
    assert weights(tmp_path / "1") == weights(tmp_path / "2") == weights(tmp_path / "3")


def test_the_seed_decides(tmp_path, capsys):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert here(capsys, "train", "--model", "mlp", *TINY, "--out", tmp_path / name, "--seed", seed)[0] == 0
    assert weights(tmp_path / "a") == weights(tmp_path / "b") != weights(tmp_path / "c")


@pytest.mark.parametrize(
    "options",
    [
        ("--optimizer", "sgd", "--momentum", "0.8", "--weight-decay", "1e-4", "--lr", "0.02"),
        ("--optimizer", "adam", "--scheduler", "step", "--step-size", "1", "--gamma", "0.5"),
        ("--scheduler", "none", "--warmup", "0.5", "--label-smoothing", "0", "--batch-size", "33"),
    ],
)
def test_options_of_training(tmp_path, capsys, options):
    code, _, error = here(capsys, "train", "--model", "mlp", *TINY, *options, "--out", tmp_path)
    assert code == 0, error


def test_metrics_agree_and_the_curve_is_drawn(tmp_path, capsys):
    code, out, _ = here(capsys, "train", "--model", "mlp", "--limit", 200, "--epochs", 3, "--out", tmp_path)
    assert code == 0
    table = [line.split(",") for line in (tmp_path / "metrics.csv").read_text().splitlines()]
    assert [dict(zip(table[0], map(float, line), strict=True)) for line in table[1:]] == rows(tmp_path)
    assert [row["epoch"] for row in rows(tmp_path)] == [1, 2, 3]
    assert out.splitlines()[-1] == f"test accuracy {100 * rows(tmp_path)[-1]['test_accuracy']:.1f} %"
    pytest.importorskip("matplotlib")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


# --- stop and resume ---


@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_with_a_checkpoint(tmp_path, capsys, which):
    options = ("--model", "mlp", "--epochs", "40", "--limit", "1000")
    line = [sys.executable, "-m", "pyengine", "train", *options, "--out", str(tmp_path / "stopped")]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    first = process.stderr.readline()
    time.sleep(0.02)
    process.send_signal(which)
    out, error = process.communicate(timeout=120)
    assert process.returncode == 128 + which, error
    assert first.startswith("epoch  1/40") and out == ""
    last = error.splitlines()[-1]
    assert (
        last == f"pyengine: stopped by {which.name}; go on with: pyengine train --resume --out {tmp_path / 'stopped'}"
    )
    stopped_at = engine_io.load(tmp_path / "stopped" / "checkpoint.pe")["state"]["epoch"]
    assert 1 <= stopped_at < 40 and len(rows(tmp_path / "stopped")) == stopped_at

    assert here(capsys, "train", "--resume", "--out", tmp_path / "stopped")[0] == 0
    assert here(capsys, "train", *options, "--out", tmp_path / "whole")[0] == 0
    assert weights(tmp_path / "stopped") == weights(tmp_path / "whole")
    keep = ("epoch", "step", "lr", "train_loss", "train_accuracy", "test_loss", "test_accuracy")
    stopped, whole = ([[row[key] for key in keep] for row in rows(tmp_path / name)] for name in ("stopped", "whole"))
    assert stopped == whole


def test_resume_of_a_finished_run_says_its_result(tmp_path, capsys):
    _, first, _ = here(capsys, "train", "--model", "mlp", *TINY, "--out", tmp_path)
    before = (tmp_path / "metrics.csv").read_bytes()
    (tmp_path / "metrics.csv").unlink()  # as if it had died just before this was written
    code, second, _ = here(capsys, "train", "--resume", "--out", tmp_path)
    assert code == 0 and first.splitlines()[-1] == second.splitlines()[-1]
    assert (tmp_path / "metrics.csv").read_bytes() == before


def test_resume_with_more_epochs_equals_one_long_run(tmp_path, capsys):
    options = ("--model", "mlp", "--limit", 200, "--scheduler", "none")
    assert here(capsys, "train", *options, "--epochs", 1, "--out", tmp_path / "a")[0] == 0
    assert here(capsys, "train", "--resume", "--epochs", 3, "--threads", 1, "--out", tmp_path / "a")[0] == 0
    assert here(capsys, "train", *options, "--epochs", 3, "--out", tmp_path / "b")[0] == 0
    assert weights(tmp_path / "a") == weights(tmp_path / "b")


# --- errors ---


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--model", "lenet"], "--model: unknown model 'lenet': did you mean 'lenet5'?"),
        (["train", "--data", "mnst"], "--data: unknown data set 'mnst': did you mean 'mnist'?"),
        (["train", "--data", "mnist"], "--data mnist needs --data-dir"),
        (["train", "--data", "mnist", "--data-dir", "nowhere"], "--data mnist: "),
        (["train", "--data", "cifar10", "--data-dir", "nowhere"], "--data cifar10: "),
        (["train", "--epochs", "x"], "argument --epochs: invalid int value: 'x'"),
        (["train", "--epochs", "-1"], "--epochs must be at least 1, got -1"),
        (["train", "--lr", "nan"], "--lr must be a finite number"),
        (["train", "--threads", "0"], "--threads must be at least 1"),
        (["train", "--threads", "100000"], "--threads must be below 1025"),
        (["train", "--device", "cuda"], "--device: "),
        (["train", "--optimiser", "sgd"], "unrecognized arguments: --optimiser sgd"),
        (["train", "--resume"], "--resume needs --out"),
        (["train", "--resume", "--out", "nowhere"], "no checkpoint at nowhere"),
        (["train", "--resume", "--overwrite", "--out", "x"], "--resume and --overwrite exclude each other"),
        (["evaluate", "nowhere.pe"], "no checkpoint at nowhere.pe"),
        (["evaluate"], "the following arguments are required: CHECKPOINT"),
        (["trian"], "invalid choice: 'trian'"),
        ([], "the following arguments are required: COMMAND"),
    ],
)
def test_user_errors(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, out, error = here(capsys, *arguments)
    assert code == 2 and out == ""
    assert error.startswith("pyengine: error: ") and message in error and error.count("\n") == 1
    assert not list(tmp_path.glob("runs/*/*"))


def test_an_error_of_the_command_itself_has_no_traceback(tmp_path):
    done = command("train", "--model", "lenet", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("pyengine: error: ")


def test_a_run_that_diverges(tmp_path, capsys):
    code, _, error = here(capsys, "train", *TINY, "--optimizer", "sgd", "--lr", "1e38", "--out", tmp_path)
    assert code == 2 and "pyengine: error: the loss became" in error and "try a smaller learning rate" in error


def test_an_earlier_run_is_not_touched_unless_asked(tmp_path, capsys):
    assert here(capsys, "train", "--model", "mlp", *TINY, "--out", tmp_path)[0] == 0
    (tmp_path / "notes.txt").write_text("mine")
    before = weights(tmp_path)
    code, _, error = here(capsys, "train", "--model", "mlp", *TINY, "--out", tmp_path, "--seed", 1)
    assert code == 2 and "holds a run already: --resume goes on with it, --overwrite replaces it" in error
    code, _, error = here(capsys, "train", "--model", "mpl", *TINY, "--out", tmp_path, "--overwrite")
    assert code == 2 and weights(tmp_path) == before  # a mistake costs no run
    assert here(capsys, "train", "--model", "mlp", *TINY, "--out", tmp_path, "--seed", 1, "--overwrite")[0] == 0
    assert weights(tmp_path) != before and (tmp_path / "notes.txt").read_text() == "mine"


def test_resume_with_other_options(tmp_path, capsys):
    assert here(capsys, "train", "--model", "mlp", *TINY, "--out", tmp_path)[0] == 0
    code, _, error = here(capsys, "train", "--resume", "--out", tmp_path, "--lr", "0.5", "--model", "lenet5")
    assert code == 2
    assert "cannot resume with other options: --model lenet5 (the run has mlp), --lr 0.5 (the run has 0.004)" in error


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "text"])
def test_a_damaged_checkpoint_is_refused(tmp_path, capsys, damage):
    assert here(capsys, "train", "--model", "mlp", *TINY, "--out", tmp_path)[0] == 0
    file = tmp_path / "checkpoint.pe"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    flipped = bytes(content)
    file.write_bytes({"truncated": flipped[:1000], "flipped": flipped, "empty": b"", "text": b"hello\n"}[damage])
    for arguments in (["evaluate", tmp_path], ["train", "--resume", "--out", tmp_path]):
        code, _, error = here(capsys, *arguments)
        assert code == 2 and error.startswith(f"pyengine: error: {file}") and error.count("\n") == 1


def test_folders_that_cannot_be_written(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    code, _, error = here(capsys, "train", *TINY, "--out", tmp_path / "file")
    assert code == 2 and f"cannot write to --out {tmp_path / 'file'}" in error
    if os.geteuid() != 0:  # root may write anywhere
        (tmp_path / "locked").mkdir(mode=0o500)
        code, _, error = here(capsys, "train", *TINY, "--out", tmp_path / "locked")
        assert code == 2 and "cannot write to --out" in error


def test_wrong_options_of_evaluate(tmp_path, capsys):
    assert here(capsys, "train", "--model", "mlp", *TINY, "--out", tmp_path)[0] == 0
    code, _, error = here(capsys, "evaluate", tmp_path, "--threads", 0)
    assert code == 2 and "--threads must be at least 1, got 0" in error
    code, _, error = here(capsys, "evaluate", tmp_path, "--data", "cifar10", "--data-dir", tmp_path)
    assert code == 2 and "the network takes 1x28x28 images, not 3x32x32" in error


# --- info and help ---


def test_info(capsys):
    code, text, _ = here(capsys, "info")
    assert code == 0
    code, out, _ = here(capsys, "info", "--json")
    facts = json.loads(out)
    assert facts["version"] == pe.__version__
    assert facts["threads"] == pe.get_num_threads()
    assert facts["instruction_set"] in facts["instruction_sets"]
    assert 0 < facts["memory_peak_bytes"] < facts["memory_available_bytes"]
    assert facts["devices"][0] == "cpu"
    assert facts["instruction_set"] in text and "MiB" in text


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["evaluate", "--help"], ["info", "--help"]])
def test_help(capsys, arguments):
    code, out, error = here(capsys, *arguments)
    assert code == 0 and out.startswith("usage: pyengine") and error == ""
    assert all(len(line) <= 100 for line in out.splitlines())
