"""x[key] and x[key] = value: every kind of key, compared with NumPy; errors and gradients."""

from __future__ import annotations

import numpy as np
import pytest

import pyengine as pe

hypothesis = pytest.importorskip("hypothesis")
st = hypothesis.strategies


def to_tensors(key):
    """The same key with tensors for arrays."""
    if isinstance(key, tuple):
        return tuple(to_tensors(k) for k in key)
    return pe.tensor(key) if isinstance(key, np.ndarray) else key


@st.composite
def slices(draw, n):
    bound = st.none() | st.integers(-n - 2, n + 2)
    return slice(draw(bound), draw(bound), draw(st.none() | st.integers(1, 3)))


@st.composite
def basic_keys(draw, shape):
    """A tuple of integers, slices, None and at most one Ellipsis."""
    key = []
    for n in shape[: draw(st.integers(0, len(shape)))]:
        options = [slices(n), st.just(slice(None))]
        if n > 0:
            options.append(st.integers(-n, n - 1))
        key.append(draw(st.one_of(options)))
        if draw(st.integers(0, 5)) == 0:
            key.append(None)
    if draw(st.booleans()):
        key.append(Ellipsis)
    return tuple(key)


@st.composite
def advanced_keys(draw, shape):
    """As basic_keys, with index arrays (that broadcast), lists and masks among the items."""
    index_shape = draw(st.sampled_from([(), (1,), (3,), (2, 1), (2, 3), (0,)]))
    key, d, used, advanced = [], 0, draw(st.integers(1, len(shape))), False
    while d < used:
        n = shape[d]
        kind = draw(st.sampled_from(["index", "index", "list", "mask", "mask2", "int", "slice", "none"]))
        if kind in ("index", "list") and n > 0 and index_shape != ():
            shaped = draw(st.sampled_from([index_shape, index_shape[-1:]]))
            dtype = draw(st.sampled_from([np.int64, np.int32]))
            values = draw(
                st.lists(st.integers(-n, n - 1), min_size=int(np.prod(shaped)), max_size=int(np.prod(shaped)))
            )
            index = np.array(values, dtype).reshape(shaped)
            key.append(index.tolist() if kind == "list" and len(shaped) == 1 and shaped[0] else index)
            advanced = True
        elif kind == "mask" and not advanced:
            key.append(np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)), bool))
            index_shape, advanced = (), True  # its length is not known before: no other index array
        elif kind == "mask2" and not advanced and d + 1 < used:
            m = shape[d + 1]
            key.append(np.array(draw(st.lists(st.booleans(), min_size=n * m, max_size=n * m)), bool).reshape(n, m))
            index_shape, advanced = (), True
            d += 1
        elif kind == "none":
            key.append(None)
            continue
        elif kind == "int" and n > 0 and not advanced:
            # To NumPy an integer beside index arrays is one of them, to PyTorch (and this engine) a selection.
            key.append(slice(None))
        else:
            key.append(draw(slices(n)))
        d += 1
    if draw(st.integers(0, 3)) == 0:
        key.append(Ellipsis)
    return tuple(key)


shapes = st.lists(st.integers(0, 4), min_size=1, max_size=4).map(tuple)
cases = shapes.flatmap(lambda s: st.tuples(st.just(s), st.one_of(basic_keys(s), advanced_keys(s))))
layouts = st.sampled_from(["dense", "transposed", "sliced"])


def laid_out(a, layout):
    if layout == "transposed":
        return pe.tensor(np.ascontiguousarray(a.T)).permute(*range(a.ndim - 1, -1, -1))
    if layout == "sliced":
        wide = pe.zeros(*[2 * n for n in a.shape], dtype=pe.int64)
        x = wide[tuple(slice(None, None, 2) for _ in a.shape)]
        return x.copy_(pe.tensor(a))
    return pe.tensor(a)


def array_of(shape):
    return np.arange(int(np.prod(shape)), dtype=np.int64).reshape(shape)


@hypothesis.settings(max_examples=300, deadline=None, derandomize=True)
@hypothesis.given(cases, layouts)
def test_reading(case, layout):
    shape, key = case
    a = array_of(shape)
    expected = a[key]
    y = laid_out(a, layout)[to_tensors(key)]
    assert tuple(y.shape) == expected.shape
    np.testing.assert_array_equal(y.numpy(), expected)


@hypothesis.settings(max_examples=300, deadline=None, derandomize=True)
@hypothesis.given(cases, layouts, st.sampled_from(["number", "scalar", "full", "row"]))
def test_assignment(case, layout, kind):
    shape, key = case
    a = array_of(shape)
    x = laid_out(a, layout)
    region = a[key].shape
    if kind == "number":
        value = -5
    elif kind == "scalar":
        value = np.array(-7)
    elif kind == "row":
        value = -1 - array_of(region[-1:])
    else:
        value = -1 - array_of(region)
    flat = np.arange(a.size).reshape(shape)[key]
    if not isinstance(value, int) and flat.size != np.unique(flat).size:
        value = np.array(-7)  # which of two writes to one element wins is nobody's promise
    a[key] = value
    x[to_tensors(key)] = to_tensors(value)
    np.testing.assert_array_equal(x.numpy(), a)


@hypothesis.settings(max_examples=100, deadline=None, derandomize=True)
@hypothesis.given(cases)
def test_gradient_of_reading(case):
    """Every element's gradient is the sum over the places it was read to."""
    shape, key = case
    x = pe.tensor(array_of(shape).astype(np.float64), requires_grad=True)
    y = x[to_tensors(key)]
    w = np.cos(array_of(tuple(y.shape)) + 1.0)
    expected = np.zeros(shape)
    np.add.at(expected, key, w)
    (y * pe.tensor(w)).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), expected, atol=1e-14)


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")


def test_integers_beside_index_arrays(torch):
    """The places of the result's dimensions, as in PyTorch."""
    a = np.arange(120).reshape(2, 3, 4, 5)
    i, j = np.array([0, 2, 1]), np.array([3, 0, 4])
    keys = [
        (0, i),
        (slice(None), 1, i),
        (i[:2] % 2, slice(None), slice(None), j[:2]),
        (1, slice(None), i, j),
        (slice(None), i, slice(None), j),
        (None, i % 2, Ellipsis, j),
        (Ellipsis, i, j),
        (0, i, slice(None), 2),
        (slice(None), i[:, None], j[None] % 4),
        (i % 2, None, j % 3),
        (True,),
        (False, 1),
        (a > 50,),
        (slice(None), a[0] > 30),
    ]
    for key in keys:
        torch_key = tuple(torch.tensor(k) if isinstance(k, np.ndarray) else k for k in key)
        expected = torch.tensor(a)[torch_key]
        y = pe.tensor(a)[to_tensors(key)]
        assert tuple(y.shape) == tuple(expected.shape), key
        np.testing.assert_array_equal(y.numpy(), expected.numpy(), err_msg=str(key))


def test_kinds_of_index():
    x = pe.arange(12).reshape(3, 4)
    assert x[pe.tensor(1)].tolist() == [4, 5, 6, 7] and x[np.int64(2), np.array(1)].item() == 9
    assert x[[0, 2]].tolist() == [[0, 1, 2, 3], [8, 9, 10, 11]] and x[[True, False, True], 1].tolist() == [1, 9]
    assert x[range(2)].shape == (2, 4) and x[[]].shape == (0, 4) and x[()].shape == (3, 4)
    assert x[pe.tensor([2], dtype=pe.uint8)].tolist() == [[8, 9, 10, 11]]
    assert x[x > 7].tolist() == [8, 9, 10, 11] and x[pe.tensor(True)].shape == (1, 3, 4) and x[None].shape == (1, 3, 4)
    assert pe.tensor(5)[None].tolist() == [5] and pe.tensor(5)[...].item() == 5 and pe.tensor(5)[()].item() == 5
    x[x > 7] = 0
    assert x[2].tolist() == [0, 0, 0, 0]
    x[0] = [9, 8, 7, 6]
    assert x[0].tolist() == [9, 8, 7, 6]
    x[:, 0] = np.array([1, 2, 3])
    assert x[:, 0].tolist() == [1, 2, 3]
    x[1] = pe.tensor([0.9, 1.9, 2.9, 3.9])  # converted to the tensor's dtype
    assert x[1].tolist() == [0, 1, 2, 3]
    x[0] += 1
    assert x[0].tolist() == [2, 9, 8, 7]
    scalar = pe.tensor(1.0)
    scalar[...] = 3
    assert scalar.item() == 3


def test_repeated_indices():
    x = pe.zeros(3)
    x.index_put_((pe.tensor([0, 0, 2]),), pe.tensor([1.0, 2.0, 4.0]), accumulate=True)
    assert x.tolist() == [3, 0, 4]
    x[pe.tensor([1, 1])] += 1  # one read, one write, as in NumPy
    assert x.tolist() == [3, 1, 4]


@pytest.mark.parametrize(
    ("key", "error"),
    [
        ((5,), IndexError),
        ((-4,), IndexError),
        ((0, 0, 0), IndexError),
        ((Ellipsis, Ellipsis), IndexError),
        (([3],), IndexError),
        (([0, -4],), IndexError),
        ((np.array([0.5]),), IndexError),
        ((np.array([True, False]),), IndexError),
        ((np.ones((3, 5), bool),), IndexError),
        (([0, 1], [0, 1, 2]), (IndexError, ValueError)),
        ((slice(None, None, -1),), ValueError),
        ((slice(None, None, 0),), ValueError),
        ((slice("a"),), TypeError),
        (("a",), (TypeError, IndexError)),
        ((1.5,), (TypeError, IndexError)),
        ((object(),), (TypeError, IndexError)),
        ((2**70,), IndexError),
    ],
)
def test_errors(key, error):
    x = pe.arange(12).reshape(3, 4)
    with pytest.raises(error):
        x[to_tensors(key)]
    with pytest.raises(error):
        x[to_tensors(key)] = 1
    assert x.tolist() == np.arange(12).reshape(3, 4).tolist()


def test_assignment_errors():
    x = pe.zeros(3, 4)
    for key, value in [(slice(None), np.zeros(3)), (0, np.zeros((2, 4))), (np.array([0, 1]), np.zeros((3, 4)))]:
        with pytest.raises((ValueError, IndexError)):
            x[to_tensors(key)] = pe.tensor(value)
    with pytest.raises(TypeError):
        x[0] = "a"
    with pytest.raises(TypeError):
        x[0] = None
    with pytest.raises(TypeError):
        del x[0]
    with pytest.raises((IndexError, TypeError)):
        pe.tensor(1)[0]
