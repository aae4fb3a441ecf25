"""What stands behind the hooks of modules and optimizers: the handle that removes one, and backward hooks."""

from __future__ import annotations

import warnings
import weakref
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from .._C import Tensor
from ..autograd import Function

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["RemovableHandle"]


class RemovableHandle:
    """Removes a hook: ``handle.remove()``, or the end of a ``with handle:`` block.

    It does not keep the hook's owner alive.
    """

    _next_id: int = 0

    def __init__(self, hooks: OrderedDict[int, Any]) -> None:
        self._hooks: Callable[[], OrderedDict[int, Any] | None] = weakref.ref(hooks)
        self.id = RemovableHandle._next_id
        RemovableHandle._next_id += 1

    def remove(self) -> None:
        hooks = self._hooks()
        if hooks is not None:
            hooks.pop(self.id, None)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()


def add_hook(hooks: OrderedDict[int, Any], hook: Any, prepend: bool = False) -> RemovableHandle:
    """Appends a hook (or puts it first) and returns its handle."""
    handle = RemovableHandle(hooks)
    hooks[handle.id] = hook
    if prepend:
        hooks.move_to_end(handle.id, last=False)
    return handle


class BackwardHooks:
    """One call of a module that has backward hooks.

    The module's inputs and outputs pass through identity nodes. In the backward pass the outputs' node comes first: it
    runs the pre-hooks on the gradients of the outputs. The inputs' node comes last: it has the gradients of all inputs
    through this call alone, and runs the hooks on both. Where no input needs a gradient, the hooks run at the outputs.
    """

    def __init__(self, module: Any) -> None:
        self.module = module
        self.pre_hooks = list(module._backward_pre_hooks.values())
        self.hooks = list(module._backward_hooks.values())
        self.grad_outputs: tuple[Tensor | None, ...] | None = None
        self.n_inputs = 0
        self.inputs_need_grad = False

    def wrap_inputs(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        self.n_inputs = len(args)
        if not self.hooks:
            return args
        wrapped, self.inputs_need_grad = _through_identity(args, self._at_inputs)
        return wrapped

    def wrap_outputs(self, result: Any) -> Any:
        single = isinstance(result, Tensor)
        outputs = (result,) if single else result
        if not isinstance(outputs, tuple):
            warnings.warn(
                "For backward hooks to be called, module output should be a Tensor or a tuple of Tensors "
                f"but received {type(result)}",
                stacklevel=4,
            )
            return result
        wrapped, _ = _through_identity(outputs, self._at_outputs)
        return wrapped[0] if single else type(result)(wrapped) if type(result) is tuple else type(result)(*wrapped)

    def _at_outputs(self, grads: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
        for hook in self.pre_hooks:
            result = hook(self.module, grads)
            if result is not None:
                grads = _checked(result, len(grads), "Backward pre hook", "grad_output")
        self.grad_outputs = grads
        if not self.inputs_need_grad:
            self._run_hooks((None,) * self.n_inputs)
        return grads

    def _at_inputs(self, grads: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
        if self.grad_outputs is None:
            raise RuntimeError(
                "Module backward hook for grad_input is called before the grad_output one. This happens because the "
                "gradient in your nn.Module flows to the Module's input without passing through the Module's output. "
                "Make sure that the output depends on the input and that the loss is computed based on the output."
            )
        return self._run_hooks(grads)

    def _run_hooks(self, grads: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
        grad_outputs, self.grad_outputs = self.grad_outputs, None
        for hook in self.hooks:
            result = hook(self.module, grads, grad_outputs)
            if result is None:
                continue
            if not self.inputs_need_grad:
                raise RuntimeError(
                    "Backward hook for Modules where no input requires gradient should always return None or None for "
                    "all gradients."
                )
            grads = _checked(result, len(grads), "Backward hook", "grad_input")
        return grads


class _Identity(Function):
    """Hands its tensors on, and their gradients back through ``on_backward``."""

    @staticmethod
    def forward(ctx: Any, on_backward: Callable[..., Any], *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.on_backward = on_backward
        ctx.set_materialize_grads(False)
        outputs = tuple(tensor.detach() for tensor in tensors)
        ctx.mark_non_differentiable(*(y for x, y in zip(tensors, outputs, strict=True) if not x.requires_grad))
        return outputs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        return None, *ctx.on_backward(grads)


def _checked(result: Any, expected: int, who: str, what: str) -> tuple[Tensor | None, ...]:
    grads = result if isinstance(result, tuple) else (result,)
    if len(grads) != expected:
        raise RuntimeError(f"{who} returned an invalid number of {what}, got {len(grads)}, but expected {expected}")
    return grads


def _through_identity(
    values: tuple[Any, ...], on_backward: Callable[[tuple[Any, ...]], tuple[Any, ...]]
) -> tuple[tuple[Any, ...], bool]:
    """Sends the tensors among ``values`` through one identity node, if any of them needs a gradient."""
    positions = [i for i, value in enumerate(values) if isinstance(value, Tensor)]
    if not any(values[i].requires_grad for i in positions):
        return values, False

    def at_all_positions(grads: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
        full: list[Tensor | None] = [None] * len(values)
        for i, grad in zip(positions, grads, strict=True):
            full[i] = grad
        changed = on_backward(tuple(full))
        return tuple(changed[i] for i in positions)

    tensors = _Identity.apply(at_all_positions, *(values[i] for i in positions))
    wrapped = list(values)
    for i, tensor in zip(positions, tensors, strict=True):
        wrapped[i] = tensor
    return tuple(wrapped), True
