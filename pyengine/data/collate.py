"""From a list of samples to a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

import pyengine as pe


def default_collate(batch: Sequence[Any]) -> Any:
    """Joins samples of the same structure along a new first dimension.

    Tensors are stacked, NumPy arrays and scalars become tensors of their dtype, floats float64, ints int64 and bools
    bool tensors of shape (N,); str and bytes stay a list. Dicts, named tuples, tuples and lists are joined entry by
    entry (a tuple gives a list, as in PyTorch). Raises TypeError for anything else and ValueError when the structures
    differ.
    """
    if len(batch) == 0:
        raise ValueError("default_collate: the batch is empty")
    first = batch[0]
    if isinstance(first, pe.Tensor):
        return pe.stack(list(batch))
    if isinstance(first, (np.ndarray, np.generic)) and first.dtype.kind in "biuf":
        _check_equal([np.shape(sample) for sample in batch], "shapes")
        return pe.from_numpy(np.stack(batch))
    if isinstance(first, bool):
        return pe.tensor(batch, dtype=pe.bool)
    if isinstance(first, int):
        return pe.tensor(batch, dtype=pe.int64)
    if isinstance(first, float):
        return pe.tensor(batch, dtype=pe.float64)
    if isinstance(first, (str, bytes)):
        return list(batch)
    if isinstance(first, Mapping):
        _check_equal([set(sample) for sample in batch], "keys")
        return _like(first, {key: default_collate([sample[key] for sample in batch]) for key in first})
    if isinstance(first, (tuple, list)):
        _check_equal([len(sample) for sample in batch], "lengths")
        columns = [default_collate(column) for column in zip(*batch, strict=False)]
        return type(first)(*columns) if hasattr(first, "_fields") else columns
    raise TypeError(
        "default_collate: samples must be tensors, NumPy arrays, numbers, str, bytes, dicts, tuples or lists, "
        f"not {type(first).__name__}; give the DataLoader a collate_fn"
    )


def default_convert(sample: Any) -> Any:
    """NumPy arrays and scalars in a nested sample become tensors; everything else stays what it is."""
    if isinstance(sample, (np.ndarray, np.generic)) and sample.dtype.kind in "biuf":
        return pe.from_numpy(np.array(sample))
    if isinstance(sample, Mapping):
        return _like(sample, {key: default_convert(value) for key, value in sample.items()})
    if isinstance(sample, tuple) and hasattr(sample, "_fields"):
        return type(sample)(*map(default_convert, sample))
    if isinstance(sample, (tuple, list)):
        return [default_convert(value) for value in sample]
    return sample


def _like(original: Mapping[Any, Any], entries: dict[Any, Any]) -> Any:
    """`entries` as the mapping's own type where that can be made from a dict."""
    make: Callable[[dict[Any, Any]], Any] = type(original)
    try:
        return make(entries)
    except TypeError:
        return entries


def _check_equal(values: Sequence[Any], what: str) -> None:
    different = next((value for value in values if value != values[0]), None)
    if different is not None:
        raise ValueError(f"default_collate: the samples of a batch differ in their {what}: {values[0]} and {different}")
