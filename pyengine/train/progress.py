"""What a person sees of a run: a bar on a terminal, and one line per epoch."""

import sys
import time
from typing import Any, Protocol, TextIO

from pyengine.train.metrics import Row
from pyengine.train.state import RunState


class Progress(Protocol):
    """What `fit` reports to."""

    def start(self, epochs: int, batches: int | None, state: RunState) -> None:
        """The run begins, or goes on, at `state`; an epoch has so many batches, where that is known."""

    def step(self, state: RunState) -> None:
        """One more batch is done."""

    def epoch(self, row: Row) -> None:
        """One more epoch is done."""

    def close(self) -> None:
        """The run has ended, in whatever way."""


class Silent:
    """Reports nothing."""

    def start(self, epochs: int, batches: int | None, state: RunState) -> None:
        pass

    def step(self, state: RunState) -> None:
        pass

    def epoch(self, row: Row) -> None:
        pass

    def close(self) -> None:
        pass


class EpochLines(Silent):
    """One line of text per epoch."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._epochs = self._first = 0
        self._began = 0.0

    def start(self, epochs: int, batches: int | None, state: RunState) -> None:
        self._epochs, self._first, self._began = epochs, state.epoch, time.monotonic()

    def epoch(self, row: Row) -> None:
        print(self._line(row), file=self._stream, flush=True)

    def _line(self, row: Row) -> str:
        per_epoch = (time.monotonic() - self._began) / (row["epoch"] - self._first)
        parts = [
            f"epoch {row['epoch']:>{len(str(self._epochs))}}/{self._epochs}",
            f"loss {row['train_loss']:.4f}",
            f"accuracy {100 * row['train_accuracy']:.2f} %",
        ]
        if row["test_accuracy"] is not None:
            parts.append(f"test {100 * row['test_accuracy']:.2f} %")
        parts.append(f"{row['images_per_second']:,.0f} images/s")
        parts.append(f"{duration(per_epoch * (self._epochs - row['epoch']))} left")
        return "  ".join(parts)


class Bar(EpochLines):
    """A tqdm bar over the whole run, with the epochs' lines above it."""

    def __init__(self, tqdm: Any, stream: TextIO | None = None) -> None:
        super().__init__(stream)
        self._tqdm = tqdm
        self._bar: Any = None

    def start(self, epochs: int, batches: int | None, state: RunState) -> None:
        super().start(epochs, batches, state)
        self._bar = self._tqdm(
            total=epochs * batches if batches is not None else None,
            initial=state.step,
            file=self._stream,
            dynamic_ncols=True,
            leave=False,
            bar_format="{desc} {percentage:3.0f} % |{bar}| {remaining} left{postfix}" if batches is not None else None,
        )

    def step(self, state: RunState) -> None:
        # tqdm redraws at most ten times a second; only then is the text worth making.
        if self._bar.update():
            running = state.running
            self._bar.set_description_str(f"epoch {state.epoch + 1}/{self._epochs}", refresh=False)
            self._bar.set_postfix_str(
                f"loss {running.loss:.4f}, accuracy {100 * running.accuracy:.2f} %, "
                f"{running.images_per_second:,.0f} images/s",
                refresh=False,
            )

    def epoch(self, row: Row) -> None:
        self._bar.write(self._line(row), file=self._stream)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def choose_progress(bar: bool = True, quiet: bool = False, stream: TextIO | None = None) -> Progress:
    """A bar where the stream is a terminal and tqdm is installed, else a line per epoch, or nothing."""
    stream = stream or sys.stderr
    if quiet:
        return Silent()
    if bar and stream.isatty():
        try:
            from tqdm import tqdm
        except ImportError:
            return EpochLines(stream)
        return Bar(tqdm, stream)
    return EpochLines(stream)


def duration(seconds: float) -> str:
    """0:07, 12:30 or 1:02:03."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
