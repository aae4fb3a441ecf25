"""The training loop and the evaluation loop."""

import math
import time
from collections.abc import Callable
from typing import Any

from pyengine import Tensor, get_rng_state, nn, no_grad, set_rng_state
from pyengine.data import DataLoader
from pyengine.nn.functional import cross_entropy
from pyengine.train.checkpoint import Checkpoint
from pyengine.train.errors import DivergedError, Interrupted
from pyengine.train.metrics import Row, RunningMetrics
from pyengine.train.progress import Progress, Silent
from pyengine.train.state import RunState

Criterion = Callable[[Tensor, Tensor], Tensor]


def fit(
    model: nn.Module,
    loader: DataLoader[Any],
    *,
    optimizer: Any,
    epochs: int,
    criterion: Criterion = cross_entropy,
    scheduler: Any = None,
    test_loader: DataLoader[Any] | None = None,
    state: RunState | None = None,
    checkpoint: Checkpoint | None = None,
    progress: Progress | None = None,
    stop: Callable[[], bool] = lambda: False,
    after_epoch: Callable[[RunState], None] = lambda state: None,
) -> RunState:
    """Trains `model` on the batches (images, labels) of `loader` until `epochs` epochs are done, and returns the state.

    The scheduler steps once per optimizer step. A `state` that a checkpoint restored goes on where it stood, in
    mid-epoch too. With a `checkpoint`, the run is saved after every epoch and as often in between as it asks for. When
    `stop()` becomes true it is saved and `Interrupted` is raised; a loss that is not finite raises `DivergedError`.
    """
    state = state or RunState()
    progress = progress or Silent()
    progress.start(epochs, _length(loader), state)
    try:
        while state.epoch < epochs:
            if not state.trained:
                _train_epoch(model, loader, optimizer, criterion, scheduler, state, checkpoint, progress, stop)
                state.trained = True
            test = evaluate(model, test_loader, stop) if test_loader is not None else None
            row = _row(state, test)
            state.finish_epoch(row)
            if checkpoint is not None:
                checkpoint.save(state)
            after_epoch(state)
            progress.epoch(row)
    except Interrupted:
        if checkpoint is not None:
            checkpoint.save(state)
        raise
    finally:
        progress.close()
    return state


def evaluate(model: nn.Module, loader: DataLoader[Any], stop: Callable[[], bool] = lambda: False) -> RunningMetrics:
    """Mean cross-entropy and accuracy of `model` over `loader`, in evaluation mode.

    The model's mode and the engine's generator are put back after: a run computes the same with and without it.
    """
    metrics = RunningMetrics()
    training, generator = model.training, get_rng_state()
    model.eval()
    began = time.monotonic()
    try:
        with no_grad():
            for images, labels in loader:
                if stop():
                    raise Interrupted
                logits = model(images)
                metrics.add(cross_entropy(logits, labels).item(), logits, labels)
    finally:
        model.train(training)
        set_rng_state(generator)
    metrics.seconds = time.monotonic() - began
    return metrics


def _train_epoch(
    model: nn.Module,
    loader: DataLoader[Any],
    optimizer: Any,
    criterion: Criterion,
    scheduler: Any,
    state: RunState,
    checkpoint: Checkpoint | None,
    progress: Progress,
    stop: Callable[[], bool],
) -> None:
    """Trains on what is left of the epoch; the loader itself goes on where a restored run stood."""
    model.train()
    began = time.monotonic()
    for images, labels in loader:
        logits = model(images)
        loss = criterion(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        state.lr = optimizer.param_groups[0]["lr"]
        if scheduler is not None:
            scheduler.step()

        value = loss.item()
        if not math.isfinite(value):
            raise DivergedError(f"the loss became {value} at step {state.step + 1}: try a smaller learning rate")
        state.running.add(value, logits, labels)
        state.batch += 1
        state.step += 1
        now = time.monotonic()
        state.running.seconds += now - began
        began = now
        progress.step(state)
        if stop():
            raise Interrupted
        if checkpoint is not None and checkpoint.due(state):
            checkpoint.save(state)
            began = time.monotonic()


def _length(loader: DataLoader[Any]) -> int | None:
    """Batches in an epoch; None for a stream that does not know."""
    try:
        return len(loader)
    except TypeError:
        return None


def _row(state: RunState, test: RunningMetrics | None) -> Row:
    running = state.running
    return {
        "epoch": state.epoch + 1,
        "step": state.step,
        "lr": state.lr,
        "train_loss": running.loss,
        "train_accuracy": running.accuracy,
        "test_loss": test.loss if test else None,
        "test_accuracy": test.accuracy if test else None,
        "images_per_second": round(running.images_per_second, 1),
        "seconds": round(running.seconds, 3),
    }
