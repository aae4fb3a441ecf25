"""Dropout (Hinton et al., "Improving neural networks by preventing co-adaptation of feature detectors", 2012)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import functional as F
from .module import Module

if TYPE_CHECKING:
    from .._C import Tensor

__all__ = ["Dropout", "Dropout2d"]


class _Dropout(Module):
    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        if not 0.0 <= p <= 1.0:
            raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
        self.p = p
        self.inplace = inplace

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"


class Dropout(_Dropout):
    """In training, sets each element to zero with probability ``p`` (default 0.5) and multiplies the others by
    1 / (1 - p); in evaluation, returns its input. ValueError if ``p`` is not in [0, 1]."""

    def forward(self, input: Tensor) -> Tensor:
        return F.dropout(input, self.p, self.training, self.inplace)


class Dropout2d(_Dropout):
    """Dropout of whole channels of (N, C, H, W) (Tompson et al., "Efficient Object Localization Using Convolutional
    Networks", 2015): neighbouring pixels are too alike for dropping single ones to matter."""

    def forward(self, input: Tensor) -> Tensor:
        return F.dropout2d(input, self.p, self.training, self.inplace)
