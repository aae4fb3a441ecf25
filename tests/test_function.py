"""autograd.Function: gradients written in Python."""

from __future__ import annotations

import collections
import gc
import weakref

import numpy as np
import pytest

import pyengine as pe
from pyengine import autograd
from pyengine.autograd import Function

pytestmark = pytest.mark.usefixtures("no_leak")


def leaf(*values):
    return pe.tensor(list(values), dtype=pe.float64, requires_grad=True)


class Exp(Function):
    """Saves its output."""

    @staticmethod
    def forward(ctx, x):
        y = x.exp()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, dy):
        (y,) = ctx.saved_tensors
        return dy * y


class Cube(Function):
    """Saves its input."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x * x

    @staticmethod
    def backward(ctx, dy):
        (x,) = ctx.saved_tensors
        return dy * 3 * x * x


class ScaleAndShift(Function):
    """Arguments that are not tensors, two outputs, attributes."""

    @staticmethod
    def forward(ctx, x, factor, y, name="n"):
        ctx.factor, ctx.name = factor, name
        return x * factor, y + factor

    @staticmethod
    def backward(ctx, da, db):
        return da * ctx.factor, None, db, None


class Setup(Function):
    """The two-step form."""

    @staticmethod
    def forward(x, power):
        return x**power

    @staticmethod
    def setup_context(ctx, inputs, output):
        x, ctx.power = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx, dy):
        (x,) = ctx.saved_tensors
        return dy * ctx.power * x ** (ctx.power - 1), None


def test_values_and_gradients():
    x = leaf(0.5, -1.0)
    assert autograd.gradcheck(Exp.apply, x) and autograd.gradcheck(Cube.apply, x)
    assert autograd.gradcheck(lambda v: Setup.apply(v, 3), x)
    y = Cube.apply(x)
    assert y.requires_grad and "Cube" in y.grad_fn.name() and not y.is_leaf
    assert autograd.gradcheck(lambda a, b: ScaleAndShift.apply(a, 3.0, b), (x, leaf(1.0)))
    (Cube.apply(Exp.apply(x)) * x).sum().backward()
    v = np.array([0.5, -1.0])
    np.testing.assert_allclose(x.grad.numpy(), np.exp(3 * v) * (1 + 3 * v))


def test_higher_derivatives():
    x = leaf(0.5, -1.0)
    assert autograd.gradgradcheck(Exp.apply, x) and autograd.gradgradcheck(Cube.apply, x)
    assert autograd.gradgradcheck(lambda v: Setup.apply(v, 4), x)
    y = Cube.apply(x).sum()
    for expected in ([0.75, 3.0], [3.0, -6.0], [6.0, 6.0]):
        (g,) = autograd.grad(y, x, create_graph=True)
        assert g.tolist() == expected
        y = g.sum()


def test_recording():
    c = pe.ones(2, dtype=pe.float64)
    assert not Cube.apply(c).requires_grad
    with pe.no_grad():
        assert not Cube.apply(leaf(1.0)).requires_grad
    seen = []

    class Look(Function):
        @staticmethod
        def forward(ctx, x, y, k):
            seen.append((ctx.needs_input_grad, pe.is_grad_enabled()))
            return x * y

        @staticmethod
        def backward(ctx, dy):
            seen.append((ctx.needs_input_grad, pe.is_grad_enabled()))
            return dy, None, None

    Look.apply(leaf(1.0), pe.ones(1, dtype=pe.float64), 3).backward()
    assert seen == [((True, False, False), False), ((True, False, False), False)]


def test_unused_outputs_come_as_zeros_or_none():
    got = []

    class Two(Function):
        @staticmethod
        def forward(ctx, x, materialize):
            ctx.set_materialize_grads(materialize)
            return x * 1, x.reshape(1, -1) * 2

        @staticmethod
        def backward(ctx, da, db):
            got.append(db)
            return da, None

    x = leaf(1.0, 2.0)
    Two.apply(x, True)[0].sum().backward()
    assert got[-1].tolist() == [[0, 0]]
    Two.apply(x, False)[0].sum().backward()
    assert got[-1] is None
    got.clear()


def test_none_gradients():
    class Half(Function):
        @staticmethod
        def forward(ctx, x, y):
            return x + y

        @staticmethod
        def backward(ctx, dy):
            return dy, None

    x, y = leaf(1.0), leaf(2.0)
    Half.apply(x, y).backward()
    assert x.grad.tolist() == [1] and y.grad is None
    assert autograd.grad(Half.apply(x, y), [x, y], allow_unused=True)[1] is None


def test_structures():
    Point = collections.namedtuple("Point", "a b")

    class Structures(Function):
        @staticmethod
        def forward(ctx, x, kind):
            items = (x * 2, x * 3)
            return Point(*items) if kind == "named" else list(items) if kind == "list" else (*items, "text", None)

        @staticmethod
        def backward(ctx, da, db):
            return da * 2 + db * 3, None

    x = leaf(1.0)
    named = Structures.apply(x, "named")
    assert type(named) is Point
    (named.a + named.b).backward()
    assert x.grad.tolist() == [5]
    assert type(Structures.apply(x, "list")) is list
    a, b, text, none = Structures.apply(x, "tuple")
    assert text == "text" and none is None and a.requires_grad


def test_input_handed_through():
    class Same(Function):
        @staticmethod
        def forward(ctx, x):
            return x

        @staticmethod
        def backward(ctx, dy):
            return dy * 10

    x = leaf(1.0, 2.0)
    y = Same.apply(x)
    assert y is not x and y.tolist() == x.tolist() and x.is_leaf and not y.is_leaf
    y.sum().backward()
    assert x.grad.tolist() == [10, 10]

    class SaveSame(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x

        @staticmethod
        def backward(ctx, dy):
            return dy * ctx.saved_tensors[0]

    x.grad = None
    SaveSame.apply(x).sum().backward()
    assert x.grad.tolist() == [1, 2]


class DoubleInPlace(Function):
    """Changes its input and returns it."""

    @staticmethod
    def forward(ctx, x):
        x.mul_(2)
        ctx.mark_dirty(x)
        return x

    @staticmethod
    def backward(ctx, dy):
        return dy * 2


def test_mark_dirty():
    x = leaf(1.0, 2.0)
    y = x * 3
    z = DoubleInPlace.apply(y)
    assert z is y and y.tolist() == [6, 12]
    (y * y).sum().backward()
    assert x.grad.tolist() == [72, 144]
    plain = pe.ones(2, dtype=pe.float64)
    assert DoubleInPlace.apply(plain) is plain and plain.tolist() == [2, 2]
    with pytest.raises(RuntimeError, match="leaf"):
        DoubleInPlace.apply(leaf(1.0))
    with pytest.raises(RuntimeError, match="view"):
        DoubleInPlace.apply((x * 1)[:1])


def test_mark_non_differentiable():
    class SortLike(Function):
        @staticmethod
        def forward(ctx, x):
            rank = x.argsort().double()
            ctx.mark_non_differentiable(rank)
            return x * 2, rank

        @staticmethod
        def backward(ctx, dy, d_rank):
            assert d_rank.tolist() == [0, 0]
            return dy * 2

    x = leaf(2.0, 1.0)
    y, rank = SortLike.apply(x)
    assert y.requires_grad and not rank.requires_grad and rank.is_leaf
    (y * rank).sum().backward()
    assert x.grad.tolist() == [2, 0]

    class Integers(Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2, x.long()

        @staticmethod
        def backward(ctx, dy, d_long):
            return dy * 2

    y, i = Integers.apply(x)
    assert not i.requires_grad
    y.sum().backward()


class OwnError(Exception):
    """Told apart from the engine's."""


def test_exceptions_come_through():
    class Fails(Function):
        @staticmethod
        def forward(ctx, x, where):
            ctx.where = where
            if where == "forward":
                raise OwnError("in forward")
            return x * 1

        @staticmethod
        def backward(ctx, dy):
            raise OwnError("in backward")

    x = leaf(1.0)
    with pytest.raises(OwnError, match="in forward"):
        Fails.apply(x, "forward")
    assert pe.is_grad_enabled()
    y = Fails.apply(x * 2, "backward")
    with pytest.raises(OwnError, match="in backward"):
        (y * 3).backward()
    with pytest.raises(OwnError, match="in backward"):
        autograd.grad(Fails.apply(x, "backward"), x, create_graph=True)
    assert pe.is_grad_enabled()
    (x * 2).backward()
    assert x.grad.tolist() == [2]


def test_wrong_returns():
    class Returns(Function):
        @staticmethod
        def forward(ctx, x, what):
            ctx.what = what
            return x * 1

        @staticmethod
        def backward(ctx, dy):
            return ctx.what(dy)

    x = leaf(1.0, 2.0)
    for what, error, text in [
        (lambda g: (g, None, g), RuntimeError, "3 gradients, expected 2"),
        (lambda g: (g,), RuntimeError, "1 gradients, expected 2"),
        (lambda g: (5, None), TypeError, "int"),
        (lambda g: (g[:1], None), ValueError, "shape"),
        (lambda g: (g.reshape(1, 2), None), ValueError, "shape"),
    ]:
        with pytest.raises(error, match=text):
            Returns.apply(x, what).sum().backward()
    Returns.apply(x, lambda g: (g, None, None)).sum().backward()  # PyTorch allows further Nones
    assert x.grad.tolist() == [1, 1]

    class NoBackward(Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1

    with pytest.raises(NotImplementedError, match="backward"):
        NoBackward.apply(x).sum().backward()
    with pytest.raises(NotImplementedError, match="forward"):
        Function.apply(x)


def test_saved_tensors_are_watched():
    x = leaf(1.0)
    y = x * 2
    z = Cube.apply(y)
    y.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z.backward()
    e = Exp.apply(x)
    e.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        e.backward()
    z = Cube.apply(x)
    z.backward()
    with pytest.raises(RuntimeError, match="second time"):
        z.backward()
    z = Cube.apply(x)
    z.backward(retain_graph=True)
    z.backward()
    assert x.grad.tolist() == [9]


def test_saving_none_and_others():
    class Optional(Function):
        @staticmethod
        def forward(ctx, x, bias):
            ctx.save_for_backward(x, bias)
            return x if bias is None else x + bias

        @staticmethod
        def backward(ctx, dy):
            x, bias = ctx.saved_tensors
            return dy, None if bias is None else dy

    x = leaf(1.0)
    Optional.apply(x, None).backward()
    Optional.apply(x, leaf(2.0)).backward()
    assert x.grad.tolist() == [2]


def test_arguments_do_not_outlive_their_use():
    class Unsaved(Function):
        @staticmethod
        def forward(ctx, x, other):
            return x * 2

        @staticmethod
        def backward(ctx, dy):
            return dy * 2, None

    x, other = leaf(1.0), pe.zeros(1000)
    alive = weakref.ref(other)
    y = Unsaved.apply(x, other)
    del other
    assert alive() is None
    y.backward()
    y = DoubleInPlace.apply(x * 1)
    gone = weakref.ref(y)
    del y
    gc.collect()
    assert gone() is None


def test_context_that_refers_to_the_output_is_collected():
    class Cycle(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.y = x * 2
            return ctx.y

        @staticmethod
        def backward(ctx, dy):
            return dy * 2

    y = Cycle.apply(leaf(1.0))
    gone = weakref.ref(y)
    del y
    gc.collect()
    assert gone() is None


def test_mixed_dtypes():
    class ToFloat(Function):
        @staticmethod
        def forward(ctx, x):
            return x.float()

        @staticmethod
        def backward(ctx, dy):
            assert dy.dtype == pe.float32
            return dy  # converted to the input's dtype

    x = leaf(1.0)
    ToFloat.apply(x).backward()
    assert x.grad.dtype == pe.float64


def test_once_differentiable():
    class Once(Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        @autograd.function.once_differentiable
        def backward(ctx, dy):
            return dy * 2

    x = leaf(1.0)
    Once.apply(x).backward()
    assert x.grad.tolist() == [2]
    with pytest.raises(RuntimeError, match="once_differentiable"):
        autograd.grad(Once.apply(x), x, create_graph=True)
