"""Data sets, samplers, collation and the loader with its threads."""

from __future__ import annotations

import gc
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, OrderedDict, namedtuple

import numpy as np
import pytest

import pyengine as pe
from pyengine.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    default_collate,
    default_convert,
    get_worker_info,
    random_split,
    sample_generator,
)


class Squares(Dataset):
    """Sample i is (i, i * i), one at a time."""

    def __init__(self, size=20):
        self.size = size

    def __getitem__(self, index):
        if not 0 <= index < self.size:
            raise IndexError(index)
        return index, float(index * index)

    def __len__(self):
        return self.size


class Noise(Squares):
    """Sample i is i and a random number, after a delay that mixes up the threads."""

    def __getitem__(self, index):
        time.sleep(0.0005 * (index % 3))
        return index, sample_generator().random()


class Stream(IterableDataset):
    def __init__(self, size):
        self.size = size

    def __iter__(self):
        for i in range(self.size):
            yield i, sample_generator().random()


def seeded(seed):
    generator = pe.Generator()
    generator.manual_seed(seed)
    return generator


def batches_of(loader):
    return [[column.tolist() for column in batch] for batch in loader]


def loader_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("pyengine-data")]


def wait_for_no_threads(seconds=5):
    gc.collect()
    end = time.monotonic() + seconds
    while loader_threads() and time.monotonic() < end:
        time.sleep(0.01)
    return not loader_threads()


THREADING = [
    {"prefetch_factor": 0},
    {},
    {"num_workers": 1},
    {"num_workers": 3},
    {"num_workers": 2, "prefetch_factor": 5, "persistent_workers": True},
]


# --- data sets


def test_tensor_dataset():
    x, y = pe.from_numpy(np.arange(12.0).reshape(6, 2)), pe.from_numpy(np.arange(6))
    dataset = TensorDataset(x, y)
    assert len(dataset) == 6
    assert [part.tolist() for part in dataset[2]] == [[4, 5], 2]
    assert [part.tolist() for part in dataset.__getbatch__([5, 0, -1])] == [[[10, 11], [0, 1], [10, 11]], [5, 0, 5]]


def test_tensor_dataset_checks_sizes():
    with pytest.raises(ValueError, match=r"first sizes.*\(3,\).*\(4,\)"):
        TensorDataset(pe.from_numpy(np.zeros(3)), pe.from_numpy(np.zeros(4)))
    with pytest.raises(ValueError, match="at least one"):
        TensorDataset()


def test_concat_and_subset():
    both = Squares(3) + Squares(4)
    assert isinstance(both, ConcatDataset) and len(both) == 7
    assert [both[i][0] for i in range(7)] == [0, 1, 2, 0, 1, 2, 3]
    assert both[-1] == (3, 9.0)
    with pytest.raises(IndexError, match="7 samples"):
        both[7]
    assert [Subset(both, [6, 0])[i][0] for i in (0, 1)] == [3, 0]
    with pytest.raises(ValueError):
        ConcatDataset([])
    with pytest.raises(TypeError):
        ConcatDataset([Stream(3)])


def test_subset_hands_batches_on():
    dataset = TensorDataset(pe.from_numpy(np.arange(10)))
    subset = Subset(Subset(dataset, [9, 8, 7, 6]), [3, 0])
    assert subset.__getbatch__([0, 1])[0].tolist() == [6, 9]
    assert Subset(Squares(), [1, 2]).__getbatch__([0]) is NotImplemented
    assert batches_of(DataLoader(Subset(Squares(), [4, 2]), batch_size=2)) == [[[4, 2], [16.0, 4.0]]]


@pytest.mark.parametrize("lengths, sizes", [([7, 3], [7, 3]), ([0.8, 0.2], [8, 2]), ([0.5, 0.25, 0.25], [6, 2, 2])])
def test_random_split(lengths, sizes):
    parts = random_split(Squares(10), lengths, generator=seeded(1))
    assert [len(part) for part in parts] == sizes
    assert sorted(itertools.chain(*(part.indices for part in parts))) == list(range(10))
    again = random_split(Squares(10), lengths, generator=seeded(1))
    assert [part.indices for part in parts] == [part.indices for part in again]


@pytest.mark.parametrize("lengths", [[5, 6], [0.5, 0.6], [-1, 11], [2.5, 7.5]])
def test_random_split_checks_lengths(lengths):
    with pytest.raises(ValueError, match="random_split"):
        random_split(Squares(10), lengths)


# --- samplers


def test_sequential_and_batch_sampler():
    sampler = SequentialSampler(range(5))
    assert list(sampler) == [0, 1, 2, 3, 4] and len(sampler) == 5
    assert list(BatchSampler(sampler, 2)) == [[0, 1], [2, 3], [4]]
    assert list(BatchSampler(sampler, 2, drop_last=True)) == [[0, 1], [2, 3]]
    assert [len(BatchSampler(sampler, 2, drop)) for drop in (False, True)] == [3, 2]


@pytest.mark.parametrize("batch_size", [0, -1, 2.0, True])
def test_batch_sampler_checks(batch_size):
    with pytest.raises(ValueError, match="batch_size"):
        BatchSampler(range(3), batch_size)


def test_random_sampler():
    first, second = RandomSampler(range(50), generator=seeded(3)), RandomSampler(range(50), generator=seeded(3))
    order = list(first)
    assert sorted(order) == list(range(50)) and order != list(range(50))
    assert order == list(second)
    assert order != list(first)  # the next epoch
    assert len(list(RandomSampler(range(5), num_samples=12))) == 12
    assert Counter(list(RandomSampler(range(5), num_samples=10))) == dict.fromkeys(range(5), 2)
    draws = list(RandomSampler(range(3), replacement=True, num_samples=100))
    assert len(draws) == 100 and set(draws) == {0, 1, 2}
    assert list(RandomSampler([])) == []
    with pytest.raises(ValueError, match="num_samples"):
        RandomSampler(range(3), num_samples=0)


def test_random_sampler_follows_manual_seed():
    orders = []
    for _ in range(2):
        pe.manual_seed(11)
        orders.append(list(RandomSampler(range(30))))
    assert orders[0] == orders[1]


def test_subset_random_sampler():
    assert sorted(SubsetRandomSampler([4, 8, 2])) == [2, 4, 8]


def test_weighted_random_sampler():
    draws = Counter(WeightedRandomSampler([1, 0, 3], 4000, generator=seeded(0)))
    assert draws[1] == 0 and abs(draws[2] / 4000 - 0.75) < 0.03
    assert sorted(WeightedRandomSampler([0.1, 0, 5, 2], 3, replacement=False)) == [0, 2, 3]
    heavy = Counter(
        next(iter(WeightedRandomSampler([1, 9], 1, replacement=False, generator=seeded(i)))) for i in range(300)
    )
    assert abs(heavy[1] / 300 - 0.9) < 0.06


@pytest.mark.parametrize("weights", [[1, -1], [0, 0], [float("nan"), 1], [[1, 2]], []])
def test_weighted_random_sampler_checks(weights):
    with pytest.raises(ValueError, match="weights"):
        WeightedRandomSampler(weights, 2)
    with pytest.raises(ValueError, match="without replacement"):
        WeightedRandomSampler([1, 0], 2, replacement=False)


# --- collation

Pair = namedtuple("Pair", "a b")


def test_collate_dtypes():
    cases = [
        ([1, 2], pe.int64),
        ([1.0, 2.0], pe.float64),
        ([True, False], pe.bool),
        ([np.float32(1), np.float32(2)], pe.float32),
        ([np.zeros(3, np.uint8)] * 2, pe.uint8),
        ([pe.from_numpy(np.zeros((2, 3), np.float32))] * 2, pe.float32),
    ]
    for samples, dtype in cases:
        batch = default_collate(samples)
        assert batch.dtype == dtype and batch.shape[0] == 2
    assert default_collate([np.zeros((3, 4))] * 5).shape == (5, 3, 4)


def test_collate_structures():
    batch = default_collate([{"x": (1, [2.0, "a"]), "p": Pair(1, np.zeros(2))}] * 3)
    assert list(batch) == ["x", "p"] and isinstance(batch["x"], list)
    assert batch["x"][0].tolist() == [1, 1, 1] and batch["x"][1][1] == ["a"] * 3
    assert isinstance(batch["p"], Pair) and batch["p"].b.shape == (3, 2)
    assert isinstance(default_collate([OrderedDict(a=1)]), OrderedDict)


@pytest.mark.parametrize(
    "samples, error, words",
    [
        ([object()], TypeError, "collate_fn"),
        ([None], TypeError, "NoneType"),
        ([np.array(["a"])], TypeError, "ndarray"),
        ([(1, 2), (1,)], ValueError, "lengths"),
        ([{"a": 1}, {"b": 1}], ValueError, "keys"),
        ([np.zeros(2), np.zeros(3)], ValueError, "shapes"),
        ([], ValueError, "empty"),
    ],
)
def test_collate_errors(samples, error, words):
    with pytest.raises(error, match=words):
        default_collate(samples)


def test_convert():
    sample = default_convert({"a": np.arange(3), "b": (1, Pair("s", np.float32(2)))})
    assert sample["a"].tolist() == [0, 1, 2] and sample["b"][0] == 1
    assert isinstance(sample["b"][1], Pair) and float(sample["b"][1].b) == 2


# --- the loader


@pytest.mark.parametrize("options", THREADING)
def test_loader_order(options):
    loader = DataLoader(Squares(10), batch_size=4, **options)
    expected = [[[0, 1, 2, 3], [0.0, 1.0, 4.0, 9.0]], [[4, 5, 6, 7], [16.0, 25.0, 36.0, 49.0]], [[8, 9], [64.0, 81.0]]]
    assert len(loader) == 3
    assert batches_of(loader) == expected
    assert batches_of(loader) == expected
    assert batches_of(DataLoader(Squares(10), batch_size=4, drop_last=True, **options)) == expected[:2]
    assert list(DataLoader(Squares(0), batch_size=4, **options)) == []


def test_same_numbers_for_any_number_of_workers():
    results = []
    for options in THREADING:
        loader = DataLoader(Noise(30), batch_size=4, shuffle=True, generator=seeded(5), **options)
        results.append([batches_of(loader), batches_of(loader)])
    assert all(result == results[0] for result in results)
    first, second = results[0]
    assert first != second
    assert sorted(index for batch in first for index in batch[0]) == list(range(30))
    assert len({number for batch in first + second for number in batch[1]}) == 60


def test_manual_seed_sets_the_order_and_prefetching_leaves_the_engine_alone():
    results = []
    for options in THREADING:
        pe.manual_seed(9)
        loader = DataLoader(Squares(12), batch_size=2, shuffle=True, **options)
        results.append([(batch[0].tolist(), float(pe.rand(1))) for batch in loader])
    assert all(result == results[0] for result in results)


def test_batch_hooks():
    calls = []

    class Hooked(Squares):
        def __getitems__(self, indices):
            calls.append(("items", list(indices)))
            return [self[i] for i in indices]

    class Gathered(Hooked):
        def __getbatch__(self, indices):
            calls.append(("batch", list(indices)))
            return indices

    assert batches_of(DataLoader(Hooked(3), batch_size=2)) == batches_of(DataLoader(Squares(3), batch_size=2))
    assert calls == [("items", [0, 1]), ("items", [2])]
    calls.clear()
    assert list(DataLoader(Gathered(3), batch_size=2)) == [[0, 1], [2]]
    assert list(DataLoader(Gathered(3), batch_size=3, collate_fn=len)) == [3]
    assert calls == [("batch", [0, 1]), ("batch", [2]), ("items", [0, 1, 2])]


def test_gathered_batches_equal_collated_ones():
    dataset = TensorDataset(pe.from_numpy(np.arange(30.0).reshape(10, 3)), pe.from_numpy(np.arange(10)))
    gathered = batches_of(DataLoader(dataset, batch_size=4))
    assert gathered == batches_of(DataLoader(dataset, batch_size=4, collate_fn=default_collate))


def test_own_samplers_and_single_samples():
    assert batches_of(DataLoader(Squares(), batch_size=2, sampler=[3, 1, 2])) == [[[3, 1], [9.0, 1.0]], [[2], [4.0]]]
    loader = DataLoader(Squares(), batch_sampler=[[5], [6, 7]])
    assert [batch[0].tolist() for batch in loader] == [[5], [6, 7]] and len(loader) == 2
    assert list(DataLoader(Squares(2), batch_size=None)) == [[0, 0.0], [1, 1.0]]


@pytest.mark.parametrize(
    "options",
    [
        {"num_workers": -1},
        {"timeout": -1},
        {"prefetch_factor": -1},
        {"prefetch_factor": 0, "num_workers": 2},
        {"sampler": [1], "shuffle": True},
        {"batch_sampler": [[1]], "batch_size": 2},
        {"batch_sampler": [[1]], "shuffle": True},
        {"batch_size": None, "drop_last": True},
        {"batch_size": 0},
        {"batch_size": 1.5},
    ],
)
def test_loader_checks_its_arguments(options):
    with pytest.raises(ValueError):
        DataLoader(Squares(), **options)


@pytest.mark.parametrize("options", THREADING)
def test_streams(options):
    loader = DataLoader(Stream(5), batch_size=2, generator=seeded(1), **options)
    batches = batches_of(loader)
    assert [batch[0] for batch in batches] == [[0, 1], [2, 3], [4]]
    assert batches == batches_of(DataLoader(Stream(5), batch_size=2, generator=seeded(1)))
    assert [batch[0] for batch in batches_of(DataLoader(Stream(5), batch_size=2, drop_last=True, **options))] == [
        [0, 1],
        [2, 3],
    ]
    assert [sample[0] for sample in DataLoader(Stream(3), batch_size=None, **options)] == [0, 1, 2]
    with pytest.raises(ValueError, match="own order"):
        DataLoader(Stream(5), shuffle=True)
    with pytest.raises(ValueError, match="no sampler"):
        DataLoader(Stream(5), sampler=[1])


def test_worker_info():
    seen, started = set(), []

    class Curious(Squares):
        def __getitem__(self, index):
            time.sleep(0.002)
            info = get_worker_info()
            seen.add(None if info is None else (info.id, info.num_workers))
            return index

    list(DataLoader(Curious(20), num_workers=2, worker_init_fn=started.append))
    assert seen <= {(0, 2), (1, 2)} and (0, 2) in seen
    assert set(started) == {id for id, _ in seen}
    seen.clear()
    list(DataLoader(Curious(2)))
    assert seen == {None} and get_worker_info() is None


@pytest.mark.parametrize("options", THREADING)
@pytest.mark.parametrize("kind", [KeyError, IndexError, StopIteration])
def test_errors_reach_the_consumer_with_the_index(options, kind):
    class Broken(Squares):
        def __getitem__(self, index):
            if index == 5:
                raise kind("no such")
            return index

    loader = DataLoader(Broken(), batch_size=2, **options)
    batches = iter(loader)
    assert [next(batches).tolist() for _ in range(2)] == [[0, 1], [2, 3]]
    with pytest.raises(RuntimeError if kind is StopIteration else kind) as caught:
        next(batches)
    shown = caught.value.__cause__ if kind is StopIteration else caught.value
    assert "dataset[5], sample 1 of batch 2" in shown.__notes__[-1]
    with pytest.raises(StopIteration):
        next(batches)
    if not options.get("persistent_workers"):
        assert wait_for_no_threads()


def test_collate_errors_name_the_indices():
    def fail(samples):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        list(DataLoader(Squares(), batch_size=3, collate_fn=fail))
    assert "[0, 1, 2]" in caught.value.__notes__[-1]


def test_worker_init_errors():
    def fail(worker):
        raise OSError("no such disk")

    with pytest.raises(OSError, match="no such disk"):
        list(DataLoader(Squares(), num_workers=2, worker_init_fn=fail))
    assert get_worker_info() is None


def test_timeout():
    released = threading.Event()

    class Stuck(Squares):
        def __getitem__(self, index):
            released.wait(10)
            return index

    try:
        with pytest.raises(RuntimeError, match="timed out"):
            next(iter(DataLoader(Stuck(), timeout=0.05)))
    finally:
        released.set()
    assert wait_for_no_threads()


@pytest.mark.parametrize("options", THREADING[:4])
def test_leaving_early_leaves_no_thread(options):
    for _ in DataLoader(Noise(1000), batch_size=2, **options):
        break
    assert wait_for_no_threads()


def test_leaving_early_stops_within_a_batch():
    loaded = []

    class Slow(Squares):
        def __getitem__(self, index):
            loaded.append(index)
            time.sleep(0.01)
            return index

    batches = iter(DataLoader(Slow(1000), batch_size=500))
    time.sleep(0.05)
    del batches
    assert wait_for_no_threads(2)
    assert len(loaded) < 200


def test_persistent_workers_end_with_the_loader():
    loader = DataLoader(Squares(), num_workers=2, persistent_workers=True)
    for _ in range(3):
        list(loader)
    assert 1 <= len(loader_threads()) <= 2
    del loader
    assert wait_for_no_threads()


def test_two_passes_at_once():
    loader = DataLoader(Squares(6), batch_size=2)
    assert [[a[0].tolist(), b[0].tolist()] for a, b in zip(loader, loader, strict=False)] == [
        [[0, 1]] * 2,
        [[2, 3]] * 2,
        [[4, 5]] * 2,
    ]


SCRIPT = """
import sys, time
from pyengine.data import DataLoader, Dataset
class Slow(Dataset):
    def __getitem__(self, index):
        time.sleep(0.05)
        return index
    def __len__(self):
        return 10000
batches = iter(DataLoader(Slow(), batch_size=100, num_workers=2))
print("ready", flush=True)
if sys.argv[1] == "interrupt":
    for batch in batches:
        pass
"""


@pytest.mark.parametrize("way", ["interrupt", "exit"])
def test_ctrl_c_and_exit_do_not_hang(way, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, str(script), way], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    if way == "interrupt":
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
    start = time.monotonic()
    _, errors = process.communicate(timeout=20)
    assert time.monotonic() - start < 4  # the four batches under way would take 10 s
    if way == "interrupt":
        assert "KeyboardInterrupt" in errors and process.returncode != 0
    else:
        assert process.returncode == 0, errors


# --- resuming


def make_loader(kind, generator_seed, **options):
    generator = seeded(generator_seed)
    if kind == "shuffle":
        return DataLoader(Noise(23), batch_size=4, shuffle=True, generator=generator, **options)
    if kind == "own sampler":
        sampler = RandomSampler(Squares(23), generator=seeded(generator_seed + 1))
        return DataLoader(Noise(23), batch_size=4, sampler=sampler, generator=generator, **options)
    if kind == "shared generator":
        sampler = WeightedRandomSampler(range(1, 24), 23, generator=generator)
        return DataLoader(Noise(23), batch_size=4, sampler=sampler, generator=generator, **options)
    return DataLoader(Stream(23), batch_size=4, generator=generator, **options)


@pytest.mark.parametrize("options", THREADING)
@pytest.mark.parametrize("kind", ["shuffle", "own sampler", "shared generator", "stream"])
@pytest.mark.parametrize("stop", [0, 1, 3, 6])
def test_resume_in_mid_epoch(kind, stop, options):
    whole = make_loader(kind, 7)
    expected = [batches_of(whole) for _ in range(3)]

    first = make_loader(kind, 7, **options)
    assert batches_of(first) == expected[0]
    second_epoch = iter(first)
    seen = [[column.tolist() for column in next(second_epoch)] for _ in range(stop)]
    state = first.state_dict()
    assert state["batches"] == stop

    # A generator that stands elsewhere, and another number of workers: neither matters.
    resumed = make_loader(kind, 1234)
    resumed.load_state_dict(state)
    assert resumed.state_dict()["batches"] == stop
    assert seen + batches_of(resumed) == expected[1]
    assert batches_of(resumed) == expected[2]


def test_resume_between_epochs_and_with_the_engines_generator():
    pe.manual_seed(4)
    loader = DataLoader(Noise(9), batch_size=2, shuffle=True)
    first = batches_of(loader)
    assert loader.state_dict()["epoch_seed"] is None
    batches = iter(loader)
    seen = [[column.tolist() for column in next(batches)]]
    state = loader.state_dict()
    rest = [[column.tolist() for column in batch] for batch in batches]

    pe.manual_seed(99)
    fresh = DataLoader(Noise(9), batch_size=2, shuffle=True, num_workers=2)
    fresh.load_state_dict(state)
    assert seen + batches_of(fresh) == seen + rest != first


def test_state_is_checked():
    with pytest.raises(ValueError, match="batches"):
        DataLoader(Squares()).load_state_dict({"epoch_seed": 1})
