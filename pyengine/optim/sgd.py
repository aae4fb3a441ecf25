"""Stochastic gradient descent, with momentum as in Sutskever et al., "On the importance of initialization and momentum
in deep learning", 2013."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import _C
from .optimizer import Optimizer, with_gradients

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .._C import Tensor

__all__ = ["SGD"]


class SGD(Optimizer):
    """Stochastic gradient descent.

    For each parameter p with gradient g: g += weight_decay · p; v = momentum · v + (1 - dampening) · g (at first
    v = g); p -= lr · v, or with ``nesterov`` p -= lr · (g + momentum · v). A group is one call.

    Args:
        params: parameters or dicts of parameter groups, see Optimizer.
        lr: learning rate; default 1e-3.
        momentum: default 0.
        dampening: default 0.
        weight_decay: the factor of the L2 penalty; default 0.
        nesterov: whether to look ahead; needs momentum and no dampening; default False.
        maximize: go up instead of down; default False.
        foreach, differentiable, fused: accepted for PyTorch's sake; they change nothing.

    Raises:
        ValueError: a negative option, or ``nesterov`` without momentum or with dampening.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        if not lr >= 0.0:
            raise ValueError(f"Invalid learning rate: {lr}")
        if not momentum >= 0.0:
            raise ValueError(f"Invalid momentum value: {momentum}")
        if not weight_decay >= 0.0:
            raise ValueError(f"Invalid weight_decay value: {weight_decay}")
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening")
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
            "foreach": foreach,
            "differentiable": differentiable,
            "fused": fused,
        }
        super().__init__(params, defaults)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = self._loss(closure)
        for group in self.param_groups:
            params, grads = with_gradients(group)
            if not params:
                continue
            momentum = group["momentum"]
            states = [self.state[p] for p in params] if momentum != 0 else []
            buffers: list[Tensor | None] = [state.get("momentum_buffer") for state in states] or [None] * len(params)
            _C.sgd_step(
                params,
                grads,
                buffers,
                group["lr"],
                momentum,
                group["dampening"],
                group["weight_decay"],
                group["nesterov"],
                group["maximize"],
            )
            for state, buffer in zip(states, buffers):  # noqa: B905 - without momentum there are no states
                state["momentum_buffer"] = buffer
        return loss
