"""Data sets: things with a length whose samples are had by index, or streams of samples."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import numpy as np

import pyengine as pe

T_co = TypeVar("T_co", covariant=True)


class Dataset(Generic[T_co]):
    """Samples by index. A subclass defines `__getitem__(index)` and, for most samplers, `__len__()`.

    Two optional methods make whole batches at once, which `DataLoader` prefers where they are defined:

    - `__getitems__(indices)` gives the list of the samples (PyTorch's hook); the loader collates them;
    - `__getbatch__(indices)` gives the finished batch, what `default_collate` would have made, in one gather; it is
      used when the loader has no `collate_fn` of its own.

    Either may return `NotImplemented` to have the samples asked for one by one.
    """

    def __getitem__(self, index: Any) -> T_co:
        raise NotImplementedError(f"{type(self).__name__} must define __getitem__(index)")

    def __add__(self, other: Dataset[Any]) -> ConcatDataset:
        return ConcatDataset([self, other])


class IterableDataset(Dataset[T_co]):
    """A stream of samples: a subclass defines `__iter__()`. A `DataLoader` reads it with one thread, in its order."""

    def __iter__(self) -> Iterator[T_co]:
        raise NotImplementedError(f"{type(self).__name__} must define __iter__()")

    def __getitem__(self, index: Any) -> T_co:
        raise TypeError(f"{type(self).__name__} is a stream: iterate over it, it has no sample by index")


class TensorDataset(Dataset[tuple[Any, ...]]):
    """Sample i is `(tensors[0][i], tensors[1][i], ...)`; all tensors have the same first size N.

    Raises ValueError when the first sizes differ or a tensor has no dimension.
    """

    def __init__(self, *tensors: pe.Tensor) -> None:
        if not tensors:
            raise ValueError("TensorDataset needs at least one tensor")
        shapes = [tuple(tensor.shape) for tensor in tensors]
        if any(not shape or shape[0] != shapes[0][0] for shape in shapes):
            raise ValueError(f"TensorDataset: the tensors' first sizes must be equal, their shapes are {shapes}")
        self.tensors = tensors

    def __getitem__(self, index: Any) -> tuple[pe.Tensor, ...]:
        return tuple(tensor[index] for tensor in self.tensors)

    def __getbatch__(self, indices: Sequence[int]) -> Any:
        rows = pe.from_numpy(_row_numbers(indices, len(self)))
        return [tensor.index_select(0, rows.to(tensor.device)) for tensor in self.tensors]

    def __len__(self) -> int:
        return int(self.tensors[0].shape[0])


class Subset(Dataset[T_co]):
    """The samples of `dataset` at `indices`, in that order."""

    def __init__(self, dataset: Dataset[T_co], indices: Sequence[int]) -> None:
        self.dataset = dataset
        self.indices = indices

    def __getitem__(self, index: Any) -> T_co:
        if isinstance(index, list):
            return self.dataset[[self.indices[i] for i in index]]
        return self.dataset[self.indices[index]]

    def __getitems__(self, indices: Sequence[int]) -> Any:
        get_samples = getattr(self.dataset, "__getitems__", None)
        return NotImplemented if get_samples is None else get_samples([self.indices[i] for i in indices])

    def __getbatch__(self, indices: Sequence[int]) -> Any:
        get_batch = getattr(self.dataset, "__getbatch__", None)
        return NotImplemented if get_batch is None else get_batch([self.indices[i] for i in indices])

    def __len__(self) -> int:
        return len(self.indices)


class ConcatDataset(Dataset[Any]):
    """The samples of several data sets, one set after the other. Raises ValueError when there is none."""

    def __init__(self, datasets: Iterable[Dataset[Any]]) -> None:
        self.datasets = list(datasets)
        if not self.datasets:
            raise ValueError("ConcatDataset needs at least one dataset")
        if any(isinstance(dataset, IterableDataset) for dataset in self.datasets):
            raise TypeError("ConcatDataset needs datasets with a length; an IterableDataset has none")
        self.cumulative_sizes = list(itertools.accumulate(len(dataset) for dataset in self.datasets))  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Any:
        size = len(self)
        if not -size <= index < size:
            raise IndexError(f"index {index} is out of range for a ConcatDataset of {size} samples")
        index %= size
        part = bisect.bisect_right(self.cumulative_sizes, index)
        return self.datasets[part][index - (self.cumulative_sizes[part - 1] if part else 0)]

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]


def random_split(
    dataset: Dataset[T_co], lengths: Sequence[int | float], generator: pe.Generator | None = None
) -> list[Subset[T_co]]:
    """Cuts `dataset` into random subsets that do not overlap.

    `lengths` are numbers of samples that add up to `len(dataset)`, or fractions that add up to 1: each is rounded down
    and what is left over goes to the first subsets, one sample each. `generator` defaults to the engine's own.
    Raises ValueError when the lengths do not add up.
    """
    size = len(dataset)  # type: ignore[arg-type]
    if any(length < 0 for length in lengths):
        raise ValueError(f"random_split: lengths must not be negative, got {list(lengths)}")
    if math.isclose(sum(lengths), 1) and sum(lengths) <= 1 + 1e-9:
        counts = [math.floor(size * fraction) for fraction in lengths]
        for i in range(size - sum(counts)):
            counts[i % len(counts)] += 1
    else:
        counts = [int(length) for length in lengths]
        if sum(counts) != size or counts != list(lengths):
            raise ValueError(
                f"random_split: lengths {list(lengths)} must add up to 1 or to the dataset's {size} samples"
            )
    order = pe.randperm(size, generator=generator).tolist()
    ends = itertools.accumulate(counts)
    return [Subset(dataset, order[end - count : end]) for end, count in zip(ends, counts, strict=False)]


def _row_numbers(indices: Sequence[int], size: int) -> Any:
    """`indices` as an int64 array with negative ones counted from the end."""
    rows = np.array(indices, dtype=np.int64)
    rows[rows < 0] += size
    return rows
