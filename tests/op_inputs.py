"""Inputs of the case table: a shape, what fills it, a dtype and a memory layout; the same numbers for every engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray
Fill = Callable[[np.random.Generator, tuple[int, ...]], Array]

# --- fills


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.standard_normal(shape)


def uniform(low: float, high: float) -> Fill:
    return lambda rng, shape: rng.uniform(low, high, shape)


positive = uniform(0.3, 3.0)


def away_from(*kinks: float, scale: float = 2.0) -> Fill:
    """Normal numbers, none within 0.05 of a place where the derivative jumps."""

    def fill(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        x = rng.standard_normal(shape) * scale
        for k in kinks:
            x = np.where(np.abs(x - k) < 0.05, k + 0.1, x)
        return x

    return fill


def between_integers(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.integers(-5, 5, shape) + rng.uniform(0.1, 0.4, shape) + 0.5 * rng.integers(0, 2, shape)


def distinct(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """No two equal, and far enough apart for central differences: maxima and orders stay what they are."""
    n = int(np.prod(shape))
    return (rng.permutation(n).reshape(shape) - 0.4 * n) * (4.0 / max(n, 4))


def integers(low: int, high: int) -> Fill:
    """From [low, high)."""
    return lambda rng, shape: rng.integers(low, high, shape)


def bits(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.integers(0, 2, shape)


def probabilities(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Sums to 1 along dimension 1 (0 if there is no other)."""
    x = rng.uniform(0.1, 1.0, shape)
    return x / x.sum(min(1, len(shape) - 1), keepdims=True)


def listed(*values: Any) -> Fill:
    """These values, over and over."""
    return lambda rng, shape: np.resize(np.array(values), shape)


# --- layouts: how the logical array lies in memory

LAYOUTS = ("plain", "transposed", "reversed", "sliced", "rows", "expanded", "channels_last")


def place(m: Any, array: Array, layout: str) -> Any:
    """The array as a tensor of module m (pyengine or torch) with this layout; gaps are filled with NaN or 77."""
    array = np.ascontiguousarray(array).reshape(array.shape)  # ascontiguousarray makes (1,) of ()
    if layout == "plain":
        return m.from_numpy(array)
    if layout == "transposed":
        return m.from_numpy(np.ascontiguousarray(array.swapaxes(-1, -2))).transpose(-1, -2)
    if layout == "reversed":
        return m.from_numpy(np.ascontiguousarray(array.T)).permute(tuple(reversed(range(array.ndim))))
    if layout == "channels_last":
        return m.from_numpy(np.ascontiguousarray(array.transpose(0, 2, 3, 1))).permute((0, 3, 1, 2))
    if layout == "expanded":
        return m.from_numpy(np.ascontiguousarray(array[:1])).expand(*array.shape)
    gap = np.nan if array.dtype.kind == "f" else 77
    n = array.shape[-1]
    if layout == "sliced":
        wide = np.full((*array.shape[:-1], 2 * n + 1), gap, array.dtype)
        wide[..., 1::2] = array
        return m.from_numpy(wide)[..., 1::2]
    assert layout == "rows", layout
    wide = np.full((*array.shape[:-1], n + 3), gap, array.dtype)
    wide[..., 1 : n + 1] = array
    return m.from_numpy(wide)[..., 1 : n + 1]


@dataclass(frozen=True)
class Input:
    shape: tuple[int, ...]
    fill: Fill = normal
    dtype: str | None = None  # None: the dtype under test
    layout: str = "plain"
    grad: bool = True  # whether a gradient is wanted, if floating

    def array(self, rng: np.random.Generator, dtype: str) -> Array:
        x = np.asarray(self.fill(rng, self.shape)).astype(self.dtype or dtype)
        return np.broadcast_to(x[:1], x.shape).copy() if self.layout == "expanded" else x

    def like(self, layout: str) -> Input:
        return Input(self.shape, self.fill, self.dtype, layout, self.grad)


def T(*shape: int, fill: Fill = normal, layout: str = "plain", grad: bool = True) -> Input:
    """A tensor of the dtype under test."""
    return Input(shape, fill, None, layout, grad)


def I64(*shape: int, high: int, low: int = 0, dtype: str = "int64") -> Input:
    return Input(shape, integers(low, high), dtype)


def BOOL(*shape: int) -> Input:
    return Input(shape, bits, "bool")
