"""Makes one batch, in whichever thread; knows nothing of the loader's order or queues."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from .collate import default_collate, default_convert
from .worker import WorkerInfo, loading

END = object()  # instead of a batch: the stream has ended


class Stopped(Exception):
    """The consumer has gone; what was being loaded is dropped."""


class Fetcher:
    """`fetcher(number, indices)` is batch `number` of the epoch. Subclasses say how the samples are had."""

    def __init__(
        self,
        dataset: Any,
        collate_fn: Callable[[Any], Any] | None,
        seed: int,
        num_workers: int,
        worker_init_fn: Callable[[int], None] | None,
    ) -> None:
        self.dataset = dataset
        self.collate_fn = collate_fn
        self.seed = seed
        self.num_workers = num_workers
        self.worker_init_fn = worker_init_fn
        self.stopped = False
        self._worker = threading.local()
        self._ids = itertools.count()

    def __call__(self, number: int, indices: Any) -> Any:
        if self.stopped:
            raise Stopped
        before = loading.info, loading.stream, loading.generator  # of an outer loader, whose data set iterates over one
        try:
            self._enter_worker()
            return self._batch(number, indices)
        except StopIteration as error:
            # Let through, it would silently end the consumer's loop.
            raise RuntimeError(f"StopIteration was raised while batch {number} was loaded") from error
        finally:
            loading.info, loading.stream, loading.generator = before

    def _batch(self, number: int, indices: Any) -> Any:
        raise NotImplementedError

    def _enter_worker(self) -> None:
        """Says which worker this thread is; at its first batch of the epoch it becomes one."""
        if self.num_workers == 0:
            return
        if not hasattr(self._worker, "info"):
            self._worker.info = WorkerInfo(next(self._ids), self.num_workers, self.seed, self.dataset)
            loading.info = self._worker.info
            if self.worker_init_fn is not None:
                self.worker_init_fn(self._worker.info.id)
        loading.info = self._worker.info

    def _start_sample(self, number: int, position: int) -> None:
        if self.stopped:
            raise Stopped
        loading.stream, loading.generator = (self.seed, number, position), None


class MapFetcher(Fetcher):
    """Samples by index: `indices` is the batch's list of them, or a single index where the loader does not batch."""

    def __init__(self, *args: Any, batched: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.batched = batched
        self.get_batch = getattr(self.dataset, "__getbatch__", None) if batched and self.collate_fn is None else None
        self.get_samples = getattr(self.dataset, "__getitems__", None) if batched else None
        self.collate = self.collate_fn or (default_collate if batched else default_convert)

    def _batch(self, number: int, indices: Any) -> Any:
        if not self.batched:
            return self.collate(self._sample(number, 0, indices))
        try:
            self._start_sample(number, 0)
            if self.get_batch is not None:
                batch = self.get_batch(indices)
                if batch is not NotImplemented:
                    return batch
            samples = self.get_samples(indices) if self.get_samples is not None else NotImplemented
        except Exception as error:
            add_note(error, f"raised while batch {number} was loaded: dataset indices {shorten(indices)}")
            raise
        if samples is NotImplemented:
            samples = [self._sample(number, position, index) for position, index in enumerate(indices)]
        try:
            return self.collate(samples)
        except Exception as error:
            add_note(error, f"raised while batch {number} was collated: dataset indices {shorten(indices)}")
            raise

    def _sample(self, number: int, position: int, index: Any) -> Any:
        self._start_sample(number, position)
        try:
            return self.dataset[index]
        except Exception as error:
            add_note(error, f"raised by dataset[{index!r}], sample {position} of batch {number}")
            raise


class IterableFetcher(Fetcher):
    """Samples of a stream, by one thread; the first `skip` batches are dropped. `batch_size` None: single samples."""

    def __init__(self, *args: Any, batch_size: int | None, drop_last: bool, skip: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.skip = skip
        self.samples: Iterator[Any] | None = None
        self.collate = self.collate_fn or (default_convert if batch_size is None else default_collate)

    def _batch(self, number: int, indices: Any) -> Any:
        loading.info = None
        if self.samples is None:
            self._start_sample(0, 0)
            self.samples = iter(self.dataset)
            for skipped in range(self.skip):
                self._read(skipped)
        samples = self._read(number)
        if len(samples) < (self.batch_size or 1) and (self.drop_last or not samples):
            return END
        try:
            return self.collate(samples if self.batch_size is not None else samples[0])
        except Exception as error:
            add_note(error, f"raised while batch {number} was collated")
            raise

    def _read(self, number: int) -> list[Any]:
        assert self.samples is not None
        samples = []
        for position in range(self.batch_size or 1):
            self._start_sample(number, position)
            try:
                samples.append(next(self.samples))
            except StopIteration:
                break
            except Exception as error:
                add_note(error, f"raised by the dataset's stream, sample {position} of batch {number}")
                raise
        return samples


def add_note(error: Exception, note: str) -> None:
    """Adds a line that the error's traceback shows from Python 3.11 on."""
    error.__notes__ = [*getattr(error, "__notes__", ()), note]


def shorten(indices: Sequence[Any], most: int = 8) -> str:
    shown = ", ".join(repr(index) for index in indices[:most])
    return f"[{shown}{', ...' if len(indices) > most else ''}]"
