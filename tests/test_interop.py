"""Memory shared with NumPy, the buffer protocol and DLPack, both ways."""

from __future__ import annotations

import array
import gc
import weakref

import numpy as np
import pytest

import pyengine as pe

DTYPES = ["bool", "uint8", "int32", "int64", "float32", "float64"]


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")


pytestmark = pytest.mark.usefixtures("no_leak")


class Tracked(np.ndarray):
    """An array that can be watched through a weak reference."""


# from_numpy and numpy()


@pytest.mark.parametrize("dtype", DTYPES)
def test_from_numpy_shares_memory(dtype):
    a = np.arange(6).astype(dtype).reshape(2, 3)
    x = pe.from_numpy(a)
    assert str(x.dtype) == f"pyengine.{dtype}" and x.data_ptr() == a.ctypes.data and x.stride() == (3, 1)
    a[0, 1] = 1
    x[1, 2] = 0
    assert x[0, 1].item() == 1 and a[1, 2] == 0
    np.testing.assert_array_equal(x.numpy(), a)
    assert x.numpy().ctypes.data == a.ctypes.data


@pytest.mark.parametrize("dtype", DTYPES)
def test_numpy_shares_memory(dtype):
    x = pe.ones(2, 3, dtype=pe.bool if dtype == "bool" else getattr(pe, dtype))
    a = x.numpy()
    assert a.dtype == dtype and a.flags.writeable and a.shape == (2, 3)
    a[0, 0] = 0
    assert x[0, 0].item() == 0
    b = x.T[1:].numpy()
    assert b.strides == (a.itemsize, 3 * a.itemsize)
    b[0, 1] = 0
    assert x[1, 1].item() == 0


def test_lifetimes():
    a = np.zeros(1000).view(Tracked)
    alive = weakref.ref(a)
    x = pe.from_numpy(a)
    y = x[10:]
    del a, x
    gc.collect()
    assert alive() is not None and y.sum().item() == 0
    del y
    gc.collect()
    assert alive() is None

    live = pe.memory_stats()["live_bytes"]
    x = pe.ones(1000)
    a = x.numpy()[5:]
    del x
    gc.collect()
    assert pe.memory_stats()["live_bytes"] == live + 4000 and a.sum() == 995
    del a
    assert pe.memory_stats()["live_bytes"] == live


def test_array_in_the_graph_lives_as_long_as_it():
    a = np.full(4, 3.0)
    w = pe.ones(4, dtype=pe.float64, requires_grad=True)
    loss = (pe.from_numpy(a) * w).sum()
    del a
    gc.collect()
    loss.backward()
    assert w.grad.tolist() == [3.0] * 4


def test_read_only_arrays():
    a = np.arange(4.0)
    a.flags.writeable = False
    x = pe.from_numpy(a)
    assert x.sum().item() == 6 and not x.numpy().flags.writeable and not x[1:].numpy().flags.writeable
    writes = [
        lambda: x.add_(1),
        lambda: x.zero_(),
        lambda: x[1:].mul_(2),
        lambda: x.__setitem__(0, 5),
        lambda: x.uniform_(),
        lambda: x.copy_(x),
        lambda: x.__setitem__([0, 1], 5),
        lambda: x.relu_(),
    ]
    for write in writes:
        with pytest.raises(RuntimeError, match="read-only"):
            write()
    assert a.tolist() == [0, 1, 2, 3] and (x + 1).tolist() == [1, 2, 3, 4]
    y = x.clone()
    y += 1
    assert y.tolist() == [1, 2, 3, 4]


def test_strides():
    a = np.arange(24.0).reshape(4, 6)
    for view in (a[::2], a.T, a[:, 1:4], a[1:2], a[:, 3], a[::3, ::2], a[0:0], a[None], np.broadcast_to(a[0], (3, 6))):
        x = pe.from_numpy(view)
        np.testing.assert_array_equal(x.numpy(), view)
        np.testing.assert_array_equal((x + 1).numpy(), view + 1)
        if view.size:
            assert x.data_ptr() == view.ctypes.data
    assert pe.from_numpy(np.array(3.0)).item() == 3
    assert pe.from_numpy(np.zeros((3, 0))).shape == (3, 0)
    assert pe.from_numpy(np.asfortranarray(a)).is_contiguous() is False
    assert pe.from_numpy(np.zeros((1, 5), order="F")).is_contiguous()


def test_arrays_that_cannot_be_shared():
    a = np.arange(6.0)
    for view in (a[::-1], a.reshape(2, 3)[:, ::-1]):
        with pytest.raises(ValueError, match="negative"):
            pe.from_numpy(view)
        np.testing.assert_array_equal(pe.tensor(view).numpy(), view)
        np.testing.assert_array_equal(pe.as_tensor(view).numpy(), view)
    odd = np.zeros(4, np.dtype([("a", np.uint8), ("b", np.float64)]))["b"]
    with pytest.raises(ValueError, match="stride"):
        pe.from_numpy(odd)
    assert pe.tensor(odd).tolist() == [0.0] * 4
    unaligned = np.frombuffer(b"\0" * 33, np.uint8)[1:].view(np.float64)
    with pytest.raises(ValueError, match="aligned"):
        pe.from_numpy(unaligned)
    assert pe.tensor(unaligned).tolist() == [0.0] * 4
    big = np.arange(3, dtype=">f4")
    with pytest.raises(TypeError, match="dtype"):
        pe.from_numpy(big)
    assert pe.tensor(big).tolist() == [0, 1, 2] and pe.tensor(big).dtype == pe.float32
    assert pe.as_tensor(np.arange(3, dtype=">i8")).dtype == pe.int64
    for dtype in (
        np.float16,
        np.int8,
        np.int16,
        np.uint16,
        np.uint32,
        np.uint64,
        np.complex64,
        "S3",
        "U2",
        object,
        "M8[s]",
    ):
        with pytest.raises(TypeError, match="dtype"):
            pe.from_numpy(np.zeros(2, dtype))
    for other in ([1, 2], 3, None, pe.zeros(2)):
        with pytest.raises(TypeError):
            pe.from_numpy(other)
    assert pe.tensor(np.zeros(2, np.float16)).dtype == pe.float32
    for dtype in (np.complex64, "S3", "U2", object, "M8[s]"):
        with pytest.raises(TypeError):
            pe.tensor(np.zeros(2, dtype))


def test_numpy_of_a_tensor_in_the_graph():
    x = pe.ones(2, requires_grad=True)
    for t in (x, x * 2):
        with pytest.raises(RuntimeError, match="detach"):
            t.numpy()
        with pytest.raises(RuntimeError, match="detach"):
            np.asarray(t)
        assert t.detach().numpy().sum() == t.sum().item()
        assert t.numpy(force=True).sum() == t.sum().item()


def test_as_tensor():
    a = np.arange(3.0)
    x = pe.as_tensor(a)
    a[0] = 9
    assert x[0].item() == 9
    assert pe.as_tensor(a, dtype=pe.float32).dtype == pe.float32
    assert pe.as_tensor([1, 2]).tolist() == [1, 2] and pe.asarray(x) is x and pe.asarray(x, copy=True) is not x


# Tensors in NumPy's hands


def test_array_protocol():
    x = pe.arange(6.0).reshape(2, 3)
    a = np.asarray(x)
    assert a.ctypes.data == x.data_ptr() and a.dtype == np.float32
    assert np.asarray(x, dtype=np.float64).dtype == np.float64
    assert np.array(x).ctypes.data != x.data_ptr()
    assert np.array(x, copy=False).ctypes.data == x.data_ptr()
    with pytest.raises(ValueError):
        np.array(x, dtype=np.float64, copy=False)
    assert np.sum(x) == 15 and np.mean(x) == 2.5 and np.sum(x, axis=0).tolist() == [3, 5, 7]
    assert x.sum(axis=1, keepdims=True).shape == (2, 1) and x.amax(axis=(0, 1)).item() == 5
    np.testing.assert_array_equal(np.concatenate([x, x]), np.concatenate([a, a]))
    np.testing.assert_allclose(np.exp(x), np.exp(a))
    np.testing.assert_array_equal(np.stack([x, x]).shape, (2, 2, 3))
    b = np.zeros((2, 3), np.float32)
    b[:] = x
    assert b[1, 2] == 5
    assert np.arange(5)[pe.tensor([1, 3])].tolist() == [1, 3] and np.arange(5)[pe.tensor(2)] == 2


def test_arithmetic_between_arrays_and_tensors():
    x = pe.arange(3.0)
    a = np.arange(3.0)
    for y in (x + a, a + x, x * a, a * x, a - x, a / (x + 1), a**x, x > a, a > x):
        assert isinstance(y, pe.Tensor) and y.shape == (3,)
    assert (a - (x + 1)).tolist() == [-1, -1, -1] and (a - (x + 1)).dtype == pe.float64
    assert (np.float32(2) * x).tolist() == [0, 2, 4] and isinstance(np.float32(2) * x, pe.Tensor)
    assert (np.float64(2) - x).tolist() == [2, 1, 0] and isinstance(np.float64(2) - x, pe.Tensor)
    assert (x + np.int64(1)).dtype == pe.float32 and (x * np.float64(0.5)).dtype == pe.float32
    assert (np.bool_(True) & pe.tensor([True])).tolist() == [True]
    w = pe.ones(3, requires_grad=True)
    (a * w).sum().backward()
    assert w.grad.tolist() == [0, 1, 2]
    x += a
    assert x.tolist() == [0, 2, 4] and x.dtype == pe.float32


def test_buffer_protocol():
    x = pe.arange(6, dtype=pe.int32).reshape(2, 3)
    m = memoryview(x)
    assert m.shape == (2, 3) and m.strides == (12, 4) and m.format == "i" and m.itemsize == 4 and not m.readonly
    assert m[1, 2] == 5 and m.tolist() == [[0, 1, 2], [3, 4, 5]] and bytes(m) == x.numpy().tobytes()
    m[0, 0] = 7
    assert x[0, 0].item() == 7
    del x
    gc.collect()
    assert m[0, 0] == 7
    m.release()
    assert memoryview(pe.zeros(2, 3).T).strides == (4, 12) and memoryview(pe.zeros(())).ndim == 0
    assert array.array("f", bytes(pe.ones(2))).tolist() == [1, 1]
    assert np.frombuffer(pe.ones(3, dtype=pe.float64)).tolist() == [1, 1, 1]
    for dtype, code in zip(DTYPES, "?Biqfd", strict=True):
        assert memoryview(pe.zeros(1, dtype=pe.bool if dtype == "bool" else getattr(pe, dtype))).format == code
    with pytest.raises(BufferError):
        memoryview(pe.zeros(1, requires_grad=True))
    a = np.zeros(2)
    a.flags.writeable = False
    assert memoryview(pe.from_numpy(a)).readonly


def test_buffer_outlives_a_change_of_data():
    x = pe.full((1000,), 3.0)
    m = memoryview(x)
    x.data = pe.zeros(5)
    trash = [pe.full((1000,), 8.0) for _ in range(4)]
    assert m.shape == (1000,) and m[999] == 3
    del m, trash


# DLPack


@pytest.mark.parametrize("dtype", DTYPES)
def test_dlpack_with_numpy(dtype):
    x = pe.arange(6).to(pe.bool if dtype == "bool" else getattr(pe, dtype)).reshape(2, 3)
    a = np.from_dlpack(x)
    assert a.dtype == dtype and a.ctypes.data == x.data_ptr()
    b = np.from_dlpack(x.T[1:])
    np.testing.assert_array_equal(b, x.numpy().T[1:])
    c = np.arange(6).astype(dtype).reshape(2, 3)[:, ::2]
    y = pe.from_dlpack(c)
    assert y.data_ptr() == c.ctypes.data and y.dtype == x.dtype
    np.testing.assert_array_equal(y.numpy(), c)
    y[0, 0] = 1
    assert c[0, 0] == 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_dlpack_with_torch(torch, dtype):
    t = torch.arange(6).to(getattr(torch, dtype)).reshape(2, 3)
    x = pe.from_dlpack(t)
    assert x.data_ptr() == t.data_ptr() and x.tolist() == t.tolist() and str(x.dtype)[9:] == dtype
    y = pe.ones(3, 2, dtype=pe.bool if dtype == "bool" else getattr(pe, dtype)).T
    u = torch.from_dlpack(y)
    assert u.data_ptr() == y.data_ptr() and u.stride() == y.stride() and u.tolist() == y.tolist()
    u.zero_()
    assert y.sum().item() == 0


def test_dlpack_shapes_and_lifetimes(torch):
    for shape in [(), (0,), (2, 0), (1,), (1, 3, 1), (2, 3, 4, 5)]:
        x = pe.zeros(shape)
        assert torch.from_dlpack(x).shape == shape and np.from_dlpack(x).shape == shape
        assert pe.from_dlpack(torch.zeros(shape)).shape == shape and pe.from_dlpack(np.zeros(shape)).shape == shape
    x = pe.full((100,), 3.0)
    t = torch.from_dlpack(x)
    del x
    gc.collect()
    trash = pe.zeros(100)
    assert t.sum().item() == 300
    del t, trash
    a = np.zeros(10).view(Tracked)
    alive = weakref.ref(a)
    y = pe.from_dlpack(a)
    del a
    gc.collect()
    assert alive() is not None
    del y
    gc.collect()
    assert alive() is None


def test_dlpack_capsules():
    x = pe.arange(3.0)
    capsule = x.__dlpack__()
    assert '"dltensor"' in repr(capsule)
    y = pe.from_dlpack(capsule)
    assert y.data_ptr() == x.data_ptr()
    with pytest.raises((ValueError, BufferError), match="consumed"):
        pe.from_dlpack(capsule)
    capsule = x.__dlpack__(max_version=(1, 1))
    assert '"dltensor_versioned"' in repr(capsule)
    assert pe.from_dlpack(capsule).data_ptr() == x.data_ptr()
    with pytest.raises((ValueError, BufferError)):
        pe.from_dlpack(capsule)
    assert '"dltensor"' in repr(x.__dlpack__(max_version=(0, 8)))
    x.__dlpack__()  # never consumed: freed with the capsule
    assert x.__dlpack_device__() == (1, 0)


def test_dlpack_options():
    x = pe.arange(3.0)
    copied = pe.from_dlpack(x.__dlpack__(max_version=(1, 0), copy=True))
    assert copied.data_ptr() != x.data_ptr() and copied.tolist() == [0, 1, 2]
    assert np.from_dlpack(x, copy=True).ctypes.data != x.data_ptr()
    assert np.from_dlpack(x, copy=False).ctypes.data == x.data_ptr()
    assert np.from_dlpack(x, device="cpu").ctypes.data == x.data_ptr()
    with pytest.raises(BufferError, match="CPU"):
        x.__dlpack__(dl_device=(2, 0))
    with pytest.raises(ValueError, match="stream"):
        x.__dlpack__(stream=1)
    with pytest.raises(RuntimeError, match="detach"):
        pe.ones(1, requires_grad=True).__dlpack__()
    a = np.arange(3.0)
    a.flags.writeable = False
    y = pe.from_dlpack(a)
    with pytest.raises(RuntimeError, match="read-only"):
        y.add_(1)
    assert not np.from_dlpack(y).flags.writeable
    with pytest.raises(BufferError, match="read-only"):
        y.__dlpack__()


def test_dlpack_refusals(torch):
    for bad in (None, 3, "a", object()):
        with pytest.raises(TypeError):
            pe.from_dlpack(bad)
    for dtype in (torch.float16, torch.int8, torch.complex64):
        with pytest.raises(TypeError, match="dtype"):
            pe.from_dlpack(torch.zeros(2, dtype=dtype))
    with pytest.raises(ValueError, match="negative"):
        pe.from_dlpack(np.arange(3.0)[::-1])
    with pytest.raises(ValueError, match="dimensions"):
        pe.from_dlpack(np.zeros((1,) * 20))


class OldProducer:
    """Knows nothing of version 1."""

    def __init__(self, x):
        self.x = x

    def __dlpack__(self, stream=None):
        return self.x.__dlpack__()

    def __dlpack_device__(self):
        return (1, 0)


def test_dlpack_from_an_old_producer():
    x = pe.arange(3.0)
    assert pe.from_dlpack(OldProducer(x)).data_ptr() == x.data_ptr()
