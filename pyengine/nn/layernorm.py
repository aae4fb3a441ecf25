"""Layer normalization (Ba, Kiros and Hinton, "Layer Normalization", 2016)."""

from __future__ import annotations

from numbers import Integral
from typing import TYPE_CHECKING, Any

from .. import _C
from . import init
from .module import Module, weight_and_bias
from .parameter import Parameter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._C import Tensor

__all__ = ["LayerNorm"]


class LayerNorm(Module):
    """y = (x - mean) / √(var + eps) · weight + bias over the input's last dimensions, ``normalized_shape``.

    The variance is the biased one.

    Args:
        normalized_shape: sizes of the last dimensions, or the size of the last one.
        eps: added to the variance; default 1e-5.
        elementwise_affine: whether there are a weight (starts at 1) and a bias (0), of normalized_shape; default True.
        bias: False leaves the bias out; default True.

    Raises:
        ValueError: the input's last dimensions are others.
    """

    weight: Parameter | None
    bias: Parameter | None

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if isinstance(normalized_shape, Integral):
            normalized_shape = (int(normalized_shape),)
        self.normalized_shape = tuple(normalized_shape)  # type: ignore[arg-type]
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        for name, wanted in (("weight", elementwise_affine), ("bias", elementwise_affine and bias)):
            value = Parameter(_C.empty(self.normalized_shape, device=device, dtype=dtype)) if wanted else None
            self.register_parameter(name, value)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Sets weight to 1 and bias to 0."""
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:
        weight, bias = weight_and_bias(self)
        return _C.layer_norm(input, self.normalized_shape, weight, bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}, "
            f"bias={self.bias is not None}"
        )
