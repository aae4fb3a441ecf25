"""Random transforms of place: crops and flips, for arrays (H, W[, C]) and tensors (C, H, W)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import pyengine as pe
from pyengine.data.worker import sample_generator


class RandomHorizontalFlip:
    """Mirrors left and right with probability `p` (default 0.5)."""

    def __init__(self, p: float = 0.5, *, generator: np.random.Generator | None = None) -> None:
        if not 0 <= p <= 1:
            raise ValueError(f"RandomHorizontalFlip: p must be between 0 and 1, got {p}")
        self.p = p
        self.generator = generator

    def __call__(self, image: Any) -> Any:
        return self.batch(image[None])[0]

    def batch(self, images: Any) -> Any:
        planes = _planes(images)
        flip = (self.generator or sample_generator()).random(len(planes)) < self.p
        return _like(images, np.where(flip.reshape(-1, *[1] * (planes.ndim - 1)), planes[..., ::-1], planes))

    def __repr__(self) -> str:
        return f"RandomHorizontalFlip(p={self.p})"


class RandomCrop:
    """A random window of `size` (int or (height, width)).

    `padding` is added first: an int, (left/right, top/bottom) or (left, top, right, bottom), filled with `fill` or, by
    `padding_mode`, with "edge", "reflect" or "symmetric" pixels. Raises ValueError when the image is smaller than
    `size`.
    """

    def __init__(
        self,
        size: int | Sequence[int],
        padding: int | Sequence[int] | None = None,
        fill: float = 0,
        padding_mode: str = "constant",
        *,
        generator: np.random.Generator | None = None,
    ) -> None:
        height, width = (size, size) if isinstance(size, int) else size
        if height < 1 or width < 1:
            raise ValueError(f"RandomCrop: size must be positive, got {size}")
        if padding_mode not in ("constant", "edge", "reflect", "symmetric"):
            raise ValueError(f"RandomCrop: unknown padding_mode {padding_mode!r}")
        self.size = (height, width)
        self.padding = _padding(padding)
        self.fill = fill
        self.padding_mode = padding_mode
        self.generator = generator

    def __call__(self, image: Any) -> Any:
        return self.batch(image[None])[0]

    def batch(self, images: Any) -> Any:
        planes = _planes(images)
        left, top, right, bottom = self.padding
        if any(self.padding):
            widths = [(0, 0)] * (planes.ndim - 2) + [(top, bottom), (left, right)]
            options = {"constant_values": self.fill} if self.padding_mode == "constant" else {}
            planes = np.pad(planes, widths, self.padding_mode, **options)  # type: ignore[call-overload]
        space = (planes.shape[-2] - self.size[0], planes.shape[-1] - self.size[1])
        if min(space) < 0:
            raise ValueError(f"RandomCrop: {self.size} does not fit into images of shape {tuple(images.shape[1:])}")
        y, x = (self.generator or sample_generator()).integers(0, np.add(space, 1), (len(planes), 2)).T
        # All windows of all images as a view; then one gather of the chosen ones.
        windows = np.lib.stride_tricks.sliding_window_view(planes, self.size, axis=(-2, -1))
        return _like(images, windows[np.arange(len(planes)), ..., y, x, :, :])

    def __repr__(self) -> str:
        return f"RandomCrop(size={self.size}, padding={self.padding})"


def _planes(images: Any) -> np.ndarray:
    """A batch as an array whose last two dimensions are height and width."""
    planes: np.ndarray = images.numpy() if isinstance(images, pe.Tensor) else images
    return planes.transpose(0, 3, 1, 2) if planes is images and planes.ndim == 4 else planes


def _like(images: Any, planes: np.ndarray) -> Any:
    """The inverse of `_planes`: a batch of the kind of `images`."""
    if isinstance(images, pe.Tensor):
        return pe.from_numpy(planes)
    return planes.transpose(0, 2, 3, 1) if planes.ndim == 4 else planes


def _padding(padding: int | Sequence[int] | None) -> tuple[int, int, int, int]:
    sides = [0] if padding is None else [padding] if isinstance(padding, int) else list(padding)
    if len(sides) not in (1, 2, 4) or min(sides) < 0:
        raise ValueError(f"RandomCrop: padding is 1, 2 or 4 numbers that are not negative, got {padding}")
    left, top, right, bottom = (sides * 4)[:4]
    return left, top, right, bottom
