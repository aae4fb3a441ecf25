"""Wrong calls at random: an exception at most, never the end of the process."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest

import pyengine as pe
from pyengine.nn import functional as F

hypothesis = pytest.importorskip("hypothesis")
st = hypothesis.strategies

# No size that a machine might just have the memory for.
extreme = st.sampled_from([0, 1, -1, 2, -2, 3, 5, 7, 2**45, -(2**31), 2**62, -(2**62), 2**63 - 1, -(2**63), 2**64])
small = st.integers(-3, 4)
number = st.one_of(small, extreme)
shapes = st.lists(st.integers(0, 4), max_size=5).map(tuple)
dtypes = st.sampled_from([pe.float32, pe.float32, pe.float64, pe.int64, pe.int32, pe.uint8, pe.bool])
tensors = st.builds(
    lambda shape, dtype, flip, grad: _make(shape, dtype, flip, grad),
    shapes,
    dtypes,
    st.sampled_from([0, 0, 1, 2]),
    st.booleans(),
)


def _make(shape, dtype, flip, grad):
    x = pe.arange(int(np.prod(shape)) if shape else 1).reshape(shape).to(dtype)
    if flip == 1:
        x = x.permute(*range(x.dim() - 1, -1, -1))
    elif flip == 2 and x.dim():
        x = x[..., ::2]
    return x.requires_grad_() if grad and x.is_floating_point() else x


anything = st.one_of(
    tensors,
    tensors,
    number,
    st.lists(number, max_size=4),
    st.lists(tensors, max_size=3),
    st.sampled_from(
        [None, True, 0.5, float("nan"), float("inf"), "a", "mean", "same", slice(None), ..., (), [[1], [2]], pe.float32]
    ),
)
FUNCTIONS = sorted(
    name
    for name in dir(pe._C)
    if callable(getattr(pe._C, name))
    and not name.startswith("_")
    and not isinstance(getattr(pe._C, name), type)
    and name
    not in {
        "set_num_threads",
        "set_default_dtype",
        "manual_seed",
        "set_rng_state",
        "empty_cache",
        "reset_peak_memory",
        "empty",
    }
)
METHODS = sorted(
    name
    for name in dir(pe.Tensor)
    if callable(getattr(pe.Tensor, name))
    and (
        not name.startswith("_")
        or name
        in {"__getitem__", "__setitem__", "__add__", "__iadd__", "__matmul__", "__pow__", "__eq__", "__contains__"}
    )
    and name not in {"register_hook"}
)
EXPECTED = (
    TypeError,
    ValueError,
    IndexError,
    RuntimeError,
    OverflowError,
    MemoryError,
    ZeroDivisionError,
    NotImplementedError,
    AttributeError,
    BufferError,
)


def attempt(f, args):
    """Calls f; what comes out is used, and differentiated where it can be."""
    with contextlib.suppress(*EXPECTED):
        y = f(*args)
        for t in y if isinstance(y, (tuple, list)) else [y]:
            if isinstance(t, pe.Tensor) and t.numel() < 100_000:
                repr(t)
                if t.requires_grad:
                    t.sum().backward()


settings = hypothesis.settings(
    max_examples=1500,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)


@settings
@hypothesis.given(st.sampled_from(FUNCTIONS), st.lists(anything, max_size=6))
def test_functions_survive(name, args):
    attempt(getattr(pe._C, name), args)


@settings
@hypothesis.given(st.sampled_from(METHODS), tensors, st.lists(anything, max_size=5))
def test_methods_survive(name, x, args):
    attempt(getattr(pe.Tensor, name), [x, *args])


pairs = st.one_of(number, st.tuples(number, number), st.lists(number, max_size=3))


@settings
@hypothesis.given(
    st.sampled_from(
        [
            "conv2d",
            "max_pool2d",
            "avg_pool2d",
            "adaptive_avg_pool2d",
            "adaptive_max_pool2d",
            "pad",
            "batch_norm",
            "cross_entropy",
        ]
    ),
    st.lists(st.integers(0, 5), min_size=2, max_size=4),
    st.lists(st.integers(0, 3), min_size=1, max_size=4),
    st.lists(pairs, min_size=4, max_size=4),
    st.booleans(),
)
def test_layers_survive(name, shape, weight_shape, options, flag):
    """Calls that are nearly right, with extreme options."""
    x, w = _make(tuple(shape), pe.float32, 0, True), _make(tuple(weight_shape), pe.float32, 0, True)
    a, b, c, d = options
    calls = {
        "conv2d": lambda: F.conv2d(x, w, None, a, b, c, d if isinstance(d, int) else 1),
        "max_pool2d": lambda: F.max_pool2d(x, a, b, c, d, flag),
        "avg_pool2d": lambda: F.avg_pool2d(x, a, b, c, flag, not flag, None if flag else 3),
        "adaptive_avg_pool2d": lambda: F.adaptive_avg_pool2d(x, a),
        "adaptive_max_pool2d": lambda: F.adaptive_max_pool2d(x, a),
        "pad": lambda: F.pad(x, [*(a if isinstance(a, (list, tuple)) else [a, a])], "constant" if flag else "reflect"),
        "batch_norm": lambda: F.batch_norm(x, None if flag else w, None if flag else w, None, None, flag),
        "cross_entropy": lambda: F.cross_entropy(x, w.detach().long() if flag else w),
    }
    attempt(calls[name], [])
