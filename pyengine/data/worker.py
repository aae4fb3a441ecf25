"""What code that runs inside a DataLoader's thread may ask: which worker it is, and its random numbers."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np

from .sampler import draw_seed


@dataclass(frozen=True)
class WorkerInfo:
    """One of a loader's threads: `seed` is the epoch's, the same in all of them; `dataset` is shared, not a copy."""

    id: int
    num_workers: int
    seed: int
    dataset: Any


class _Loading(threading.local):
    """What the calling thread loads just now; all None outside of a loader."""

    info: WorkerInfo | None = None
    # The sample's random stream: the epoch's seed, the batch's number and the sample's place in it. Nothing about
    # threads goes in, so the numbers do not depend on how many there are.
    stream: tuple[int, int, int] | None = None
    generator: np.random.Generator | None = None


loading = _Loading()


def get_worker_info() -> WorkerInfo | None:
    """The calling worker thread of a DataLoader with `num_workers > 0`, else None.

    None also while an IterableDataset is read: one thread reads all of it, so there is nothing to divide.
    """
    return loading.info


def sample_generator() -> np.random.Generator:
    """The random numbers of the sample being loaded: what random transforms draw from.

    Inside a DataLoader every sample has a stream of its own (Philox; key: the epoch's seed and the batch's number), so
    that the numbers follow from the loader's generator alone and are the same for any number of workers, and again
    after a resume. Elsewhere a new generator, seeded by a draw from the engine's.
    """
    if loading.stream is None:
        return np.random.Generator(np.random.Philox(draw_seed()))
    if loading.generator is None:
        seed, batch, position = loading.stream
        key = np.array([seed, batch], dtype=np.uint64)
        loading.generator = np.random.Generator(np.random.Philox(key=key, counter=[0, position, 0, 0]))
    return loading.generator
