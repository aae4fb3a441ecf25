"""What is refused, with which exception, and what its message says."""

from __future__ import annotations

import pytest

import pyengine as pe
from pyengine.nn import functional as F


def ones(*shape, dtype=pe.float32):
    return pe.ones(*shape, dtype=dtype)


def ints(*shape):
    return pe.ones(*shape, dtype=pe.int64)


SHAPE, BOTH = pe.ShapeError, (TypeError, ValueError)

# (what, call, exception, what the message must hold)
CASES = [
    # shapes
    (
        "add",
        lambda: ones(2, 3) + ones(4),
        SHAPE,
        r"add: shapes \(2, 3\) and \(4,\) do not broadcast \(dimension 1: 3 and 4\)",
    ),
    ("where", lambda: pe.where(ones(2) > 0, ones(2), ones(3)), SHAPE, r"where: shapes \(2,\) and \(3,\)"),
    ("compare", lambda: ones(2) < ones(3), SHAPE, r"\(2,\) and \(3,\) do not broadcast"),
    ("matmul", lambda: ones(2, 3) @ ones(2, 3), SHAPE, r"matmul.*\(2, 3\).*\(2, 3\)"),
    ("matmul 0-d", lambda: ones(()) @ ones(2), SHAPE, "matmul"),
    ("matmul batches", lambda: ones(2, 3, 4) @ ones(3, 4, 5), SHAPE, "matmul"),
    (
        "mm",
        lambda: pe.mm(ones(2, 3), ones(3)),
        SHAPE,
        r"mm: expected 2 and 2 dimensions, got shapes \(2, 3\) and \(3,\)",
    ),
    ("bmm", lambda: pe.bmm(ones(2, 3, 4), ones(3, 4, 5)), SHAPE, "bmm: expected equal batch sizes"),
    ("mv", lambda: pe.mv(ones(2, 3), ones(2)), SHAPE, "matmul|mv"),
    ("dot", lambda: pe.dot(ones(2), ones(3)), SHAPE, "matmul|dot"),
    ("addmm", lambda: pe.addmm(ones(5), ones(2, 3), ones(3, 4)), SHAPE, r"\(5,\)"),
    ("einsum", lambda: pe.einsum("ij,jk", ones(2, 3), ones(4, 5)), SHAPE, "einsum"),
    ("einsum letters", lambda: pe.einsum("i1->i", ones(2, 3)), ValueError, "einsum"),
    ("einsum operands", lambda: pe.einsum("ij,jk->ik", ones(2, 3)), ValueError, "einsum"),
    ("view", lambda: ones(2, 3).view(4), SHAPE, r"shape \(4,\) is invalid for input of size 6"),
    ("view two -1", lambda: ones(6).view(-1, -1), SHAPE, "only one dimension can be inferred"),
    ("view -1 and 0", lambda: ones(0).view(-1, 0), SHAPE, "cannot infer"),
    ("reshape", lambda: ones(6).reshape(-2, -3), SHAPE, "invalid size -2"),
    ("unflatten", lambda: ones(6).unflatten(0, (4, 2)), SHAPE, "unflatten"),
    ("expand", lambda: ones(2, 3).expand(2, 4), SHAPE, r"cannot expand shape \(2, 3\) to \(2, 4\)"),
    ("expand fewer", lambda: ones(2, 3).expand(3), SHAPE, "expand"),
    ("permute", lambda: ones(2, 3).permute(0), SHAPE, r"permute: got 1 dimensions for a tensor of shape \(2, 3\)"),
    ("permute twice", lambda: ones(2, 3).permute(0, 0), SHAPE, "repeated"),
    (
        "transpose",
        lambda: ones(2, 3).transpose(0, 2),
        IndexError,
        r"transpose: dimension out of range \(expected -2 to 1, got 2\)",
    ),
    ("t", lambda: ones(2, 3, 4).t(), SHAPE, r"t: expected at most 2 dimensions"),
    ("squeeze", lambda: ones(2).squeeze(3), IndexError, "squeeze: dimension out of range"),
    ("unsqueeze", lambda: ones(2).unsqueeze(4), IndexError, "unsqueeze"),
    ("flatten", lambda: ones(2, 3, 4).flatten(2, 0), SHAPE, "flatten"),
    ("cat", lambda: pe.cat([ones(2, 3), ones(2, 4)]), SHAPE, r"cat.*\(2, 4\)"),
    ("cat nothing", lambda: pe.cat([]), ValueError, "cat"),
    ("cat dim", lambda: pe.cat([ones(2)], 1), IndexError, "cat"),
    ("stack", lambda: pe.stack([ones(2), ones(3)]), SHAPE, "stack"),
    ("split", lambda: ones(5).split([2, 2]), SHAPE, r"split: sizes \(2, 2\) add up to 4, but dimension 0 has size 5"),
    ("split size", lambda: ones(5).split(0), ValueError, "split"),
    ("chunk", lambda: ones(5).chunk(0), ValueError, "chunk"),
    ("narrow", lambda: ones(5).narrow(0, 3, 4), IndexError, "narrow"),
    ("narrow overflow", lambda: ones(5).narrow(0, 1, 2**63 - 1), IndexError, "narrow"),
    ("diagonal", lambda: ones(5).diagonal(), (SHAPE, IndexError), "diagonal"),
    ("tril", lambda: ones(5).tril(), SHAPE, "tril"),
    ("as_strided", lambda: ones(5).as_strided((3,), (3,)), SHAPE, "outside the storage of 20 bytes"),
    ("as_strided negative", lambda: ones(5).as_strided((3,), (-1,), 4), ValueError, "negative strides"),
    ("as_strided offset", lambda: ones(5).as_strided((1,), (1,), -1), SHAPE, "outside"),
    ("repeat", lambda: ones(2, 2).repeat(2), SHAPE, "repeat"),
    ("pad", lambda: F.pad(ones(2), (1, 1, 1, 1)), SHAPE, "pad"),
    ("pad odd", lambda: F.pad(ones(2), (1,)), ValueError, "pairs"),
    ("pad reflect", lambda: F.pad(ones(1, 2), (3, 0), mode="reflect"), SHAPE, "reflect"),
    ("pad mode", lambda: F.pad(ones(1, 2), (1, 0), mode="other"), ValueError, "other"),
    ("pad overflow", lambda: F.pad(ones(3), (2**63 - 1, 2**63 - 1), mode="replicate"), SHAPE, "pad"),
    ("copy_", lambda: ones(2).copy_(ones(3)), SHAPE, r"copy_|broadcast"),
    (
        "in place",
        lambda: ones(2).add_(ones(2, 2)),
        SHAPE,
        r"output with shape \(2,\) doesn't match the broadcast shape \(2, 2\)",
    ),
    ("dimensions", lambda: pe.zeros([1] * 20), SHAPE, "at most"),
    ("negative size", lambda: pe.zeros(-1), SHAPE, "must not be negative"),
    ("overflow", lambda: pe.zeros(2**40, 2**40), SHAPE, "more elements than can be addressed"),
    ("ragged", lambda: pe.tensor([[1], [1, 2]]), SHAPE, "equal lengths"),
    # dtypes
    ("mean of ints", lambda: ints(2).mean(), (TypeError, RuntimeError), "mean"),
    ("bool minus bool", lambda: (ones(2) > 0) - (ones(2) > 0), (TypeError, RuntimeError), "sub"),
    ("float &", lambda: ones(2) & ones(2), TypeError, "bitwise_and: expected integer or bool tensors, got float32"),
    ("~float", lambda: ~ones(2), TypeError, "bitwise_not"),
    ("integer / 0", lambda: ints(2) // 0, (RuntimeError, ZeroDivisionError), "zero"),
    ("integer % 0", lambda: ints(2) % pe.tensor([1, 0]), (RuntimeError, ZeroDivisionError), "zero"),
    ("integer ** -1", lambda: ints(2) ** -1, (RuntimeError, ValueError), "negative"),
    ("where condition", lambda: pe.where(ones(2), ones(2), ones(2)), TypeError, "bool"),
    ("masked_fill mask", lambda: ones(2).masked_fill(ints(2), 0), TypeError, "bool"),
    ("int in place", lambda: ints(2).add_(0.5), RuntimeError, "float32 can't be cast to the desired output type int64"),
    ("requires_grad", lambda: ints(2).requires_grad_(), RuntimeError, "floating point"),
    ("no such dtype", lambda: pe.zeros(2, dtype="f"), TypeError, "dtype"),
    ("gather index", lambda: ones(2).gather(0, ones(2)), (TypeError, IndexError), "integer"),
    ("one_hot", lambda: pe.one_hot(ones(2)), TypeError, "int64"),
    # None and strangers
    ("add None", lambda: ones(2) + None, TypeError, "unsupported operand"),
    ("None add", lambda: None + ones(2), TypeError, "unsupported operand"),
    ("add str", lambda: ones(2) + "a", TypeError, "unsupported operand"),
    ("add list", lambda: ones(2) + [1, 2], TypeError, "unsupported operand|concatenate"),
    ("matmul None", lambda: ones(2) @ None, TypeError, "unsupported operand"),
    ("exp None", lambda: pe.exp(None), TypeError, "exp"),
    ("cat None", lambda: pe.cat([ones(2), None]), TypeError, "cat"),
    ("cat tensor", lambda: pe.cat(5), TypeError, "cat"),
    ("linear None", lambda: F.linear(ones(2, 3), None), TypeError, "linear"),
    ("conv2d None", lambda: F.conv2d(None, ones(1, 1, 1, 1)), TypeError, "conv2d"),
    ("view str", lambda: ones(2).view("a"), TypeError, "view"),
    ("sum dim", lambda: ones(2).sum("a"), TypeError, "sum"),
    ("unknown keyword", lambda: pe.zeros(2, dtyp=pe.int64), TypeError, "dtyp"),
    ("item", lambda: ones(2).item(), (RuntimeError, ValueError), "2 elements"),
    # indices
    ("sum twice", lambda: ones(2, 3).sum((0, 0)), (SHAPE, ValueError, RuntimeError), "sum"),
    ("sum axis", lambda: ones(2, 3).sum(2), IndexError, "sum"),
    ("max of nothing", lambda: pe.zeros(0).max(), (ValueError, RuntimeError, IndexError), "max"),
    ("argmax of nothing", lambda: pe.zeros(0).argmax(), (ValueError, RuntimeError, IndexError), "argmax"),
    ("topk", lambda: ones(3).topk(4), (IndexError, ValueError), "topk"),
    ("topk negative", lambda: ones(3).topk(-1), (IndexError, ValueError), "topk"),
    ("index_select", lambda: ones(3).index_select(0, pe.tensor([3])), IndexError, "index 3 is out of bounds"),
    ("gather", lambda: ones(3).gather(0, pe.tensor([-4])), IndexError, "out of bounds"),
    ("gather dims", lambda: ones(3, 3).gather(0, pe.tensor([0])), SHAPE, "gather"),
    ("scatter_add", lambda: ones(3).scatter_add(0, pe.tensor([5]), ones(1)), IndexError, "out of bounds"),
    ("scatter_add dtype", lambda: ones(3).scatter_add(0, pe.tensor([0]), ints(1)), TypeError, "scatter_add"),
    ("one_hot classes", lambda: pe.one_hot(pe.tensor([3]), 3), (IndexError, ValueError), "one_hot"),
    ("size", lambda: ones(2).size(3), IndexError, "size"),
    ("cumsum", lambda: ones(2).cumsum(2), IndexError, "cumsum"),
    # linear, convolution, pooling
    ("linear", lambda: F.linear(ones(2, 3), ones(4, 5)), SHAPE, r"linear.*\(2, 3\).*\(4, 5\)"),
    ("linear bias", lambda: F.linear(ones(2, 3), ones(4, 3), ones(5)), SHAPE, "linear"),
    ("linear weight", lambda: F.linear(ones(2, 3), ones(3)), SHAPE, "linear"),
    (
        "conv2d channels",
        lambda: F.conv2d(ones(8, 3, 9, 9), ones(32, 16, 3, 3)),
        SHAPE,
        r"weight expects 16 input channels, but x has 3 \(x \(8, 3, 9, 9\), weight \(32, 16, 3, 3\), groups=1\)",
    ),
    ("conv2d dims", lambda: F.conv2d(ones(3, 3), ones(1, 1, 1, 1)), SHAPE, "conv2d"),
    ("conv2d weight", lambda: F.conv2d(ones(1, 3, 5, 5), ones(3, 3, 3)), SHAPE, "conv2d"),
    (
        "conv2d bias",
        lambda: F.conv2d(ones(1, 3, 5, 5), ones(4, 3, 3, 3), ones(3)),
        SHAPE,
        r"bias of shape \(4,\), got \(3,\)",
    ),
    ("conv2d large", lambda: F.conv2d(ones(1, 3, 2, 2), ones(4, 3, 3, 3)), SHAPE, "larger than the padded input"),
    ("conv2d stride", lambda: F.conv2d(ones(1, 3, 5, 5), ones(4, 3, 3, 3), stride=0), ValueError, "stride"),
    ("conv2d strides", lambda: F.conv2d(ones(1, 3, 5, 5), ones(4, 3, 3, 3), stride=(1, 2, 3)), ValueError, "stride"),
    ("conv2d padding", lambda: F.conv2d(ones(1, 3, 5, 5), ones(4, 3, 3, 3), padding=-1), ValueError, "padding"),
    ("conv2d mode", lambda: F.conv2d(ones(1, 3, 5, 5), ones(4, 3, 3, 3), padding="other"), ValueError, "same"),
    ("conv2d same", lambda: F.conv2d(ones(1, 3, 5, 5), ones(4, 3, 3, 3), padding="same", stride=2), ValueError, "same"),
    ("conv2d dilation", lambda: F.conv2d(ones(1, 3, 5, 5), ones(4, 3, 3, 3), dilation=0), ValueError, "dilation"),
    ("conv2d groups", lambda: F.conv2d(ones(1, 3, 5, 5), ones(4, 1, 3, 3), groups=3), BOTH, "groups"),
    ("conv2d groups 0", lambda: F.conv2d(ones(1, 3, 5, 5), ones(4, 1, 3, 3), groups=0), ValueError, "groups"),
    ("conv2d ints", lambda: F.conv2d(ints(1, 1, 5, 5), ints(1, 1, 3, 3)), (TypeError, RuntimeError), "conv2d"),
    ("max_pool2d", lambda: F.max_pool2d(ones(1, 1, 2, 2), 3), SHAPE, "max_pool2d: input of shape"),
    ("max_pool2d padding", lambda: F.max_pool2d(ones(1, 1, 9, 9), 3, padding=2), ValueError, "half of the kernel"),
    ("max_pool2d kernel", lambda: F.max_pool2d(ones(1, 1, 9, 9), 0), ValueError, "kernel_size"),
    ("max_pool2d dims", lambda: F.max_pool2d(ones(9, 9), 2), SHAPE, "max_pool2d"),
    ("max_pool2d huge", lambda: F.max_pool2d(ones(1, 1, 9, 9), 2**62, padding=1), ValueError, "max_pool2d"),
    (
        "avg_pool2d divisor",
        lambda: F.avg_pool2d(ones(1, 1, 4, 4), 2, divisor_override=0),
        (ValueError, RuntimeError),
        "divisor",
    ),
    ("avg_pool2d stride", lambda: F.avg_pool2d(ones(1, 1, 4, 4), 2, stride=-1), ValueError, "stride"),
    ("adaptive", lambda: F.adaptive_avg_pool2d(ones(1, 1, 4, 4), (0, 2)), ValueError, "output_size"),
    ("adaptive three", lambda: F.adaptive_max_pool2d(ones(1, 1, 4, 4), (1, 2, 3)), ValueError, "output_size"),
    # batch_norm, losses, softmax
    ("batch_norm", lambda: F.batch_norm(ones(4), None, None, training=True), SHAPE, "batch_norm"),
    (
        "batch_norm one value",
        lambda: F.batch_norm(ones(1, 3), None, None, training=True),
        SHAPE,
        "more than 1 value per channel",
    ),
    (
        "batch_norm mean",
        lambda: F.batch_norm(ones(2, 3), ones(4), ones(4)),
        SHAPE,
        r"running_mean of shape \(3,\), got \(4,\)",
    ),
    ("batch_norm weight", lambda: F.batch_norm(ones(2, 3), ones(3), ones(3), ones(2)), SHAPE, "weight"),
    ("batch_norm eval", lambda: F.batch_norm(ones(2, 3), None, None), ValueError, "running_mean"),
    ("batch_norm ints", lambda: F.batch_norm(ints(2, 3), None, None, training=True), TypeError, "floating"),
    ("cross_entropy target", lambda: F.cross_entropy(ones(4, 3), ints(5)), SHAPE, "cross_entropy"),
    ("cross_entropy class", lambda: F.cross_entropy(ones(4, 3), pe.tensor([0, 1, 2, 3])), IndexError, "3"),
    ("cross_entropy negative", lambda: F.cross_entropy(ones(1, 3), pe.tensor([-1])), IndexError, "-1"),
    ("cross_entropy weight", lambda: F.cross_entropy(ones(4, 3), ints(4), weight=ones(4)), SHAPE, "weight"),
    ("cross_entropy reduction", lambda: F.cross_entropy(ones(4, 3), ints(4), reduction="some"), ValueError, "some"),
    (
        "cross_entropy smoothing",
        lambda: F.cross_entropy(ones(4, 3), ints(4), label_smoothing=2.0),
        (ValueError, RuntimeError),
        "label_smoothing",
    ),
    ("cross_entropy dtype", lambda: F.cross_entropy(ones(4, 3), pe.ones(4)), BOTH, "cross_entropy"),
    ("cross_entropy ints", lambda: F.cross_entropy(ints(4, 3), ints(4)), (TypeError, RuntimeError), "cross_entropy"),
    ("nll_loss", lambda: F.nll_loss(ones(4, 3), pe.tensor([0, 1, 2, 5])), IndexError, "5"),
    ("softmax", lambda: ones(2).softmax(1), IndexError, "softmax"),
    ("clamp", lambda: ones(2).clamp(), ValueError, "clamp"),
    ("gelu", lambda: F.gelu(ones(2), approximate="other"), ValueError, "other"),
    ("div", lambda: pe.div(ones(2), 2, rounding_mode="up"), ValueError, "up"),
    ("norm", lambda: ones(2).norm("nuc"), ValueError, "nuc"),
    ("arange", lambda: pe.arange(0, 5, 0), ValueError, "step"),
    ("arange sign", lambda: pe.arange(0, 5, -1), ValueError, "sign"),
    ("arange inf", lambda: pe.arange(float("inf")), ValueError, "finite"),
    ("linspace", lambda: pe.linspace(0, 1, -1), ValueError, "linspace"),
    ("full", lambda: pe.full((2,), "a"), TypeError, "full"),
    ("cuda", lambda: ones(2).to("cuda"), RuntimeError, "no CUDA support"),
]


@pytest.mark.parametrize(("call", "error", "message"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_error(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_shape_errors_are_both():
    assert issubclass(pe.ShapeError, ValueError) and issubclass(pe.ShapeError, RuntimeError)
    for error in (ValueError, RuntimeError, pe.ShapeError):
        with pytest.raises(error):
            ones(2) + ones(3)


def test_a_failed_call_changes_nothing():
    x = ones(3)
    for f in (
        lambda: x.add_(ones(4)),
        lambda: x.copy_(ones(4)),
        lambda: x.__setitem__(5, 1),
        lambda: x.index_fill_(0, pe.tensor([0, 9]), 5.0),
    ):
        with pytest.raises((ValueError, IndexError)):
            f()
    assert x.tolist() == [1, 1, 1] and x._version == 0
