"""The cases of tests/op_cases.py as calls to be timed: one table for results, gradients and speed."""

from __future__ import annotations

import re
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
import op_inputs
from op_cases import CASES


def case_calls(engine: Any, pattern: str) -> Iterator[tuple[str, Callable[[], Any]]]:
    """(name, call) for every float32 case whose name matches: its forward and, where it has one, its backward too."""
    for case in CASES:
        if "float32" not in case.dtypes or not re.search(pattern, case.id):
            continue
        rng = np.random.default_rng(zlib.crc32(case.id.encode()))
        arrays = [given.array(rng, "float32") for given in case.inputs]
        call = case.torch if engine.__name__ == "torch" and case.torch else case.call
        inputs = [op_inputs.place(engine, a, given.layout) for a, given in zip(arrays, case.inputs, strict=True)]
        yield case.id, _forward(engine, call, inputs)
        wanted = [given.grad and x.is_floating_point() for given, x in zip(case.inputs, inputs, strict=True)]
        if case.grad and any(wanted):
            leaves = [x.detach().requires_grad_() if w else x for x, w in zip(inputs, wanted, strict=True)]
            yield f"{case.id} + backward", _backward(engine, call, leaves)


def _forward(engine: Any, call: Callable[..., Any], inputs: list[Any]) -> Callable[[], Any]:
    return lambda: call(engine, *inputs)


def _backward(engine: Any, call: Callable[..., Any], leaves: list[Any]) -> Callable[[], Any]:
    wanted = [x for x in leaves if x.requires_grad]
    given = call(engine, *leaves)
    given = list(given) if isinstance(given, (tuple, list)) else [given]
    places = [i for i, y in enumerate(given) if y.requires_grad]
    seeds = [engine.ones_like(given[i].detach()) for i in places]

    def run() -> Any:
        result = call(engine, *leaves)
        result = result if isinstance(result, (tuple, list)) else [result]
        return engine.autograd.grad([result[i] for i in places], wanted, seeds, allow_unused=True)

    return run
