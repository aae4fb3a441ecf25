"""Nested Python data as a JSON tree plus a list of arrays, and back.

In the tree None, bools, strings, lists, finite floats and ints below 2^63 stand for themselves; everything else is an
object with one key, its kind:

    {"dict": [[key, value], ...]}     {"odict": ...}     {"tuple": [...]}      {"bytes": i}
    {"int": "0x..."}                  {"float": bits}    {"tensor": entry}     {"array": entry}     {"scalar": entry}

where i is the number of an array, bits the hexadecimal bytes of a nan or inf, and an entry

    {"at": i, "dtype": "float32", "shape": [...], "order": [...]}

`order` lists the dimensions as they lie in memory, outermost first, where that is not 0, 1, ...: a channels-last tensor
comes back channels-last.
"""

from __future__ import annotations

import math
import struct
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import pyengine as pe

# By name, so that a file never says more about a dtype than which of these it is.
DTYPES = {
    name: np.dtype(name).newbyteorder("<")
    for name in ["bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"]
    + ["float16", "float32", "float64", "complex64", "complex128"]
}


def encode(obj: Any) -> tuple[Any, list[np.ndarray]]:
    """The JSON tree of `obj` and its arrays, C-contiguous and little-endian.

    Raises TypeError naming the place of anything that is not plain data, and ValueError for data that contain
    themselves.
    """
    encoder = _Encoder()
    return encoder.encode(obj, "object"), encoder.arrays


class _Encoder:
    def __init__(self) -> None:
        self.arrays: list[np.ndarray] = []
        self.open: set[int] = set()  # the containers that are being encoded

    def encode(self, obj: Any, path: str) -> Any:
        # Exact types: a subclass may hold more than its base says, and would not come back as what it was.
        kind = type(obj)
        if obj is None or kind is bool or kind is str:
            return obj
        if kind is int:
            return obj if -(2**63) <= obj < 2**63 else {"int": hex(obj)}
        if kind is float:
            return obj if math.isfinite(obj) else {"float": struct.pack("<d", obj).hex()}
        if kind in (list, tuple, dict, OrderedDict):
            return self._container(obj, path)
        if isinstance(obj, pe.Tensor):
            return {"tensor": self._array(obj.detach().cpu().numpy(), path)}
        if kind is np.ndarray:
            return {"array": self._array(obj, path)}
        if isinstance(obj, np.generic):
            return {"scalar": self._array(np.asarray(obj), path)}
        if kind in (bytes, bytearray):
            self.arrays.append(np.frombuffer(bytes(obj), np.uint8))
            return {"bytes": len(self.arrays) - 1}
        raise TypeError(
            f"cannot save {path}: a {kind.__module__}.{kind.__qualname__} is not plain data "
            "(tensors, NumPy arrays, numbers, str, bytes, None, and lists, tuples and dicts of them)"
        )

    def _container(self, obj: Any, path: str) -> Any:
        if id(obj) in self.open:
            raise ValueError(f"cannot save {path}: it contains itself")
        self.open.add(id(obj))
        if isinstance(obj, dict):
            items = [[self._key(key, path), self.encode(value, f"{path}[{key!r}]")] for key, value in obj.items()]
            result: Any = {"odict" if isinstance(obj, OrderedDict) else "dict": items}
        else:
            values = [self.encode(value, f"{path}[{i}]") for i, value in enumerate(obj)]
            result = values if type(obj) is list else {"tuple": values}
        self.open.discard(id(obj))
        return result

    def _key(self, key: Any, path: str) -> Any:
        if isinstance(key, (pe.Tensor, np.generic)):
            raise TypeError(f"cannot save {path}: its key {key!r} is a {type(key).__name__}, not a plain value")
        return self.encode(key, f"{path}, key {key!r}")

    def _array(self, array: np.ndarray, path: str) -> dict[str, Any]:
        if array.dtype.name not in DTYPES:
            raise TypeError(f"cannot save {path}: an array of dtype {array.dtype} is not plain data")
        entry: dict[str, Any] = {"at": len(self.arrays), "dtype": array.dtype.name, "shape": list(array.shape)}
        order = sorted(range(array.ndim), key=lambda dim: -abs(array.strides[dim]))
        if not array.flags.c_contiguous and array.transpose(order).flags.c_contiguous:
            entry["order"] = order
            array = array.transpose(order)
        # Not ascontiguousarray, which would give a scalar array a dimension.
        self.arrays.append(np.asarray(array, dtype=DTYPES[array.dtype.name], order="C"))
        return entry


def decode(tree: Any, arrays: Sequence[np.ndarray], to_tensor: Callable[[np.ndarray], Any]) -> Any:
    """The inverse of `encode`; `arrays` are flat uint8.

    Raises ValueError, TypeError, LookupError or struct.error for a malformed tree.
    """

    def build(node: Any) -> Any:
        if isinstance(node, list):
            return [build(value) for value in node]
        if not isinstance(node, dict):
            return node
        ((kind, content),) = node.items()
        return makers[kind](content)

    def array(entry: dict[str, Any]) -> np.ndarray:
        shape = entry["shape"]
        order = entry.get("order", list(range(len(shape))))
        if sorted(order) != list(range(len(shape))):
            raise ValueError(f"order {order} is not one of {len(shape)} dimensions")
        flat = arrays[entry["at"]].view(DTYPES[entry["dtype"]])
        stored: np.ndarray = flat.reshape([shape[dim] for dim in order])
        array: np.ndarray = stored.transpose(np.argsort(order))
        return array

    makers: dict[str, Callable[[Any], Any]] = {
        "dict": lambda items: {build(key): build(value) for key, value in items},
        "odict": lambda items: OrderedDict((build(key), build(value)) for key, value in items),
        "tuple": lambda values: tuple(build(value) for value in values),
        "int": lambda text: int(text, 16),
        "float": lambda bits: struct.unpack("<d", bytes.fromhex(bits))[0],
        "bytes": lambda at: arrays[at].tobytes(),
        "tensor": lambda entry: to_tensor(array(entry)),
        "array": array,
        "scalar": lambda entry: array(entry)[()],
    }
    return build(tree)
