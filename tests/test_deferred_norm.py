"""A batch normalization is computed by whoever reads it first; nobody may notice, except by the clock."""

import pytest

import pyengine as pe
from pyengine import nn
from pyengine.nn import functional as F

SHAPES = [(4, 3, 5, 5), (2, 17, 3, 7), (8, 5), (3, 4, 6)]


def make(shape, dtype=pe.float32, channels_last=False):
    g = pe.Generator().manual_seed(7)
    x = pe.randn(*shape, generator=g).to(dtype)
    if channels_last and len(shape) == 4:
        x = x.contiguous(memory_format=pe.channels_last)
    c = shape[1]
    w, b = pe.randn(c, generator=g).to(dtype), pe.randn(c, generator=g).to(dtype)
    r = pe.randn(*shape, generator=g).to(dtype)
    if channels_last and len(shape) == 4:
        r = r.contiguous(memory_format=pe.channels_last)
    return [t.requires_grad_() for t in (x, w, b, r)]


def norm(x, w, b, training=True):
    c = x.shape[1]
    return F.batch_norm(x, pe.zeros(c), pe.ones(c), w, b, training)


def computed(y):
    """y, read by an operation that takes nothing over."""
    y.data_ptr()
    return y


PATTERNS = {
    "relu": lambda y, r: F.relu(y),
    "relu method": lambda y, r: y.relu(),
    "relu in place": lambda y, r: F.relu(y, inplace=True),
    "add": lambda y, r: y + r,
    "add, other side": lambda y, r: r + y,
    "add relu": lambda y, r: F.relu(y + r),
    "add relu, other side": lambda y, r: F.relu(r + y),
    "read twice": lambda y, r: F.relu(y) + y * 2,
    "relu twice": lambda y, r: F.relu(y) * F.relu(y),
    "add twice": lambda y, r: F.relu(y + r + r),
    "view": lambda y, r: F.relu(y.reshape(-1)),
    "itself": lambda y, r: F.relu(y + y),
    "plain": lambda y, r: y * 1.5,
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_same_bits_as_unfused(pattern, shape, channels_last, training):
    results = []
    for first in (lambda y: y, computed):
        x, w, b, r = make(shape, channels_last=channels_last)
        y = PATTERNS[pattern](first(norm(x * 1, w, b, training)), r * 1)
        (y * pe.arange(y.numel()).reshape(y.shape)).sum().backward()
        results.append([y, x.grad, w.grad, b.grad, r.grad])
    for fused, plain in zip(*results, strict=True):
        assert (fused is None) == (plain is None)
        if fused is not None:
            assert pe.equal(fused, plain)


@pytest.mark.parametrize("training", [True, False])
def test_second_derivatives(training):
    x, w, b, r = make((3, 2, 2, 2), pe.float64)
    assert pe.autograd.gradcheck(lambda *a: F.relu(norm(a[0] * 1, a[1], a[2], training) + a[3]), [x, w, b, r])
    assert pe.autograd.gradgradcheck(lambda *a: F.relu(norm(a[0] * 1, a[1], a[2], training) + a[3]), [x, w, b, r])


def test_a_write_to_the_input_comes_after():
    x, w, b, _ = (t.detach() for t in make((4, 3, 5, 5)))
    x = x * 1
    expected = computed(norm(x, w, b)).clone()
    y = norm(x, w, b)
    x.zero_()
    assert pe.equal(y, expected)


def test_a_write_to_the_residual_comes_after():
    x, w, b, r = (t.detach() for t in make((4, 3, 5, 5)))
    r = r * 1
    expected = (computed(norm(x * 1, w, b)) + r).clone()
    y = norm(x * 1, w, b) + r
    r.mul_(2)
    assert pe.equal(y, expected)


def test_a_write_to_the_parameters_comes_after():
    x, w, b, _ = make((4, 3, 5, 5))
    expected = computed(norm(x * 1, w, b)).detach().clone()
    y = norm(x * 1, w, b)
    w.grad, b.grad = pe.ones_like(w), pe.ones_like(b)
    pe.optim.SGD([w, b], lr=1.0).step()
    assert pe.equal(y.detach(), expected)


def test_memory_shared_with_numpy_is_read_at_once():
    numpy = pytest.importorskip("numpy")
    a = numpy.random.default_rng(0).standard_normal((4, 3, 5, 5)).astype("float32")
    _, w, b, _ = (t.detach() for t in make((4, 3, 5, 5)))
    x = pe.from_numpy(a)
    y = norm(x, w, b)
    expected = computed(norm(x.clone(), w, b))
    a[:] = 0
    assert pe.equal(y, expected)
    x = pe.randn(4, 3, 5, 5)
    expected = computed(norm(x, w, b)).clone()
    y = norm(x, w, b)
    x.numpy()[:] = 0
    assert pe.equal(y, expected)


def test_hooks_and_retained_gradients_of_the_normalization():
    x, w, b, _ = make((4, 3, 5, 5))
    y = norm(x * 1, w, b)
    y.retain_grad()
    z = F.relu(y)
    z.sum().backward()
    assert z.shape == y.shape
    assert y.grad is not None
    assert pe.equal(y.grad, (y > 0).to(pe.float32))
    seen = []
    y = norm(x * 1, w, b)
    y.register_hook(lambda g: seen.append(g.sum().item()))
    F.relu(y).sum().backward()
    assert len(seen) == 1


def test_residual_block_makes_no_normalized_tensor():
    pe.manual_seed(0)
    n, c, size = 8, 16, 32
    x = pe.randn(n, c, size, size).contiguous(memory_format=pe.channels_last)
    bn = nn.BatchNorm2d(c)
    with pe.no_grad():
        pe.reset_peak_memory()
        before = pe.memory_stats()["live_bytes"]
        h = x * 1
        y = F.relu(bn(h) + x)
        peak = pe.memory_stats()["peak_bytes"] - before
    assert y.shape == x.shape
    assert peak < 2.5 * x.nbytes  # h and y, and no third
