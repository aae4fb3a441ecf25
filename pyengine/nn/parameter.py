"""Parameter and Buffer: tensors that a Module registers when they are assigned as attributes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import _C
from .._C import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Buffer", "Parameter"]


class Parameter(Tensor):
    """A tensor to be trained: assigned as an attribute of a Module, it appears in ``module.parameters()``.

    Args:
        data: the values, shared and not copied; default: an empty tensor.
        requires_grad: whether gradients are computed for it; default True (False is needed for integer tensors).

    Raises:
        RuntimeError: ``data`` is of an integer or bool dtype and ``requires_grad`` is True.
    """

    def __new__(cls, data: Tensor | None = None, requires_grad: bool = True) -> Parameter:
        if data is None:
            data = _C.empty(0)
        return _C._make_subclass(cls, data, requires_grad)

    def __deepcopy__(self, memo: dict[int, Any]) -> Parameter:
        return _deepcopy(self, memo, {})

    def __repr__(self) -> str:
        return "Parameter containing:\n" + super().__repr__()

    def __reduce_ex__(self, protocol: Any) -> tuple[Callable[..., Tensor], tuple[Any, ...]]:
        return _rebuild, (type(self), self.data, self.requires_grad, self.__dict__)


class Buffer(Tensor):
    """A tensor that belongs to a Module's state but is not trained, such as BatchNorm's running mean.

    Assigned as an attribute of a Module, it appears in ``module.buffers()`` and, if ``persistent``, in its state dict.

    Args:
        data: the values, shared and not copied; default: an empty tensor.
        persistent: whether ``state_dict()`` contains it; default True.
    """

    persistent: bool

    def __new__(cls, data: Tensor | None = None, *, persistent: bool = True) -> Buffer:
        if data is None:
            data = _C.empty(0)
        buffer = _C._make_subclass(cls, data, data.requires_grad)
        buffer.persistent = persistent
        return buffer

    def __deepcopy__(self, memo: dict[int, Any]) -> Buffer:
        return _deepcopy(self, memo, {"persistent": self.persistent})

    def __reduce_ex__(self, protocol: Any) -> tuple[Callable[..., Tensor], tuple[Any, ...]]:
        return _rebuild, (type(self), self.data, self.requires_grad, self.__dict__)


def _deepcopy(tensor: Tensor, memo: dict[int, Any], attributes: dict[str, Any]) -> Any:
    """A copy with the same class and requires_grad; the gradient is not copied."""
    if id(tensor) not in memo:
        memo[id(tensor)] = _rebuild(type(tensor), tensor.data.clone(), tensor.requires_grad, attributes)
    return memo[id(tensor)]


def _rebuild(cls: type, data: Tensor, requires_grad: bool, attributes: dict[str, Any]) -> Any:
    tensor = _C._make_subclass(cls, data, requires_grad)
    for name, value in attributes.items():
        setattr(tensor, name, value)
    return tensor
