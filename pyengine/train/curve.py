"""The learning curve as a picture, where matplotlib is installed."""

import io
from collections.abc import Sequence
from pathlib import Path

from pyengine.io import write_atomic
from pyengine.train.metrics import Row


def draw_curve(path: Path, rows: Sequence[Row], title: str = "") -> bool:
    """Draws loss and accuracy over the epochs into a PNG; False without rows or without matplotlib."""
    if not rows:
        return False
    try:
        from matplotlib.figure import Figure  # not pyplot: no window system, no global state
    except ImportError:
        return False
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    epochs = [row["epoch"] for row in rows]
    for place, (quantity, scale) in enumerate((("loss", 1), ("accuracy", 100))):
        axes = figure.add_subplot(1, 2, place + 1)
        for part in ("train", "test"):
            values = [row[f"{part}_{quantity}"] for row in rows]
            if None not in values:
                axes.plot(epochs, [scale * value for value in values], marker=".", label=part)
        axes.set_xlabel("epoch")
        axes.set_ylabel("accuracy, %" if quantity == "accuracy" else "loss")
        axes.grid(alpha=0.3)
        axes.legend()
    figure.suptitle(title)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    write_atomic(path, picture.getvalue())
    return True
