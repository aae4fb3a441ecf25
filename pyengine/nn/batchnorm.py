"""Batch normalization (Ioffe and Szegedy, "Batch Normalization: Accelerating Deep Network Training", 2015)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import _C
from . import init
from .module import Module, weight_and_bias
from .parameter import Parameter

if TYPE_CHECKING:
    from .._C import Tensor

__all__ = ["BatchNorm1d", "BatchNorm2d"]


class _BatchNorm(Module):
    """y = (x - mean) / √(var + eps) · weight + bias for each channel.

    In training the mean and (biased) variance are the batch's, and the running ones follow them (the variance
    unbiased); in evaluation they are the running ones, or the batch's if there are none.

    Args:
        num_features: channels of the input.
        eps: added to the variance; default 1e-5.
        momentum: share of the new statistics in the running ones; default 0.1. None: their plain average so far.
        affine: whether there are a weight (starts at 1) and a bias (0); default True.
        bias: False leaves the bias out; default True.
        track_running_stats: whether there are running statistics (mean starts at 0, variance at 1); default True.

    Raises:
        ValueError: the input has the wrong number of dimensions, or one value per channel in training.
    """

    _version = 2  # since 2 the state holds num_batches_tracked
    weight: Parameter | None
    bias: Parameter | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        for name, wanted in (("weight", affine), ("bias", affine and bias)):
            value = Parameter(_C.empty((num_features,), device=device, dtype=dtype)) if wanted else None
            self.register_parameter(name, value)
        if track_running_stats:
            self.register_buffer("running_mean", _C.zeros((num_features,), device=device, dtype=dtype))
            self.register_buffer("running_var", _C.ones((num_features,), device=device, dtype=dtype))
            self.register_buffer("num_batches_tracked", _C.zeros((), device=device, dtype=_C.int64))
        else:
            for name in ("running_mean", "running_var", "num_batches_tracked"):
                self.register_buffer(name, None)
        self.reset_parameters()

    def reset_running_stats(self) -> None:
        """Forgets the running statistics."""
        if self.track_running_stats:
            self.running_mean.zero_()  # type: ignore[union-attr]
            self.running_var.fill_(1)  # type: ignore[union-attr]
            self.num_batches_tracked.zero_()  # type: ignore[union-attr]

    def reset_parameters(self) -> None:
        """Sets weight to 1, bias to 0, and forgets the running statistics."""
        self.reset_running_stats()
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def _check_input_dim(self, input: Tensor) -> None:
        raise NotImplementedError

    def forward(self, input: Tensor) -> Tensor:
        self._check_input_dim(input)
        weight, bias = weight_and_bias(self)
        buffers = self._buffers
        mean, var, batches = buffers["running_mean"], buffers["running_var"], buffers["num_batches_tracked"]
        momentum = self.momentum
        if self.training and self.track_running_stats and batches is not None:
            batches.add_(1)
            if momentum is None:
                momentum = 1.0 / float(batches)
        use_batch = self.training or (mean is None and var is None)
        if self.training and not self.track_running_stats:
            mean = var = None
        return _C.batch_norm(input, mean, var, weight, bias, use_batch, momentum or 0.0, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        *args: Any,
        **kwargs: Any,
    ) -> None:
        version = local_metadata.get("version")
        key = prefix + "num_batches_tracked"
        if (version is None or version < 2) and self.track_running_stats and key not in state_dict:
            state_dict[key] = self.num_batches_tracked
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args, **kwargs)


class BatchNorm1d(_BatchNorm):
    __doc__ = f"Batch normalization of (N, C) or (N, C, L).\n\n    {_BatchNorm.__doc__}"

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim not in (2, 3):
            raise ValueError(f"expected 2D or 3D input (got {input.ndim}D input)")


class BatchNorm2d(_BatchNorm):
    __doc__ = f"Batch normalization of (N, C, H, W).\n\n    {_BatchNorm.__doc__}"

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim != 4:
            raise ValueError(f"expected 4D input (got {input.ndim}D input)")
