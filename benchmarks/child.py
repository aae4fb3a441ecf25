"""One measuring process: python child.py '{"job": "steps", "engine": "pyengine", ...}'.

It prepares its job, writes one line of JSON with facts about itself, then one line of results for every line that it
reads, until its input ends. Run as a file, so that an engine is imported from where it is installed.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import statistics
import sys
import time
import timeit
import warnings
from collections.abc import Callable, Iterable
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from networks import NETWORKS

Job = Callable[[], Any]
MIN_STEPS = 3


def training_step(engine: Any, mode: str, network: str) -> Callable[[], Any]:
    """A step on one random batch: forward, cross-entropy, backward, SGD with momentum and weight decay."""
    engine.manual_seed(0)
    build, shape, classes = NETWORKS[network]
    model, x, y = build(engine).train(), engine.randn(*shape), engine.randint(0, classes, (shape[0],))
    if mode == "channels_last":
        model, x = (z.to(memory_format=engine.channels_last) for z in (model, x))
    forward = engine.compile(model) if mode == "compile" else model
    options = {"fused": True} if engine.__name__ == "torch" else {}
    optimizer = engine.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, **options)
    cross_entropy = engine.nn.functional.cross_entropy

    def step() -> Any:
        optimizer.zero_grad(set_to_none=True)
        loss = cross_entropy(forward(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step


def steps(engine: Any, mode: str, network: str, seconds: float) -> Job:
    """A slice: the median time of a step, in seconds."""
    step = training_step(engine, mode, network)
    for _ in range(MIN_STEPS):
        step()

    def measure() -> float:
        loss = step()  # brings the caches and the threads back
        times: list[float] = []
        end = time.perf_counter() + seconds
        while len(times) < MIN_STEPS or time.perf_counter() < end:
            start = time.perf_counter()
            loss = step()
            times.append(time.perf_counter() - start)
        if not abs(loss.item()) < float("inf"):
            raise ArithmeticError(f"the loss became {loss.item()}")
        return statistics.median(times)

    return measure


def memory(engine: Any, mode: str, network: str, seconds: float) -> Job:
    """A slice: trains for a while and gives the most memory that was ever resident, in bytes, and that at the start."""
    at_start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    train = steps(engine, mode, network, seconds)

    def measure() -> dict[str, int]:
        train()
        return {"start": at_start, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}

    return measure


def small_calls(engine: Any) -> dict[str, Callable[[], Any]]:
    """Calls on so little data that the time is all overhead."""
    nn, functional = engine.nn, engine.nn.functional
    a, b, image, kernel = engine.randn(4), engine.randn(4), engine.randn(1, 1, 4, 4), engine.randn(1, 1, 3, 3)
    p, row, logits, target = engine.randn(4), engine.randn(1, 4), engine.randn(2, 3), engine.tensor([0, 2])
    p.requires_grad_()
    linear = nn.Linear(4, 4)
    weights = [engine.randn(4).requires_grad_() for _ in range(10)]
    for w in weights:
        w.grad = engine.randn(4)
    optimizer = engine.optim.SGD(weights, lr=0.01, momentum=0.9)
    return {
        "a + b": lambda: a + b,
        "p + b, recorded": lambda: p + b,
        "a * 2.0": lambda: a * 2.0,
        "a.add_(b)": lambda: a.add_(b),
        "relu(a)": lambda: functional.relu(a),
        "a.sum()": lambda: a.sum(),
        "a[1]": lambda: a[1],
        "a.reshape(2, 2)": lambda: a.reshape(2, 2),
        "a.shape": lambda: a.shape,
        "zeros(4)": lambda: engine.zeros(4),
        "row @ row.T": lambda: row @ row.T,
        "conv2d(image, kernel)": lambda: functional.conv2d(image, kernel),
        "cross_entropy(logits, target)": lambda: functional.cross_entropy(logits, target),
        "Linear(4, 4)(row), recorded": lambda: linear(row),
        "(p * b).sum().backward()": lambda: (p * b).sum().backward(),
        "SGD.step(), 10 parameters": optimizer.step,
    }


def timed(calls: Iterable[tuple[str, Callable[[], Any]]], seconds: float) -> Job:
    """A slice: the time of each call, in seconds; each is repeated for some `seconds`."""
    timers = {}
    for name, call in calls:
        timer = timeit.Timer(call)
        timer.timeit(10)
        once = timer.timeit(10) / 10
        timers[name] = timer, max(10, int(seconds / once))

    def measure() -> dict[str, float]:
        return {name: timer.timeit(number) / number for name, (timer, number) in timers.items()}

    return measure


def overhead(engine: Any, seconds: float) -> Job:
    """A slice: the time of each small call."""
    return timed(small_calls(engine).items(), seconds)


def ops(engine: Any, seconds: float, pattern: str) -> Job:
    """A slice: the time of each case of the tests' table."""
    from case_calls import case_calls

    warnings.simplefilter("ignore")
    return timed(case_calls(engine, pattern), seconds)


def facts(engine: Any) -> dict[str, Any]:
    """What ran: versions, threads, and for pyengine the instruction set and its size on disk."""
    found = {"version": engine.__version__, "threads": engine.get_num_threads()}
    if engine.__name__ == "pyengine":
        found["instruction set"] = engine._C.cpu_isa()
        found["module bytes"] = os.path.getsize(engine._C.__file__)
    return found


def main() -> None:
    answers, sys.stdout = sys.stdout, sys.stderr  # what an engine prints must not disturb the answers
    options = json.loads(sys.argv[1])
    engine = importlib.import_module(options.pop("engine"))
    engine.set_num_threads(options.pop("threads"))
    jobs: dict[str, Callable[..., Job]] = {"steps": steps, "memory": memory, "overhead": overhead, "ops": ops}
    measure = jobs[options.pop("job")](engine, **options)
    print(json.dumps(facts(engine)), file=answers, flush=True)
    for _ in sys.stdin:
        print(json.dumps(measure()), file=answers, flush=True)


if __name__ == "__main__":
    main()
