"""One Python object per tensor, for life: attributes, class and weak references stay while it is held."""

from __future__ import annotations

import gc
import operator
import sys
import weakref

import pytest

import pyengine as pe
from pyengine import nn

pytestmark = pytest.mark.usefixtures("no_leak")


class Tagged(pe.Tensor):
    """A subclass without slots."""


class Watched(pe.Tensor):
    """Counts how often an instance is finalized."""

    deaths = 0

    def __del__(self):
        Watched.deaths += 1


class Holder:
    """Any Python object that can hold a tensor, and be watched."""


def held_in_a_graph(x):
    """A node that leads to the leaf x."""
    return (x * 2).grad_fn


def test_grad_is_one_object():
    p = nn.Parameter(pe.ones(3))
    (p * 2).sum().backward()
    g = p.grad
    assert p.grad is g and g is p.grad
    g.note = "mine"
    del g
    gc.collect()
    assert p.grad.note == "mine"
    p.grad.note = "changed"
    assert p.grad.note == "changed"
    p.grad = None
    assert p.grad is None


def test_assigned_grad():
    p = nn.Parameter(pe.ones(3))
    g = Tagged([1.0, 2.0, 3.0])
    g.tag = 1
    address = id(g)
    p.grad = g
    assert p.grad is g
    del g
    gc.collect()
    assert id(p.grad) == address and type(p.grad) is Tagged and p.grad.tag == 1
    (p * 2).sum().backward()
    assert id(p.grad) == address and p.grad.tolist() == [3, 4, 5]


def test_leaf_through_the_graph():
    p = nn.Parameter(pe.ones(3))
    p.name_of_mine = "weight"
    address, alive = id(p), weakref.ref(p)
    node = (p * 2).grad_fn
    assert node.next_functions[0][0].variable is p
    del p
    gc.collect()
    assert alive() is not None
    q = node.next_functions[0][0].variable
    assert (
        id(q) == address and q is alive() and type(q) is nn.Parameter and q.name_of_mine == "weight" and q.requires_grad
    )
    del q, node
    gc.collect()
    assert alive() is None


@pytest.mark.parametrize("kind", [pe.Tensor, Tagged, nn.Parameter])
def test_repeated_death_and_rebirth(kind):
    p = nn.Parameter(pe.ones(2)) if kind is nn.Parameter else kind([1.0, 1.0]).requires_grad_()
    p.count = 0
    address, alive = id(p), weakref.ref(p)
    node = held_in_a_graph(p)
    for i in range(5):
        del p
        if i % 2:
            gc.collect()
        p = node.next_functions[0][0].variable
        assert id(p) == address and type(p) is kind and p.count == i
        p.count += 1
    del node
    gc.collect()
    assert alive() is p and p.count == 5
    node = held_in_a_graph(p)
    del p
    gc.collect()
    assert node.next_functions[0][0].variable.count == 5
    del node
    gc.collect()
    assert alive() is None


def test_weak_reference_while_only_the_engine_holds_it():
    x = pe.ones(2, requires_grad=True)
    x.tag = "a"
    called = []
    alive = weakref.ref(x, called.append)
    node = held_in_a_graph(x)
    del x
    for _ in range(3):
        assert alive().tag == "a"
        gc.collect()
    y = alive()
    del node  # the engine lets go while a reference made from the weak one lives
    gc.collect()
    assert y.tag == "a" and alive() is y and not called
    node = held_in_a_graph(y)  # and takes it again
    del y
    gc.collect()
    assert alive().tag == "a" and node.next_functions[0][0].variable.tag == "a"
    del node
    gc.collect()
    assert alive() is None and len(called) == 1


def test_weak_collections():
    x = pe.ones(2, requires_grad=True)
    table = weakref.WeakKeyDictionary({x: 1})
    node = held_in_a_graph(x)
    del x
    gc.collect()
    assert list(table.values()) == [1] and next(table.keys()) is node.next_functions[0][0].variable
    del node
    gc.collect()
    assert len(table) == 0


def test_same_object_from_methods_that_return_self():
    x = pe.ones(2)
    assert x.add_(1) is x and x.requires_grad_(False) is x and x.contiguous() is x and x.float() is x and x.cpu() is x
    assert x.detach() is not x and x.view(2) is not x and x[:] is not x
    x += 1
    y = x
    y *= 2
    assert y is x


def test_subclasses():
    t = Tagged([1.0, 2.0])
    assert isinstance(t, pe.Tensor) and t.shape == (2,) and type(t + 1) is pe.Tensor
    assert type(nn.Parameter(pe.ones(1)).detach()) is pe.Tensor and type(nn.Parameter(pe.ones(1)).data) is pe.Tensor

    class Slotted(pe.Tensor):
        __slots__ = ("extra",)

    s = Slotted([1.0])
    s.extra = 5
    node = held_in_a_graph(s.requires_grad_())
    del s
    gc.collect()
    s = node.next_functions[0][0].variable
    assert type(s) is Slotted and s.tolist() == [1]
    del s, node


def test_cycles_through_attributes_are_collected():
    x = pe.zeros(100)
    x.me = x
    y, z = pe.zeros(100), Tagged(100)
    y.other, z.other = z, y
    holder = Holder()
    w = pe.zeros(100)
    holder.tensor, w.holder = w, holder
    alive = [weakref.ref(o) for o in (x, y, z, w, holder)]
    live = pe.memory_stats()["live_bytes"]
    del x, y, z, w, holder
    gc.collect()
    assert [r() for r in alive] == [None] * 5
    assert pe.memory_stats()["live_bytes"] == live - 1600


def test_cycle_that_the_engine_holds():
    x = pe.ones(3, requires_grad=True)
    x.me, x.tag = x, "kept"
    node = held_in_a_graph(x)
    address = id(x)
    del x
    for _ in range(3):
        gc.collect()
        y = node.next_functions[0][0].variable
        assert id(y) == address and y.me is y and y.tag == "kept"
        del y
    del node
    gc.collect()  # now the fixture sees it gone


def test_object_reached_from_a_cycle_that_the_engine_holds():
    """The collector finalizes the cycle; only one of its tensors is the engine's, the other must stay whole too."""
    x, t = pe.ones(2, requires_grad=True), Tagged([3.0]).requires_grad_()
    x.t, t.x, t.tag = t, x, "kept"
    node = held_in_a_graph(x)
    del x, t
    gc.collect()
    y = node.next_functions[0][0].variable
    t = y.t
    assert t.tag == "kept" and t.x is y
    second = held_in_a_graph(t)
    del t.x, y.t, t
    gc.collect()
    assert second.next_functions[0][0].variable.tag == "kept"


def test_finalizer_of_a_subclass():
    Watched.deaths = 0
    w = Watched([1.0]).requires_grad_()
    w.tag = "kept"
    node = held_in_a_graph(w)
    del w
    gc.collect()
    w = node.next_functions[0][0].variable
    assert type(w) is Watched and w.tag == "kept"
    del w, node
    gc.collect()
    assert Watched.deaths >= 1


def test_attributes():
    x = pe.ones(2)
    x.a = 1
    assert x.__dict__ == {"a": 1}
    del x.a
    assert not hasattr(x, "a")
    with pytest.raises(AttributeError):
        _ = x.nothing
    with pytest.raises(AttributeError):
        x.shape = (3,)
    assert sys.getrefcount(x) <= 3


def test_results_hold_no_references():
    """Reference counts of inputs come back after reading, writing, errors and conversions."""
    x, y = pe.ones(3), pe.ones(3)
    count = sys.getrefcount(x)
    for _ in range(10):
        _ = x + y, x.add(y), x[0], x[:2], x.tolist(), list(x), 1 in x, x == y, -x, x.sum(), x.shape, x.numpy()
        x += y
        x[0] = 1
        for f, argument in [(operator.add, "a"), (operator.add, pe.ones(2)), (operator.getitem, 7), (pe.reshape, (5,))]:
            with pytest.raises((TypeError, ValueError, IndexError)):
                f(x, argument)
    del _
    assert sys.getrefcount(x) == count


def test_objects_are_freed_at_once():
    live = pe.memory_stats()["live_bytes"]
    x = pe.zeros(1000)
    y = (x + 1) * 2
    assert pe.memory_stats()["live_bytes"] == live + 8000
    del x, y
    assert pe.memory_stats()["live_bytes"] == live
    w = pe.ones(1000, requires_grad=True)
    loss = (w * w).exp().sum()
    loss.backward()
    del loss
    assert pe.memory_stats()["live_bytes"] == live + 8000  # w and its gradient
    w.grad = None
    assert pe.memory_stats()["live_bytes"] == live + 4000


def test_graph_without_backward_is_freed():
    live = pe.memory_stats()["live_bytes"]
    w = nn.Parameter(pe.ones(1000))
    y = w
    for _ in range(10):
        y = (y * w).tanh()
    del y
    assert pe.memory_stats()["live_bytes"] == live + 4000


def test_parameters_in_modules():
    layer = nn.Linear(4, 3)
    p = layer.weight
    out = layer(pe.ones(2, 4))
    leaves, stack, seen = [], [out.grad_fn], set()
    while stack:
        node = stack.pop()
        if node is None or repr(node) in seen:
            continue
        seen.add(repr(node))
        if node.variable is not None:
            leaves.append(node.variable)
        stack.extend(n for n, _ in node.next_functions)
    assert any(leaf is p for leaf in leaves) and any(leaf is layer.bias for leaf in leaves)
    assert all(type(leaf) is nn.Parameter for leaf in leaves)


def test_leaf_hook_that_refers_to_its_tensor_is_collected():
    x = pe.ones(10, requires_grad=True)
    alive = weakref.ref(x)
    x.register_hook(lambda g, x=x: g * x.detach())
    x.sum().backward()
    assert x.grad.tolist() == [1.0] * 10
    del x
    gc.collect()
    assert alive() is None


def test_hook_on_a_result_that_refers_to_it_is_collected():
    x = pe.ones(10, requires_grad=True)
    y = x * 2
    alive = weakref.ref(y)
    y.register_hook(lambda g, y=y: g * y.detach())
    del y
    gc.collect()
    assert alive() is None


def test_removed_hook_lets_go():
    x = pe.ones(1, requires_grad=True)
    holder = Holder()
    alive = weakref.ref(holder)
    handle = x.register_hook(lambda g, h=holder: None)
    del holder
    assert alive() is not None
    handle.remove()
    gc.collect()
    assert alive() is None
