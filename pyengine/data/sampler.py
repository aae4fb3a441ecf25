"""Samplers say in which order a data set's samples are visited."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Sized
from itertools import islice
from typing import Any, Generic, TypeVar

import numpy as np

import pyengine as pe

T_co = TypeVar("T_co", covariant=True)


def draw_seed(generator: pe.Generator | None = None) -> int:
    """A number in [0, 2^62) drawn from `generator`, by default the engine's own."""
    high, low = pe.randint(0, 2**31, (2,), generator=generator).tolist()
    return int(high) << 31 | int(low)


def seeded_generator(seed: int) -> pe.Generator:
    """A new generator with that seed."""
    generator = pe.Generator()
    generator.manual_seed(seed)
    return generator


class Sampler(Generic[T_co]):
    """A subclass defines `__iter__()`, one pass over the indices, and `__len__()`.

    A sampler of one's own must give the same indices again for a `DataLoader` to resume within an epoch; one that draws
    random numbers does so when it defines `epoch` and takes them from the generator given there.
    """

    generator: pe.Generator | None = None

    def __iter__(self) -> Iterator[T_co]:
        raise NotImplementedError(f"{type(self).__name__} must define __iter__()")

    def epoch(self, generator: pe.Generator) -> Iterator[T_co]:
        """One pass whose random numbers come from `generator` unless the sampler has one of its own.

        They are drawn at once, not while the indices are used up: prefetching must not change the order of draws.
        """
        return iter(self)


class SequentialSampler(Sampler[int]):
    """0, 1, ..., len(data_source) - 1."""

    def __init__(self, data_source: Sized) -> None:
        self.data_source = data_source

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.data_source)))

    def __len__(self) -> int:
        return len(self.data_source)


class _RandomSampler(Sampler[int]):
    """What the samplers that draw random numbers share: without a generator, a pass draws a seed from the engine's."""

    def __iter__(self) -> Iterator[int]:
        return self.epoch(self.generator or seeded_generator(draw_seed()))

    def epoch(self, generator: pe.Generator) -> Iterator[int]:
        return iter(self._draw(self.generator or generator))

    def _draw(self, generator: pe.Generator) -> list[int]:
        raise NotImplementedError


class RandomSampler(_RandomSampler):
    """A random order of `data_source`'s indices, or `num_samples` draws.

    Without replacement and with `num_samples` above the length, whole permutations follow each other.
    Raises ValueError for `num_samples` that is not a positive int.
    """

    def __init__(
        self,
        data_source: Sized,
        replacement: bool = False,
        num_samples: int | None = None,
        generator: pe.Generator | None = None,
    ) -> None:
        if num_samples is not None:
            _check_positive("RandomSampler", "num_samples", num_samples)
        self.data_source = data_source
        self.replacement = replacement
        self._num_samples = num_samples
        self.generator = generator

    @property
    def num_samples(self) -> int:
        return len(self.data_source) if self._num_samples is None else self._num_samples

    def _draw(self, generator: pe.Generator) -> list[int]:
        size, count = len(self.data_source), self.num_samples
        if count == 0:
            return []
        if size == 0:
            raise ValueError(f"RandomSampler: cannot draw {count} samples from an empty dataset")
        if self.replacement:
            draws: list[int] = pe.randint(0, size, (count,), generator=generator).tolist()
            return draws
        order: list[int] = []
        while len(order) < count:
            order += pe.randperm(size, generator=generator).tolist()
        return order[:count]

    def __len__(self) -> int:
        return self.num_samples


class SubsetRandomSampler(_RandomSampler):
    """`indices` in a random order."""

    def __init__(self, indices: Sequence[int], generator: pe.Generator | None = None) -> None:
        self.indices = indices
        self.generator = generator

    def _draw(self, generator: pe.Generator) -> list[int]:
        return [self.indices[i] for i in pe.randperm(len(self.indices), generator=generator).tolist()]

    def __len__(self) -> int:
        return len(self.indices)


class WeightedRandomSampler(_RandomSampler):
    """`num_samples` indices, i drawn with a probability proportional to `weights[i]`.

    Raises ValueError for weights that are negative, not finite or all zero, and, without replacement, for fewer
    positive weights than `num_samples`.
    """

    def __init__(
        self,
        weights: Sequence[float] | pe.Tensor,
        num_samples: int,
        replacement: bool = True,
        generator: pe.Generator | None = None,
    ) -> None:
        _check_positive("WeightedRandomSampler", "num_samples", num_samples)
        values = weights.tolist() if isinstance(weights, pe.Tensor) else weights
        self.weights = np.asarray(values, dtype=np.float64)
        if self.weights.ndim != 1:
            raise ValueError(f"WeightedRandomSampler: weights must have 1 dimension, got shape {self.weights.shape}")
        if not np.isfinite(self.weights).all() or (self.weights < 0).any() or not self.weights.any():
            raise ValueError("WeightedRandomSampler: weights must be finite, not negative, and not all zero")
        possible = np.count_nonzero(self.weights)
        if not replacement and num_samples > possible:
            raise ValueError(f"WeightedRandomSampler: cannot draw {num_samples} of {possible} without replacement")
        self.num_samples = num_samples
        self.replacement = replacement
        self.generator = generator

    def _draw(self, generator: pe.Generator) -> list[int]:
        draws: list[int]
        if self.replacement:
            uniform = pe.rand((self.num_samples,), dtype=pe.float64, generator=generator).numpy()
            sums = np.cumsum(self.weights)
            # Rounding may put the last draw at the very end of the sums: it belongs to the last index with a weight.
            last = int(np.flatnonzero(self.weights)[-1])
            draws = np.minimum(np.searchsorted(sums, uniform * sums[-1], side="right"), last).tolist()
        else:
            # Efraimidis and Spirakis (2006): index i's waiting time is exponential with rate weights[i]; the first win.
            uniform = pe.rand((len(self.weights),), dtype=pe.float64, generator=generator).numpy()
            with np.errstate(divide="ignore"):
                waiting = np.where(self.weights > 0, -np.log1p(-uniform) / self.weights, np.inf)
            draws = np.argsort(waiting, kind="stable")[: self.num_samples].tolist()
        return draws

    def __len__(self) -> int:
        return self.num_samples


class BatchSampler(Sampler[list[int]]):
    """Lists of `batch_size` indices of `sampler`; the last one is shorter, or left out with `drop_last`."""

    def __init__(self, sampler: Iterable[int], batch_size: int, drop_last: bool = False) -> None:
        _check_positive("BatchSampler", "batch_size", batch_size)
        if not isinstance(drop_last, bool):
            raise ValueError(f"BatchSampler: drop_last must be a bool, got {drop_last!r}")
        self.sampler = sampler
        self.batch_size = batch_size
        self.drop_last = drop_last

    def __iter__(self) -> Iterator[list[int]]:
        return self._batches(iter(self.sampler))

    def epoch(self, generator: pe.Generator) -> Iterator[list[int]]:
        return self._batches(one_pass(self.sampler, generator))

    def _batches(self, indices: Iterator[int]) -> Iterator[list[int]]:
        while batch := list(islice(indices, self.batch_size)):
            if len(batch) < self.batch_size and self.drop_last:
                return
            yield batch

    def __len__(self) -> int:
        size = len(self.sampler)  # type: ignore[arg-type]
        return size // self.batch_size if self.drop_last else -(-size // self.batch_size)


def one_pass(sampler: Iterable[Any], generator: pe.Generator) -> Iterator[Any]:
    """An iterator over any sampler, random numbers from `generator` where the sampler allows that."""
    return sampler.epoch(generator) if isinstance(sampler, Sampler) else iter(sampler)


def _check_positive(owner: str, name: str, value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise ValueError(f"{owner}: {name} must be a positive int, got {value!r}")
