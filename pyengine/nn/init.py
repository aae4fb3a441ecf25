"""Initialization of parameters, in place; each function returns its tensor.

``generator`` is the Generator that the numbers are drawn from; default: the global one.
"""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

from .. import _C
from ..autograd import no_grad

if TYPE_CHECKING:
    from .._C import Tensor

__all__ = [
    "calculate_gain",
    "constant_",
    "dirac_",
    "eye_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "lecun_normal_",
    "lecun_uniform_",
    "normal_",
    "ones_",
    "orthogonal_",
    "sparse_",
    "trunc_normal_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
]


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor that keeps the variance through a nonlinearity.

    1 for "linear", "conv2d" and their like and "sigmoid"; 5/3 for "tanh"; √2 for "relu"; √(2 / (1 + slope²)) for
    "leaky_relu" with the slope in ``param`` (default 0.01); 3/4 for "selu". ValueError for other names.
    """
    if nonlinearity in ("linear", "sigmoid") or nonlinearity.startswith(
        ("conv1d", "conv2d", "conv3d", "conv_transpose")
    ):
        return 1
    if nonlinearity == "tanh":
        return 5.0 / 3
    if nonlinearity == "relu":
        return math.sqrt(2.0)
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        if isinstance(slope, bool) or not isinstance(slope, (int, float)):
            raise ValueError(f"negative_slope {param} not a valid number")
        return math.sqrt(2.0 / (1 + slope**2))
    if nonlinearity == "selu":
        return 3.0 / 4
    raise ValueError(f"Unsupported nonlinearity {nonlinearity}")


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Any = None) -> Tensor:
    """From U(a, b)."""
    with no_grad():
        return tensor.uniform_(a, b, generator=generator)


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Any = None) -> Tensor:
    """From N(mean, std²)."""
    with no_grad():
        return tensor.normal_(mean, std, generator=generator)


def trunc_normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0, generator: Any = None
) -> Tensor:
    """From N(mean, std²), cut off below ``a`` and above ``b``."""
    low, high = (_normal_cdf((bound - mean) / std) for bound in (a, b))
    with no_grad():
        probability = _C.empty(tuple(tensor.shape), dtype=_C.float64).uniform_(low, high, generator=generator)
        values = _C.from_numpy(_normal_quantile(probability.numpy()))
        return tensor.copy_((values * std + mean).clamp(a, b))


def _normal_cdf(x: float) -> float:
    return math.erfc(-x / math.sqrt(2)) / 2


# Coefficients, from the highest power down, of Wichura, "Algorithm AS 241: The Percentage Points of the Normal
# Distribution", Applied Statistics 37 (1988): numerator and denominator for the centre, the shoulders and the tails.
_CENTRE = (
    (
        2.5090809287301226727e3, 3.3430575583588128105e4, 6.7265770927008700853e4, 4.5921953931549871457e4,
        1.3731693765509461125e4, 1.9715909503065514427e3, 1.3314166789178437745e2, 3.3871328727963666080e0,
    ),
    (
        5.2264952788528545610e3, 2.8729085735721942674e4, 3.9307895800092710610e4, 2.1213794301586595867e4,
        5.3941960214247511077e3, 6.8718700749205790830e2, 4.2313330701600911252e1, 1.0,
    ),
)  # fmt: skip
_SHOULDER = (
    (
        7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1, 1.27045825245236838258e0,
        3.64784832476320460504e0, 5.76949722146069140550e0, 4.63033784615654529590e0, 1.42343711074968357734e0,
    ),
    (
        1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2, 1.48103976427480074590e-1,
        6.89767334985100004550e-1, 1.67638483018380384940e0, 2.05319162663775882187e0, 1.0,
    ),
)  # fmt: skip
_TAIL = (
    (
        2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3, 2.65321895265761230930e-2,
        2.96560571828504891230e-1, 1.78482653991729133580e0, 5.46378491116411436990e0, 6.65790464350110377720e0,
    ),
    (
        2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5, 7.86869131145613259100e-4,
        1.48753612908506148525e-2, 1.36929880922735805310e-1, 5.99832206555887937690e-1, 1.0,
    ),
)  # fmt: skip


def _normal_quantile(p: Any) -> Any:
    """The x with P(X ≤ x) = p for standard normal X; a float64 array from one."""
    import numpy as np

    def ratio(coefficients: tuple[tuple[float, ...], tuple[float, ...]], x: Any) -> Any:
        return np.polyval(coefficients[0], x) / np.polyval(coefficients[1], x)

    q = np.asarray(p, dtype=np.float64) - 0.5
    tail_probability = np.clip(np.minimum(p, 1.0 - np.asarray(p)), np.finfo(np.float64).tiny, 0.5)
    r = np.sqrt(-np.log(tail_probability))
    outer = np.copysign(np.where(r <= 5.0, ratio(_SHOULDER, r - 1.6), ratio(_TAIL, r - 5.0)), q)
    return np.where(np.abs(q) <= 0.425, q * ratio(_CENTRE, 0.180625 - q * q), outer)


def constant_(tensor: Tensor, val: float) -> Tensor:
    """All ``val``."""
    with no_grad():
        return tensor.fill_(val)


def ones_(tensor: Tensor) -> Tensor:
    """All ones."""
    return constant_(tensor, 1.0)


def zeros_(tensor: Tensor) -> Tensor:
    """All zeros."""
    with no_grad():
        return tensor.zero_()


def eye_(tensor: Tensor) -> Tensor:
    """Ones on the diagonal of a matrix, zeros elsewhere. ValueError if it has not two dimensions."""
    if tensor.ndim != 2:
        raise ValueError("Only tensors with 2 dimensions are supported")
    with no_grad():
        tensor.zero_()
        for i in range(min(tensor.shape)):
            tensor[i, i] = 1
    return tensor


def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """The convolution that hands its first channels on: a one in the middle of kernel (i, i) of each group.

    Raises:
        ValueError: not 3, 4 or 5 dimensions, or ``groups`` does not divide the first.
    """
    if tensor.ndim not in (3, 4, 5):
        raise ValueError("Only tensors with 3, 4, or 5 dimensions are supported")
    out_channels, in_channels, *kernel = tensor.shape
    if out_channels % groups != 0:
        raise ValueError("dim 0 must be divisible by groups")
    per_group = out_channels // groups
    middle = tuple(size // 2 for size in kernel)
    with no_grad():
        tensor.zero_()
        for group in range(groups):
            for i in range(min(per_group, in_channels)):
                tensor[(group * per_group + i, i, *middle)] = 1
    return tensor


def _calculate_fan_in_and_fan_out(tensor: Tensor) -> tuple[int, int]:
    """How many inputs one output of the layer sees, and how many outputs one input reaches (of one group, where the
    weight (out, in / groups, ...) belongs to a grouped convolution: fan_in is exact, fan_out counts all groups)."""
    if tensor.ndim < 2:
        raise ValueError("Fan in and fan out can not be computed for tensor with fewer than 2 dimensions")
    fan_out, fan_in, *kernel = tensor.shape
    receptive_field = math.prod(kernel)
    return fan_in * receptive_field, fan_out * receptive_field


def _calculate_correct_fan(tensor: Tensor, mode: str) -> int:
    mode = mode.lower()
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"Mode {mode} not supported, please use one of ['fan_in', 'fan_out']")
    return _calculate_fan_in_and_fan_out(tensor)[mode == "fan_out"]


def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator: Any = None) -> Tensor:
    """From U(-a, a) with a = gain · √(6 / (fan_in + fan_out)) (Glorot and Bengio, 2010)."""
    bound = gain * math.sqrt(6.0 / sum(_calculate_fan_in_and_fan_out(tensor)))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Any = None) -> Tensor:
    """From N(0, std²) with std = gain · √(2 / (fan_in + fan_out)) (Glorot and Bengio, 2010)."""
    std = gain * math.sqrt(2.0 / sum(_calculate_fan_in_and_fan_out(tensor)))
    return normal_(tensor, 0.0, std, generator)


def _kaiming_std(tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float | None:
    if 0 in tensor.shape:
        warnings.warn("Initializing zero-element tensors is a no-op", stacklevel=3)
        return None
    return calculate_gain(nonlinearity, a) / math.sqrt(_calculate_correct_fan(tensor, mode))


def kaiming_uniform_(
    tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu", generator: Any = None
) -> Tensor:
    """From U(-b, b) with b = gain · √(3 / fan) (He et al., "Delving Deep into Rectifiers", 2015).

    Args:
        a: slope of the leaky ReLU that follows; default 0.
        mode: "fan_in" (default) keeps the variance forward, "fan_out" backward.
        nonlinearity: what follows, as in ``calculate_gain``.
    """
    std = _kaiming_std(tensor, a, mode, nonlinearity)
    return tensor if std is None else uniform_(tensor, -math.sqrt(3.0) * std, math.sqrt(3.0) * std, generator)


def kaiming_normal_(
    tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu", generator: Any = None
) -> Tensor:
    """From N(0, std²) with std = gain / √fan; arguments as in ``kaiming_uniform_``."""
    std = _kaiming_std(tensor, a, mode, nonlinearity)
    return tensor if std is None else normal_(tensor, 0.0, std, generator)


def lecun_uniform_(tensor: Tensor, generator: Any = None) -> Tensor:
    """From U(-b, b) with b = √(3 / fan_in) (LeCun et al., "Efficient BackProp", 1998)."""
    return kaiming_uniform_(tensor, nonlinearity="linear", generator=generator)


def lecun_normal_(tensor: Tensor, generator: Any = None) -> Tensor:
    """From N(0, 1 / fan_in) (LeCun et al., "Efficient BackProp", 1998)."""
    return kaiming_normal_(tensor, nonlinearity="linear", generator=generator)


def orthogonal_(tensor: Tensor, gain: float = 1, generator: Any = None) -> Tensor:
    """A matrix with orthonormal rows or columns (whichever are fewer), times ``gain``; dimensions after the first count
    as columns (Saxe et al., 2013). ValueError if there are fewer than two dimensions."""
    import numpy as np

    if tensor.ndim < 2:
        raise ValueError("Only tensors with 2 or more dimensions are supported")
    if tensor.numel() == 0:
        return tensor
    rows, columns = tensor.shape[0], tensor.numel() // tensor.shape[0]
    with no_grad():
        sample = _C.empty((rows, columns), dtype=tensor.dtype).normal_(0.0, 1.0, generator=generator).numpy()
        q, r = np.linalg.qr(sample.T if rows < columns else sample)
        q = q * np.sign(np.diagonal(r))  # makes q uniform (Mezzadri, arXiv:math-ph/0609050)
        q = np.ascontiguousarray(q.T if rows < columns else q).reshape(tuple(tensor.shape))
        return tensor.copy_(_C.from_numpy(q * q.dtype.type(gain)))


def sparse_(tensor: Tensor, sparsity: float, std: float = 0.01, generator: Any = None) -> Tensor:
    """From N(0, std²), with the share ``sparsity`` of each column set to zero (Martens, 2010). ValueError if the tensor
    has not two dimensions."""
    if tensor.ndim != 2:
        raise ValueError("Only tensors with 2 dimensions are supported")
    rows, columns = tensor.shape
    zeros = math.ceil(sparsity * rows)
    with no_grad():
        tensor.normal_(0.0, std, generator=generator)
        for column in range(columns):
            tensor[_C.randperm(rows, generator=generator)[:zeros], column] = 0
    return tensor
