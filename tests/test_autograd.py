"""The engine of derivatives: modes, backward, grad, higher derivatives, gradcheck."""

from __future__ import annotations

import math
import threading

import numpy as np
import pytest

import pyengine as pe
from pyengine import autograd

pytestmark = pytest.mark.usefixtures("no_leak")


def leaf(*values):
    return pe.tensor(values[0] if len(values) == 1 else list(values), dtype=pe.float64, requires_grad=True)


# Worked examples


def test_worked_example_log_sqrt():
    x, y = leaf(3.0), leaf(2.0)
    f = y * x.log() + (y * x.log()).sqrt()
    f.backward()
    assert x.grad.item() == pytest.approx(0.891542, abs=5e-7) and y.grad.item() == pytest.approx(1.469188, abs=5e-7)


def test_worked_example_shared_subexpression():
    x, y = leaf(3.0), leaf(2.0)
    u = y * x.log()
    (u + u.sqrt()).backward()
    assert x.grad.item() == pytest.approx(0.891542, abs=5e-7) and y.grad.item() == pytest.approx(1.469188, abs=5e-7)


def test_worked_example_sine():
    x1, x2 = leaf(2.0), leaf(0.5)
    y = x1 * x2 + x2.sin()
    y.backward()
    assert x1.grad.item() == 0.5 and x2.grad.item() == pytest.approx(2 + math.cos(0.5), abs=1e-15)


# What records


def test_what_requires_grad():
    x, c = leaf(1.0), pe.tensor(2.0, dtype=pe.float64)
    assert x.is_leaf and x.grad_fn is None and c.is_leaf and not c.requires_grad
    y = x * c
    assert y.requires_grad and not y.is_leaf and y.grad_fn is not None and y.grad is None
    assert not (c * c).requires_grad and (c * c).grad_fn is None and (c * c).is_leaf
    assert not (x > 0).requires_grad and not x.long().requires_grad and not x.argmax().requires_grad
    assert not x.detach().requires_grad and x.detach().is_leaf and not x.data.requires_grad
    assert c.requires_grad_() is c and c.requires_grad
    c.requires_grad = False
    assert not c.requires_grad
    with pytest.raises(RuntimeError, match="floating point"):
        pe.tensor(1).requires_grad_()
    with pytest.raises(RuntimeError, match="leaf"):
        y.requires_grad = False
    y.requires_grad = True  # it does already


def test_modes():
    x = leaf(1.0)
    assert pe.is_grad_enabled() and autograd.is_grad_enabled()
    with pe.no_grad():
        assert not pe.is_grad_enabled() and not (x * 2).requires_grad
        with pe.enable_grad():
            assert (x * 2).requires_grad
        assert not pe.is_grad_enabled()
        made = pe.ones(1, requires_grad=True)
    assert made.requires_grad and pe.is_grad_enabled()
    with pytest.raises(KeyError), pe.no_grad():
        raise KeyError
    assert pe.is_grad_enabled()
    with pe.set_grad_enabled(False):
        assert not pe.is_grad_enabled()
    assert pe.is_grad_enabled()
    pe.set_grad_enabled(False)
    assert not pe.is_grad_enabled()
    pe.set_grad_enabled(True)
    with pe.inference_mode():
        assert not (x * 2).requires_grad
    with pe.inference_mode(False):
        assert (x * 2).requires_grad
    block = pe.no_grad()
    with block, block:  # one object may be entered twice
        assert not pe.is_grad_enabled()
    assert pe.is_grad_enabled()


def test_mode_decorators():
    @pe.no_grad()
    def a(v, k=1):
        """Doc."""
        return (v * k).requires_grad

    @pe.no_grad
    def b(v):
        return (v * 2).requires_grad

    @pe.enable_grad()
    def c(v):
        return (v * 2).requires_grad

    @pe.inference_mode()
    def d(v):
        return (v * 2).requires_grad

    @pe.set_grad_enabled(False)
    def e(v):
        return (v * 2).requires_grad

    x = leaf(1.0)
    assert pe.is_grad_enabled()
    assert not a(x, k=3) and not b(x) and c(x) and not d(x) and not e(x)
    assert a.__name__ == "a" and a.__doc__ == "Doc."
    with pe.no_grad():
        assert c(x)
    assert pe.is_grad_enabled()


def test_mode_belongs_to_the_thread():
    seen = []
    with pe.no_grad():
        thread = threading.Thread(target=lambda: seen.append(pe.is_grad_enabled()))
        thread.start()
        thread.join()
    assert seen == [True]

    def switch_off():
        pe.set_grad_enabled(False)

    thread = threading.Thread(target=switch_off)
    thread.start()
    thread.join()
    assert pe.is_grad_enabled()


def test_detach():
    x = leaf(1.0, 2.0)
    y = x * 3
    z = y.detach()
    assert z.data_ptr() == y.data_ptr()
    (y * z).sum().backward()
    assert x.grad.tolist() == [9, 18]
    y = x * 3
    assert y.detach_() is y and not y.requires_grad and y.is_leaf
    with pytest.raises(RuntimeError, match="view"):
        (x * 1)[0].detach_()


# backward


def test_fan_out_is_summed():
    x = leaf(2.0)
    y = x * x + x * 3 + x
    (y * y + y).backward()
    assert x.grad.item() == (2 * 12 + 1) * (2 * 2 + 4)
    x.grad = None
    total = sum(x * i for i in range(100))
    total.backward()
    assert x.grad.item() == 4950


def test_accumulation():
    x = leaf(1.0, 2.0)
    for i in range(1, 4):
        (x * 2).sum().backward()
        assert x.grad.tolist() == [2.0 * i, 2.0 * i]
    g = x.grad
    (x * 2).sum().backward()
    assert x.grad is g and g.tolist() == [8, 8]  # added in place
    x.grad = None
    (x * x).sum().backward()
    assert x.grad.tolist() == [2, 4] and g.tolist() == [8, 8]
    x.grad.zero_()
    assert not x.grad.requires_grad


def test_gradients_do_not_share_memory():
    a, b = leaf(1.0, 2.0), leaf(3.0, 4.0)
    seed = pe.ones(2, dtype=pe.float64)
    (a + b).backward(seed)
    a.grad += 10
    assert b.grad.tolist() == [1, 1] and seed.tolist() == [1, 1]
    a.grad = None
    a.sum().backward()  # the gradient is an expanded one
    a.grad += pe.tensor([1.0, 2.0], dtype=pe.float64)
    assert a.grad.tolist() == [2, 3] and a.grad.is_contiguous()


def test_gradient_has_its_leafs_layout():
    w = pe.rand(2, 3, 4, 5).contiguous(memory_format=pe.channels_last).requires_grad_()
    (w * pe.rand(2, 3, 4, 5)).sum().backward()
    assert w.grad.stride() == w.stride()
    v = pe.rand(4, 3).T.requires_grad_()
    (v * 2).contiguous().sum().backward()
    assert v.grad.stride() == v.stride() == (1, 3)
    p = leaf(1.0)
    (p.float() * 2).backward()
    assert p.grad.dtype == pe.float64


def test_seeds():
    x = leaf(1.0, 2.0)
    (x * x).backward(pe.tensor([1.0, 10.0], dtype=pe.float64))
    assert x.grad.tolist() == [2, 40]
    x.grad = None
    (x * x).backward(gradient=pe.ones(2, dtype=pe.float64))
    assert x.grad.tolist() == [2, 4]
    with pytest.raises(RuntimeError, match="scalar"):
        (x * x).backward()
    with pytest.raises(ValueError, match="shape"):
        (x * x).backward(pe.ones(3, dtype=pe.float64))
    with pytest.raises(RuntimeError, match="does not require grad"):
        pe.ones(1).backward()
    y, z = x.sum(), (x * 2).sum()
    x.grad = None
    autograd.backward([y, z])
    assert x.grad.tolist() == [3, 3]
    x.grad = None
    autograd.backward([x * 2, x.sum()], [pe.ones(2, dtype=pe.float64), None])
    assert x.grad.tolist() == [3, 3]
    x.grad = None
    x.backward(pe.ones(2, dtype=pe.float64))  # a leaf itself
    assert x.grad.tolist() == [1, 1]
    with pytest.raises((RuntimeError, TypeError)):
        autograd.backward([y], [None, None])


def test_second_backward():
    x = leaf(2.0)
    y = x * x
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.item() == 8
    with pytest.raises(RuntimeError, match="retain_graph=True"):
        y.backward()
    z = x + 1  # saves nothing, but is used up all the same
    z.backward()
    with pytest.raises(RuntimeError, match="second time"):
        z.backward()
    u = x.exp()
    (u * 2).backward()
    with pytest.raises(RuntimeError, match="second time"):
        (u * 3).backward()


def test_set_grad():
    x = leaf(1.0, 2.0)
    x.grad = pe.ones(2, dtype=pe.float64)
    (x * 2).sum().backward()
    assert x.grad.tolist() == [3, 3]
    for bad in (pe.ones(3, dtype=pe.float64), pe.ones(2), 1.0, x):
        with pytest.raises((RuntimeError, TypeError, ValueError)):
            x.grad = bad


# grad


def test_grad():
    x, y = leaf(2.0), leaf(3.0)
    z = x * x * y
    gx, gy = autograd.grad(z, [x, y], retain_graph=True)
    assert gx.item() == 12 and gy.item() == 4 and x.grad is None and y.grad is None
    (gx,) = autograd.grad([z], x, grad_outputs=[pe.tensor(2.0, dtype=pe.float64)])
    assert gx.item() == 24
    m = x * 3
    z = m * m
    gm, gx = autograd.grad(z, (m, x))
    assert gm.item() == 12 and gx.item() == 36
    u = leaf(1.0)
    with pytest.raises(RuntimeError, match="allow_unused"):
        autograd.grad(x * 2, [x, u])
    assert autograd.grad(x * 2, [x, u], allow_unused=True)[1] is None
    assert autograd.grad(x * 2, [x, u], materialize_grads=True)[1].item() == 0
    assert autograd.grad(x, x)[0].item() == 1
    with pytest.raises(RuntimeError, match="require grad"):
        autograd.grad(x * 2, pe.ones(1))
    with pytest.raises(RuntimeError, match="require grad"):
        autograd.grad(pe.ones(1), x)


def test_grad_does_not_run_what_it_need_not():
    ran = []
    x, y = leaf(1.0), leaf(2.0)
    a, b = x * 2, y * 2
    b.register_hook(lambda g: ran.append("b"))
    a.register_hook(lambda g: ran.append("a"))
    z = a * b
    (g,) = autograd.grad(z, x)
    assert g.item() == 8 and "a" in ran
    assert y.grad is None and x.grad is None


def test_grad_of_one_output_of_many():
    x = leaf(3.0, 1.0, 2.0)
    values, indices = x.sort()
    a, b, c = values.unbind()
    (g,) = autograd.grad(a * 1 + b * 10 + c * 100, values, retain_graph=True)
    assert g.tolist() == [1, 10, 100]
    (g,) = autograd.grad(a * 1 + b * 10 + c * 100, x)
    assert g.tolist() == [100, 1, 10] and not indices.requires_grad


# Higher derivatives


def test_higher_derivatives():
    x = leaf(0.5)
    y = x.sin()
    expected = [math.cos(0.5), -math.sin(0.5), -math.cos(0.5), math.sin(0.5), math.cos(0.5)]
    for e in expected:
        (y,) = autograd.grad(y, x, create_graph=True)
        assert y.item() == pytest.approx(e, abs=1e-14)
    x = leaf(2.0)
    y = x**5
    for e in [80, 160, 240, 240, 120]:
        (y,) = autograd.grad(y, x, create_graph=True)
        assert y.item() == pytest.approx(e)


def test_create_graph_in_backward():
    x = leaf(3.0)
    (x**3).backward(create_graph=True)
    assert x.grad.requires_grad and x.grad.item() == 27
    g = x.grad
    x.grad = None
    g.backward()
    assert x.grad.item() == 18
    x.grad = None
    del g


def test_hessian_and_gradient_penalty():
    a = pe.tensor([[2.0, 1.0], [1.0, 3.0]], dtype=pe.float64)
    x = leaf(1.0, -1.0)
    (g,) = autograd.grad((x @ a @ x) / 2, x, create_graph=True)
    rows = [autograd.grad(g[i], x, retain_graph=True)[0].tolist() for i in range(2)]
    assert rows == a.tolist()
    w = leaf(1.0, 2.0)
    out = (w * x).tanh().sum()
    (g,) = autograd.grad(out, x, create_graph=True)
    (g * g).sum().backward()
    t = np.tanh(np.array([1.0, -2.0]))
    d = 1 - t * t
    v = np.array([1.0, 2.0])
    expected_w = 2 * v * d * d + 2 * v * d * v * (-2 * t * d) * np.array([1.0, -1.0])
    np.testing.assert_allclose(w.grad.numpy(), expected_w, rtol=1e-12)


# gradcheck


def test_gradcheck_confirms():
    x, y = leaf([[0.3, -1.2], [2.0, 0.7]]), leaf([[1.5], [0.2]])
    assert autograd.gradcheck(lambda a, b: (a * b).sin().sum(0), (x, y))
    assert autograd.gradgradcheck(lambda a, b: (a * b).sin().sum(0), (x, y))
    assert autograd.gradcheck(lambda a: (a * 2, a.exp()), x)


class WrongSquare(autograd.Function):
    """x^2, whose gradient is given as x."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, dy):
        return dy * ctx.saved_tensors[0]


def test_gradcheck_catches():
    x = leaf(1.0, 2.0)
    with pytest.raises(RuntimeError, match="off by up to 2"):
        autograd.gradcheck(WrongSquare.apply, x)
    assert autograd.gradcheck(WrongSquare.apply, x, raise_exception=False) is False
    with pytest.raises(RuntimeError):
        autograd.gradcheck(lambda a: a * a.detach(), x)  # half of it is missing
    with pytest.raises(ValueError, match="float64"):
        autograd.gradcheck(lambda a: a * a, pe.ones(2, requires_grad=True))
    with pytest.raises(ValueError, match="requires"):
        autograd.gradcheck(lambda a: a * a, pe.ones(2, dtype=pe.float64))
