"""Functions whose gradient is written in Python."""

from __future__ import annotations

from typing import Any

from .. import _C
from .._C import Tensor


class FunctionCtx:
    """What `forward` leaves for `backward`: saved tensors and any attributes."""

    needs_input_grad: tuple[bool, ...] = ()

    def __init__(self) -> None:
        self._to_save: tuple[Tensor | None, ...] = ()
        self._dirty: tuple[Tensor, ...] = ()
        self._non_differentiable: tuple[Tensor, ...] = ()
        self._materialize = True
        self._saved: tuple[Tensor | None, ...] | None = None

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keeps inputs or outputs; an in-place change of one before `backward` is then noticed."""
        self._to_save = tensors

    def mark_dirty(self, *tensors: Tensor) -> None:
        """Names inputs that `forward` changed in place and returns."""
        self._dirty = tensors

    def mark_non_differentiable(self, *tensors: Tensor) -> None:
        """Names outputs that have no gradient."""
        self._non_differentiable = tensors

    def set_materialize_grads(self, value: bool) -> None:
        """Whether missing output gradients come as zeros (the default) or as None."""
        self._materialize = value

    @property
    def saved_tensors(self) -> tuple[Tensor | None, ...]:
        """The tensors given to `save_for_backward`."""
        return self._to_save if self._saved is None else self._saved


class Function:
    """Subclass it with static methods `forward(ctx, *args)` and `backward(ctx, *grads)`, and call `apply(*args)`.

    `backward` returns one gradient (or None) per argument of `forward`. Its own operations are recorded under
    `create_graph`, so a backward written with tensor operations can be differentiated again. The two-step form,
    `forward(*args)` with `setup_context(ctx, inputs, output)`, works as well.
    """

    @staticmethod
    def forward(*args: Any, **kwargs: Any) -> Any:
        """Computes the outputs."""
        raise NotImplementedError("a Function needs a static method forward(ctx, *args)")

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        """Computes the gradients of forward's arguments from those of its outputs."""
        raise NotImplementedError("a Function needs a static method backward(ctx, *grad_outputs) to be differentiated")

    setup_context: Any = None

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """Runs `forward` and records it."""
        ctx = FunctionCtx()
        positions = [i for i, a in enumerate(args) if isinstance(a, Tensor)]
        inputs = [args[i] for i in positions]
        needs = [isinstance(a, Tensor) and a.requires_grad for a in args]
        ctx.needs_input_grad = tuple(needs)
        before = _C.is_grad_enabled()
        recording = before and any(needs)
        _C._set_grad_enabled(False)
        try:
            if cls.setup_context is not None:
                result = cls.forward(*args)
                cls.setup_context(ctx, args, result)
            else:
                result = cls.forward(ctx, *args)
        finally:
            _C._set_grad_enabled(before)
        if not recording:
            return result

        single = isinstance(result, Tensor)
        items: list[Any] = [result] if single else list(result)
        tensors = [i for i, r in enumerate(items) if isinstance(r, Tensor)]
        saved = list(ctx._to_save)
        for i in tensors:
            # An input handed through gets an identity of its own; one changed in place keeps it and takes the new
            # history.
            if any(items[i] is x for x in inputs) and not any(items[i] is d for d in ctx._dirty):
                replacement = items[i].detach()
                saved = [replacement if s is items[i] else s for s in saved]
                items[i] = replacement
        outputs = [items[i] for i in tensors]
        expected = len(args)  # not `args`, which would live as long as the graph
        differentiable = [not any(o is n for n in ctx._non_differentiable) for o in outputs]

        def run(
            ctx: FunctionCtx, saved: tuple[Tensor | None, ...], grads: list[Tensor | None], needed: list[bool]
        ) -> list[Tensor | None]:
            ctx._saved = saved
            try:
                given = cls.backward(ctx, *grads)
            finally:
                ctx._saved = None
            given = (given,) if given is None or isinstance(given, Tensor) else tuple(given)
            if len(given) < expected or any(g is not None for g in given[expected:]):
                raise RuntimeError(f"{cls.__name__}.backward returned {len(given)} gradients, expected {expected}")
            for g in given:
                if g is not None and not isinstance(g, Tensor):
                    raise TypeError(f"{cls.__name__}.backward returned a {type(g).__name__}, expected a Tensor or None")
            return [given[i] for i in positions]

        _C._record_function(cls.__name__, ctx, run, inputs, outputs, saved, differentiable, ctx._materialize)
        ctx._to_save = ctx._dirty = ctx._non_differentiable = ()  # the outputs among them would be cycles
        if single:
            return items[0]
        return type(result)(*items) if hasattr(result, "_fields") else type(result)(items)


def once_differentiable(backward: Any) -> Any:
    """Decorates a `backward` that must not be differentiated again: it runs without recording, and raises if asked."""

    def wrapped(ctx: Any, *grads: Any) -> Any:
        if _C.is_grad_enabled():
            raise RuntimeError("trying to differentiate twice a function that was marked with @once_differentiable")
        return backward(ctx, *grads)

    return wrapped
