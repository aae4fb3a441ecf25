"""The digits that come with the package: what to train on when no files are at hand."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import pyengine as pe

from .image_dataset import ImageDataset
from .raw_file import RawFile

_LEVELS = 16  # the brightest pixel in the file
_FILE = RawFile("digits.csv", 264712, "sha256:6ebb3d2fee246a4e99363262ddf8a00a3c41bee6014c373ed9d9216ba7f651b8")


class Digits(ImageDataset):
    """1,797 handwritten digits of 8×8 pixels: UCI's Optical Recognition of Handwritten Digits (E. Alpaydin, C. Kaynak,
    1998; CC BY 4.0), shipped with the package.

    The split is fixed and stratified: of each class, images 2, 7, 12, ... in the file's order are for testing, a fifth.
    `size` (default 8) upsamples to size×size, bilinearly: 28 for networks made for MNIST. Pixels are scaled to 0-255.
    `data` is a uint8 tensor (N, size, size), `targets` an int64 tensor (N,); see `ImageDataset` for the samples.
    `root` and `download` are there for the sake of the other data sets' signature and not used.
    Raises ValueError for a size below 8.
    """

    classes = [str(digit) for digit in range(10)]

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        train: bool = True,
        transform: Callable[[np.ndarray], Any] | None = None,
        target_transform: Callable[[int], Any] | None = None,
        download: bool = False,
        *,
        size: int = 8,
    ) -> None:
        super().__init__(Path(root) if root is not None else None, train, transform, target_transform)
        if not isinstance(size, int) or size < 8:
            raise ValueError(f"Digits: size must be an int of at least 8, got {size!r}")
        pixels, labels = _load()
        images = upsample(pixels, size)
        is_test = _test_split(labels)
        self.mean, self.std = _statistics(images[~is_test])
        chosen = ~is_test if train else is_test
        self.data = pe.from_numpy(images[chosen])
        self.targets = pe.from_numpy(labels[chosen])


def upsample(pixels: np.ndarray, size: int) -> np.ndarray:
    """Bilinear, pixel centres at half-integers, of integers 0-16 (N, S, S) to uint8 0-255 (N, size, size).

    The weights are multiples of 1 / (2 size): in integers, the result is exact and the same on every machine.
    """
    source = pixels.shape[-1]
    # Output i lies at (2 i + 1) source / (2 size) - 1/2 source pixels.
    place = np.clip((2 * np.arange(size) + 1) * source - size, 0, 2 * size * (source - 1))
    low, fraction = np.divmod(place, 2 * size)
    weights = np.zeros((size, source), np.int64)
    weights[np.arange(size), low] = 2 * size - fraction
    weights[np.arange(size), np.minimum(low + 1, source - 1)] += fraction
    total = _LEVELS * (2 * size) ** 2
    sums = weights @ pixels.astype(np.int64) @ weights.T
    scaled: np.ndarray = (sums * 255 + total // 2) // total
    return scaled.astype(np.uint8)


def _load() -> tuple[np.ndarray, np.ndarray]:
    """Pixels 0-16 (1797, 8, 8) and labels (1797,), int64."""
    text = _FILE.read(Path(__file__).parent, "reinstall pyengine").tobytes().decode("ascii")
    rows = np.array(text.replace("\n", ",").strip(",").split(","), dtype=np.int64).reshape(-1, 65)
    return rows[:, :64].reshape(-1, 8, 8), np.ascontiguousarray(rows[:, 64])


def _test_split(labels: np.ndarray) -> np.ndarray:
    """True for every fifth image of each class, from the third on: a fifth of the class, rounded to the nearest."""
    is_test = np.zeros(len(labels), bool)
    for digit in range(10):
        is_test[np.flatnonzero(labels == digit)[2::5]] = True
    return is_test


def _statistics(images: np.ndarray) -> tuple[tuple[float], tuple[float]]:
    """Mean and standard deviation on the 0-1 scale, from integer sums: the same on every machine."""
    values = images.astype(np.int64)
    count, total, squares = values.size, int(values.sum()), int((values * values).sum())
    return (total / count / 255,), (math.sqrt(squares * count - total * total) / count / 255,)
