"""Gradients checked against central differences in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .. import _C
from .._C import Tensor


class GradcheckError(RuntimeError):
    """A gradient that central differences do not confirm."""


def _tensors(result: Any) -> list[Tensor]:
    items = [result] if isinstance(result, Tensor) else list(result)
    return [y for y in items if isinstance(y, Tensor) and y.is_floating_point()]


def _numerical(function: Callable[..., Any], inputs: Sequence[Any], k: int, eps: float) -> list[Tensor]:
    """d each output / d inputs[k] as matrices (elements of the input, elements of the output)."""
    x = inputs[k].detach()
    rows: list[list[Tensor]] = []
    flat = x.contiguous().clone().reshape(-1)
    for i in range(flat.numel()):
        results = []
        for sign in (1, -1):
            moved = flat.clone()
            moved[i] += sign * eps
            arguments = [a.detach() if isinstance(a, Tensor) else a for a in inputs]
            arguments[k] = moved.reshape(x.shape)
            before = _C.is_grad_enabled()
            _C._set_grad_enabled(False)
            try:
                results.append([y.detach().reshape(-1).clone() for y in _tensors(function(*arguments))])
            finally:
                _C._set_grad_enabled(before)
        rows.append([(a - b) / (2 * eps) for a, b in zip(*results, strict=True)])
    if not rows:
        return []
    return [_C.stack([row[j] for row in rows]) for j in range(len(rows[0]))]


def gradcheck(
    func: Callable[..., Any],
    inputs: Any,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
) -> bool:
    """Whether the gradients of `func(*inputs)` equal central differences (f(x + eps) - f(x - eps)) / 2 eps.

    `inputs` are tensors, those that require a gradient of dtype float64 (float32 is too coarse: ValueError). Every
    output and every input element is checked. A mismatch raises GradcheckError, or returns False without
    `raise_exception`.
    """
    inputs = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    checked = [k for k, x in enumerate(inputs) if isinstance(x, Tensor) and x.requires_grad]
    if not checked:
        raise ValueError("gradcheck expects at least one input tensor that requires a gradient")
    for k in checked:
        if inputs[k].dtype != _C.float64:
            raise ValueError(f"gradcheck: input {k} is {inputs[k].dtype}; differences need float64")
    outputs = _tensors(func(*inputs))
    for k in checked:
        expected = _numerical(func, inputs, k, eps)
        for j, y in enumerate(outputs):
            columns = []
            for i in range(y.numel()):
                seed = _C.zeros(y.numel(), dtype=y.dtype)
                seed[i] = 1
                g = _C._grad([y], [seed.reshape(y.shape)], [inputs[k]], True, False)[0] if y.requires_grad else None
                columns.append(_C.zeros_like(inputs[k]).reshape(-1) if g is None else g.detach().reshape(-1))
            if not columns or inputs[k].numel() == 0:
                continue
            actual = _C.stack(columns, 1)
            error = (actual - expected[j]).abs()
            if not bool((error <= atol + rtol * expected[j].abs()).all()):
                if not raise_exception:
                    return False
                raise GradcheckError(
                    f"the gradient of output {j} with respect to input {k} is off by up to {error.max().item():.3g}\n"
                    f"numerical:\n{expected[j]}\nanalytical:\n{actual}"
                )
    return True


def gradgradcheck(
    func: Callable[..., Any],
    inputs: Any,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
) -> bool:
    """`gradcheck` of the gradients themselves: second derivatives, for random output gradients of a fixed seed."""
    inputs = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    outputs = _tensors(func(*inputs))
    generator = _C.Generator().manual_seed(0)
    seeds = [_C.randn(*y.shape, dtype=y.dtype, generator=generator).requires_grad_() for y in outputs]
    checked = [k for k, x in enumerate(inputs) if isinstance(x, Tensor) and x.requires_grad]

    def first(*arguments: Any) -> tuple[Tensor, ...]:
        given = list(arguments[: len(inputs)])
        before = _C.is_grad_enabled()
        _C._set_grad_enabled(True)
        try:
            for k in checked:
                if not given[k].requires_grad:
                    given[k] = given[k].detach().requires_grad_()
            ys = [
                (y, s) for y, s in zip(_tensors(func(*given)), arguments[len(inputs) :], strict=True) if y.requires_grad
            ]
            grads = _C._grad([y for y, _ in ys], [s for _, s in ys], [given[k] for k in checked], True, True)
        finally:
            _C._set_grad_enabled(before)
        return tuple(_C.zeros_like(given[k]) if g is None else g for k, g in zip(checked, grads, strict=True))

    return gradcheck(first, [*inputs, *seeds], eps, atol, rtol, raise_exception)
