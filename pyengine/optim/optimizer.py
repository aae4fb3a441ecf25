"""Optimizer: the base class of all optimizers."""

from __future__ import annotations

import functools
import warnings
from collections import OrderedDict, defaultdict
from typing import TYPE_CHECKING, Any

from .. import _C
from .._C import Tensor
from ..autograd import enable_grad
from ..nn.hooks import RemovableHandle, add_hook
from ..nn.module import clear_gradients, typename

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["Optimizer", "required"]


class _Required:
    def __repr__(self) -> str:
        return "<required parameter>"


required: Any = _Required()  # as a default: every parameter group must give this option itself


class Optimizer:
    """Holds the parameters to be trained, in groups with their options, and what is remembered about each.

    A subclass calls ``super().__init__(params, defaults)`` and defines ``step``, which reads ``param_groups`` and
    keeps its own tensors in ``state[parameter]``.

    Args:
        params: the parameters; or (name, parameter) pairs; or dicts, one for each group, with "params" and the options
            in which the group differs.
        defaults: the options of groups that do not say otherwise.

    Raises:
        TypeError: ``params`` is one tensor, or holds something that is not a tensor.
        ValueError: there is no parameter, one comes twice, is not a leaf of the graph, or lacks a required option.
    """

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        if isinstance(params, Tensor):
            raise TypeError(
                "params argument given to the optimizer should be an iterable of Tensors or dicts, but got "
                + typename(params)
            )
        self.defaults = defaults
        self.state: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
        self.param_groups: list[dict[str, Any]] = []
        self._opt_called = False  # schedulers warn where they step before the optimizer does
        self._step_pre_hooks: OrderedDict[int, Callable[..., Any]] = OrderedDict()
        self._step_post_hooks: OrderedDict[int, Callable[..., Any]] = OrderedDict()
        groups = list(params)
        if not groups:
            raise ValueError("optimizer got an empty parameter list")
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "step" in cls.__dict__:
            cls.step = _with_hooks(cls.__dict__["step"])  # type: ignore[method-assign]

    def __getstate__(self) -> dict[str, Any]:
        return {"defaults": self.defaults, "state": self.state, "param_groups": self.param_groups}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._opt_called = False
        self._step_pre_hooks = OrderedDict()
        self._step_post_hooks = OrderedDict()

    def __repr__(self) -> str:
        lines = []
        for i, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {i}")
            lines += [f"    {key}: {group[key]}" for key in sorted(group) if key != "params"]
        return type(self).__name__ + " (\n" + "\n".join(lines) + "\n)"

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group, for instance of layers that are to be trained from now on.

        Args:
            param_group: a dict with "params" and the options that differ from the defaults.
        """
        if not isinstance(param_group, dict):
            raise TypeError(f"param_group must be a dict, but got {type(param_group)}")
        params = param_group["params"]
        if isinstance(params, set):
            raise TypeError(
                "optimizer parameters need to be organized in ordered collections, but the ordering of tensors in sets "
                "will change between runs. Please use a list instead."
            )
        params = [params] if isinstance(params, Tensor) else list(params)
        names = [entry[0] for entry in params if isinstance(entry, tuple)]
        if names:
            if len(names) != len(params):
                raise ValueError("all optimizer params should be with/without names. Some param names are missing")
            params = [parameter for _, parameter in params]
            param_group["param_names"] = names
        for parameter in params:
            if not isinstance(parameter, Tensor):
                raise TypeError(f"optimizer can only optimize Tensors, but one of the params is {typename(parameter)}")
            if not parameter.is_leaf:
                raise ValueError("can't optimize a non-leaf Tensor")
        param_group["params"] = params
        for name, default in self.defaults.items():
            if default is required and name not in param_group:
                raise ValueError(f"parameter group didn't specify a value of required optimization parameter {name}")
            param_group.setdefault(name, default)
        if len(params) != len(set(params)):
            warnings.warn(
                "optimizer contains a parameter group with duplicate parameters; in future, this will cause an error",
                stacklevel=3,
            )
        if self.param_groups and ("param_names" in param_group) != ("param_names" in self.param_groups[0]):
            which = "with" if names else "without"
            raise ValueError(
                "all optimizer param groups should be with/without names. "
                f"cannot add param group {which} names to the optimizer"
            )
        known = {parameter for group in self.param_groups for parameter in group["params"]}
        if not known.isdisjoint(params):
            raise ValueError("some parameters appear in more than one parameter group")
        self.param_groups.append(param_group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets the gradients of all parameters, or fills them with zeros if ``set_to_none`` is False."""
        for group in self.param_groups:
            clear_gradients(group["params"], set_to_none)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Updates the parameters once.

        Args:
            closure: computes the loss and its gradients anew, and returns the loss; default: they have been computed.

        Returns:
            what ``closure`` returned, else None.
        """
        raise NotImplementedError

    @staticmethod
    def _loss(closure: Callable[[], Any] | None) -> Any:
        if closure is None:
            return None
        with enable_grad():
            return closure()

    def register_step_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Calls ``hook(optimizer, args, kwargs)`` before each step; a pair that it returns replaces the arguments."""
        return add_hook(self._step_pre_hooks, hook)

    def register_step_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Calls ``hook(optimizer, args, kwargs)`` after each step."""
        return add_hook(self._step_post_hooks, hook)

    # --- saving and loading

    def state_dict(self) -> dict[str, Any]:
        """``{"state": {position: ...}, "param_groups": [...]}``. Positions, counted through all groups, stand for the
        parameters; the tensors are shared, not copied."""
        positions: dict[Tensor, int] = {}
        for group in self.param_groups:
            for parameter in group["params"]:
                positions.setdefault(parameter, len(positions))
        groups = [
            {**{k: v for k, v in group.items() if k != "params"}, "params": [positions[p] for p in group["params"]]}
            for group in self.param_groups
        ]
        state = {positions.get(key, key): value for key, value in self.state.items()}
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over the state and options of ``state_dict``; its tensors are copied, with the parameters' dtypes.

        Raises:
            ValueError: its groups do not have the sizes of this optimizer's.
        """
        saved_groups = state_dict["param_groups"]
        if len(saved_groups) != len(self.param_groups):
            raise ValueError("loaded state dict has a different number of parameter groups")
        if any(len(a["params"]) != len(b["params"]) for a, b in zip(saved_groups, self.param_groups, strict=True)):
            raise ValueError(
                "loaded state dict contains a parameter group that doesn't match the size of optimizer's group"
            )
        by_position = {
            position: parameter
            for saved, group in zip(saved_groups, self.param_groups, strict=True)
            for position, parameter in zip(saved["params"], group["params"], strict=True)
        }
        state: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
        for position, values in state_dict["state"].items():
            parameter = by_position.get(position)
            state[position if parameter is None else parameter] = _adapted(values, parameter)
        groups = []
        for saved, group in zip(saved_groups, self.param_groups, strict=True):
            names = {"param_names": group["param_names"]} if "param_names" in group else {}
            options = {key: value for key, value in saved.items() if key not in ("params", "param_names")}
            groups.append({"params": group["params"], **options, **names})
        self.state = state
        self.param_groups = groups


def _with_hooks(step: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(step)
    def wrapper(self: Optimizer, *args: Any, **kwargs: Any) -> Any:
        self._opt_called = True
        for hook in self._step_pre_hooks.values() if self._step_pre_hooks else ():
            changed = hook(self, args, kwargs)
            if changed is not None:
                if not isinstance(changed, tuple) or len(changed) != 2:
                    raise RuntimeError(
                        f"{hook} must return None or a tuple of (new_args, new_kwargs), but got {changed}."
                    )
                args, kwargs = changed
        result = step(self, *args, **kwargs)
        for hook in self._step_post_hooks.values() if self._step_post_hooks else ():
            hook(self, args, kwargs)
        return result

    return wrapper


def _adapted(value: Any, parameter: Tensor | None, key: str = "") -> Any:
    """A copy of a loaded state; where it has its parameter's shape, it gets the dtype and device as well. Step counts
    become Python numbers."""
    if isinstance(value, Tensor):
        if key == "step":
            return float(value)
        if parameter is not None and value.shape == parameter.shape:
            return _C.empty_like(parameter).copy_(value)  # steps want the parameter's layout in memory, too
        return value.clone()
    if isinstance(value, dict):
        return {k: _adapted(v, parameter, k) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_adapted(v, parameter) for v in value)
    return value


def with_gradients(group: dict[str, Any]) -> tuple[list[Tensor], list[Tensor]]:
    """The parameters of a group that have a gradient, and the gradients."""
    params: list[Tensor] = []
    grads: list[Tensor] = []
    for parameter in group["params"]:
        grad = parameter.grad
        if grad is not None:
            params.append(parameter)
            grads.append(grad)
    return params, grads
