"""What is measured in a run: sums over an epoch, and one row per epoch, written as JSONL and CSV."""

import csv
import dataclasses
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pyengine import Tensor
from pyengine.io import write_atomic

COLUMNS = (
    "epoch",
    "step",
    "lr",
    "train_loss",
    "train_accuracy",
    "test_loss",
    "test_accuracy",
    "images_per_second",
    "seconds",
)
Row = dict[str, Any]


@dataclasses.dataclass
class RunningMetrics:
    """Sums over the images seen so far; exact to save and restore, for they are added one batch at a time."""

    loss_sum: float = 0.0
    correct: int = 0
    images: int = 0
    seconds: float = 0.0

    def add(self, loss: float, logits: Tensor, labels: Tensor) -> None:
        """Takes in one batch: its mean loss, and its logits (N, classes) against its labels (N)."""
        count = labels.shape[0]
        self.loss_sum += loss * count
        self.correct += int((logits.detach().argmax(1) == labels).sum().item())
        self.images += count

    @property
    def loss(self) -> float:
        return self.loss_sum / max(self.images, 1)

    @property
    def accuracy(self) -> float:
        return self.correct / max(self.images, 1)

    @property
    def images_per_second(self) -> float:
        return self.images / self.seconds if self.seconds > 0 else 0.0


def to_jsonl(rows: Iterable[Row]) -> str:
    """One JSON object per line."""
    return "".join(json.dumps(row) + "\n" for row in rows)


def to_csv(rows: Iterable[Row]) -> str:
    """The columns of `COLUMNS`; a value that was not measured stays empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def write_metrics(folder: Path, rows: Iterable[Row]) -> None:
    """Writes metrics.jsonl and metrics.csv anew, atomically: whenever the process dies, each holds whole epochs."""
    rows = list(rows)
    write_atomic(folder / "metrics.jsonl", to_jsonl(rows).encode())
    write_atomic(folder / "metrics.csv", to_csv(rows).encode())
