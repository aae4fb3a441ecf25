"""The training library: the loop, exact resume, metrics, schedules, options."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import pyengine as pe
from pyengine import io as engine_io
from pyengine import nn, optim
from pyengine.data import DataLoader, TensorDataset
from pyengine.train import (
    Checkpoint,
    DivergedError,
    EpochLines,
    Interrupted,
    RunState,
    StopSignals,
    TrainConfig,
    UserError,
    choose_progress,
    evaluate,
    fit,
)
from pyengine.train.config import options_of_run
from pyengine.train.images import SOURCES
from pyengine.train.metrics import COLUMNS, RunningMetrics, to_csv, to_jsonl
from pyengine.train.progress import duration
from pyengine.train.recipe import schedule
from pyengine.vision import models


class Run:
    """A small run with everything that has a state: BatchNorm, dropout, momentum, a schedule, a shuffled loader."""

    def __init__(self, path: Path, every: int | None = None, epochs: int = 3) -> None:
        pe.manual_seed(7)
        numbers = np.random.default_rng(0)
        images = pe.from_numpy(numbers.standard_normal((22, 6)).astype(np.float32))
        labels = pe.from_numpy(numbers.integers(0, 3, 22))
        self.model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3))
        self.epochs = epochs
        self.optimizer = optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9)
        self.scheduler = optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: 0.9**step)
        order = pe.Generator()
        order.manual_seed(1)
        self.loader = DataLoader(TensorDataset(images, labels), batch_size=4, shuffle=True, generator=order)
        self.test_loader = DataLoader(TensorDataset(images, labels), batch_size=8)
        self.checkpoint = Checkpoint(
            path,
            model=self.model,
            optimizer=self.optimizer,
            scheduler=self.scheduler,
            loader=self.loader,
            every=every,
        )

    def go(self, state: RunState | None = None, **more) -> RunState:
        return fit(
            self.model,
            self.loader,
            optimizer=self.optimizer,
            scheduler=self.scheduler,
            epochs=self.epochs,
            test_loader=self.test_loader,
            checkpoint=self.checkpoint,
            state=state,
            **more,
        )

    def bits(self) -> dict[str, bytes]:
        return {name: value.detach().numpy().tobytes() for name, value in self.model.state_dict().items()}


def without_times(rows):
    return [{key: value for key, value in row.items() if key not in ("seconds", "images_per_second")} for row in rows]


def test_fit_learns_and_counts(tmp_path):
    run = Run(tmp_path / "c.pe", epochs=20)
    state = run.go()
    assert (state.epoch, state.batch, state.step) == (20, 0, 20 * 6)
    assert [row["epoch"] for row in state.history] == list(range(1, 21))
    assert [row["step"] for row in state.history] == list(range(6, 126, 6))
    assert state.history[-1]["train_loss"] < state.history[0]["train_loss"]
    assert state.history[-1]["lr"] == pytest.approx(0.1 * 0.9**119)


def test_fit_matches_a_loop_written_by_hand(tmp_path):
    first = Run(tmp_path / "a.pe")
    first.go()
    second = Run(tmp_path / "b.pe")
    second.model.train()
    for _ in range(second.epochs):
        for images, labels in second.loader:
            loss = nn.functional.cross_entropy(second.model(images), labels)
            second.optimizer.zero_grad()
            loss.backward()
            second.optimizer.step()
            second.scheduler.step()
    assert first.bits() == second.bits()


def test_evaluate_restores_mode_and_generator():
    pe.manual_seed(3)
    model = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5))
    loader = DataLoader(TensorDataset(pe.randn(10, 4), pe.zeros(10, dtype=pe.int64)), batch_size=3)
    expected = nn.functional.cross_entropy(model.eval()(loader.dataset.tensors[0]), loader.dataset.tensors[1]).item()
    model.train()
    before = pe.get_rng_state()
    metrics = evaluate(model, loader)
    assert model.training
    assert metrics.images == 10
    assert metrics.loss == pytest.approx(expected, rel=1e-5)
    assert np.array_equal(np.asarray(before), np.asarray(pe.get_rng_state()))


@pytest.mark.parametrize("every", [None, 1, 4])
def test_a_stop_at_any_moment_resumes_to_the_same_bits(tmp_path, every):
    whole = Run(tmp_path / "whole.pe")
    calls = 0

    def count() -> bool:
        nonlocal calls
        calls += 1
        return False

    history = whole.go(stop=count).history
    assert calls == 3 * (6 + 3)  # after every step and before every batch of the evaluation
    for moment in range(1, calls + 1):
        path = tmp_path / f"{moment}.pe"
        countdown = iter([False] * (moment - 1) + [True])
        with pytest.raises(Interrupted):
            Run(path, every).go(stop=countdown.__next__)
        resumed = Run(path, every)
        state = resumed.go(resumed.checkpoint.restore())
        assert resumed.bits() == whole.bits(), f"stopped at {moment}"
        assert without_times(state.history) == without_times(history)


@pytest.mark.parametrize("last_step", [1, 4, 5, 6, 7, 12, 17])
def test_a_crash_resumes_from_the_last_checkpoint_to_the_same_bits(tmp_path, last_step):
    whole = Run(tmp_path / "whole.pe")
    history = whole.go().history

    class Crash(EpochLines):
        def step(self, state):
            if state.step == last_step:
                raise KeyboardInterrupt

    run = Run(tmp_path / "c.pe", every=4)
    run.checkpoint.save(RunState())
    with pytest.raises(KeyboardInterrupt):
        run.go(progress=Crash())
    resumed = Run(tmp_path / "c.pe", every=4)
    state = resumed.checkpoint.restore()
    assert state.step < last_step
    state = resumed.go(state)
    assert resumed.bits() == whole.bits()
    assert without_times(state.history) == without_times(history)


KILLED = """
import os, signal, sys
from pathlib import Path
from pyengine.train import Silent, new_job, run_job

class Kill(Silent):
    def step(self, state):
        if state.step == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)

options = dict(model="small_cnn", epochs=2, limit=100, batch_size=16, checkpoint_every=3, seed=5)
run_job(new_job(options, Path(sys.argv[1])), Kill())
"""


def weights(folder: Path) -> dict[str, bytes]:
    model = engine_io.load(folder / "checkpoint.pe")["parts"]["model"]
    return {name: np.asarray(value).tobytes() for name, value in model.items()}


@pytest.mark.parametrize("step", [2, 5, 8])
def test_kill_9_and_resume_with_the_command(tmp_path, step):
    def run(out: Path, kill_at: int) -> int:
        return subprocess.run([sys.executable, "-c", KILLED, str(out), str(kill_at)], timeout=300).returncode

    assert run(tmp_path / "whole", 0) == 0
    assert run(tmp_path / "killed", step) == -signal.SIGKILL
    command = [sys.executable, "-m", "pyengine", "train", "--resume", "--out", str(tmp_path / "killed")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")
    killed, whole = ((tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("killed", "whole"))
    assert without_times(map(json.loads, killed)) == without_times(map(json.loads, whole))


def test_restore_refuses_what_does_not_fit(tmp_path):
    run = Run(tmp_path / "c.pe")
    run.checkpoint.save(RunState())
    other = nn.Linear(2, 2)
    checkpoint = Checkpoint(
        tmp_path / "c.pe", model=other, optimizer=optim.SGD(other.parameters(), lr=1.0), loader=run.loader
    )
    with pytest.raises(UserError, match="does not fit"):
        checkpoint.restore()
    engine_io.save({"something": 1}, tmp_path / "other.pe")
    with pytest.raises(UserError, match="not a checkpoint"):
        Checkpoint(tmp_path / "other.pe", model=other, optimizer=run.optimizer, loader=run.loader).restore()


def test_a_loss_that_is_not_finite_is_an_error(tmp_path):
    run = Run(tmp_path / "c.pe")
    with pytest.raises(DivergedError, match="step 1: try a smaller learning rate"):
        run.go(criterion=lambda logits, labels: logits.sum() * float("inf"))


# --- metrics ---


def test_running_metrics():
    metrics = RunningMetrics()
    assert (metrics.loss, metrics.accuracy, metrics.images_per_second) == (0, 0, 0)
    metrics.add(2.0, pe.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 3.0]]), pe.tensor([1, 1, 1]))
    metrics.add(1.0, pe.tensor([[5.0, 1.0]]), pe.tensor([0]))
    metrics.seconds = 2.0
    assert (metrics.loss, metrics.accuracy, metrics.images_per_second) == (7 / 4, 3 / 4, 2.0)


def test_rows_as_text():
    row = dict.fromkeys(COLUMNS, 0.1) | {"epoch": 1, "test_loss": None}
    assert json.loads(to_jsonl([row])) == row
    (read,) = csv.DictReader(io.StringIO(to_csv([row])))
    assert read["epoch"] == "1" and read["test_loss"] == "" and float(read["lr"]) == 0.1
    assert to_csv([]) == ",".join(COLUMNS) + "\n"


# --- what is shown ---


def test_epoch_lines(tmp_path):
    text = io.StringIO()
    Run(tmp_path / "c.pe").go(progress=EpochLines(text))
    lines = text.getvalue().splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("epoch 1/3  loss ")
    assert " images/s " in lines[0] and lines[2].endswith("0:00 left")


def test_bar_on_a_terminal(tmp_path):
    pytest.importorskip("tqdm")

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    text = Terminal()
    Run(tmp_path / "c.pe").go(progress=choose_progress(stream=text))
    assert "epoch 3/3  loss " in text.getvalue() and "|" in text.getvalue()
    assert type(choose_progress(stream=io.StringIO())) is EpochLines
    assert type(choose_progress(bar=False, stream=text)) is EpochLines


def test_duration():
    assert [duration(s) for s in (0, 7.4, 750, 3723)] == ["0:00", "0:07", "12:30", "1:02:03"]


def test_the_second_signal_acts_as_before():
    with StopSignals() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop() and stop.received == signal.SIGTERM
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with StopSignals() as stop:
        assert not stop()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


# --- options ---


def test_defaults_depend_on_the_data_set_and_the_optimizer():
    assert TrainConfig.create() == TrainConfig()
    assert (TrainConfig.create().epochs, TrainConfig.create(data="mnist").epochs) == (30, 10)
    assert TrainConfig.create(optimizer="sgd").lr == 0.05
    assert TrainConfig.create(optimizer="sgd", lr=1).lr == 1.0
    assert TrainConfig.create(optimizer="adam").weight_decay == 0.0
    config = TrainConfig.create(optimizer="sgd", scheduler="step", gamma=0.5)
    assert TrainConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "--epochs must be at least 1, got 0"),
        ({"epochs": 1.5}, "--epochs: expected int, got 1.5"),
        ({"lr": 0}, "--lr must be above 0"),
        ({"lr": float("nan")}, "--lr must be a finite number"),
        ({"optimizer": "adm"}, "unknown optimizer 'adm': did you mean 'adam'?"),
        ({"label_smoothing": 1.0}, "--label-smoothing must be below 1"),
        ({"momentum": 0.5}, "--momentum is an option of sgd, not of adamw"),
        ({"gamma": 0.5}, "--gamma is an option of the step scheduler"),
        ({"warmup": 30}, "--warmup must be shorter than the run"),
        ({"epoch": 3}, "unknown option 'epoch': did you mean 'epochs'?"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(UserError) as error:
        TrainConfig.create(options)
    assert message in str(error.value)


def test_options_of_a_resumed_run():
    config = TrainConfig.create(limit=100)
    assert config.resumed_with({"threads": 2, "epochs": 30}).threads == 2
    with pytest.raises(UserError, match=r"--epochs 40 \(the run has 30\), --lr 0.5 \(the run has 0.004\)"):
        config.resumed_with({"epochs": 40, "lr": 0.5})
    longer = TrainConfig.create(scheduler="none").resumed_with({"epochs": 40})
    assert longer.epochs == 40


def test_the_help_names_every_model_and_data_set():
    texts = {option.name: option.help for option in options_of_run()}
    assert all(name in texts["model"] for name in models.names())
    assert all(name in texts["data"] for name in SOURCES)


@pytest.mark.parametrize(
    ("options", "factors"),
    [
        ({"scheduler": "none", "warmup": 1.0}, [1 / 5, 2 / 5, 3 / 5, 4 / 5, 1, 1]),
        ({"scheduler": "step", "step_size": 1, "gamma": 0.5}, [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25]),
        ({"epochs": 2}, [0.5 * (1 + np.cos(np.pi * step / 8)) for step in range(9)]),
    ],
)
def test_schedule(options, factors):
    factor = schedule(TrainConfig.create(options), steps_per_epoch=4)
    assert [factor(step) for step in range(len(factors))] == pytest.approx(factors)


# --- models ---


@pytest.mark.parametrize(("name", "count"), [("lenet5", 61706), ("mlp", 269322), ("small_cnn", 87274)])
def test_models(name, count):
    model = models.create(name)
    assert sum(p.numel() for p in model.parameters()) == count
    assert model(pe.zeros(2, 1, 28, 28)).shape == (2, 10)
    assert models.create(name, 7, 3, 32)(pe.zeros(2, 3, 32, 32)).shape == (2, 7)


def test_unknown_models():
    with pytest.raises(
        ValueError, match="unknown model 'lenet': did you mean 'lenet5'\\? there are lenet5, mlp, small_cnn"
    ):
        models.create("lenet")
    with pytest.raises(ValueError, match="at least 12x12 pixels, got 8x8"):
        models.create("lenet5", image_size=8)
    with pytest.raises(ValueError, match="in_channels must be at least 1"):
        models.create("mlp", in_channels=0)
