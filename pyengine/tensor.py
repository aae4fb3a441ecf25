"""The part of Tensor that is written in Python: conversion, pickling and hooks, attached to the compiled class."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import _C
from ._C import Tensor
from .tensor_repr import tensor_repr

if TYPE_CHECKING:
    import numpy as np


class memory_format(str):
    """The order of a 4-dimensional tensor's memory; `channels_last` is N H W C."""

    def __repr__(self) -> str:
        return f"pyengine.{self}"


contiguous_format = memory_format("contiguous_format")
channels_last = memory_format("channels_last")
preserve_format = memory_format("preserve_format")


def tensor(data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A new tensor with a copy of `data`: a number, nested sequences, a NumPy array or a tensor.

    Python floats become the default dtype (float32), ints int64, bools bool; arrays keep their dtype. Ragged sequences
    raise ShapeError, other objects TypeError.
    """
    x = _C._tensor_from(data)
    if device is not None:
        x = x.to(device)
    if dtype is not None:
        x = x.to(dtype)
    return x.requires_grad_() if requires_grad else x


def as_tensor(data: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """`data` as a tensor, sharing memory with arrays and tensors where dtype allows."""
    if isinstance(data, Tensor):
        x = data
    elif hasattr(data, "__array_interface__"):
        try:
            x = _C.from_numpy(data)
        except (TypeError, ValueError):
            x = tensor(data)
    else:
        x = tensor(data)
    if device is not None:
        x = x.to(device)
    return x if dtype is None else x.to(dtype)


def asarray(obj: Any, *, dtype: Any = None, device: Any = None, copy: bool | None = None) -> Tensor:
    """`as_tensor`, or a copy with copy=True."""
    return tensor(obj, dtype=dtype, device=device) if copy else as_tensor(obj, dtype, device)


def isclose(input: Tensor, other: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Tensor:
    """Where |input - other| <= atol + rtol |other|; infinities are close to themselves."""
    close = (input == other) | (((input - other).abs() <= atol + rtol * other.abs()) & other.isfinite())
    return close | (input.isnan() & other.isnan()) if equal_nan else close


def allclose(input: Tensor, other: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> bool:
    """Whether `isclose` holds everywhere."""
    return bool(isclose(input, other, rtol, atol, equal_nan).all())


def equal(input: Tensor, other: Tensor) -> bool:
    """Whether two tensors have the same shape and elements."""
    return input.shape == other.shape and bool((input == other).all())


def meshgrid(*tensors: Tensor, indexing: str = "ij") -> tuple[Tensor, ...]:
    """Coordinate grids of one-dimensional tensors; indexing 'ij' (rows first) or 'xy'."""
    if indexing not in ("ij", "xy"):
        raise ValueError(f"meshgrid: expected indexing 'ij' or 'xy', got {indexing!r}")
    axes = list(tensors[0]) if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)) else list(tensors)
    shape = [a.numel() for a in axes]
    grids = []
    for i, axis in enumerate(axes):
        view = [1] * len(axes)
        view[i] = -1
        grids.append(axis.reshape(view).expand(*shape))
    if indexing == "xy" and len(axes) > 1:
        grids = [g.transpose(0, 1) for g in grids]
    return tuple(grids)


def _numpy(self: Tensor, *, force: bool = False) -> np.ndarray:
    """An array that shares the tensor's memory. Raises for a tensor that requires grad, unless `force` detaches it."""
    return _C._to_numpy(self.detach() if force else self)


def _array(self: Tensor, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
    array = _C._to_numpy(self)
    if dtype is not None and array.dtype != dtype:
        if copy is False:
            raise ValueError("__array__: another dtype needs a copy")
        return array.astype(dtype)
    return array.copy() if copy else array


def _backward(
    self: Tensor, gradient: Tensor | None = None, retain_graph: bool | None = None, create_graph: bool = False
) -> None:
    """Adds d self / d leaves to the leaves' `.grad`; see `pyengine.autograd.backward`."""
    retain = create_graph if retain_graph is None else retain_graph
    _C._backward([self], None if gradient is None else [gradient], retain, create_graph)


class RemovableHandle:
    """Takes back a hook: `remove()`, or the end of a `with` block."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    def remove(self) -> None:
        """Removes the hook; a second call does nothing."""
        self._handle.remove()

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()


def _register_hook(self: Tensor, hook: Callable[[Tensor], Tensor | None]) -> RemovableHandle:
    """Calls `hook(grad)` when this tensor's gradient is complete; what it returns replaces the gradient."""
    return RemovableHandle(self._register_hook(hook))


def _rebuild(
    cls: type[Tensor], array: np.ndarray, strides: tuple[int, ...], requires_grad: bool, state: dict[str, Any]
) -> Tensor:
    x = tensor(array)
    if x.dim() == 4 and x.stride() != strides:
        x = x.contiguous(memory_format=channels_last)
    if cls is not Tensor:
        x = _C._make_subclass(cls, x, requires_grad)
    elif requires_grad:
        x.requires_grad_()
    x.__dict__.update(state)
    return x


def _reduce(self: Tensor, protocol: int) -> tuple[Any, ...]:
    if not self.is_leaf:
        raise RuntimeError(
            "only tensors that the user made (leaves of the graph) can be pickled or deep-copied; detach() first"
        )
    array = _C._to_numpy(self.detach()).copy()
    return _rebuild, (type(self), array, self.stride(), self.requires_grad, dict(self.__dict__))


def _deepcopy(self: Tensor, memo: dict[int, Any]) -> Tensor:
    if id(self) in memo:
        return memo[id(self)]
    if not self.is_leaf:
        raise RuntimeError("only tensors that the user made (leaves of the graph) support deepcopy; detach() first")
    import copy

    x = self.detach().clone()
    result = (
        _C._make_subclass(type(self), x, self.requires_grad)
        if type(self) is not Tensor
        else x.requires_grad_(self.requires_grad)
    )
    memo[id(self)] = result
    result.__dict__.update(copy.deepcopy(self.__dict__, memo))
    if self.grad is not None:
        result.grad = self.grad.detach().clone()
    return result


def _dlpack(
    self: Tensor, *, stream: Any = None, max_version: Any = None, dl_device: Any = None, copy: Any = None
) -> Any:
    return _C._to_dlpack(self, stream, max_version, dl_device, copy)


def _format(self: Tensor, spec: str) -> str:
    return format(self.item(), spec) if self.dim() == 0 and spec else repr(self)


def _type(self: Tensor, dtype: Any = None) -> Any:
    """The tensor in another dtype; without an argument, the dtype's name."""
    return f"pyengine.{self.dtype}" if dtype is None else self.to(dtype)


def _new(name: str) -> Callable[..., Tensor]:
    def new(self: Tensor, *size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
        return getattr(_C, name)(*size, dtype=dtype or self.dtype, device=device, requires_grad=requires_grad)

    new.__doc__ = f"pyengine.{name} with this tensor's dtype."
    return new


_METHODS: dict[str, Any] = {
    "__array__": _array,
    "__array_priority__": 1000,  # array + tensor is left to the tensor
    "__deepcopy__": _deepcopy,
    "__dlpack__": _dlpack,
    "__dlpack_device__": lambda self: (1, 0),
    "__format__": _format,
    "__reduce_ex__": _reduce,
    "__repr__": tensor_repr,
    "allclose": allclose,
    "backward": _backward,
    "equal": equal,
    "isclose": isclose,
    "new_empty": _new("empty"),
    "new_full": lambda self, size, value, dtype=None: _C.full(size, value, dtype=dtype or self.dtype),
    "new_ones": _new("ones"),
    "new_tensor": lambda self, data, dtype=None, requires_grad=False: tensor(
        data, dtype=dtype or self.dtype, requires_grad=requires_grad
    ),
    "new_zeros": _new("zeros"),
    "numpy": _numpy,
    "register_hook": _register_hook,
    "type": _type,
}
for _name, _method in _METHODS.items():
    setattr(Tensor, _name, _method)
