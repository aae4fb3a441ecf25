"""Winograd's convolution against sums of products in float64: shapes, the numerics contract, threads, the switch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import op_references as ref
import pytest

import pyengine as pe
from pyengine.nn import functional as F

Array = np.ndarray


@pytest.fixture(autouse=True)
def _fast() -> Iterator[None]:
    before = pe.get_conv_precision()
    pe.set_conv_precision("fast")
    yield
    pe.set_conv_precision(before)


# --- the three passes, by the engine and by NumPy: the result, and the gradients of x and w


def operands(rng: np.random.Generator, x: tuple[int, ...], w: tuple[int, ...], padding: tuple[int, int]) -> list[Array]:
    """Normal numbers for x, w, the bias and the result's gradient; the weights have Kaiming's size."""
    fan_in = w[1] * w[2] * w[3]
    y = (x[0], w[0], x[2] + 2 * padding[0] - w[2] + 1, x[3] + 2 * padding[1] - w[3] + 1)
    arrays = [rng.standard_normal(shape) for shape in (x, w, w[:1], y)]
    arrays[1] *= np.sqrt(2 / fan_in)
    return [a.astype(np.float32) for a in arrays]


def by_engine(arrays: list[Array], padding: tuple[int, int], bias: bool = True) -> list[Array]:
    x, w, b, dy = (pe.from_numpy(a) for a in arrays)
    x.requires_grad_()
    w.requires_grad_()
    y = F.conv2d(x, w, b if bias else None, padding=padding)
    y.backward(dy)
    return [np.array(t.detach().numpy()) for t in (y, x.grad, w.grad)]


def by_numpy(arrays: list[Array], padding: tuple[int, int], bias: bool = True) -> list[Array]:
    x, w, b, dy = (a.astype(np.float64) for a in arrays)
    (ph, pw), (p, q) = padding, dy.shape[2:]
    wide = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    dx, dw = np.zeros_like(wide), np.zeros_like(w)
    for r in range(w.shape[2]):
        for s in range(w.shape[3]):
            window = np.s_[:, :, r : r + p, s : s + q]
            dw[:, :, r, s] = np.tensordot(dy, wide[window], ((0, 2, 3), (0, 2, 3)))
            dx[window] += np.moveaxis(np.tensordot(dy, w[:, :, r, s], (1, 0)), 3, 1)
    dx = dx[:, :, ph : ph + x.shape[2], pw : pw + x.shape[3]]
    return [ref.conv2d(x, w, b if bias else None, padding=padding), dx, dw]


def errors(actual: Array, expected: Array) -> tuple[float, float]:
    """max|e| / max|y| and rms(e) / rms(y)."""
    e = np.abs(actual - expected)
    return e.max() / np.abs(expected).max(), np.sqrt((e**2).mean() / (expected**2).mean())


PASSES = ("forward", "gradient of x", "gradient of w")

# x, output channels, kernel, padding: tiles whole and cut, images smaller than a tile, one image and many, all ways to
# cut the work (many tiles and few, one sum and several), channels that fill no vector.
SHAPES = [
    ((1, 16, 4, 4), 16, 3, (1, 1)),
    ((1, 17, 7, 9), 33, 3, (0, 2)),
    ((2, 16, 3, 3), 300, 3, (1, 1)),
    ((3, 31, 5, 12), 18, 3, (2, 0)),
    ((5, 40, 13, 6), 24, 3, (1, 1)),
    ((64, 16, 13, 13), 20, 3, (1, 1)),
    ((2, 270, 8, 7), 65, 3, (1, 1)),
    ((40, 400, 4, 5), 300, 3, (1, 1)),
    ((1, 16, 30, 3), 16, 3, (4, 5)),
    ((1, 16, 6, 6), 16, 5, (0, 0)),
    ((2, 19, 3, 4), 35, 5, (2, 2)),
    ((3, 24, 9, 14), 48, 5, (1, 2)),
    ((17, 33, 10, 10), 16, 5, (2, 2)),
    ((1, 300, 5, 7), 17, 5, (4, 3)),
]


def random_shapes(count: int) -> list[tuple[tuple[int, ...], int, int, tuple[int, int]]]:
    rng = np.random.default_rng(5)
    shapes = []
    for _ in range(count):
        kernel = int(rng.choice([3, 5]))
        padding = (int(rng.integers(0, 3)), int(rng.integers(0, 3)))
        height, width = (int(rng.integers(max(1, kernel - 2 * pad), 20)) for pad in padding)
        n, c, k = int(rng.integers(1, 9)), int(rng.integers(16, 80)), int(rng.integers(16, 80))
        shapes.append(((n, c, height, width), k, kernel, padding))
    return shapes


@pytest.mark.parametrize(("x", "k", "kernel", "padding"), SHAPES + random_shapes(30), ids=str)
def test_agrees_with_float64(x: tuple[int, ...], k: int, kernel: int, padding: tuple[int, int]) -> None:
    arrays = operands(np.random.default_rng(sum(x) + k), x, (k, x[1], kernel, kernel), padding)
    bias = k % 2 == 0
    results = zip(PASSES, by_engine(arrays, padding, bias), by_numpy(arrays, padding, bias), strict=True)
    for name, actual, expected in results:
        worst, rms = errors(actual, expected)
        assert worst < 1e-5 and rms < 4e-6, f"{name}: max {worst:.2g}, rms {rms:.2g}"


# --- the contract of docs/numerics.md


@pytest.mark.parametrize(
    ("n", "channels", "side", "kernel"),
    [(4, 16, 32, 3), (8, 64, 16, 3), (8, 256, 8, 3), (32, 512, 4, 3), (4, 64, 16, 5), (8, 512, 6, 5)],
)
def test_error_is_at_most_ten_times_the_exact_one(n: int, channels: int, side: int, kernel: int) -> None:
    padding = (kernel // 2, kernel // 2)
    weight = (channels, channels, kernel, kernel)
    arrays = operands(np.random.default_rng(channels), (n, channels, side, side), weight, padding)
    expected = by_numpy(arrays, padding)
    fast = by_engine(arrays, padding)
    pe.set_conv_precision("exact")
    exact = by_engine(arrays, padding)
    for name, f, e, y in zip(PASSES, fast, exact, expected, strict=True):
        assert f.tobytes() != e.tobytes(), f"{name}: the fast transform was not used"
        for of_fast, of_exact in zip(errors(f, y), errors(e, y), strict=True):
            assert of_fast <= 10 * of_exact, f"{name}: {of_fast:.2g} against {of_exact:.2g}"


@pytest.mark.parametrize(("x", "k", "kernel", "padding"), [SHAPES[5], SHAPES[7], SHAPES[12]], ids=str)
def test_results_do_not_depend_on_threads(x: tuple[int, ...], k: int, kernel: int, padding: tuple[int, int]) -> None:
    arrays = operands(np.random.default_rng(1), x, (k, x[1], kernel, kernel), padding)
    before = pe.get_num_threads()
    try:
        runs = []
        for threads in (1, 2, 3):
            pe.set_num_threads(threads)
            runs.append([result.tobytes() for result in by_engine(arrays, padding)])
    finally:
        pe.set_num_threads(before)
    assert runs[0] == runs[1] == runs[2]


# --- the switch


def test_precision_is_checked_and_kept() -> None:
    assert pe.get_conv_precision() == "fast"
    pe.set_conv_precision("exact")
    with pytest.raises(ValueError, match="expected 'fast' or 'exact', got 'high'"):
        pe.set_conv_precision("high")
    assert pe.get_conv_precision() == "exact"


def test_float64_is_always_exact() -> None:
    rng = np.random.default_rng(2)
    x, w = pe.from_numpy(rng.standard_normal((2, 16, 8, 8))), pe.from_numpy(rng.standard_normal((16, 16, 3, 3)))
    fast = F.conv2d(x, w, padding=1)
    pe.set_conv_precision("exact")
    np.testing.assert_array_equal(F.conv2d(x, w, padding=1).numpy(), fast.numpy())


def test_integers_small_enough_come_out_whole() -> None:
    """Sums of products of small integers need no rounding; the fast transforms round."""
    rng = np.random.default_rng(3)
    x = rng.integers(-4, 5, (2, 16, 8, 8)).astype(np.float32)
    w = rng.integers(-4, 5, (16, 16, 3, 3)).astype(np.float32)
    expected = ref.conv2d(x.astype(np.float64), w.astype(np.float64), padding=1)
    fast = F.conv2d(pe.from_numpy(x), pe.from_numpy(w), padding=1).numpy()
    assert np.abs(fast - expected).max() < 1e-5 * np.abs(expected).max()
    pe.set_conv_precision("exact")
    np.testing.assert_array_equal(F.conv2d(pe.from_numpy(x), pe.from_numpy(w), padding=1).numpy(), expected)
