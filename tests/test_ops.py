"""Every case of op_cases.py: results against PyTorch and NumPy in float64, gradients against PyTorch's and differences.

Without PyTorch the NumPy references and the differences remain.
"""

from __future__ import annotations

import importlib.util
import itertools
import math
import zlib
from typing import Any

import numpy as np
import op_inputs
import pytest
from op_cases import CASES, FLOATS, Case

import pyengine as pe
from pyengine.autograd import gradcheck, gradgradcheck

HAVE_TORCH = importlib.util.find_spec("torch") is not None
if HAVE_TORCH:
    import torch
else:
    torch = None

Array = np.ndarray
NO_REFERENCE = "PyTorch is not installed, and this case has no NumPy reference"

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")


@pytest.fixture(scope="module", autouse=True)
def _torch_on_one_thread() -> Any:
    """Two pools of spinning threads in one process spoil each other."""
    if not HAVE_TORCH:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# --- inputs and comparison


def arrays_of(case: Case, dtype: str) -> list[Array]:
    """The same numbers in every run, for every dtype: they depend on the case's id alone."""
    rng = np.random.default_rng(zlib.crc32(case.id.encode()))
    return [given.array(rng, dtype) for given in case.inputs]


def tensors_of(case: Case, arrays: list[Array], grad: bool = False) -> list[Any]:
    tensors = [op_inputs.place(pe, a, given.layout) for a, given in zip(arrays, case.inputs, strict=True)]
    return [
        x.detach().requires_grad_() if grad and wants_grad(given, x) else x
        for given, x in zip(case.inputs, tensors, strict=True)
    ]


def wants_grad(given: op_inputs.Input, x: Any) -> bool:
    return given.grad and x.is_floating_point()


def outputs_of(result: Any) -> list[Any]:
    return list(result) if isinstance(result, (tuple, list)) else [result]


def to_numpy(x: Any) -> Array:
    return np.array(x.detach().numpy()) if hasattr(x, "detach") else np.asarray(x)


def widened(array: Array) -> Array:
    return array.astype(np.float64) if array.dtype == np.float32 else array


def assert_close(actual: Array, expected: Array, ulps: float, relative: bool, what: str) -> None:
    """Exact for integers and bools, and for the places and signs of infinities and the places of NaN."""
    assert actual.shape == expected.shape, f"{what}: shape {actual.shape}, expected {expected.shape}"
    if actual.dtype.kind != "f":
        np.testing.assert_array_equal(actual, expected, err_msg=what)
        return
    rounded = expected.astype(actual.dtype)  # what float64 holds may be infinite in float32
    finite = np.isfinite(rounded)
    np.testing.assert_array_equal(actual[~finite], rounded[~finite], err_msg=what)
    a, e = actual[finite].astype(np.float64), expected[finite].astype(np.float64)
    if a.size == 0:
        return
    limits = np.finfo(actual.dtype)
    scale = np.abs(e) if relative else max(1.0, float(np.abs(e).max()))
    if expected.dtype == actual.dtype:
        ulps = 2 * ulps  # the reference rounds as well
    error, allowed = np.abs(a - e), ulps * limits.eps * scale + (limits.tiny if ulps else 0)
    wrong = ~(error <= allowed)
    if wrong.any():
        excess = np.divide(
            error, limits.eps * scale, out=np.full_like(error, np.inf), where=np.broadcast_to(scale, error.shape) > 0
        )
        k = int(np.argmax(np.where(wrong, excess, -1)))
        raise AssertionError(
            f"{what} ({actual.dtype}): {wrong.sum()} of {a.size} elements are off, the worst by {excess[k]:.3g} "
            f"epsilons (allowed {ulps:g}): {a[k]!r} instead of {e[k]!r}"
        )


def torch_outputs(case: Case, arrays: list[Array]) -> list[Any]:
    return outputs_of((case.torch or case.call)(torch, *(torch.from_numpy(a.copy()) for a in arrays)))


# --- results


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.id)
def test_forward(case: Case) -> None:
    if not HAVE_TORCH and case.reference is None:
        pytest.skip(NO_REFERENCE)
    for dtype in case.dtypes:
        arrays = arrays_of(case, dtype)
        inputs = tensors_of(case, arrays)
        actual = outputs_of(case.call(pe, *inputs))
        wide = [widened(a) for a in arrays]
        references = {}
        if case.reference is not None:
            references["NumPy"] = [np.asarray(y) for y in outputs_of(case.reference(*wide))]
        if HAVE_TORCH:
            exact = torch_outputs(case, wide)
            native = torch_outputs(case, arrays)
            assert [str(y.dtype).split(".")[-1] for y in actual] == [str(y.dtype).split(".")[-1] for y in native], dtype
            references["PyTorch"] = [to_numpy(y) for y in exact]
        for name, expected in references.items():
            assert len(actual) == len(expected)
            for i, (y, e) in enumerate(zip(actual, expected, strict=True)):
                assert_close(to_numpy(y), e, case.ulps, case.relative, f"output {i} against {name}")
        for x, a in zip(inputs, arrays, strict=True):
            np.testing.assert_array_equal(to_numpy(x), a, err_msg="an input was changed")


# --- gradients

DIFFERENTIABLE = [
    c for c in CASES if c.grad and set(c.dtypes) & set(FLOATS) and any(i.grad and i.dtype is None for i in c.inputs)
]


def seeds_of(outputs: list[Any]) -> list[Array]:
    rng = np.random.default_rng(7)
    return [rng.standard_normal(tuple(y.shape)) for y in outputs]


def gradients(m: Any, outputs: list[Any], leaves: list[Any], seeds: list[Any]) -> list[Array]:
    pairs = [(y, s) for y, s in zip(outputs, seeds, strict=True) if y.requires_grad]
    grads = m.autograd.grad([y for y, _ in pairs], leaves, [s for _, s in pairs], allow_unused=True)
    return [np.zeros(tuple(x.shape)) if g is None else to_numpy(g) for x, g in zip(leaves, grads, strict=True)]


def floating(outputs: list[Any]) -> list[Any]:
    return [y for y in outputs if y.is_floating_point()]


@pytest.mark.parametrize("case", DIFFERENTIABLE, ids=lambda c: c.id)
def test_gradient(case: Case) -> None:
    if not HAVE_TORCH:
        pytest.skip("PyTorch is not installed; test_gradcheck takes differences")
    for dtype in (d for d in case.dtypes if d in FLOATS):
        arrays = arrays_of(case, dtype)
        inputs = tensors_of(case, arrays, grad=True)
        outputs = floating(outputs_of(case.call(pe, *inputs)))
        seeds = [s.astype(to_numpy(y).dtype) for s, y in zip(seeds_of(outputs), outputs, strict=True)]
        # In float64 the incoming gradient has gaps in memory, with NaN in them.
        placed = [op_inputs.place(pe, s, "sliced" if dtype == "float64" and s.ndim else "plain") for s in seeds]
        leaves = [k for k, x in enumerate(inputs) if x.requires_grad]
        actual = gradients(pe, outputs, [inputs[k] for k in leaves], placed)

        wide = [torch.from_numpy(widened(a).copy()) for a in arrays]
        for k in leaves:
            wide[k].requires_grad_()
        exact = floating(outputs_of((case.torch or case.call)(torch, *wide)))
        expected = gradients(
            torch,
            exact,
            [wide[k] for k in leaves],
            [torch.from_numpy(widened(s)).to(y.dtype) for s, y in zip(seeds, exact, strict=True)],
        )
        for k, g, e in zip(leaves, actual, expected, strict=True):
            assert_close(g, e, case.grad_ulps, False, f"gradient of input {k}")


def differentiate_along(case: Case, inputs: list[Any], leaves: list[int]) -> None:
    """One directional derivative against a central difference: cheap for inputs of any size."""
    rng, h = np.random.default_rng(11), 1e-6
    directions = {k: rng.standard_normal(tuple(inputs[k].shape)) for k in leaves}
    outputs = floating(outputs_of(case.call(pe, *inputs)))
    seeds = seeds_of(outputs)
    grads = gradients(
        pe,
        outputs,
        [inputs[k] for k in leaves],
        [pe.from_numpy(s).to(y.dtype) for s, y in zip(seeds, outputs, strict=True)],
    )
    terms = [g * directions[k] for k, g in zip(leaves, grads, strict=True)]

    def along(step: float) -> float:
        moved = [
            pe.from_numpy(to_numpy(x) + step * directions[k]) if k in directions else x for k, x in enumerate(inputs)
        ]
        with pe.no_grad():
            results = [to_numpy(y) for y in floating(outputs_of(case.call(pe, *moved)))]
        return sum(float((y.astype(np.float64) * s).sum()) for y, s in zip(results, seeds, strict=True))

    numerical, analytical = (along(h) - along(-h)) / (2 * h), sum(float(t.sum()) for t in terms)
    size = 1 + sum(float(np.abs(t).sum()) for t in terms) + 1e-4 * abs(along(0.0))
    assert abs(numerical - analytical) <= 1e-5 * size, f"along a direction: {analytical}, by differences {numerical}"


# Where differences say nothing: ties and other kinks (an expanded input moves element by element), float32 inside, and
# running statistics, which depend on the input but carry no gradient.
NO_DIFFERENCES = (
    "ties",
    "norm-zero",
    "to-float32",
    "amax-expanded",
    "amin-expanded",
    "std-expanded-0",
    "-running",
    "-overwrites",
)


@pytest.mark.parametrize("case", DIFFERENTIABLE, ids=lambda c: c.id)
def test_gradcheck(case: Case) -> None:
    if any(name in case.id for name in NO_DIFFERENCES):
        pytest.skip("differences say nothing here: a kink, float32 inside, or an output without a gradient")
    inputs = tensors_of(case, arrays_of(case, "float64"), grad=True)
    leaves = [k for k, x in enumerate(inputs) if x.requires_grad]
    if sum(inputs[k].numel() for k in leaves) > 40 or "expanded" in case.id:
        differentiate_along(case, inputs, leaves)
    else:
        assert gradcheck(lambda *x: case.call(pe, *x), inputs)


@pytest.mark.parametrize("case", [c for c in DIFFERENTIABLE if c.gradgrad], ids=lambda c: c.id)
def test_gradgradcheck(case: Case) -> None:
    inputs = tensors_of(case, arrays_of(case, "float64"), grad=True)
    assert gradgradcheck(lambda *x: case.call(pe, *x), inputs)


# --- what was saved for the backward pass and has changed since; what was overwritten


@pytest.mark.parametrize(
    "use",
    [
        lambda x, i: x[i],
        lambda x, i: x.gather(0, i),
        lambda x, i: x.clone().index_put_((i,), pe.ones(2, requires_grad=True)),
        lambda x, i: pe.nn.functional.cross_entropy(x.reshape(1, 3).expand(2, 3), i),
    ],
    ids=["index", "gather", "index_put_", "cross_entropy"],
)
def test_a_changed_index_is_noticed(use: Any) -> None:
    x, i = pe.zeros(3, requires_grad=True), pe.tensor([0, 1])
    y = use(x, i)
    i.fill_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@pytest.mark.parametrize(
    "overwrite",
    [
        lambda y: y.zero_(),
        lambda y: y.fill_(2.0),
        lambda y: y.copy_(pe.ones(3)),
        lambda y: y.normal_(),
        lambda y: y.uniform_(),
        lambda y: y.bernoulli_(),
    ],
    ids=["zero_", "fill_", "copy_", "normal_", "uniform_", "bernoulli_"],
)
def test_what_is_overwritten_has_no_gradient(overwrite: Any) -> None:
    x = pe.ones(3, requires_grad=True)
    y = x * 2
    overwrite(y)
    assert y.requires_grad
    (y + x).sum().backward()
    assert x.grad.tolist() == [1, 1, 1]


# --- type promotion

ORDER = ("bool", "uint8", "int32", "int64", "float32", "float64")
NUMBERS = {"bool": True, "int64": 2, "float32": 2.5}  # a Python number behaves as a weak scalar of this dtype


def promoted(a: tuple[str, str], b: tuple[str, str]) -> str:
    """PyTorch's rule. Each operand is (kind, dtype); a lower kind counts only with a higher category."""
    kinds = ("number", "scalar", "tensor")

    def category(dtype: str) -> int:
        return 0 if dtype == "bool" else 2 if dtype.startswith("float") else 1

    if a[0] == b[0]:
        return max(a[1], b[1], key=ORDER.index)
    strong, weak = sorted((a, b), key=lambda x: -kinds.index(x[0]))
    return weak[1] if category(weak[1]) > category(strong[1]) else strong[1]


def operand(m: Any, kind: str, dtype: str) -> Any:
    if kind == "number":
        return NUMBERS[dtype]
    x = m.tensor(1 if kind == "scalar" else [1, 0, 1])
    return x.to(getattr(m, dtype))


OPERANDS = [(kind, dtype) for kind in ("tensor", "scalar") for dtype in ORDER] + [
    ("number", dtype) for dtype in NUMBERS
]


@pytest.mark.parametrize(
    ("a", "b"),
    [(a, b) for a, b in itertools.product(OPERANDS, OPERANDS) if a[0] != "number" or b[0] != "number"],
    ids="-".join,
)
def test_type_promotion(a: tuple[str, str], b: tuple[str, str]) -> None:
    expected = promoted(a, b)
    x, y = operand(pe, *a), operand(pe, *b)
    sum_ = x + y
    assert str(sum_.dtype) == f"pyengine.{expected}" or str(sum_.dtype) == expected
    floats = expected if expected.startswith("float") else "float32"
    assert str((x * y).dtype).endswith(expected)
    assert str(pe.true_divide(x, y if b[0] == "number" else y + 1).dtype).endswith(
        "float64" if floats == "float64" else "float32"
    )
    assert str((x == y).dtype).endswith("bool")
    assert str(pe.where(pe.tensor([True, False, True]), x, y).dtype).endswith(expected)
    if HAVE_TORCH:
        u, v = operand(torch, *a), operand(torch, *b)
        assert str(torch.result_type(u, v)) == f"torch.{expected}"
        np.testing.assert_array_equal(to_numpy(sum_), to_numpy(u + v))
        np.testing.assert_array_equal(to_numpy(x * y), to_numpy(u * v))


# --- random operations: the distribution, and that a seed decides everything


def test_dropout_keeps_and_scales() -> None:
    pe.manual_seed(1)
    for dtype, p in itertools.product(FLOATS, (0.1, 0.5, 0.9)):
        x = pe.ones(100_000, dtype=getattr(pe, dtype))
        y = to_numpy(pe.nn.functional.dropout(x, p))
        kept = y != 0
        np.testing.assert_allclose(y[kept], 1 / (1 - p), rtol=4 * np.finfo(dtype).eps)
        assert abs(kept.mean() - (1 - p)) < 5 * math.sqrt(p * (1 - p) / kept.size)
        assert not np.array_equal(kept, to_numpy(pe.nn.functional.dropout(x, p)) != 0)
        # neighbours are independent
        assert abs((kept[1:] & kept[:-1]).mean() - (1 - p) ** 2) < 0.01


@pytest.mark.parametrize("layout", op_inputs.LAYOUTS)
@pytest.mark.parametrize("shape", [(3, 4, 5, 7), (2, 1, 1, 1), (2, 3, 16, 17)], ids=str)
def test_dropout_gradient_has_the_mask_of_the_result(layout: str, shape: tuple[int, ...]) -> None:
    pe.manual_seed(2)
    for dtype in FLOATS:
        x = op_inputs.place(pe, np.ones(shape, dtype), layout).detach().requires_grad_()
        for seed_layout in ("plain", "sliced", "channels_last"):
            y = pe.nn.functional.dropout(x, 0.3)
            (g,) = pe.autograd.grad([y], [x], [op_inputs.place(pe, np.full(shape, 2, dtype), seed_layout)])
            np.testing.assert_array_equal(to_numpy(g), 2 * to_numpy(y))


def test_dropout2d_drops_whole_channels() -> None:
    pe.manual_seed(3)
    y = to_numpy(pe.nn.functional.dropout2d(pe.ones(40, 50, 3, 4), 0.4))
    assert (y == y[:, :, :1, :1]).all()
    assert abs((y[:, :, 0, 0] != 0).mean() - 0.6) < 0.06


def test_random_numbers_have_their_distribution() -> None:
    pe.manual_seed(4)
    n = 200_000
    for dtype in (pe.float32, pe.float64):
        u, z = to_numpy(pe.rand(n, dtype=dtype)), to_numpy(pe.randn(n, dtype=dtype))
        assert 0 <= u.min() and u.max() < 1
        assert abs(u.mean() - 0.5) < 5 * math.sqrt(1 / 12 / n) and abs(u.var() - 1 / 12) < 0.002
        assert abs(z.mean()) < 5 / math.sqrt(n) and abs(z.var() - 1) < 0.02 and abs((z**4).mean() - 3) < 0.15
        u, z = to_numpy(pe.empty(n, dtype=dtype).uniform_(-3, 5)), to_numpy(pe.empty(n, dtype=dtype).normal_(2, 0.5))
        assert -3 <= u.min() and u.max() < 5 and abs(u.mean() - 1) < 0.03
        assert abs(z.mean() - 2) < 0.01 and abs(z.std() - 0.5) < 0.01
    k = to_numpy(pe.randint(-3, 4, (n,)))
    assert k.dtype == np.int64
    counts = np.bincount(k + 3, minlength=7)
    assert counts.size == 7 and (abs(counts / n - 1 / 7) < 0.005).all()
    assert abs(to_numpy(pe.bernoulli(pe.full((n,), 0.3))).mean() - 0.3) < 0.01
    assert sorted(pe.randperm(1000).tolist()) == list(range(1000)) and pe.randperm(1000).tolist() != list(range(1000))
    draws = to_numpy(pe.multinomial(pe.tensor([1.0, 0.0, 3.0]), n, replacement=True))
    np.testing.assert_allclose(np.bincount(draws, minlength=3) / n, [0.25, 0, 0.75], atol=0.01)
    rows = to_numpy(pe.multinomial(pe.tensor([[1.0, 2.0, 0.0, 1.0]] * 500), 3))
    assert all(sorted(row) == [0, 1, 3] for row in rows.tolist())


def test_a_seed_decides_every_number() -> None:
    def draw() -> list[Array]:
        x = pe.empty(33)
        results = [pe.rand(17), pe.randn(3, 5), pe.randint(0, 9, (4,)), pe.randperm(9), pe.multinomial(pe.ones(9), 4)]
        results += [pe.bernoulli(pe.full((9,), 0.5)), x.uniform_().clone(), x.normal_().clone()]
        results += [pe.nn.functional.dropout(pe.ones(99))]
        return [to_numpy(y) for y in results]

    pe.manual_seed(5)
    first = draw()
    second = draw()
    pe.manual_seed(5)
    for a, b, c in zip(first, draw(), second, strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.size < 9 or not np.array_equal(a, c)


def test_the_number_of_threads_changes_no_bit() -> None:
    """One case of each family that works in slices; sizes that give every thread something to do."""
    rng = np.random.default_rng(0)

    def results() -> list[Array]:
        pe.manual_seed(6)
        x = pe.from_numpy(rng_x).requires_grad_()
        w = pe.from_numpy(rng_w).requires_grad_()
        y = pe.nn.functional.conv2d(x, w, padding=1)
        z = pe.nn.functional.batch_norm(y, None, None, training=True).relu()
        z = pe.nn.functional.max_pool2d(z, 2)
        loss = pe.nn.functional.cross_entropy(pe.nn.functional.dropout(z).mean((2, 3)), pe.arange(8) % 16)
        loss.backward()
        return [to_numpy(t) for t in (y, z, loss, x.grad, w.grad, x.sum(), x.square().sum((0, 2, 3)), pe.randn(10_000))]

    rng_x = rng.standard_normal((8, 8, 33, 34)).astype(np.float32)
    rng_w = rng.standard_normal((16, 8, 3, 3)).astype(np.float32)
    before = pe.get_num_threads()
    try:
        runs = []
        for threads in (1, 2, 3):
            pe.set_num_threads(threads)
            runs.append(results())
    finally:
        pe.set_num_threads(before)
    for other in runs[1:]:
        for a, b in zip(runs[0], other, strict=True):
            np.testing.assert_array_equal(a, b)
