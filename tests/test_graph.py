"""Hooks, retained gradients, chains of 200,000 operations, and several threads in one graph."""

from __future__ import annotations

import math
import threading

import pytest

import pyengine as pe
from pyengine import autograd, nn

pytestmark = pytest.mark.usefixtures("no_leak")


def leaf(*values):
    return pe.tensor(values[0] if len(values) == 1 else list(values), dtype=pe.float64, requires_grad=True)


# retain_grad and hooks


def test_retain_grad():
    x = leaf(2.0)
    y = x * 3
    z = y * y
    y.retain_grad()
    y.retain_grad()
    assert y.retains_grad and not z.retains_grad
    z.backward()
    assert y.grad.item() == 12 and z.grad is None and x.grad.item() == 36
    x.retain_grad()  # nothing to do for a leaf
    with pytest.raises(RuntimeError, match="requires_grad"):
        pe.ones(1).retain_grad()
    u = x * 1
    u.retain_grad()
    (u * 2 + u * 3).backward()
    assert u.grad.item() == 5
    w = (x * 1) * 4
    w.retain_grad()
    v = w * 2
    del w  # its gradient is nobody's any more
    v.backward()


def test_hooks():
    x = leaf(1.0, 2.0)
    calls = []
    y = x * 2
    y.register_hook(lambda g: calls.append(("y first", g.tolist())))
    y.register_hook(lambda g: g * 10)
    y.register_hook(lambda g: calls.append(("y last", g.tolist())))
    x.register_hook(lambda g: calls.append(("x", g.tolist())))
    removed = x.register_hook(lambda g: calls.append("never"))
    x.register_hook(lambda g: g + 1)
    removed.remove()
    removed.remove()
    y.retain_grad()
    y.sum().backward()
    assert calls == [("y first", [1, 1]), ("y last", [10, 10]), ("x", [20, 20])]
    assert x.grad.tolist() == [21, 21] and y.grad.tolist() == [10, 10]
    with x.register_hook(lambda g: calls.append("with")):
        (x * 2).sum().backward()
    (x * 2).sum().backward()
    assert calls.count("with") == 1
    with pytest.raises(RuntimeError, match="require"):
        pe.ones(1).register_hook(print)


def test_hook_runs_once_on_the_whole_gradient():
    x = leaf(1.0)
    y = x * 2
    seen = []
    y.register_hook(lambda g: seen.append(g.item()))
    x.register_hook(lambda g: seen.append(g.item()))
    (y * 3 + y * 4).backward()
    assert seen == [7, 14]


def test_hooks_and_grad():
    x = leaf(1.0)
    x.register_hook(lambda g: g * 2)
    y = x * 3
    y.register_hook(lambda g: g * 5)
    assert autograd.grad(y, x)[0].item() == 30


def test_bad_hooks():
    x = leaf(1.0, 2.0)
    with x.register_hook(lambda g: 5), pytest.raises(TypeError, match="hook"):
        x.sum().backward()
    with x.register_hook(lambda g: g[:1]), pytest.raises(ValueError, match="hook"):
        x.sum().backward()

    class OwnError(Exception):
        pass

    def fail(g):
        raise OwnError("mine")

    y = x * 2
    y.register_hook(fail)
    with pytest.raises(OwnError, match="mine"):
        y.sum().backward()
    assert pe.is_grad_enabled()
    x.grad = None
    (x * 2).sum().backward()
    assert x.grad.tolist() == [2, 2]


def test_hook_that_calls_the_engine():
    x, other = leaf(2.0), leaf(3.0)

    def nested(g):
        with pe.enable_grad():
            (other * other).backward()
        return g * other.grad

    x.register_hook(nested)
    (x * 5).backward()
    assert x.grad.item() == 30 and other.grad.item() == 6


def test_hook_that_removes_itself():
    x = leaf(1.0)
    handles, calls = [], []

    def once(g):
        calls.append(1)
        handles[0].remove()

    handles.append(x.register_hook(once))
    (x * 2).backward()
    (x * 2).backward()
    assert calls == [1]


# Long chains


@pytest.mark.parametrize("kind", ["sum of losses", "product", "tanh", "views", "in place", "clone"])
@pytest.mark.parametrize("run", ["backward", "drop", "grad"])
def test_long_chain(kind, run):
    n = 200_000
    if kind != "sum of losses" and run == "grad":
        pytest.skip("one kind is enough")
    x = leaf(1.0)
    y = x * 1
    if kind == "sum of losses":
        for _ in range(n):
            y = y + x
    elif kind == "product":
        for _ in range(n):
            y = y * x
    elif kind == "tanh":
        for _ in range(n):
            y = y.tanh()
    elif kind == "views":
        for _ in range(n):
            y = y.view(1) if y.dim() == 0 else y.view(())
    elif kind == "in place":
        for _ in range(n):
            y += x
    else:
        for _ in range(n):
            y = y.clone()
    if run == "backward":
        y.backward()
        expected = {"sum of losses": n + 1, "product": n + 1, "views": 1, "in place": n + 1, "clone": 1}.get(kind)
        assert x.grad.item() == expected or kind == "tanh"
    elif run == "grad":
        assert autograd.grad(y, x)[0].item() == n + 1
    del y


# Threads


def test_backward_from_two_threads():
    w = nn.Parameter(pe.ones(64, 64))
    errors, rounds = [], 30
    start = threading.Barrier(3)

    def work(seed):
        try:
            start.wait()
            v = pe.full((64, 64), 0.5, requires_grad=True)
            for _ in range(rounds):
                ((v * w).relu() * 2).sum().backward()
            assert v.grad[0, 0].item() == 2 * rounds
        except BaseException as e:  # the main thread reports it
            errors.append(e)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors
    assert bool((w.grad == 3 * rounds).all())


def test_forward_here_backward_there():
    x = leaf(2.0)
    y = (x * x).exp()
    thread = threading.Thread(target=y.backward)
    thread.start()
    thread.join()
    assert x.grad.item() == pytest.approx(4 * math.exp(4))
