"""How tensors print, compared with PyTorch's text."""

from __future__ import annotations

import re

import numpy as np
import pytest

import pyengine as pe


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")


REPR_ARRAYS = {
    "scalar": np.array(1.5),
    "scalar int": np.array(7),
    "1-d": np.array([1.0, 2.5, -3.25]),
    "integral floats": np.array([1.0, 200.0, -3.0]),
    "2-d": np.arange(6.0).reshape(2, 3) / 7,
    "3-d": np.arange(24.0).reshape(2, 3, 4) / 3,
    "4-d": np.arange(16).reshape(2, 2, 2, 2),
    "ints": np.array([[1, -20], [300, 4]]),
    "bools": np.array([[True, False], [False, False]]),
    "uint8": np.array([1, 255], np.uint8),
    "int32": np.array([1, -2], np.int32),
    "small": np.array([1e-5, 2.0]),
    "large ratio": np.array([0.001, 5000.0]),
    "large": np.array([1e9, 2.5]),
    "large integral": np.array([1e9, 2.0]),
    "many digits": np.array([123456.0, 0.5]),
    "inf nan": np.array([np.inf, -np.inf, np.nan, 1.5]),
    "only nan": np.array([np.nan, np.nan]),
    "inf integral": np.array([np.inf, 3.0]),
    "zeros": np.zeros((2, 2)),
    "negative zero": np.array([-0.0, 1.5]),
    "empty": np.zeros(0),
    "empty 2-d": np.zeros((0, 3)),
    "empty int": np.zeros(0, np.int64),
    "empty int 2-d": np.zeros((2, 0), np.int64),
    "wraps": np.arange(40.0) / 3,
    "wraps ints": np.arange(100),
    "long": np.arange(1001.0),
    "long 2-d": np.arange(60 * 50.0).reshape(60, 50) / 17,
    "long narrow": np.arange(2002).reshape(1001, 2),
    "long 3-d": np.arange(11 * 10 * 12.0).reshape(11, 10, 12),
    "threshold": np.arange(1000),
    "tiny": np.array([1e-30, 1e30]),
    "edge values": np.where(np.arange(2000) == 1000, 1e9, 1.0),
}


@pytest.mark.parametrize("case", REPR_ARRAYS)
@pytest.mark.parametrize("double", [False, True])
def test_repr(torch, case, double):
    a = REPR_ARRAYS[case]
    if a.dtype == np.float64 and not double:
        a = a.astype(np.float32)
    expected = repr(torch.tensor(a)).replace("torch.", "pyengine.")
    # The longer name may be what pushes the dtype into a line of its own.
    assert re.sub(r",\s+dtype", ", dtype", repr(pe.tensor(a))) == re.sub(r",\s+dtype", ", dtype", expected)
    assert str(pe.tensor(a)) == repr(pe.tensor(a))


def test_repr_of_autograd(torch):
    assert repr(pe.ones(2, requires_grad=True)) == repr(torch.ones(2, requires_grad=True))
    assert repr(pe.ones(2, 2, requires_grad=True).detach()) == repr(torch.ones(2, 2))
    text = repr(pe.ones(2, requires_grad=True) + 1)
    assert re.fullmatch(r"tensor\(\[2\., 2\.\], grad_fn=<\w+>\)", text)
    assert repr(pe.zeros(2, 0, requires_grad=True)) == repr(torch.zeros(2, 0, requires_grad=True))
