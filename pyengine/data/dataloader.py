"""Batches of a data set, made in background threads while the caller trains on the one before."""

from __future__ import annotations

import functools
import itertools
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import pyengine as pe

from .dataset import IterableDataset
from .fetch import END, Fetcher, IterableFetcher, MapFetcher
from .sampler import BatchSampler, RandomSampler, Sampler, SequentialSampler, draw_seed, one_pass, seeded_generator

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

T_co = TypeVar("T_co", covariant=True)


@dataclass
class _Position:
    """How far the latest pass over the loader has come."""

    seed: int | None = None  # the epoch's; None when no epoch is under way
    batches: int = 0  # delivered to the consumer
    sampler_state: Any = None  # of the sampler's own generator, before it drew this epoch's order


class DataLoader(Generic[T_co]):
    """Iterates over `dataset` in batches. The arguments are those of `torch.utils.data.DataLoader`:

    - `batch_size` (default 1): samples per batch; None gives out single samples.
    - `shuffle` (default False): a new random order in every epoch.
    - `sampler`, `batch_sampler`: an own order of indices, or of lists of indices.
    - `num_workers` (default 0): **threads**, not processes: NumPy and the engine release Python's lock while they work,
      nothing is copied between processes, and `dataset` is shared. 0 stands for one thread that works ahead.
    - `prefetch_factor` (default 2): batches that each thread may be ahead. 0, only with `num_workers=0`: no thread,
      batches are made when they are asked for.
    - `collate_fn` (default `default_collate`): makes a batch of a list of samples.
    - `drop_last` (default False): leaves out a last batch that is not full.
    - `timeout` (default 0, forever): seconds to wait for a batch before a RuntimeError.
    - `worker_init_fn(id)`: called in each worker thread of an epoch before its first batch.
    - `generator`: seeds each epoch with one draw; by default the engine's own, which `manual_seed` sets.
    - `persistent_workers` (default False): keeps the threads from one epoch to the next.
    - `pin_memory`, `pin_memory_device`, `multiprocessing_context`, `in_order` are accepted and have no effect: batches
      lie in ordinary memory, workers are threads, and batches always come in the sampler's order.

    The order of the batches and the numbers that transforms draw (`sample_generator`) follow from the epoch's seed
    alone, not from the number of workers. An exception raised by the data set is raised from `next()`, with a note that
    names the index; the epoch is over then. Threads end when the loop is left, in whichever way.

    `state_dict()` and `load_state_dict()` let a new process go on in mid-epoch with the very batches that were to come.

    Raises ValueError for arguments that exclude each other or are out of range.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Iterable[Any] | None = None,
        batch_sampler: Iterable[Any] | None = None,
        num_workers: int = 0,
        collate_fn: Callable[[Any], Any] | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Callable[[int], None] | None = None,
        multiprocessing_context: Any = None,
        generator: pe.Generator | None = None,
        *,
        prefetch_factor: int | None = 2,
        persistent_workers: bool = False,
        pin_memory_device: str = "",
        in_order: bool = True,
    ) -> None:
        prefetch_factor = 2 if prefetch_factor is None else prefetch_factor
        _require(num_workers >= 0, f"num_workers must not be negative, got {num_workers}")
        _require(timeout >= 0, f"timeout must not be negative, got {timeout}")
        _require(prefetch_factor >= 0, f"prefetch_factor must not be negative, got {prefetch_factor}")
        _require(prefetch_factor > 0 or num_workers == 0, "prefetch_factor=0 makes sense only with num_workers=0")
        _require(sampler is None or not shuffle, "sampler and shuffle=True exclude each other")
        self._is_stream = isinstance(dataset, IterableDataset)
        if self._is_stream:
            _require(not shuffle, "an IterableDataset has its own order: shuffle must not be True")
            _require(
                sampler is None and batch_sampler is None, "an IterableDataset takes no sampler and no batch_sampler"
            )
        if batch_sampler is not None:
            plain = batch_size == 1 and not shuffle and sampler is None and not drop_last
            _require(plain, "batch_sampler excludes batch_size, shuffle, sampler and drop_last")
            batch_size = None
        elif batch_size is None:
            _require(not drop_last, "batch_size=None makes no batches: drop_last must not be True")
        else:
            # Streams make no use of the sampler, but the check of batch_size is theirs too.
            BatchSampler((), batch_size, drop_last)
        if sampler is None and not self._is_stream and batch_sampler is None:
            sampler = RandomSampler(dataset) if shuffle else SequentialSampler(dataset)
        if batch_size is not None and not self._is_stream:
            assert sampler is not None
            batch_sampler = BatchSampler(sampler, batch_size, drop_last)

        self.dataset = dataset
        self.batch_size = batch_size
        self.sampler = sampler
        self.batch_sampler = batch_sampler
        self.num_workers = num_workers
        self.collate_fn = collate_fn
        self.pin_memory = pin_memory
        self.drop_last = drop_last
        self.timeout = timeout
        self.worker_init_fn = worker_init_fn
        self.generator = generator
        self.prefetch_factor = prefetch_factor
        self.persistent_workers = persistent_workers
        self._position = _Position()
        self._resume_from: _Position | None = None
        self._executor: ThreadPoolExecutor | None = None
        self._executor_process = 0

    def __iter__(self) -> Iterator[Any]:
        """Starts an epoch, or goes on with the one that `load_state_dict` brought."""
        position, self._resume_from = self._resume_from, None
        if position is None:
            position = _Position(seed=draw_seed(self.generator))
            position.sampler_state = _state_of(self._sampler_generator())
        self._position = position
        assert position.seed is not None
        common = (self.dataset, self.collate_fn, position.seed, self.num_workers, self.worker_init_fn)
        fetcher: Fetcher
        tasks: Iterator[tuple[int, Any]]
        if self._is_stream:
            fetcher = IterableFetcher(
                *common, batch_size=self.batch_size, drop_last=self.drop_last, skip=position.batches
            )
            tasks = zip(itertools.count(position.batches), itertools.repeat(None))
        else:
            fetcher = MapFetcher(*common, batched=self.batch_sampler is not None)
            tasks = enumerate(one_pass(self._index_source(), seeded_generator(position.seed)))
            tasks = itertools.islice(tasks, position.batches, None)
        threads = self._num_threads()
        return _Epoch(
            fetcher,
            tasks,
            position,
            executor=self._make_executor(threads) if threads else None,
            owns_executor=not self.persistent_workers,
            ahead=threads * self.prefetch_factor,
            timeout=self.timeout or None,
        )

    def __len__(self) -> int:
        """Batches in an epoch. Raises TypeError when the data set or the sampler has no length."""
        if not self._is_stream:
            return len(self._index_source())  # type: ignore[arg-type]
        size = len(self.dataset)
        if self.batch_size is None:
            return size
        return size // self.batch_size if self.drop_last else -(-size // self.batch_size)

    def state_dict(self) -> dict[str, Any]:
        """Where the latest pass stands: what `load_state_dict` needs to go on after the last batch that was delivered.

        The state of the engine's own generator is not in it; a run that uses that one saves it itself.
        """
        position = self._position
        under_way = position.seed is not None
        return {
            "epoch_seed": position.seed,
            "batches": position.batches,
            "generator": _state_of(self.generator),
            "sampler_generator": position.sampler_state if under_way else _state_of(self._sampler_generator()),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The next iteration goes on where `state` was taken: same order, same random numbers, next batch.

        The loader must have been made with the same arguments; the number of workers may differ.
        Raises ValueError for something that is not a loader's state.
        """
        missing = {"epoch_seed", "batches", "generator", "sampler_generator"} - set(state)
        _require(not missing, f"the state has no {', '.join(sorted(missing))}")
        if state["generator"] is not None and self.generator is not None:
            self.generator.set_state(state["generator"])
        sampler_generator = self._sampler_generator()
        if state["sampler_generator"] is not None and sampler_generator is not None:
            sampler_generator.set_state(state["sampler_generator"])
        position = _Position(state["epoch_seed"], int(state["batches"]), state["sampler_generator"])
        self._position = position
        self._resume_from = position if position.seed is not None else None

    def _index_source(self) -> Iterable[Any]:
        source = self.batch_sampler if self.batch_sampler is not None else self.sampler
        assert source is not None
        return source

    def _sampler_generator(self) -> pe.Generator | None:
        """The sampler's own generator, if it has one."""
        sampler: Any = self.sampler if self.sampler is not None else self.batch_sampler
        if isinstance(sampler, BatchSampler) and sampler.generator is None:
            sampler = sampler.sampler
        return sampler.generator if isinstance(sampler, Sampler) else None

    def _num_threads(self) -> int:
        if self.prefetch_factor == 0:
            return 0
        return 1 if self._is_stream else max(1, self.num_workers)

    def _make_executor(self, threads: int) -> ThreadPoolExecutor:
        # A standard executor's threads end when it is collected and at the interpreter's exit; imported when first
        # needed.
        from concurrent.futures import ThreadPoolExecutor

        _stop_at_exit()
        if not self.persistent_workers:
            return ThreadPoolExecutor(threads, "pyengine-data")
        if self._executor is None or self._executor_process != os.getpid():  # threads do not survive a fork
            self._executor = ThreadPoolExecutor(threads, "pyengine-data")
            self._executor_process = os.getpid()
        return self._executor


class _Epoch(Iterator[Any]):
    """One pass over a loader. The indices are drawn in the consumer's thread, the batches are made by the executor's.

    Nothing that the threads hold refers back to this object: leaving the loop drops it, and it then stops them.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        tasks: Iterator[tuple[int, Any]],
        position: _Position,
        executor: ThreadPoolExecutor | None,
        owns_executor: bool,
        ahead: int,
        timeout: float | None,
    ) -> None:
        self._fetcher = fetcher
        self._tasks = tasks
        self._position = position
        self._executor = executor
        self._owns_executor = owns_executor
        self._timeout = timeout
        self._pending: deque[Future[Any]] = deque()
        self._finished = False
        _live_fetchers.add(fetcher)
        for _ in range(ahead):
            self._submit()

    def __next__(self) -> Any:
        if self._finished:
            raise StopIteration
        try:
            batch = self._next_batch()
            if batch is END:
                raise StopIteration
        except StopIteration:
            self._position.seed, self._position.batches = None, 0
            self.close()
            raise
        except BaseException:  # the data set's error, a timeout, Ctrl-C
            self.close()
            raise
        self._position.batches += 1
        return batch

    def _next_batch(self) -> Any:
        if self._executor is None:
            return self._fetcher(*next(self._tasks))
        if not self._pending:
            raise StopIteration
        future = self._pending.popleft()
        self._submit()
        if self._timeout is not None:
            from concurrent.futures import wait

            if not wait([future], self._timeout).done:
                raise RuntimeError(f"DataLoader timed out: no batch after {self._timeout} seconds")
        return future.result()

    def _submit(self) -> None:
        task = next(self._tasks, None) if self._executor is not None else None
        if task is not None:
            assert self._executor is not None
            self._pending.append(self._executor.submit(self._fetcher, *task))

    def close(self) -> None:
        """Ends the pass: nothing more is loaded. Does not wait for a sample that is being loaded."""
        self._finished = True
        self._fetcher.stopped = True
        for future in self._pending:
            future.cancel()
        self._pending.clear()
        if self._executor is not None and self._owns_executor:
            self._executor.shutdown(wait=False)
        self._executor = None

    def __del__(self) -> None:
        if not getattr(self, "_finished", True):
            self.close()


_live_fetchers: weakref.WeakSet[Fetcher] = weakref.WeakSet()


@functools.cache
def _stop_at_exit() -> None:
    """Has the interpreter's exit drop the batches under way in an unfinished loop; else it would wait for them.

    Executors are joined before any ordinary atexit function runs; they register here themselves.
    """
    register = getattr(threading, "_register_atexit", None)
    if register is not None:
        register(_stop_all)


def _stop_all() -> None:
    for fetcher in list(_live_fetchers):
        fetcher.stopped = True


def _state_of(generator: pe.Generator | None) -> Any:
    return None if generator is None else generator.get_state()


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(f"DataLoader: {message}")
