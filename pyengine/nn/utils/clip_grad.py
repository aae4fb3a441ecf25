"""Gradient clipping (Pascanu et al., "On the difficulty of training recurrent neural networks", 2012).

``parameters`` is an iterable of tensors or one tensor; those without a gradient are left out. ``foreach`` is accepted
for PyTorch's sake and changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ... import _C
from ..._C import Tensor
from ...autograd import no_grad

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["clip_grad_norm_", "clip_grad_value_", "clip_grads_with_norm_", "get_total_norm"]


def _as_list(tensors: Any) -> list[Tensor]:
    return [tensors] if isinstance(tensors, Tensor) else list(tensors)


def _gradients(parameters: Any) -> list[Tensor]:
    return [p.grad for p in _as_list(parameters) if p.grad is not None]


def get_total_norm(
    tensors: Tensor | Iterable[Tensor],
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """The norm of all tensors together, as if they were one vector; a tensor without dimensions.

    Args:
        norm_type: p of the p-norm; ``inf`` for the largest magnitude; default 2.
        error_if_nonfinite: raise RuntimeError if the norm is infinite or not a number; default False.
    """
    norm_type = float(norm_type)
    with no_grad():
        norms = [tensor.norm(norm_type) for tensor in _as_list(tensors)]
        if not norms:
            return _C.zeros(())
        total = _C.stack(norms).norm(norm_type)
    if error_if_nonfinite and not bool(_C.isfinite(total)):
        raise RuntimeError(
            f"The total norm of order {norm_type} for gradients from `parameters` is non-finite, so it cannot be "
            "clipped. To disable this error and scale the gradients by the non-finite norm anyway, set "
            "`error_if_nonfinite=False`"
        )
    return total


def clip_grads_with_norm_(
    parameters: Tensor | Iterable[Tensor], max_norm: float, total_norm: Tensor, foreach: bool | None = None
) -> None:
    """Multiplies the gradients by max_norm / total_norm where that is less than 1."""
    with no_grad():
        factor = (float(max_norm) / (total_norm + 1e-6)).clamp(max=1.0)
        for grad in _gradients(parameters):
            grad.mul_(factor)


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """Scales all gradients together so that their common norm is at most ``max_norm``; returns the norm before.

    Args:
        norm_type: p of the p-norm; ``inf`` for the largest magnitude; default 2.
        error_if_nonfinite: raise RuntimeError if the norm is infinite or not a number; default False.
    """
    parameters = _as_list(parameters)
    total = get_total_norm(_gradients(parameters), norm_type, error_if_nonfinite)
    clip_grads_with_norm_(parameters, max_norm, total)
    return total


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float, foreach: bool | None = None) -> None:
    """Holds every element of the gradients between -clip_value and clip_value."""
    clip_value = float(clip_value)
    with no_grad():
        for grad in _gradients(parameters):
            grad.clamp_(-clip_value, clip_value)
