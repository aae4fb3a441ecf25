"""Derivatives through views and in-place writes: values and gradients against PyTorch, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

import pyengine as pe
from pyengine import autograd

pytestmark = pytest.mark.usefixtures("no_leak")


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")


# Each scenario gets the library, leaves x (4, 3), r (3,) and s (4,), and returns tensors to weigh and differentiate.


def write_to_the_base(L, x, r, s):
    b = x * 2
    v = b[1]
    b.mul_(3)
    return b, v


def write_to_a_view(L, x, r, s):
    b = x * 2
    v = b[1]
    v.mul_(r)
    return b, v


def write_to_a_view_then_look_at_its_sibling(L, x, r, s):
    b = x * 2
    rows, cols = b[1], b[:, 2]
    rows.mul_(r)
    return cols, rows, b


def siblings_in_turn(L, x, r, s):
    b = x * 2
    rows, cols = b[1:3], b[:, 1]
    rows.mul_(r)
    cols.mul_(s)
    rows.add_(r)
    return b, rows, cols


def view_of_a_view(L, x, r, s):
    b = x.sin()
    v = b.t()[1:]
    w = v[0]
    w.mul_(s)
    v.add_(1)
    return b, v, w


def write_grad_into_a_plain_base(L, x, r, s):
    b = x.detach().clone()
    v = b[2]
    v.copy_(r)
    return b, v


def sibling_made_before_the_base_had_a_gradient(L, x, r, s):
    b = x.detach().clone()
    v, w = b[2], b[:, 0]
    v.copy_(r)
    return w, b, v


def assign_rows(L, x, r, s):
    b = L.zeros(4, 3, dtype=L.float64)
    for i in range(4):
        b[i] = x[i] * r
    return (b,)


def assign_number(L, x, r, s):
    b = x * 2
    b[1, 2] = 5.0
    b[3] = 0
    return (b,)


def assign_with_an_index(L, x, r, s):
    b = x * 2
    b[L.tensor([0, 2])] = r
    return (b,)


def assign_with_a_mask(L, x, r, s):
    b = x * 2
    b[x > 0] = 1.5
    return (b,)


def assign_with_a_mask_of_values(L, x, r, s):
    b = x * 2
    b[:, 1][s > 0] = s[s > 0] * 3
    return (b,)


def index_put_into_a_view(L, x, r, s):
    b = x * 2
    v = b[1:]
    v.index_put_((L.tensor([0, 0]), L.tensor([1, 1])), r[:2], accumulate=True)
    return b, v


def overlapping_assignment(L, x, r, s):
    b = x * 1
    b[1:] = b[:-1] * 2
    return (b,)


def assign_a_tensor_to_its_own_view(L, x, r, s):
    b = x * 1
    b[0] = b[1]
    return (b,)


def fill_and_zero(L, x, r, s):
    b = x * 2
    b[0].zero_()
    b[1].fill_(3)
    return (b,)


def inplace_functions(L, x, r, s):
    b = x * 2
    b.mul_(r).add_(r).sub_(1).div_(5.0)
    b.exp_()
    return (b.clamp(-1, 2),)


def inplace_on_intermediate_that_is_not_saved(L, x, r, s):
    b = x + 1
    c = b * 2
    b.add_(r)
    return b, c


def relu_in_place(L, x, r, s):
    b = x * 2
    b.relu_()
    return (b,)


def reshape_and_write(L, x, r, s):
    b = x * 2
    b.view(2, 6)[1].mul_(2)
    b.reshape(-1)[3:5].add_(r[:2])
    return (b,)


def unsqueeze_squeeze(L, x, r, s):
    b = x * 2
    b.unsqueeze(0).squeeze(0).mul_(r)
    return (b,)


def diagonal_write(L, x, r, s):
    b = x * 2
    b.diagonal().mul_(r)
    return (b,)


def split_and_write(L, x, r, s):
    b = x * 2
    a = b.narrow(0, 0, 2)
    a.mul_(r)
    c = b.narrow(0, 1, 2)
    c.mul_(r)
    return b, a, c


def write_without_grad(L, x, r, s):
    b = x * 2
    v = b[1]
    with L.no_grad():
        b[0] = 7
        v.add_(1)
    return b, v


def transposed_layout(L, x, r, s):
    b = x.t() * 2
    b[0].mul_(s)
    return (b,)


def as_strided_views(L, x, r, s):
    b = x * 2
    return b.as_strided((3, 3), (3, 1), 1), b.as_strided((2, 5), (2, 2))


def expanded(L, x, r, s):
    e = r.expand(4, 3)
    return e * x, e[1], e[:, 1]


def masked_fill(L, x, r, s):
    b = x * 2
    b.masked_fill_(x < 0, 0.5)
    return (b, x.masked_fill(x > 0, 3.0))


def lerp_and_friends(L, x, r, s):
    b = x * 2
    b.lerp_(x, 0.25)
    b.addcmul_(x, x, value=0.5)
    return (b,)


def chained_history(L, x, r, s):
    b = x * 2
    saved = b.sum(0)
    b[0] = saved
    b[1] = b[0].clone() * r
    b.mul_(s[:, None])
    return b, saved


def data_of_a_leaf(L, x, r, s):
    x.data.mul_(2)
    return (x * x,)


SCENARIOS = [
    f for f in list(globals().values()) if hasattr(f, "__code__") and f.__code__.co_varnames[:4] == ("L", "x", "r", "s")
]


def run(L, scenario):
    rng = np.random.default_rng(5)
    leaves = [
        L.tensor(rng.standard_normal(shape), dtype=L.float64, requires_grad=True) for shape in ((4, 3), (3,), (4,))
    ]
    outs = scenario(L, *leaves)
    total = sum((o * (o * 0.1 + L.tensor(rng.standard_normal(tuple(o.shape)), dtype=L.float64))).sum() for o in outs)
    if total.requires_grad:
        total.backward()
    values = [o.detach().numpy().copy() for o in outs]
    grads = [np.zeros(tuple(p.shape)) if p.grad is None else p.grad.numpy().copy() for p in leaves]
    return values, grads, [o.requires_grad for o in outs]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda f: f.__name__)
def test_scenario(torch, scenario):
    values, grads, flags = run(pe, scenario)
    expected_values, expected_grads, expected_flags = run(torch, scenario)
    for a, b in zip(values + grads, expected_values + expected_grads, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)
    assert flags == expected_flags


def test_layouts_of_the_base():
    """A channels-last base, and views of it."""
    x = pe.tensor(np.random.default_rng(0).standard_normal((2, 3, 4, 5)), requires_grad=True)
    b = (x * 2).contiguous(memory_format=pe.channels_last)
    v = b[:, 1]
    v.mul_(3)
    b.sum().backward()
    expected = np.full((2, 3, 4, 5), 2.0)
    expected[:, 1] = 6
    np.testing.assert_array_equal(x.grad.numpy(), expected)
    assert v.requires_grad


# What is refused


def test_leaf_in_place():
    x = pe.ones(3, requires_grad=True)
    writes = [
        lambda: x.add_(1),
        lambda: x.mul_(x),
        lambda: x.zero_(),
        lambda: x.fill_(1),
        lambda: x.copy_(pe.zeros(3)),
        lambda: x.__setitem__(0, 1.0),
        lambda: x.__setitem__([0, 1], 1.0),
        lambda: x[:2].add_(1),
        lambda: x.view(3, 1).mul_(2),
        lambda: x.relu_(),
        lambda: x.clamp_(0, 1),
        lambda: x.masked_fill_(x > 0, 0.0),
        lambda: x.uniform_(),
        lambda: x.normal_(),
        lambda: x.lerp_(x, 0.5),
        lambda: x.scatter_(0, pe.tensor([0]), pe.ones(1)),
        lambda: x.index_add_(0, pe.tensor([0]), pe.ones(1)),
        lambda: x.addcmul_(x, x),
        lambda: x.bernoulli_(0.5),
        lambda: pe.nn.functional.relu(x, inplace=True),
        lambda: pe.nn.functional.dropout(x, 0.5, True, inplace=True),
    ]
    for write in writes:
        with pytest.raises(RuntimeError, match="leaf"):
            write()
    assert x.tolist() == [1, 1, 1] and x._version == 0
    with pe.no_grad():
        x.add_(1)
        x[0] = 5
        x[1:].mul_(2)
    assert x.tolist() == [5, 4, 4] and x.is_leaf and x.requires_grad
    (x * 2).sum().backward()
    assert x.grad.tolist() == [2, 2, 2]


def test_saved_tensor_was_written_to():
    x = pe.ones(3, requires_grad=True)
    w = pe.ones(3)
    cases = [
        (lambda: x * w, w),
        (lambda: (x * 1).exp(), None),
        (lambda: x / w, w),
        (lambda: (x * 2).pow(3), None),
        (lambda: pe.where(w > 0, x * w, x), w),
        (lambda: x[None] @ (w[:, None]), w),
    ]
    for make, written in cases:
        y = make()
        before = (w if written is not None else y)._version
        (written if written is not None else y).add_(1)
        assert (written if written is not None else y)._version == before + 1
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.sum().backward()
    y = (x * 2).sigmoid()
    v = y[1:]
    v.zero_()  # a write through a view counts for the base
    with pytest.raises(RuntimeError, match="inplace"):
        y.sum().backward()
    y = (x * 2).sigmoid()
    y.detach().zero_()  # and so does one through a detached tensor
    with pytest.raises(RuntimeError, match="inplace"):
        y.sum().backward()
    y = x * w
    w.data.numpy()[0] = 9  # NumPy's writes cannot be seen
    y.sum().backward()


def test_optimizer_style_update_between_forward_and_backward():
    w = pe.ones(3, requires_grad=True)
    y = (w * w).sum()
    with pe.no_grad():
        w.sub_(0.1)
    with pytest.raises(RuntimeError, match="inplace"):
        y.backward()


def test_views_made_without_grad():
    b = pe.ones(3, requires_grad=True) * 2
    with pe.no_grad():
        v = b[1:]
    assert not v.requires_grad
    with pytest.raises(RuntimeError, match="no_grad"):
        v.mul_(pe.ones(2, requires_grad=True))
    with pe.no_grad():
        v.mul_(2)
    assert b.tolist() == [2, 4, 4]
    del b, v


def test_shape_and_dtype_stay():
    x = pe.ones(3, requires_grad=True)
    b = x * 1
    with pytest.raises(ValueError):
        b.add_(pe.ones(2, 3))
    with pytest.raises(RuntimeError):
        pe.ones(3, dtype=pe.int64).mul_(x)
    c = b.double()
    b.add_(c)
    assert b.dtype == pe.float32
    b.sum().backward()
    assert x.grad.tolist() == [2, 2, 2]


def test_in_place_chains_are_freed():
    live = pe.memory_stats()["live_bytes"]
    x = pe.ones(1000, requires_grad=True)
    b = x * 1
    for _ in range(20):
        b[:10] = b[10:20] * 2
        b.mul_(1.5)
    b.sum().backward()
    del b
    assert pe.memory_stats()["live_bytes"] == live + 8000


def test_second_derivative_through_assignment():
    x = pe.tensor([1.0, 2.0], dtype=pe.float64, requires_grad=True)
    b = x * x
    b[0] = x[1] ** 3
    try:
        (g,) = autograd.grad((b * b).sum(), x, create_graph=True)
    except NotImplementedError:
        return  # said so clearly
    assert autograd.grad(g[1], x)[0].tolist() == [0, 30 * 16 + 12 * 4]
