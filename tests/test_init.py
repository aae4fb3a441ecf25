"""Initialization: ranges, moments and fans by formula; distributions against PyTorch's."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest

import pyengine as pe
from pyengine import nn
from pyengine.nn import init


def empty(*shape):
    return pe.empty(shape)


def values(tensor):
    return np.asarray(tensor.detach().numpy(), dtype=np.float64)


@pytest.mark.parametrize(
    ("name", "param", "gain"),
    [
        ("linear", None, 1),
        ("conv2d", None, 1),
        ("conv_transpose2d", None, 1),
        ("sigmoid", None, 1),
        ("tanh", None, 5 / 3),
        ("relu", None, math.sqrt(2)),
        ("leaky_relu", None, math.sqrt(2 / 1.0001)),
        ("leaky_relu", 0.5, math.sqrt(2 / 1.25)),
        ("selu", None, 0.75),
    ],
)
def test_gain(name, param, gain):
    assert init.calculate_gain(name, param) == gain


def test_fans():
    assert init._calculate_fan_in_and_fan_out(empty(5, 7)) == (7, 5)
    assert init._calculate_fan_in_and_fan_out(empty(8, 4, 3, 5)) == (60, 120)
    assert init._calculate_fan_in_and_fan_out(nn.Conv2d(6, 8, 3, groups=2).weight) == (27, 72)


def uniform(bound):
    return -bound, bound, bound / math.sqrt(3)


def normal(std):
    return -math.inf, math.inf, std


@pytest.mark.parametrize(
    ("fill", "expected"),
    [
        (lambda t, g: init.uniform_(t, -2.0, 2.0, g), uniform(2)),
        (lambda t, g: init.normal_(t, 0.0, 3.0, g), normal(3)),
        (lambda t, g: init.xavier_uniform_(t, 2.0, g), uniform(2 * math.sqrt(6 / (36 * 16 + 64 * 16)))),
        (lambda t, g: init.xavier_normal_(t, generator=g), normal(math.sqrt(2 / (36 * 16 + 64 * 16)))),
        (lambda t, g: init.kaiming_uniform_(t, math.sqrt(5), generator=g), uniform(1 / math.sqrt(36 * 16))),
        (lambda t, g: init.kaiming_uniform_(t, 0, "fan_out", "relu", g), uniform(math.sqrt(6 / (64 * 16)))),
        (lambda t, g: init.kaiming_normal_(t, nonlinearity="relu", generator=g), normal(math.sqrt(2 / (36 * 16)))),
        (lambda t, g: init.lecun_uniform_(t, g), uniform(math.sqrt(3 / (36 * 16)))),
        (lambda t, g: init.lecun_normal_(t, g), normal(math.sqrt(1 / (36 * 16)))),
        (lambda t, g: init.trunc_normal_(t, 0.0, 1.0, -2.0, 2.0, g), (-2, 2, 0.87962566)),
        (lambda t, g: init.trunc_normal_(t, 0.0, 0.02, generator=g), (-2, 2, 0.02)),
    ],
)
def test_distributions(fill, expected):
    tensor = empty(64, 36, 4, 4)
    result = fill(tensor, pe.Generator().manual_seed(1))
    assert result is tensor
    low, high, std = expected
    x = values(tensor)
    assert x.min() >= low and x.max() <= high
    if math.isfinite(low) and std > 0.1:
        assert x.max() > 0.99 * high
    assert abs(x.std() / std - 1) < 0.02 and abs(x.mean()) < 0.02 * std
    again = fill(empty(64, 36, 4, 4), pe.Generator().manual_seed(1))
    np.testing.assert_array_equal(values(again), x)
    other = fill(empty(64, 36, 4, 4), pe.Generator().manual_seed(2))
    assert not np.array_equal(values(other), x)


def test_global_generator():
    pe.manual_seed(3)
    first = values(init.normal_(empty(10)))
    pe.manual_seed(3)
    np.testing.assert_array_equal(values(init.normal_(empty(10))), first)


def test_truncated_normal_in_the_tail():
    x = values(init.trunc_normal_(empty(50_000), 0.0, 1.0, 3.0, 4.0))
    assert x.min() >= 3 and x.max() <= 4
    density = [math.exp(-(b**2) / 2) / math.sqrt(2 * math.pi) for b in (3, 4)]
    mass = statistics.NormalDist().cdf(4) - statistics.NormalDist().cdf(3)
    assert abs(x.mean() - (density[0] - density[1]) / mass) < 0.01


def test_normal_quantile():
    p = np.concatenate([[1e-300, 1e-20, 1e-6], np.linspace(0.001, 0.999, 333), [1 - 1e-9]])
    expected = [statistics.NormalDist().inv_cdf(q) for q in p]
    np.testing.assert_allclose(init._normal_quantile(p), expected, rtol=1e-13, atol=1e-15)


def test_constants():
    assert values(init.constant_(empty(2, 2), 0.5)).tolist() == [[0.5, 0.5]] * 2
    assert values(init.ones_(empty(3))).tolist() == [1] * 3
    assert values(init.zeros_(empty(3))).tolist() == [0] * 3
    np.testing.assert_array_equal(values(init.eye_(empty(2, 4))), np.eye(2, 4))


@pytest.mark.parametrize("groups", [1, 2])
def test_dirac(groups):
    weight = init.dirac_(nn.Conv2d(4, 4, 3, padding=1, groups=groups, bias=False).weight, groups)
    x = pe.rand(2, 4, 5, 5)
    with pe.no_grad():
        y = nn.functional.conv2d(x, weight, None, 1, 1, 1, groups)
    np.testing.assert_array_equal(values(y), values(x))


@pytest.mark.parametrize("shape", [(4, 4), (3, 7), (7, 3), (4, 2, 3, 3)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_orthogonal(shape, dtype):
    tensor = pe.empty(shape, dtype=getattr(pe, dtype))
    q = values(init.orthogonal_(tensor, gain=2.0)).reshape(shape[0], -1) / 2
    product = q @ q.T if q.shape[0] <= q.shape[1] else q.T @ q
    np.testing.assert_allclose(product, np.eye(min(q.shape)), atol=1e-6 if dtype == "float32" else 1e-13)


def test_sparse():
    x = values(init.sparse_(empty(20, 50), 0.3, std=2.0))
    assert ((x == 0).sum(0) == 6).all() and abs(x[x != 0].std() - 2) < 0.3


def test_initialization_keeps_gradients_off():
    weight = nn.Parameter(pe.ones(2, 2))
    for fill in (init.uniform_, init.eye_, init.orthogonal_, init.trunc_normal_, init.kaiming_normal_, init.zeros_):
        assert fill(weight) is weight and weight.is_leaf and weight.requires_grad and weight.grad_fn is None


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: init.calculate_gain("cubic"), ValueError, "Unsupported nonlinearity cubic"),
        (lambda: init.calculate_gain("leaky_relu", True), ValueError, "negative_slope True not a valid number"),
        (lambda: init.xavier_normal_(empty(3)), ValueError, "Fan in and fan out can not be computed"),
        (lambda: init.kaiming_normal_(empty(3, 3), mode="fan"), ValueError, "Mode fan not supported"),
        (lambda: init.eye_(empty(3)), ValueError, "Only tensors with 2 dimensions are supported"),
        (lambda: init.sparse_(empty(3), 0.1), ValueError, "Only tensors with 2 dimensions are supported"),
        (lambda: init.dirac_(empty(3, 3)), ValueError, "Only tensors with 3, 4, or 5 dimensions are supported"),
        (lambda: init.dirac_(empty(3, 3, 3), 2), ValueError, "dim 0 must be divisible by groups"),
        (lambda: init.orthogonal_(empty(3)), ValueError, "Only tensors with 2 or more dimensions are supported"),
    ],
)
def test_errors(call, error, text):
    with pytest.raises(error) as info:
        call()
    assert text in str(info.value)


def test_empty_tensor_warns():
    with pytest.warns(UserWarning, match="Initializing zero-element tensors is a no-op"):
        init.kaiming_uniform_(empty(0, 3))


# --- what layers start from


@pytest.mark.parametrize(
    "make",
    [
        lambda nn: nn.Linear(300, 200),
        lambda nn: nn.Conv2d(30, 60, (3, 5)),
        lambda nn: nn.Conv2d(60, 60, 3, groups=6),
        lambda nn: nn.BatchNorm2d(50),
        lambda nn: nn.PReLU(5),
    ],
)
def test_defaults_as_torch(make):
    """Kolmogorov-Smirnov: the same distribution as PyTorch's."""
    torch = pytest.importorskip("torch")
    pe.manual_seed(0)
    torch.manual_seed(0)
    ours, theirs = make(nn).state_dict(), make(torch.nn).state_dict()
    assert list(ours) == list(theirs)
    for name, value in theirs.items():
        a, b = np.sort(values(ours[name]).ravel()), np.sort(value.numpy().astype(np.float64).ravel())
        assert values(ours[name]).shape == value.shape
        points = np.concatenate([a, b])
        distance = np.abs(
            np.searchsorted(a, points, "right") / a.size - np.searchsorted(b, points, "right") / b.size
        ).max()
        assert distance <= 1.95 * math.sqrt(2 / a.size), name  # passed by chance with probability 0.999
