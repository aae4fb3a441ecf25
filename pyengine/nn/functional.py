"""PyTorch's ``torch.nn.functional``: what the layers compute, as functions.

Functions imported from the compiled module have their documentation there; those written here are composed of them.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from .. import _C
from .._C import (
    adaptive_avg_pool2d,
    adaptive_max_pool2d,
    avg_pool2d,
    batch_norm,
    conv2d,
    gelu,
    layer_norm,
    linear,
    max_pool2d,
    one_hot,
    pad,
    softplus,
)
from .._C import log_sigmoid as logsigmoid
from ..autograd import Function

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._C import Tensor

__all__ = [
    "adaptive_avg_pool2d",
    "adaptive_max_pool2d",
    "avg_pool2d",
    "batch_norm",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "celu",
    "conv2d",
    "cross_entropy",
    "dropout",
    "dropout2d",
    "elu",
    "gelu",
    "glu",
    "hardshrink",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "huber_loss",
    "kl_div",
    "l1_loss",
    "layer_norm",
    "leaky_relu",
    "linear",
    "log_softmax",
    "logsigmoid",
    "max_pool2d",
    "mish",
    "mse_loss",
    "nll_loss",
    "normalize",
    "one_hot",
    "pad",
    "prelu",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "smooth_l1_loss",
    "softmax",
    "softmin",
    "softplus",
    "softshrink",
    "softsign",
    "tanh",
    "tanhshrink",
    "threshold",
]

# --- activations


def _apply(function: Callable[..., Tensor], input: Tensor, inplace: bool, *args: Any) -> Tensor:
    # In place, the function still saves its input for the backward pass: hence the clone.
    return input.copy_(function(input.clone(), *args)) if inplace else function(input, *args)


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """max(x, 0)."""
    return input.relu_() if inplace else _C.relu(input)


def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """min(max(x, 0), 6)."""
    return _apply(_C.relu6, input, inplace)


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """x where x > 0, else negative_slope · x."""
    return _apply(_C.leaky_relu, input, inplace, negative_slope)


def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """x where x > 0, else weight · x.

    Args:
        weight: of one element, or of one for each channel (dimension 1 of the input).
    """
    if weight.numel() != 1:
        if weight.ndim != 1:
            raise ValueError(f"prelu: Expected `weight` to be a scalar or 1D tensor, but got: ndim = {weight.ndim}")
        weight = weight.view([1, -1] + [1] * (input.ndim - 2))
    return _C.where(input > 0, input, weight * input)


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x where x > 0, else alpha · (eˣ - 1)."""
    return _apply(_C.elu, input, inplace, alpha)


def _selu(input: Tensor) -> Tensor:
    # Klambauer et al., "Self-Normalizing Neural Networks", 2017, gives the two constants.
    return _C.elu(input, 1.6732632423543772848170429916717) * 1.0507009873554804934193349852946


def selu(input: Tensor, inplace: bool = False) -> Tensor:
    """The scaled ELU that keeps mean 0 and variance 1."""
    return _apply(_selu, input, inplace)


def _celu(input: Tensor, alpha: float) -> Tensor:
    return _C.elu(input / alpha) * alpha


def celu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x where x > 0, else alpha · (exp(x / alpha) - 1)."""
    return _apply(_celu, input, inplace, alpha)


def sigmoid(input: Tensor) -> Tensor:
    """1 / (1 + e⁻ˣ)."""
    return _C.sigmoid(input)


def tanh(input: Tensor) -> Tensor:
    """The hyperbolic tangent."""
    return _C.tanh(input)


def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """x · sigmoid(x), also called swish."""
    return _apply(_C.silu, input, inplace)


def _mish(input: Tensor) -> Tensor:
    return input * softplus(input).tanh()


def mish(input: Tensor, inplace: bool = False) -> Tensor:
    """x · tanh(softplus(x))."""
    return _apply(_mish, input, inplace)


def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    """x, held between min_val and max_val."""
    if min_val > max_val:
        raise ValueError("min_val cannot be greater than max_val")
    return _apply(_C.hardtanh, input, inplace, min_val, max_val)


def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """x / 6 + 1/2, held between 0 and 1."""
    return _apply(_C.hardsigmoid, input, inplace)


def hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    """x · hardsigmoid(x)."""
    return _apply(_C.hardswish, input, inplace)


def _threshold(input: Tensor, threshold: float, value: float) -> Tensor:
    return _C.where(input <= threshold, value, input)  # NaN stays NaN


def threshold(input: Tensor, threshold: float, value: float, inplace: bool = False) -> Tensor:
    """x where x > threshold, else value."""
    return _apply(_threshold, input, inplace, threshold, value)


def softsign(input: Tensor) -> Tensor:
    """x / (1 + |x|)."""
    return input / (input.abs() + 1)


def tanhshrink(input: Tensor) -> Tensor:
    """x - tanh(x)."""
    return input - input.tanh()


def hardshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """x where |x| > lambd, else 0."""
    return _C.where(input.abs() <= lambd, 0.0, input)  # NaN stays NaN


def softshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """x moved towards 0 by lambd, and 0 where |x| ≤ lambd."""
    if lambd < 0:
        raise RuntimeError(f"lambda must be greater or equal to 0, but found to be {lambd}.")
    return input - input.clamp(-lambd, lambd)


def glu(input: Tensor, dim: int = -1) -> Tensor:
    """a · sigmoid(b), where a and b are the two halves of the input along ``dim``."""
    if input.shape[dim] % 2:
        raise RuntimeError(f"Halving dimension must be even, but dimension {dim} is size {input.shape[dim]}")
    a, b = input.chunk(2, dim)
    return a * b.sigmoid()


def _softmax_dim(name: str, dim: int | None, ndim: int, stacklevel: int) -> int:
    if dim is not None:
        return dim
    warnings.warn(
        f"Implicit dimension choice for {name} has been deprecated. Change the call to include dim=X as an argument.",
        stacklevel=stacklevel,
    )
    return 0 if ndim in (0, 1, 3) else 1


def softmax(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Tensor:
    """exp(x), scaled so that the sum along ``dim`` is 1; computed in ``dtype`` if given."""
    return _C.softmax(input, _softmax_dim("softmax", dim, input.ndim, _stacklevel), dtype=dtype)


def softmin(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Tensor:
    """softmax(-x)."""
    return _C.softmax(-input, _softmax_dim("softmin", dim, input.ndim, _stacklevel), dtype=dtype)


def log_softmax(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Tensor:
    """log(softmax(x)), computed without overflow."""
    return _C.log_softmax(input, _softmax_dim("log_softmax", dim, input.ndim, _stacklevel), dtype=dtype)


# --- dropout and normalization


def _check_probability(p: float) -> None:
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Sets each element to zero with probability ``p`` and multiplies the others by 1 / (1 - p), if ``training``."""
    _check_probability(p)
    return _C.dropout(input, p, training, inplace)


def dropout2d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Dropout of whole channels: the first two dimensions decide together."""
    _check_probability(p)
    if not training or p == 0.0:
        return input
    shape = [n if i < 2 else 1 for i, n in enumerate(input.shape)]
    mask = _C.dropout(_C.ones(shape, device=input.device, dtype=input.dtype), p)
    return input.mul_(mask) if inplace else input * mask


def normalize(input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """x / max(‖x‖ₚ, eps), with the norm along ``dim``."""
    return input / input.norm(p, dim, keepdim=True).clamp(min=eps)


# --- losses; reduction is "mean", "sum" or "none"


def _reduction(reduction: str, size_average: bool | None, reduce: bool | None) -> str:
    """The reduction, from PyTorch's two older arguments where they are given."""
    if size_average is not None or reduce is not None:
        reduction = "none" if reduce is False else "sum" if size_average is False else "mean"
        warnings.warn(
            f"size_average and reduce args will be deprecated, please use reduction='{reduction}' instead.",
            stacklevel=4,
        )
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"{reduction} is not a valid value for reduction")
    return reduction


def _reduce(loss: Tensor, reduction: str) -> Tensor:
    return loss.mean() if reduction == "mean" else loss.sum() if reduction == "sum" else loss


def _weighted(loss: Tensor, weight: Tensor | None, reduction: str) -> Tensor:
    """The reduction of regression losses: with a weight, the mean is the weighted mean."""
    if weight is None:
        return _reduce(loss, reduction)
    loss = loss * weight
    return loss.sum() / weight.expand(loss.shape).sum() if reduction == "mean" else _reduce(loss, reduction)


def _warn_of_broadcast(input: Tensor, target: Tensor) -> None:
    if input.shape != target.shape:
        warnings.warn(
            f"Using a target size ({target.shape}) that is different to the input size ({input.shape}). This will "
            "likely lead to incorrect results due to broadcasting. Please ensure they have the same size.",
            stacklevel=3,
        )


def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy between logits and classes.

    Args:
        input: logits, (C) or (N, C) or (N, C, d1, ...).
        target: class indices, the input's shape without C; or class probabilities, the input's shape.
        weight: a factor for each class, (C).
        ignore_index: a class index that adds nothing to loss and gradient; default -100.
        reduction: "mean" (weighted by the classes' weights), "sum" or "none".
        label_smoothing: this share of the target is spread evenly over all classes; default 0.
    """
    reduction = _reduction(reduction, size_average, reduce)
    return _C.cross_entropy(input, target, weight, ignore_index, reduction, label_smoothing)


def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Cross-entropy between log-probabilities (of ``log_softmax``) and class indices; arguments as cross_entropy's."""
    return _C.nll_loss(input, target, weight, ignore_index, _reduction(reduction, size_average, reduce))


def mse_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """(x - y)²."""
    _warn_of_broadcast(input, target)
    return _weighted(_C.square(input - target), weight, _reduction(reduction, size_average, reduce))


def l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """|x - y|."""
    _warn_of_broadcast(input, target)
    return _weighted((input - target).abs(), weight, _reduction(reduction, size_average, reduce))


def huber_loss(
    input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0, weight: Tensor | None = None
) -> Tensor:
    """(x - y)² / 2 where |x - y| ≤ delta, else delta · (|x - y| - delta / 2)."""
    if delta <= 0:
        raise RuntimeError("huber_loss does not support non-positive values for delta.")
    _warn_of_broadcast(input, target)
    difference = input - target
    distance = difference.abs()
    loss = _C.where(distance <= delta, _C.square(difference) * 0.5, (distance - 0.5 * delta) * delta)
    return _weighted(loss, weight, _reduction(reduction, None, None))


def smooth_l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    beta: float = 1.0,
) -> Tensor:
    """(x - y)² / (2 beta) where |x - y| ≤ beta, else |x - y| - beta / 2 (Girshick, "Fast R-CNN", 2015)."""
    if beta < 0:
        raise RuntimeError("smooth_l1_loss does not support negative values for beta.")
    if beta == 0:
        return l1_loss(input, target, size_average, reduce, reduction)
    _warn_of_broadcast(input, target)
    difference = input - target
    distance = difference.abs()
    loss = _C.where(distance <= beta, _C.square(difference) * (0.5 / beta), distance - 0.5 * beta)
    return _reduce(loss, _reduction(reduction, size_average, reduce))


class _BinaryCrossEntropy(Function):
    """A Function for the sake of its gradient, (x - y) / (x (1 - x)), which stays finite at x = 0 and x = 1."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, target: Tensor) -> Tensor:
        ctx.save_for_backward(input, target)
        log_yes, log_no = input.log().clamp(min=-100.0), (1 - input).log().clamp(min=-100.0)
        return -(target * log_yes + (1 - target) * log_no)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        input, target = ctx.saved_tensors
        grad_target = None
        if ctx.needs_input_grad[1]:
            grad_target = grad * ((1 - input).log().clamp(min=-100.0) - input.log().clamp(min=-100.0))
        return grad * (input - target) / (input * (1 - input)).clamp(min=1e-12), grad_target


def binary_cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """-(y · log x + (1 - y) · log(1 - x)) for probabilities x; the logarithms are held at -100 and above.

    Raises:
        ValueError: the shapes differ.
        RuntimeError: an input is not between 0 and 1.
    """
    reduction = _reduction(reduction, size_average, reduce)
    if target.shape != input.shape:
        raise ValueError(
            f"Using a target size ({target.shape}) that is different to the input size ({input.shape}) is deprecated. "
            "Please ensure they have the same size."
        )
    if not bool(((input >= 0) & (input <= 1)).all()):
        raise RuntimeError("all elements of input should be between 0 and 1")
    loss = _BinaryCrossEntropy.apply(input, target)
    return _reduce(loss if weight is None else loss * weight, reduction)


def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """binary_cross_entropy of sigmoid(x), computed without overflow.

    Args:
        weight: a factor for each element; broadcast.
        pos_weight: a factor for the positive targets; broadcast.

    Raises:
        ValueError: the shapes differ.
    """
    reduction = _reduction(reduction, size_average, reduce)
    if target.shape != input.shape:
        raise ValueError(f"Target size ({target.shape}) must be the same as input size ({input.shape})")
    log_sigmoid = logsigmoid(input)
    if pos_weight is not None:
        log_sigmoid = log_sigmoid * ((pos_weight - 1) * target + 1)
    loss = (1 - target) * input - log_sigmoid
    return _reduce(loss if weight is None else loss * weight, reduction)


def kl_div(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    log_target: bool = False,
) -> Tensor:
    """The Kullback-Leibler divergence of log-probabilities ``input`` from ``target``: y · (log y - x).

    Args:
        reduction: "batchmean" (the sum divided by the batch size: the definition), "mean" (divided by the number of
            elements; default), "sum" or "none".
        log_target: whether ``target`` holds log-probabilities; default False.
    """
    if reduction == "batchmean" and size_average is None and reduce is None:
        return kl_div(input, target, reduction="sum", log_target=log_target) / max(input.shape[0], 1)
    reduction = _reduction(reduction, size_average, reduce)
    if reduction == "mean":
        warnings.warn(
            "reduction: 'mean' divides the total loss by both the batch size and the support size."
            "'batchmean' divides only by the batch size, and aligns with the KL div math definition.",
            stacklevel=3,
        )
    if log_target:
        loss = target.exp() * (target - input)
    else:
        positive = target > 0  # 0 · log 0 is 0
        loss = target * (_C.where(positive, target, 1.0).log() - input)
    return _reduce(loss, reduction)
