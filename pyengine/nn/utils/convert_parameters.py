"""All parameters as one vector, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ... import _C
from ..._C import Tensor
from ..module import typename

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["parameters_to_vector", "vector_to_parameters"]


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """The elements of all parameters, one after the other, in a new tensor of one dimension."""
    return _C.cat([parameter.reshape(-1) for parameter in parameters])


def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Gives the parameters the values of slices of ``vec``. TypeError if ``vec`` is not a tensor."""
    if not isinstance(vec, Tensor):
        raise TypeError(f"expected pyengine.Tensor, but got: {typename(vec)}")
    start = 0
    for parameter in parameters:
        end = start + parameter.numel()
        parameter.data = vec[start:end].reshape(parameter.shape).data
        start = end
