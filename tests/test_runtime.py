"""Threads, memory, forks, the floating-point mode, the interpreter's lock and exit."""

from __future__ import annotations

import gc
import multiprocessing
import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import pyengine as pe
from pyengine import nn
from pyengine.nn import functional as F


@pytest.fixture(autouse=True)
def same_threads_after():
    before = pe.get_num_threads()
    yield
    pe.set_num_threads(before)


def run_python(code, timeout=120, **environment):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, "PYTHONPATH": str(Path(pe.__file__).parents[1]), **environment},
    )


# Threads


def test_set_num_threads():
    for n in (1, 2, 3, 7):
        pe.set_num_threads(n)
        assert pe.get_num_threads() == n
        assert pe.ones(1000, 1000).sum().item() == 1e6
    for bad, error in (
        (0, ValueError),
        (-1, ValueError),
        (1.5, TypeError),
        ("2", TypeError),
        (None, TypeError),
        (2**40, (TypeError, ValueError)),
    ):
        with pytest.raises(error):
            pe.set_num_threads(bad)
    assert pe.get_num_threads() == 7


def test_threads_from_the_environment():
    out = run_python("import pyengine as pe; print(pe.get_num_threads())", PYENGINE_NUM_THREADS="3")
    assert out.stdout.strip() == "3", out.stderr


HEAVY = {
    "add": lambda x, y: x + y,
    "exp": lambda x, y: x.exp(),
    "gelu": lambda x, y: F.gelu(x),
    "sum": lambda x, y: x.sum(),
    "sum rows": lambda x, y: x.sum(0),
    "mean columns": lambda x, y: x.mean(1),
    "var": lambda x, y: x.var(),
    "norm": lambda x, y: x.norm(),
    "max": lambda x, y: x.max(1)[0],
    "argmax": lambda x, y: x.argmax(),
    "cumsum": lambda x, y: x.cumsum(1),
    "matmul": lambda x, y: x[:300, :257] @ y[:257, :301],
    "long matmul": lambda x, y: x[:3].reshape(3, -1) @ y[:3].reshape(3, -1).T,
    "vector product": lambda x, y: x @ y[0],
    "bmm": lambda x, y: x[:120].reshape(8, 15, -1) @ y[:120].reshape(8, 15, -1).mT,
    "softmax": lambda x, y: x.softmax(1),
    "log softmax": lambda x, y: x.log_softmax(0),
    "transpose": lambda x, y: x.T.contiguous(),
    "index": lambda x, y: x[pe.arange(0, 500, 3)],
    "sort": lambda x, y: x.sort(1)[0],
    "cat": lambda x, y: pe.cat([x, y], 1),
    "where": lambda x, y: pe.where(x > y, x, y),
    "broadcast": lambda x, y: x * y[:, :1] + y[:1],
    "conv2d": lambda x, y: F.conv2d(x[:96].reshape(4, 8, 60, -1), y[:1, :288].reshape(4, 8, 3, 3), padding=1),
    "planar conv2d": lambda x, y: F.conv2d(x[:120].reshape(20, 1, 60, -1), y[0, :54].reshape(6, 1, 3, 3)),
    "max_pool2d": lambda x, y: F.max_pool2d(x[:96].reshape(4, 8, 60, -1), 2),
    "avg_pool2d": lambda x, y: F.avg_pool2d(x[:96].reshape(4, 8, 60, -1), 3, 2, 1),
    "batch_norm": lambda x, y: F.batch_norm(x[:96].reshape(4, 8, 60, -1), None, None, training=True),
    "cross_entropy": lambda x, y: F.cross_entropy(x, pe.arange(x.shape[0])),
    "dropout": lambda x, y: (pe.manual_seed(1), F.dropout(x, 0.5))[1],
}


@pytest.mark.parametrize("case", HEAVY)
def test_results_do_not_depend_on_threads(case):
    """Values and gradients, bit for bit."""
    pe.manual_seed(0)
    x, y = pe.randn(500, 520), pe.randn(500, 520)
    w = None
    results = []
    for threads in (1, 2, 3):
        pe.set_num_threads(threads)
        a, b = x.clone().requires_grad_(), y.clone().requires_grad_()
        out = HEAVY[case](a, b)
        if out.requires_grad:
            w = pe.randn(*out.shape, generator=pe.Generator().manual_seed(3)) if w is None else w
            (out * w).sum().backward()
        results.append([t.detach().numpy().tobytes() for t in (out, a.grad, b.grad) if t is not None])
    assert results[0] == results[1] == results[2]


def test_training_does_not_depend_on_threads():
    def train():
        pe.manual_seed(4)
        model = nn.Sequential(
            nn.Conv2d(1, 6, 5, padding=2), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5),
            nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Dropout(0.2), nn.Linear(16 * 25, 10),
        )  # fmt: skip
        optimizer = pe.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        x, t = pe.randn(32, 1, 28, 28), pe.randint(0, 10, (32,))
        for _ in range(3):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), t)
            loss.backward()
            optimizer.step()
        return [p.detach().numpy().tobytes() for p in model.parameters()] + [loss.item()]

    results = []
    for threads in (1, 2, 3):
        pe.set_num_threads(threads)
        results.append(train())
    assert results[0] == results[1] == results[2]


def test_two_python_threads():
    pe.set_num_threads(2)
    x, w = pe.randn(200, 300), pe.randn(300, 200)
    expected = (x @ w).relu().sum(0).tolist()
    errors = []

    def work():
        try:
            for _ in range(100):
                assert (x @ w).relu().sum(0).tolist() == expected
        except BaseException as e:  # the main thread reports it
            errors.append(e)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for t in threads:
        t.start()
    for _ in range(20):
        pe.set_num_threads(1)
        pe.set_num_threads(3)
        time.sleep(0.001)
    for t in threads:
        t.join()
    assert not errors


def test_lock_is_released_in_long_kernels():
    """Another thread's counter goes on while one call computes."""
    pe.set_num_threads(1)
    x, w = pe.randn(1100, 1100), pe.randn(1100, 1100, requires_grad=True)
    for call in (lambda: x @ x, lambda: (w @ x).sum().backward()):
        counter, stop = [0], threading.Event()

        def count(counter=counter, stop=stop):
            while not stop.is_set():
                counter[0] += 1
                time.sleep(0)

        thread = threading.Thread(target=count)
        thread.start()
        seen = []
        for _ in range(5):
            before = counter[0]
            call()
            seen.append(counter[0] - before)
        stop.set()
        thread.join()
        assert max(seen) > 20


# Forks


def compute():
    x = pe.randn(300, 300, generator=pe.Generator().manual_seed(1)).requires_grad_()
    (x @ x).exp().mean().backward()
    return float(x.grad.double().sum().item())


def compute_into(queue):
    queue.put(compute())


FORKS_WITH_THREADS = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")


@FORKS_WITH_THREADS
def test_fork():
    pe.set_num_threads(3)
    expected = compute()
    for _ in range(3):
        pid = os.fork()
        if pid == 0:  # the child has none of the pool's threads
            code = 1
            try:
                code = 0 if compute() == expected and pe.get_num_threads() == 3 else 2
            finally:
                os._exit(code)
        assert compute() == expected
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@FORKS_WITH_THREADS
def test_multiprocessing():
    pe.set_num_threads(2)
    expected = compute()
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    children = [context.Process(target=compute_into, args=(queue,)) for _ in range(2)]
    for c in children:
        c.start()
    assert [queue.get(timeout=60) for _ in children] == [expected] * 2
    for c in children:
        c.join(60)
        assert c.exitcode == 0
    assert compute() == expected


@FORKS_WITH_THREADS
def test_fork_while_threads_compute():
    pe.set_num_threads(2)
    stop = threading.Event()
    x = pe.randn(200, 200)

    def work():
        while not stop.is_set():
            _ = (x @ x).sum().item(), pe.zeros(1000) + 1

    threads = [threading.Thread(target=work) for _ in range(2)]
    for t in threads:
        t.start()
    try:
        for _ in range(10):
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    code = 0 if (pe.ones(500, 500) @ pe.ones(500, 2)).sum().item() == 500_000 else 2
                finally:
                    os._exit(code)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    finally:
        stop.set()
        for t in threads:
            t.join()


# Memory


def test_memory_counters():
    gc.collect()
    start = pe.memory_stats()
    assert set(start) == {"live_bytes", "peak_bytes", "cached_bytes", "available_bytes"}
    assert start["peak_bytes"] >= start["live_bytes"] >= 0 and start["available_bytes"] > 0
    pe.reset_peak_memory()
    x = pe.zeros(1000, 1000)
    assert pe.memory_stats()["live_bytes"] == start["live_bytes"] + 4_000_000
    y = x + 1
    del x, y
    after = pe.memory_stats()
    assert (
        after["live_bytes"] == start["live_bytes"] and 0 <= after["peak_bytes"] - start["live_bytes"] - 8_000_000 < 100
    )
    pe.reset_peak_memory()
    assert pe.memory_stats()["peak_bytes"] == start["live_bytes"]
    pe.empty_cache()
    assert pe.memory_stats()["cached_bytes"] == 0
    a = pe.from_numpy(np.zeros(1000))  # borrowed memory is not the engine's
    assert pe.memory_stats()["live_bytes"] == start["live_bytes"]
    del a


def test_alignment():
    for n in (1, 7, 100, 10_000, 1_000_000):
        assert pe.zeros(n).data_ptr() % 64 == 0


def test_absurd_sizes():
    live = pe.memory_stats()["live_bytes"]
    with pytest.raises(MemoryError, match=r"3\.\d TiB \(\d{13} bytes\)"):
        pe.empty(1_000_000, 1_000_000)
    x = pe.ones(1, requires_grad=True)
    for f in (
        lambda: pe.zeros(2**40),
        lambda: pe.rand(2**20, 2**20),
        lambda: x.expand(2**20, 2**20).contiguous(),
        lambda: x.expand(2**40) * 2,
        lambda: x.expand(2**38).clone(),
        lambda: pe.arange(10**13),
        lambda: pe.eye(10**6 * 5),
        lambda: x.repeat(2**40),
        lambda: pe.cat([x.expand(2**40)] * 2),
        lambda: pe.linspace(0, 1, 10**13),
        lambda: pe.one_hot(pe.tensor([2**40])),
        lambda: F.pad(x, (2**40, 0)),
    ):
        with pytest.raises(MemoryError, match="bytes"):
            f()
    for f in (
        lambda: pe.empty(2**40, 2**40),
        lambda: pe.empty(2**62, 0, 2**62),
        lambda: pe.empty(2**63 - 1),
        lambda: x.expand(2**62, 2, 2),
        lambda: x.repeat(2**62, 4),
        lambda: F.pad(x, (2**62, 2**62)),
        lambda: pe.randperm(2**62),
        lambda: pe.arange(1e18),
        lambda: pe.full((2**33, 2**33), 1),
    ):
        with pytest.raises((MemoryError, ValueError, OverflowError)):
            f()
    assert pe.memory_stats()["live_bytes"] <= live + 4
    assert (x * 2).item() == 2


# The floating-point mode

DENORMAL = np.float32(1e-40)


def test_denormals_are_flushed_inside_kernels():
    a = np.full(100_001, DENORMAL)
    tiny = np.full(100_001, 1.2e-38, np.float32)
    results = []
    for threads in (1, 2, 3):
        pe.set_num_threads(threads)
        x, t = pe.from_numpy(a), pe.from_numpy(tiny)
        results.append(
            [y.numpy().tobytes() for y in (x * 1.0, x + x, t * 0.5, (t[:7] * 0.5), x.sum(), t - t * 0.9, (x * 2e30))]
        )
        assert not (x * 2e30).any() and not (t * 0.5).any() and not (t[:3] * 0.5).any()
    assert results[0] == results[1] == results[2]


def test_mode_of_the_caller_is_left_alone():
    """NumPy keeps its denormals before, between and after calls, in every thread."""

    def check():
        _ = (pe.randn(300, 300) @ pe.randn(300, 300)).sum().item()
        for n in (3, 100_000):
            pe.ones(n).mul(0.5).sum().item()
        assert np.float32(1.2e-38) * np.float32(0.5) > 0 and (np.full(9, DENORMAL) * np.float32(1.5) > 0).all()
        x = pe.ones(1000, requires_grad=True)
        (x * x).sum().backward()
        assert float(np.float64(5e-324)) * 1.0 > 0 and (np.full(9, 1e-310) / 2 > 0).all()

    check()
    thread = threading.Thread(target=check)
    thread.start()
    thread.join()


# Exit


def test_exit_while_threads_are_busy():
    code = """
        import threading, pyengine as pe
        pe.set_num_threads(3)
        x = pe.randn(600, 600).requires_grad_()
        x.tag = x
        kept = (x @ x).exp()
        kept.register_hook(lambda g: g * 2)
        def work():
            while True:
                (x @ x).sum().backward()
        for _ in range(2):
            threading.Thread(target=work, daemon=True).start()
        import time; time.sleep(0.3)
        print("end")
    """
    for _ in range(3):
        out = run_python(code)
        assert out.returncode == 0 and out.stdout.strip() == "end" and not out.stderr, out


def test_exit_with_tensors_everywhere():
    code = """
        import sys, threading, numpy as np, pyengine as pe
        from pyengine.autograd import Function
        class F(Function):
            @staticmethod
            def forward(ctx, x):
                ctx.y = x * 2
                return ctx.y
            @staticmethod
            def backward(ctx, dy):
                return dy
        x = pe.from_numpy(np.ones(3)).requires_grad_()
        y = F.apply(x)
        x.register_hook(lambda g: print(y))
        a = y.detach().numpy()
        m = memoryview(pe.ones(3))
        sys.kept = [x, y, a, m, np.from_dlpack(pe.ones(2)), pe.from_dlpack(np.ones(3)), x.__class__]
        local = threading.local(); local.y = y
        print("end")
    """
    out = run_python(code)
    assert out.returncode == 0 and out.stdout.strip() == "end" and not out.stderr, out


def test_information():
    assert pe.cpu_isa() in pe.cpu_isas() and pe.cpu_isas()[-1] == "scalar" and isinstance(pe.cpu_name(), str)
