"""Convolution."""

from __future__ import annotations

import math
from typing import Any

from .. import _C
from .._C import Tensor
from . import init
from .module import Module, weight_and_bias
from .parameter import Parameter

__all__ = ["Conv2d"]

_PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class Conv2d(Module):
    """Convolution (cross-correlation, as everywhere in deep learning) over images.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: an int or (height, width).
        stride: default 1.
        padding: what is added on each side: an int, (height, width), "valid" (nothing) or "same" (so that the output
            has the input's size; needs stride 1); default 0.
        dilation: distance between the kernel's taps; default 1.
        groups: both channel counts are divided into this many groups, connected one to one; default 1.
        bias: whether to add a bias; default True.
        padding_mode: "zeros" (default), "reflect", "replicate" or "circular".

    Shapes: input (N, in_channels, H, W), output (N, out_channels, P, Q), both also without N;
    P = floor((H + 2 padding - dilation (kernel_size - 1) - 1) / stride + 1), and Q from W alike.

    Attributes:
        weight: (out_channels, in_channels / groups, height, width), from U(-k, k) with
            k = 1/√(in_channels / groups · height · width).
        bias: (out_channels), from the same.

    Raises:
        ValueError: groups do not divide the channels, an unknown padding or padding mode, "same" with a stride.
    """

    weight: Parameter
    bias: Parameter | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | str = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if groups <= 0:
            raise ValueError("groups must be a positive integer")
        if in_channels % groups != 0:
            raise ValueError("in_channels must be divisible by groups")
        if out_channels % groups != 0:
            raise ValueError("out_channels must be divisible by groups")
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = _pair(kernel_size)
        self.stride = _pair(stride)
        self.dilation = _pair(dilation)
        self.groups = groups
        self.padding_mode = padding_mode
        if isinstance(padding, str):
            if padding not in ("same", "valid"):
                raise ValueError(f"Invalid padding string {padding!r}, should be one of {{'same', 'valid'}}")
            if padding == "same" and self.stride != (1, 1):
                raise ValueError("padding='same' is not supported for strided convolutions")
            self.padding: str | tuple[int, int] = padding
        else:
            self.padding = _pair(padding)
        if padding_mode not in _PADDING_MODES:
            raise ValueError(
                f"padding_mode must be one of {set(_PADDING_MODES)}, but got padding_mode='{padding_mode}'"
            )
        self._border = self._explicit_padding()
        self.weight = Parameter(
            _C.empty((out_channels, in_channels // groups, *self.kernel_size), device=device, dtype=dtype)
        )
        if bias:
            self.bias = Parameter(_C.empty((out_channels,), device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def _explicit_padding(self) -> list[int]:
        """[left, right, top, bottom]: what ``pad`` shall add for the padding modes other than zeros."""
        if self.padding == "valid":
            return [0, 0, 0, 0]
        border: list[int] = []
        for i in (1, 0):
            if self.padding == "same":
                total = self.dilation[i] * (self.kernel_size[i] - 1)
                border += [total // 2, total - total // 2]
            else:
                border += [self.padding[i], self.padding[i]]  # type: ignore[list-item]
        return border

    def reset_parameters(self) -> None:
        """Draws weight and bias anew."""
        # With a = √5, Kaiming's bound √(6 / ((1 + a²) fan_in)) is 1/√fan_in.
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            fan_in, _ = init._calculate_fan_in_and_fan_out(self.weight)
            if fan_in > 0:
                init.uniform_(self.bias, -1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in))

    def forward(self, input: Tensor) -> Tensor:
        padding: Any = self.padding
        if self.padding_mode != "zeros":
            input = _C.pad(input, self._border, mode=self.padding_mode)
            padding = 0
        weight, bias = weight_and_bias(self)
        return _C.conv2d(input, weight, bias, self.stride, padding, self.dilation, self.groups)

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        if self.padding != (0, 0):
            text += f", padding={self.padding}"
        if self.dilation != (1, 1):
            text += f", dilation={self.dilation}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        if self.bias is None:
            text += ", bias=False"
        if self.padding_mode != "zeros":
            text += f", padding_mode={self.padding_mode}"
        return text


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    pair = tuple(value)
    if len(pair) != 2:
        raise ValueError(f"expected an int or a pair of ints, but got {value}")
    return pair
