"""Adam (Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2014) and AdamW (Loshchilov and Hutter,
"Decoupled Weight Decay Regularization", 2017)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import _C
from .optimizer import Optimizer, with_gradients

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["Adam", "AdamW"]


class Adam(Optimizer):
    """Adam.

    For each parameter p with gradient g in step t: g += weight_decay · p; m = β₁ m + (1 - β₁) g;
    v = β₂ v + (1 - β₂) g²; p -= lr · m / (1 - β₁ᵗ) / (√(v / (1 - β₂ᵗ)) + eps). All parameters of a group are updated in
    one call.

    Args:
        params: parameters or dicts of parameter groups, see Optimizer.
        lr: learning rate; default 1e-3.
        betas: (β₁, β₂); default (0.9, 0.999).
        eps: keeps the divisor from zero; default 1e-8.
        weight_decay: the factor of the L2 penalty; default 0.
        amsgrad: divide by the largest v so far (Reddi et al., 2018); default False.
        maximize: go up instead of down; default False.
        decoupled_weight_decay: p -= lr · weight_decay · p instead of adding to g, which is AdamW; default False.
        foreach, capturable, differentiable, fused: accepted for PyTorch's sake; they change nothing.

    Raises:
        ValueError: a negative option, or a β outside [0, 1).
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
    ) -> None:
        if not lr >= 0.0:
            raise ValueError(f"Invalid learning rate: {lr}")
        if not eps >= 0.0:
            raise ValueError(f"Invalid epsilon value: {eps}")
        for i, beta in enumerate(betas):
            if not 0.0 <= beta < 1.0:
                raise ValueError(f"Invalid beta parameter at index {i}: {beta}")
        if not weight_decay >= 0.0:
            raise ValueError(f"Invalid weight_decay value: {weight_decay}")
        defaults = {
            "lr": lr,
            "betas": tuple(betas),
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "maximize": maximize,
            "foreach": foreach,
            "capturable": capturable,
            "differentiable": differentiable,
            "fused": fused,
            "decoupled_weight_decay": decoupled_weight_decay,
        }
        super().__init__(params, defaults)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = self._loss(closure)
        for group in self.param_groups:
            params, grads = with_gradients(group)
            if not params:
                continue
            amsgrad = group["amsgrad"]
            states = [self.state[p] for p in params]
            for parameter, state in zip(params, states, strict=True):
                if "step" not in state:
                    state["step"] = 0.0
                    state["exp_avg"] = _C.zeros_like(parameter)
                    state["exp_avg_sq"] = _C.zeros_like(parameter)
                if amsgrad and "max_exp_avg_sq" not in state:
                    state["max_exp_avg_sq"] = _C.zeros_like(parameter)
            steps = [state["step"] + 1.0 for state in states]
            beta1, beta2 = group["betas"]
            _C.adam_step(
                params,
                grads,
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [state["max_exp_avg_sq"] for state in states] if amsgrad else [],
                steps,
                group["lr"],
                beta1,
                beta2,
                group["eps"],
                group["weight_decay"],
                group["decoupled_weight_decay"],
                amsgrad,
                group["maximize"],
            )
            for state, step in zip(states, steps, strict=True):
                state["step"] = step
        return loss


class AdamW(Adam):
    """Adam with decoupled weight decay: p -= lr · weight_decay · p (default 1e-2); the rest as Adam."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            foreach=foreach,
            maximize=maximize,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
            decoupled_weight_decay=True,
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        for group in self.param_groups:
            group["decoupled_weight_decay"] = True  # older states do not say so
