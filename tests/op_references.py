"""What the main operations compute, written with NumPy in float64 straight from their definitions: the reference of
`op_cases.py` where PyTorch is not installed. Plain loops; speed does not matter here."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Array = np.ndarray

erf = np.vectorize(math.erf, otypes=[np.float64])
erfc = np.vectorize(math.erfc, otypes=[np.float64])


def pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


def sigmoid(x: Array) -> Array:
    return np.exp(-np.logaddexp(0.0, -x))


def softplus(x: Array, beta: float = 1.0, threshold: float = 20.0) -> Array:
    return np.where(x * beta > threshold, x, np.logaddexp(0.0, x * beta) / beta)


def gelu_tanh(x: Array) -> Array:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def softmax(x: Array, axis: int = -1) -> Array:
    e = np.exp(x - x.max(axis, keepdims=True)) if x.size else x
    return e / e.sum(axis, keepdims=True)


def logsumexp(x: Array, axis: Any = None, keepdims: bool = False) -> Array:
    top = x.max(axis, keepdims=True)
    y = np.log(np.exp(x - top).sum(axis, keepdims=True)) + top
    return y if keepdims else y.squeeze(axis)


def log_softmax(x: Array, axis: int = -1) -> Array:
    return x - logsumexp(x, axis, True) if x.size else x


def conv2d(
    x: Array, w: Array, b: Array | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Array:
    """y[n, k, p, q] = sum over c, r, s of x[n, c, p stride + r dilation - padding, ...] w[k, c, r, s]."""
    (sh, sw), (ph, pw), (dh, dw) = pair(stride), pair(padding), pair(dilation)
    n, _, h, width = x.shape
    k, cg, r, s = w.shape
    p, q = (h + 2 * ph - dh * (r - 1) - 1) // sh + 1, (width + 2 * pw - dw * (s - 1) - 1) // sw + 1
    x = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    y = np.zeros((n, k, p, q))
    for g in range(groups):
        xs, ks = x[:, g * cg : (g + 1) * cg], slice(g * k // groups, (g + 1) * k // groups)
        for i in range(r):
            for j in range(s):
                window = xs[:, :, i * dh : i * dh + sh * (p - 1) + 1 : sh, j * dw : j * dw + sw * (q - 1) + 1 : sw]
                y[:, ks] += np.einsum("ncpq,kc->nkpq", window, w[ks, :, i, j])
    return y if b is None else y + b[:, None, None]


def pool_size(n: int, kernel: int, stride: int, pad: int, dilation: int, ceil_mode: bool) -> int:
    room = n + 2 * pad - dilation * (kernel - 1) - 1
    size = (-(-room // stride) if ceil_mode else room // stride) + 1
    return size - 1 if ceil_mode and (size - 1) * stride >= n + pad else size


def pool_windows(x: Array, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool) -> Any:
    """For each output position: the values of the window inside the input, and the window's size with its padding."""
    (kh, kw), (ph, pw), (dh, dw) = pair(kernel), pair(padding), pair(dilation)
    sh, sw = pair(kernel if stride is None else stride)
    h, w = x.shape[-2:]
    for p in range(pool_size(h, kh, sh, ph, dh, ceil_mode)):
        for q in range(pool_size(w, kw, sw, pw, dw, ceil_mode)):
            rows = [i for i in range(p * sh - ph, p * sh - ph + dh * (kh - 1) + 1, dh) if 0 <= i < h]
            cols = [j for j in range(q * sw - pw, q * sw - pw + dw * (kw - 1) + 1, dw) if 0 <= j < w]
            padded = (min(p * sh - ph + kh, h + ph) - (p * sh - ph)) * (min(q * sw - pw + kw, w + pw) - (q * sw - pw))
            yield p, q, x[..., rows, :][..., cols].reshape(*x.shape[:-2], -1), padded


def _assemble(x: Array, values: dict[tuple[int, int], Array]) -> Array:
    p, q = (1 + max(key[i] for key in values) for i in (0, 1))
    y = np.empty((*x.shape[:-2], p, q))
    for (i, j), v in values.items():
        y[..., i, j] = v
    return y


def max_pool2d(
    x: Array, kernel: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> Array:
    windows = pool_windows(x, kernel, stride, padding, dilation, ceil_mode)
    return _assemble(x, {(p, q): v.max(-1) for p, q, v, _ in windows})


def avg_pool2d(
    x: Array,
    kernel: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Array:
    windows = pool_windows(x, kernel, stride, padding, 1, ceil_mode)
    return _assemble(
        x,
        {
            (p, q): v.sum(-1) / (divisor_override or (padded if count_include_pad else v.shape[-1]))
            for p, q, v, padded in windows
        },
    )


def adaptive_pool2d(x: Array, size: Any, reduce: Any) -> Array:
    """Window i of P covers rows floor(i H / P) up to ceil((i + 1) H / P)."""
    (p, q), (h, w) = size, x.shape[-2:]
    return _assemble(
        x,
        {
            (i, j): reduce(x[..., i * h // p : -(-(i + 1) * h // p), j * w // q : -(-(j + 1) * w // q)], (-2, -1))
            for i in range(p)
            for j in range(q)
        },
    )


def batch_norm(
    x: Array,
    w: Array | None = None,
    b: Array | None = None,
    mean: Array | None = None,
    var: Array | None = None,
    eps: float = 1e-5,
) -> Array:
    """With the batch's own statistics unless some are given."""
    axes = (0, *range(2, x.ndim))
    channel = (1, -1, *[1] * (x.ndim - 2))
    mean = x.mean(axes) if mean is None else mean
    var = x.var(axes) if var is None else var
    y = (x - mean.reshape(channel)) / np.sqrt(var.reshape(channel) + eps)
    y = y if w is None else y * w.reshape(channel)
    return y if b is None else y + b.reshape(channel)


def layer_norm(x: Array, w: Array | None = None, b: Array | None = None, dims: int = 1, eps: float = 1e-5) -> Array:
    """Over the last `dims` dimensions."""
    axes = tuple(range(x.ndim - dims, x.ndim))
    y = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps)
    y = y if w is None else y * w
    return y if b is None else y + b


def reduced(losses: Array, reduction: str, divisor: float) -> Array:
    return losses if reduction == "none" else losses.sum() if reduction == "sum" else losses.sum() / divisor


def nll_loss(
    logp: Array, target: Array, weight: Array | None = None, ignore_index: int = -100, reduction: str = "mean"
) -> Array:
    weight = np.ones(logp.shape[1]) if weight is None else weight
    keep = target != ignore_index
    t = np.where(keep, target, 0)
    w = weight[t] * keep
    return reduced(-np.take_along_axis(logp, t[:, None], 1)[:, 0] * w, reduction, w.sum())


def cross_entropy(
    x: Array,
    target: Array,
    weight: Array | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Array:
    """Class indices (N, ...) or probabilities (N, C, ...) for logits (N, C, ...)."""
    logp, classes = log_softmax(x, 1), x.shape[1]
    weight = np.ones(classes) if weight is None else weight
    channel = weight.reshape(1, -1, *[1] * (x.ndim - 2))
    if target.ndim == x.ndim:
        q = target * (1 - label_smoothing) + label_smoothing / classes
        return reduced(-(logp * q * channel).sum(1), reduction, target.size / classes)
    keep = target != ignore_index
    t = np.where(keep, target, 0)
    plain = -np.take_along_axis(logp, t[:, None], 1)[:, 0] * weight[t]
    smooth = -(logp * channel).sum(1) / classes
    losses = keep * ((1 - label_smoothing) * plain + label_smoothing * smooth)
    return reduced(losses, reduction, (weight[t] * keep).sum())


def prelu(x: Array, w: Array) -> Array:
    return np.where(x > 0, x, x * (w if w.size == 1 else w.reshape(1, -1, *[1] * (x.ndim - 2))))


def shrink(x: Array, keep: Array, offset: Array | float = 0.0) -> Array:
    return np.where(keep, x - offset, 0.0)


def scatter(x: Array, axis: int, index: Array, source: Array, add: bool = False) -> Array:
    y = x.copy()
    for position in np.ndindex(*index.shape):
        place = list(position)
        place[axis] = index[position]
        y[tuple(place)] = y[tuple(place)] + source[position] if add else source[position]
    return y
