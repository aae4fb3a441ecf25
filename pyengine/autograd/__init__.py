"""Automatic differentiation: `backward`, `grad`, functions with gradients of their own, checks against differences."""

from __future__ import annotations

from collections.abc import Sequence

from .. import _C
from .._C import Tensor, is_grad_enabled
from .function import Function, FunctionCtx
from .grad_mode import enable_grad, inference_mode, no_grad, set_grad_enabled
from .gradcheck import gradcheck, gradgradcheck

__all__ = [
    "Function",
    "FunctionCtx",
    "backward",
    "enable_grad",
    "grad",
    "gradcheck",
    "gradgradcheck",
    "inference_mode",
    "is_grad_enabled",
    "no_grad",
    "set_grad_enabled",
]

TensorOrTensors = Tensor | Sequence[Tensor]


def _as_list(tensors: TensorOrTensors) -> list[Tensor]:
    return [tensors] if isinstance(tensors, Tensor) else list(tensors)


def _as_grads(grads: Tensor | Sequence[Tensor | None] | None) -> list[Tensor | None] | None:
    if grads is None:
        return None
    return [grads] if isinstance(grads, Tensor) else list(grads)


def backward(
    tensors: TensorOrTensors,
    grad_tensors: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
) -> None:
    """Adds d tensors / d leaves to the leaves' `.grad`.

    `grad_tensors` are the gradients of the tensors themselves; None means 1, for tensors of one element. The graph's
    saved tensors are freed unless `retain_graph` (default: the value of `create_graph`). With `create_graph` the
    gradients can be differentiated again.
    """
    retain = create_graph if retain_graph is None else retain_graph
    _C._backward(_as_list(tensors), _as_grads(grad_tensors), retain, create_graph)


def grad(
    outputs: TensorOrTensors,
    inputs: TensorOrTensors,
    grad_outputs: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool | None = None,
    materialize_grads: bool = False,
) -> tuple[Tensor | None, ...]:
    """d outputs / d inputs, one gradient per input; no `.grad` changes.

    An input that the outputs do not depend on raises RuntimeError, gives None with `allow_unused`, or zeros with
    `materialize_grads`. The other arguments are those of `backward`.
    """
    inputs = _as_list(inputs)
    retain = create_graph if retain_graph is None else retain_graph
    grads = _C._grad(_as_list(outputs), _as_grads(grad_outputs), inputs, retain, create_graph)
    for i, g in enumerate(grads):
        if g is not None:
            continue
        if materialize_grads:
            grads[i] = _C.zeros_like(inputs[i])
        elif not allow_unused:
            raise RuntimeError(
                f"grad: input {i} appears to not have been used in the graph; set allow_unused=True if that is intended"
            )
    return tuple(grads)
