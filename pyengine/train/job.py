"""Whole jobs, as the command runs them: train from a configuration, go on with a run, evaluate a checkpoint."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyengine
from pyengine import nn
from pyengine.train import folder
from pyengine.train.checkpoint import Checkpoint, load_checkpoint, load_weights
from pyengine.train.config import TrainConfig
from pyengine.train.curve import draw_curve
from pyengine.train.errors import UserError
from pyengine.train.images import Source, load_images, source, test_loader, train_loader
from pyengine.train.loop import evaluate, fit
from pyengine.train.metrics import RunningMetrics, write_metrics
from pyengine.train.progress import Progress
from pyengine.train.recipe import make_criterion, make_optimizer, make_scheduler
from pyengine.train.state import RunState
from pyengine.vision import models


@dataclasses.dataclass(frozen=True)
class Job:
    """What a run computes and where it keeps its files."""

    config: TrainConfig
    out: Path
    saved: Mapping[str, Any] | None = None  # the checkpoint that it goes on from
    download: bool = False  # fetch the data set's files where they are missing


def new_job(
    options: Mapping[str, Any], out: Path | None = None, overwrite: bool = False, download: bool = False
) -> Job:
    """A job from the options given; without `out`, its folder is a new one under runs/."""
    config = TrainConfig.create(options)
    out = out or folder.new_folder(config.model, config.data)
    if not overwrite:
        folder.check_unused(out)
    return Job(config, out, download=download)


def resumed_job(options: Mapping[str, Any], out: Path, download: bool = False) -> Job:
    """The job of the run in `out`; options that would make it another run are an error."""
    saved = load_checkpoint(folder.checkpoint_in(out))
    return Job(TrainConfig.from_dict(saved["config"]).resumed_with(options), out, saved, download)


def run_job(job: Job, progress: Progress | None = None, stop: Callable[[], bool] = lambda: False) -> RunState:
    """Trains to the end of the job, with a checkpoint, metrics and a learning curve in its folder.

    Nothing is written, and no earlier run overwritten, before the options and the data have proved good.
    """
    config, out = job.config, job.out
    _check_device(config.device)
    _set_threads(config.threads)
    pyengine.manual_seed(config.seed)
    model = _make_model(config, source(config.data))
    images = load_images(config.data, config.data_dir, limit=config.limit, download=job.download)
    test_images = load_images(config.data, config.data_dir, train=False, download=job.download)
    loader = train_loader(images, config.batch_size, config.seed)
    folder.prepare_folder(out)
    optimizer = make_optimizer(config, model.parameters())
    scheduler = make_scheduler(config, optimizer, len(loader))
    checkpoint = Checkpoint(
        out / folder.CHECKPOINT,
        model=model,
        optimizer=optimizer,
        scheduler=scheduler,
        loader=loader,
        config=config.to_dict(),
        every=config.checkpoint_every,
    )
    if job.saved is not None:
        state = checkpoint.restore(job.saved)
        write_metrics(out, state.history)  # the run may have died between its checkpoint and these
    else:
        state = RunState()
        folder.clear_folder(out)
        checkpoint.save(state)
    try:
        return fit(
            model,
            loader,
            optimizer=optimizer,
            epochs=config.epochs,
            criterion=make_criterion(config),
            scheduler=scheduler,
            test_loader=test_loader(test_images),
            state=state,
            checkpoint=checkpoint,
            progress=progress,
            stop=stop,
            after_epoch=lambda state: write_metrics(out, state.history),
        )
    finally:
        draw_curve(out / folder.CURVE, state.history, title=f"{config.model} on {config.data}")


def evaluate_checkpoint(
    path: Path,
    data: str | None = None,
    data_dir: str | None = None,
    threads: int | None = None,
) -> RunningMetrics:
    """The test metrics of a saved model, on its own data set or another one of the same shape."""
    saved = load_checkpoint(folder.checkpoint_in(path))
    config = TrainConfig.from_dict(saved["config"]).resumed_with({"threads": threads})
    _set_threads(config.threads)
    data = data or config.data
    trained_on, given = source(config.data), source(data)
    if (given.shape, given.classes) != (trained_on.shape, trained_on.classes):
        raise UserError(f"--data {data}: the network takes {trained_on.shape} images, not {given.shape}")
    model = _make_model(config, given)
    load_weights(model, saved, path)
    return evaluate(model, test_loader(load_images(data, data_dir or config.data_dir, train=False)))


def _make_model(config: TrainConfig, data: Source) -> nn.Module:
    try:
        return models.create(config.model, data.classes, data.shape.channels, data.shape.size)
    except ValueError as error:
        raise UserError(f"--model: {error}") from None


def _check_device(device: str) -> None:
    try:
        pyengine.empty(0, device=device)
    except (ValueError, RuntimeError) as error:
        raise UserError(f"--device: {error}") from None


def _set_threads(threads: int | None) -> None:
    if threads is not None:
        pyengine.set_num_threads(threads)
