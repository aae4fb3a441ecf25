"""THE case table: one row for each operation and variant, shared by the forward tests, the gradient tests and the benchmarks.

A case calls the operation as `call(m, *inputs)`, where m is pyengine or torch: the interfaces are the same, so one lambda
serves both. `reference` computes the same from NumPy arrays, for the main operations; it is what stands in where PyTorch is
not installed. Tolerances are multiples of the dtype's machine epsilon.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import op_references as ref
from op_inputs import (
    BOOL,
    I64,
    Input,
    T,
    away_from,
    between_integers,
    bits,
    distinct,
    integers,
    listed,
    normal,
    positive,
    probabilities,
    uniform,
)

FLOATS = ("float32", "float64")
INTS = ("uint8", "int32", "int64")


@dataclass(frozen=True)
class Case:
    id: str
    call: Callable[..., Any]
    inputs: tuple[Input, ...]
    reference: Callable[..., Any] | None = None
    torch: Callable[..., Any] | None = None  # PyTorch's call, where it is another
    dtypes: tuple[str, ...] = FLOATS
    ulps: float = 4  # allowed error of the result in epsilons: of the largest element (at least of 1) ...
    relative: bool = False  # ... or of each element by itself
    grad_ulps: float = 16  # the same for gradients, of the largest element
    grad: bool = True  # differentiable in its floating inputs
    gradgrad: bool = False  # second derivatives are checked as well


CASES: list[Case] = []


def case(id: str, call: Callable[..., Any], *inputs: Input, **options: Any) -> None:
    CASES.append(Case(id, call, inputs, **options))


def F(m: Any) -> Any:
    return m.nn.functional


# A table: a row stays a row.
# fmt: off

# --- functions of one tensor: (name, NumPy's, fill, options)

SQRT_2 = math.sqrt(2.0)
INSIDE = uniform(-0.95, 0.95)

UNARY: list[tuple[str, Callable[..., Any], Any, dict[str, Any]]] = [
    ("abs", np.abs, away_from(0), {"ulps": 0}),
    ("neg", np.negative, normal, {"ulps": 0}),
    ("sign", np.sign, away_from(0), {"ulps": 0}),
    ("square", np.square, normal, {"ulps": 1}),
    ("sqrt", np.sqrt, positive, {"ulps": 1}),
    ("rsqrt", lambda x: 1 / np.sqrt(x), positive, {"ulps": 2}),
    ("reciprocal", np.reciprocal, positive, {"ulps": 1}),
    ("exp", np.exp, uniform(-20, 20), {}),
    ("exp2", np.exp2, uniform(-20, 20), {}),
    ("expm1", np.expm1, uniform(-5, 5), {}),
    ("log", np.log, uniform(0.01, 5), {}),
    ("log2", np.log2, uniform(0.01, 5), {}),
    ("log10", np.log10, uniform(0.01, 5), {}),
    ("log1p", np.log1p, uniform(-0.9, 5), {}),
    ("sin", np.sin, uniform(-30, 30), {}),
    ("cos", np.cos, uniform(-30, 30), {}),
    ("tan", np.tan, uniform(-1.4, 1.4), {"relative": False}),
    ("asin", np.arcsin, INSIDE, {}),
    ("acos", np.arccos, INSIDE, {}),
    ("atan", np.arctan, normal, {}),
    ("sinh", np.sinh, uniform(-5, 5), {}),
    ("cosh", np.cosh, uniform(-5, 5), {}),
    ("tanh", np.tanh, uniform(-4, 4), {}),
    ("asinh", np.arcsinh, uniform(-5, 5), {}),
    ("acosh", np.arccosh, uniform(1.1, 5), {}),
    ("atanh", np.arctanh, INSIDE, {}),
    ("erf", ref.erf, uniform(-3, 3), {}),
    ("floor", np.floor, between_integers, {"ulps": 0}),
    ("ceil", np.ceil, between_integers, {"ulps": 0}),
    ("round", np.round, between_integers, {"ulps": 0}),
    ("trunc", np.trunc, between_integers, {"ulps": 0}),
    ("relu", lambda x: np.maximum(x, 0), away_from(0), {"ulps": 0}),
    ("sigmoid", ref.sigmoid, uniform(-15, 15), {}),
]

# Activations of nn.functional: (name, arguments, NumPy's, the kinks of the derivative)
ACTIVATIONS: list[tuple[str, dict[str, Any], Callable[..., Any], tuple[float, ...]]] = [
    ("relu", {}, lambda x: np.maximum(x, 0), (0,)),
    ("relu6", {}, lambda x: np.clip(x, 0, 6), (0, 6)),
    ("leaky_relu", {}, lambda x: np.where(x > 0, x, 0.01 * x), (0,)),
    ("leaky_relu", {"negative_slope": 0.2}, lambda x: np.where(x > 0, x, 0.2 * x), (0,)),
    ("elu", {}, lambda x: np.where(x > 0, x, np.expm1(x)), (0,)),
    ("elu", {"alpha": 0.7}, lambda x: np.where(x > 0, x, 0.7 * np.expm1(x)), (0,)),
    ("selu", {}, lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x)), (0,)),
    ("celu", {"alpha": 1.3}, lambda x: np.where(x > 0, x, 1.3 * np.expm1(x / 1.3)), (0,)),
    ("sigmoid", {}, ref.sigmoid, ()),
    ("tanh", {}, np.tanh, ()),
    ("logsigmoid", {}, lambda x: -np.logaddexp(0, -x), ()),
    ("silu", {}, lambda x: x * ref.sigmoid(x), ()),
    ("mish", {}, lambda x: x * np.tanh(np.logaddexp(0, x)), ()),
    ("gelu", {}, lambda x: x * 0.5 * (1 + ref.erf(x / SQRT_2)), ()),
    ("gelu", {"approximate": "tanh"}, ref.gelu_tanh, ()),
    ("softplus", {}, ref.softplus, ()),
    ("softplus", {"beta": 2.0, "threshold": 3.0}, lambda x: ref.softplus(x, 2.0, 3.0), (1.5,)),
    ("hardtanh", {}, lambda x: np.clip(x, -1, 1), (-1, 1)),
    ("hardtanh", {"min_val": -2.0, "max_val": 0.5}, lambda x: np.clip(x, -2, 0.5), (-2, 0.5)),
    ("hardsigmoid", {}, lambda x: np.clip(x / 6 + 0.5, 0, 1), (-3, 3)),
    ("hardswish", {}, lambda x: x * np.clip(x / 6 + 0.5, 0, 1), (-3, 3)),
    ("threshold", {"threshold": 0.1, "value": 20.0}, lambda x: np.where(x > 0.1, x, 20), (0.1,)),
    ("softsign", {}, lambda x: x / (1 + np.abs(x)), ()),
    ("tanhshrink", {}, lambda x: x - np.tanh(x), ()),
    ("hardshrink", {}, lambda x: np.where(np.abs(x) > 0.5, x, 0), (-0.5, 0.5)),
    ("softshrink", {"lambd": 0.4}, lambda x: x - np.clip(x, -0.4, 0.4), (-0.4, 0.4)),
]

SPECIAL = listed(np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 3.5, 1e-6, -1e-6, 88.0, -88.0, 1e4, 1e30, -1e30)
# These need other numbers than SPECIAL has; reference values at infinity are the limits.
NOT_SPECIAL = {"tan"}
# PyTorch's gradients of these are good to float32 only; the same function out of other operations.
TORCH_BY_HAND = {"celu": lambda m, x, alpha: m.where(x > 0, x, alpha * m.expm1(x / alpha)), "hardsigmoid": lambda m, x: m.clamp(x / 6 + 0.5, 0, 1)}
NO_LIMIT = {"hardswish"}  # at -infinity, PyTorch gives NaN where the limit is 0


def of_one_tensor() -> None:
    for name, reference, fill, given in UNARY:
        options = {"relative": True, "ulps": 3, **given, "reference": reference}

        def call(m: Any, x: Any, name: str = name) -> Any:
            return getattr(m, name)(x)

        def method(m: Any, x: Any, name: str = name) -> Any:
            return getattr(x, name)()

        def in_place(m: Any, x: Any, name: str = name) -> Any:
            return getattr(x.clone(), name + "_")()

        case(name, call, T(3, 11, fill=fill), gradgrad=True, **options)
        case(f"{name}-33", method, T(33, fill=fill), **options)
        case(f"{name}-transposed", call, T(5, 31, fill=fill, layout="transposed"), **options)
        case(f"{name}-sliced", method, T(2, 3, 17, fill=fill, layout="sliced"), **options)
        case(f"{name}-empty", call, T(0, 3, fill=fill), **options)
        case(f"{name}-scalar", call, T(fill=fill), **options)
        case(f"{name}-in_place", in_place, T(2, 16, fill=fill, layout="transposed"), torch=call, **options)
        if name not in NOT_SPECIAL:
            case(f"{name}-special", call, T(34, fill=SPECIAL, grad=False), **{**options, "reference": None})
    for name, arguments, reference, kinks in ACTIVATIONS:
        tag = "-".join([f"F.{name}", *map(str, arguments.values())])

        def call(m: Any, x: Any, name: str = name, arguments: dict[str, Any] = arguments) -> Any:
            return getattr(F(m), name)(x, **arguments)

        by_hand = TORCH_BY_HAND.get(name)
        options = {"reference": reference, "torch": by_hand and (lambda m, x, f=by_hand, a=arguments: f(m, x, **a))}
        case(tag, call, T(3, 11, fill=away_from(*kinks, scale=2.5)), gradgrad=True, **options)
        case(f"{tag}-33", call, T(2, 33, fill=away_from(*kinks, scale=2.5), layout="rows"), **options)
        case(f"{tag}-channels_last", call, T(2, 3, 4, 5, fill=away_from(*kinks), layout="channels_last"), **options)
        limits = (np.nan, np.inf, 0.0, -0.0) if name in NO_LIMIT else (np.nan, np.inf, -np.inf, 0.0, -0.0)
        case(f"{tag}-nan", call, T(8, fill=listed(*limits), grad=False))

    sizes = (1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 1000)
    for n in sizes:
        case(f"exp-size-{n}", lambda m, x: m.exp(x), T(n), reference=np.exp, relative=True)
        case(f"relu-size-{n}", lambda m, x: m.relu(x), T(n, fill=away_from(0)), reference=lambda x: np.maximum(x, 0), ulps=0)
        case(f"add-size-{n}", lambda m, x, y: x + y, T(n), T(n), reference=np.add, ulps=1)
        case(f"add-size-{n}-strided", lambda m, x, y: x + y, T(3, n, layout="sliced"), T(n, layout="sliced"), reference=np.add, ulps=1)
    for layout in ("rows", "reversed", "expanded", "channels_last"):
        for name in ("tanh", "abs", "clamp"):
            case(
                f"{name}-{layout}",
                (lambda m, x: m.clamp(x, -1, 1)) if name == "clamp" else (lambda m, x, name=name: getattr(m, name)(x)),
                T(3, 4, 5, 7, fill=away_from(-1, 0, 1), layout=layout),
            )

    case("F.gelu-tail", lambda m, x: F(m).gelu(x), T(301, fill=uniform(-5, 5)), torch=lambda m, x: x * 0.5 * m.erfc(x / -SQRT_2),
         reference=lambda x: x * 0.5 * ref.erfc(x / -SQRT_2), relative=True, ulps=40)  # fmt: skip

    x = away_from(-0.5, 0.75)
    case("clamp", lambda m, x: m.clamp(x, -0.5, 0.75), T(3, 11, fill=x), reference=lambda x: np.clip(x, -0.5, 0.75), ulps=0, gradgrad=True)
    case("clamp-min", lambda m, x: m.clamp(x, min=-0.5), T(33, fill=x), reference=lambda x: np.maximum(x, -0.5), ulps=0)
    case("clamp-max", lambda m, x: x.clamp(max=0.75), T(33, fill=x), reference=lambda x: np.minimum(x, 0.75), ulps=0)
    case("clamp-crossed", lambda m, x: x.clamp(1.0, -1.0), T(17, fill=x, grad=False), ulps=0)
    case("clamp-nan", lambda m, x: m.clamp(x, -1.0, 1.0), T(17, fill=SPECIAL, grad=False), ulps=0)
    case("clamp-tensors", lambda m, x, a, b: m.clamp(x, a, b), T(3, 11), T(11, fill=uniform(-1, -0.5)), T(3, 1, fill=uniform(0.5, 1)), ulps=0)
    case("clamp_", lambda m, x: x.clone().clamp_(-0.5, 0.75), T(3, 11, fill=x), ulps=0)
    case("clamp-ints", lambda m, x: m.clamp(x, 3, 7), T(35, fill=integers(0, 12)), dtypes=INTS, reference=lambda x: np.clip(x, 3, 7))
    case("clamp-ints-min", lambda m, x: m.clamp(x, min=5), T(35, fill=integers(0, 12)), dtypes=INTS, reference=lambda x: np.maximum(x, 5))
    case("clamp-ints-float", lambda m, x: m.clamp(x, 2.5, 7.5), T(35, fill=integers(0, 12)), dtypes=INTS)
    for name in ("neg", "square", "sign", "floor", "ceil", "round", "trunc"):
        case(f"{name}-ints", lambda m, x, name=name: getattr(m, name)(x), T(3, 11, fill=integers(0, 120)), dtypes=INTS)
    case("abs-ints", lambda m, x: m.abs(x), T(33, fill=integers(-50, 50)), dtypes=("int32", "int64"), reference=np.abs)
    for name in ("sqrt", "exp", "sigmoid", "sin", "reciprocal"):
        case(f"{name}-ints", lambda m, x, name=name: getattr(m, name)(x), T(3, 11, fill=integers(1, 9)), dtypes=("bool", *INTS), relative=True)
    for name in ("isnan", "isinf", "isfinite", "logical_not"):
        case(f"{name}", lambda m, x, name=name: getattr(m, name)(x), T(5, 17, fill=SPECIAL), reference=getattr(np, name))
        case(f"{name}-ints", lambda m, x, name=name: getattr(m, name)(x), T(35, fill=integers(0, 3)), dtypes=("bool", *INTS))
    case("bitwise_not", lambda m, x: ~x, T(35, fill=integers(0, 100)), dtypes=("bool", *INTS), reference=np.invert)


# --- functions of two tensors

BROADCASTS: list[tuple[str, Callable[..., tuple[Input, Input]]]] = [
    ("same", lambda f, g: (T(4, 33, fill=f), T(4, 33, fill=g))),
    ("broadcast", lambda f, g: (T(3, 1, 17, fill=f), T(5, 1, fill=g))),
    ("scalar", lambda f, g: (T(fill=f), T(2, 3, fill=g))),
    ("empty", lambda f, g: (T(2, 0, 3, fill=f), T(1, 3, fill=g))),
    ("transposed", lambda f, g: (T(16, 31, fill=f, layout="transposed"), T(16, 31, fill=g))),
    ("channels", lambda f, g: (T(2, 3, 4, 5, fill=f, layout="channels_last"), T(1, 3, 1, 1, fill=g))),
    ("expanded", lambda f, g: (T(4, 15, fill=f, layout="expanded"), T(4, 15, fill=g, layout="sliced"))),
    ("row", lambda f, g: (T(6, 1, fill=f), T(1, 33, fill=g, layout="rows"))),
]

BINARY: list[tuple[str, Callable[..., Any], Any, Any, dict[str, Any]]] = [
    ("add", np.add, normal, normal, {"ulps": 1}),
    ("sub", np.subtract, normal, normal, {"ulps": 1}),
    ("mul", np.multiply, normal, normal, {"ulps": 1}),
    ("div", np.divide, normal, positive, {"ulps": 1}),
    ("maximum", np.maximum, normal, normal, {"ulps": 0}),
    ("minimum", np.minimum, normal, normal, {"ulps": 0}),
    ("pow", np.power, positive, normal, {"ulps": 3}),
    ("remainder", np.remainder, normal, positive, {"ulps": 2, "relative": False}),
    ("fmod", np.fmod, normal, positive, {"ulps": 2, "relative": False}),
    ("atan2", np.arctan2, away_from(0), positive, {"ulps": 3}),
]


def of_two_tensors() -> None:
    for name, reference, left, right, given in BINARY:
        options = {"relative": True, **given, "reference": reference}

        def call(m: Any, a: Any, b: Any, name: str = name) -> Any:
            return getattr(m, name)(a, b)

        for tag, inputs in BROADCASTS:
            case(f"{name}-{tag}", call, *inputs(left, right), gradgrad=tag == "broadcast", **options)
    case("floor_divide", lambda m, a, b: m.floor_divide(a, b), T(4, 33), T(33, fill=positive), reference=np.floor_divide, ulps=0, grad=False)
    case("div-floor", lambda m, a, b: m.div(a, b, rounding_mode="floor"), T(4, 33), T(33, fill=positive), ulps=0, grad=False)
    case("div-trunc", lambda m, a, b: m.div(a, b, rounding_mode="trunc"), T(4, 33), T(33, fill=positive), ulps=0, grad=False)

    ties = T(4, 17, fill=integers(0, 3))
    case("maximum-ties", lambda m, a, b: m.maximum(a, b), ties, ties, ulps=0)
    case("minimum-ties", lambda m, a, b: m.minimum(a, b), ties, ties, ulps=0)
    grid = [a for a in (np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 2.0, -2.0, -0.5, 3.0) for _ in range(11)]
    special = (T(121, fill=listed(*grid), grad=False), T(121, fill=listed(*grid[::11]), grad=False))
    for name in ("add", "sub", "mul", "div", "maximum", "minimum", "pow", "remainder", "fmod", "atan2", "floor_divide"):
        case(f"{name}-special", lambda m, a, b, name=name: getattr(m, name)(a, b), *special, relative=True, ulps=3)
    for name in ("eq", "ne", "lt", "le", "gt", "ge"):
        reference = getattr(np, {"eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal"}[name])
        case(f"{name}-special", lambda m, a, b, name=name: getattr(m, name)(a, b), *special, reference=reference)
        case(
            f"{name}-ints",
            lambda m, a, b, name=name: getattr(m, name)(a, b),
            T(5, 17, fill=integers(0, 4)),
            T(17, fill=integers(0, 4)),
            dtypes=("bool", *INTS),
            reference=reference,
        )
        case(f"{name}-scalar", lambda m, a, name=name: getattr(m, name)(a, 1), T(5, 17, fill=integers(0, 4), layout="transposed"), dtypes=(*FLOATS, *INTS))
    small = (T(5, 17, fill=integers(1, 20)), T(17, fill=integers(1, 6)))
    signed = (T(5, 17, fill=integers(-20, 20)), T(17, fill=listed(-3, -2, -1, 1, 2, 3)))
    for name, reference in (("add", np.add), ("sub", np.subtract), ("mul", np.multiply), ("maximum", np.maximum), ("minimum", np.minimum),
                            ("remainder", np.remainder), ("fmod", np.fmod), ("floor_divide", np.floor_divide), ("pow", np.power)):
        case(f"{name}-ints", lambda m, a, b, name=name: getattr(m, name)(a, b), *small, dtypes=INTS, reference=reference)
        if name != "pow":
            case(f"{name}-signed", lambda m, a, b, name=name: getattr(m, name)(a, b), *signed, dtypes=("int32", "int64"), reference=reference)
    case("div-ints", lambda m, a, b: a / b, *small, dtypes=INTS, relative=True)
    case("div-ints-floor", lambda m, a, b: m.div(a, b, rounding_mode="floor"), *signed, dtypes=("int32", "int64"))
    case("div-ints-trunc", lambda m, a, b: m.div(a, b, rounding_mode="trunc"), *signed, dtypes=("int32", "int64"))
    for name in ("bitwise_and", "bitwise_or", "bitwise_xor"):
        case(
            f"{name}",
            lambda m, a, b, name=name: getattr(m, name)(a, b),
            T(5, 17, fill=integers(0, 100)),
            T(17, fill=integers(0, 100)),
            dtypes=("bool", *INTS),
            reference=getattr(np, name),
        )
    case("shift_left", lambda m, a, b: a << b, *small, dtypes=INTS, reference=np.left_shift)
    case("shift_right", lambda m, a, b: a >> b, *small, dtypes=INTS, reference=np.right_shift)
    for name in ("logical_and", "logical_or", "logical_xor"):
        case(
            f"{name}",
            lambda m, a, b, name=name: getattr(m, name)(a, b),
            T(35, fill=integers(0, 2)),
            T(35, fill=integers(0, 2)),
            dtypes=("bool", "int64", "float32"),
            grad=False,
        )

    x, p = T(3, 11), T(3, 11, fill=positive)
    case("add-alpha", lambda m, a, b: m.add(a, b, alpha=2.5), x, T(11), reference=lambda a, b: a + 2.5 * b, gradgrad=True)
    case("sub-alpha", lambda m, a, b: a.sub(b, alpha=-0.5), x, T(11), reference=lambda a, b: a + 0.5 * b)
    case("operators", lambda m, a: ((2.5 - a) * 3 + 1) / 4 - (-a), x, reference=lambda a: ((2.5 - a) * 3 + 1) / 4 + a)
    case("rdiv", lambda m, a: 2 / a, p, reference=lambda a: 2 / a, ulps=1, relative=True, gradgrad=True)
    case("rpow", lambda m, a: 2.0**a, x, reference=lambda a: 2.0**a, ulps=3, relative=True, gradgrad=True)
    for exponent in (0, 1, 2, 3, -1, -2, 0.5, -0.5, 2.5):
        case(f"pow-{exponent}", lambda m, a, exponent=exponent: a**exponent, p, reference=lambda a, e=exponent: a ** float(e), ulps=3, relative=True, gradgrad=True)
    case("pow-negative-base", lambda m, a: a**3, T(33, fill=away_from(0)), reference=lambda a: a**3.0, ulps=3, relative=True)
    case("mod-scalar", lambda m, a: a % 0.75, x, reference=lambda a: a % 0.75)
    case("floordiv-scalar", lambda m, a: a // 0.75, x, ulps=0, grad=False)
    case("lerp", lambda m, a, b, w: m.lerp(a, b, w), x, T(3, 11), T(11), gradgrad=True)
    case("lerp-scalar", lambda m, a, b: m.lerp(a, b, 0.3), x, T(3, 11), reference=lambda a, b: a + 0.3 * (b - a))
    case("addcmul", lambda m, x, a, b: m.addcmul(x, a, b, value=0.5), x, T(11), T(3, 1), reference=lambda x, a, b: x + 0.5 * a * b)
    case("addcdiv", lambda m, x, a, b: m.addcdiv(x, a, b, value=0.5), x, T(11), T(3, 1, fill=positive), reference=lambda x, a, b: x + 0.5 * a / b)
    case("where", lambda m, c, a, b: m.where(c, a, b), BOOL(4, 33), T(4, 33), T(4, 33), reference=np.where, ulps=0, gradgrad=True)
    case("where-broadcast", lambda m, c, a, b: m.where(c, a, b), BOOL(4, 1), T(17), T(3, 1, 1), reference=np.where, ulps=0)
    case(
        "where-strided",
        lambda m, c, a, b: m.where(c, a, b),
        BOOL(5, 17).like("transposed"),
        T(5, 17, layout="sliced"),
        T(5, 17, layout="transposed"),
        reference=np.where,
        ulps=0,
    )
    case("where-scalar", lambda m, c, a: m.where(c, a, 2.0), BOOL(4, 33), T(4, 33), reference=lambda c, a: np.where(c, a, 2.0), ulps=0)
    case(
        "where-ints",
        lambda m, c, a, b: m.where(c, a, b),
        BOOL(4, 33),
        T(4, 33, fill=integers(0, 99)),
        T(33, fill=integers(0, 99)),
        dtypes=("bool", *INTS),
        reference=np.where,
    )
    case("where-positions", lambda m, x: m.where(x > 1), T(4, 5, fill=integers(0, 4)), reference=lambda x: np.where(x > 1), grad=False)
    case("masked_fill", lambda m, x, c: x.masked_fill(c, -3.0), T(4, 33), BOOL(33), ulps=0, gradgrad=True)
    case("masked_fill_", lambda m, x, c: x.clone().masked_fill_(c, 2.0), T(4, 33), BOOL(4, 33), ulps=0)
    for name in ("add_", "sub_", "mul_", "div_"):
        case(name, lambda m, a, b, name=name: getattr(a.clone(), name)(b), T(4, 17, layout="transposed"), T(17, fill=positive), ulps=1)
    case("pow_", lambda m, a, b: a.clone().pow_(b), T(4, 17, fill=positive), T(17), ulps=3)
    case("add_-view", lambda m, a, b: _written(a.clone(), lambda y: y[1].add_(b)), T(4, 17), T(17), ulps=1)
    case("mul_-itself", lambda m, a: a.clone().mul_(a), T(4, 17), ulps=1)
    case("copy_", lambda m, a, b: a.clone().copy_(b), T(4, 17, layout="transposed"), T(17), ulps=0)
    case("copy_-view", lambda m, a, b: _written(a * 1, lambda y: y[:, 2:5].copy_(b)), T(4, 17), T(4, 1), ulps=0)
    case("copy_-overwrites", lambda m, a, b: _written(a * 2, lambda y: y.copy_(b.detach())), T(4, 17), T(17), ulps=0)
    case("copy_-dtypes", lambda m, a, b: a.clone().copy_(b), T(4, 17, fill=integers(0, 9)), I64(17, high=9), dtypes=(*FLOATS, *INTS), ulps=0)
    case("fill_", lambda m, a: a.clone().fill_(3.5), T(4, 17), ulps=0)
    case("zero_", lambda m, a: (a * 2).zero_() + a, T(4, 17))
    case("zero_-view", lambda m, a: _written(a * 2, lambda y: y[::2].zero_()), T(5, 7), ulps=0)


def _written(y: Any, write: Callable[[Any], Any]) -> Any:
    write(y)
    return y


# --- reductions


def reductions() -> None:
    shapes = [("matrix", T(5, 33)), ("4d", T(2, 3, 4, 17)), ("channels_last", T(2, 3, 4, 5, layout="channels_last")), ("transposed", T(31, 16, layout="transposed")),
              ("sliced", T(3, 5, 15, layout="sliced")), ("expanded", T(3, 17, layout="expanded"))]
    named = {
        "sum": (np.sum, {}),
        "mean": (np.mean, {}),
        "amax": (np.max, {"ulps": 0}),
        "amin": (np.min, {"ulps": 0}),
        "var": (lambda x, axis, keepdims: x.var(axis, ddof=1, keepdims=keepdims), {}),
        "std": (lambda x, axis, keepdims: x.std(axis, ddof=1, keepdims=keepdims), {}),
        "logsumexp": (ref.logsumexp, {}),
        "norm": (lambda x, axis, keepdims: np.sqrt((x * x).sum(axis, keepdims=keepdims)), {}),
    }
    for name, (reference, options) in named.items():
        for tag, x in shapes:
            if name in ("amax", "amin"):
                x = Input(x.shape, distinct, None, x.layout)
            all_dims = tuple(range(len(x.shape)))
            for dims, keepdim in ((0, False), (-1, True), (all_dims, False), (all_dims[1:], False), ((0, len(all_dims) - 1), True)):

                def call(m: Any, x: Any, name: str = name, dims: Any = dims, keepdim: bool = keepdim) -> Any:
                    return getattr(m, name)(x, dim=dims, keepdim=keepdim)

                case(
                    f"{name}-{tag}-{dims}{'-keep' if keepdim else ''}".replace(" ", ""),
                    call,
                    x,
                    reference=lambda x, f=reference, dims=dims, keepdim=keepdim: f(x, axis=dims, keepdims=keepdim),
                    torch=(lambda m, x, dims=dims, keepdim=keepdim: m.linalg.vector_norm(x, 2, dims, keepdim)) if name == "norm" else None,
                    **options,
                )
        if name != "logsumexp":
            case(f"{name}-all", lambda m, x, name=name: getattr(m, name)(x), T(3, 7, fill=distinct), gradgrad=True, **options)
            case(f"{name}-one", lambda m, x, name=name: getattr(m, name)(x), T(1, 1) if name not in ("var", "std") else T(1, 2), **options)
        case(f"{name}-dim", lambda m, x, name=name: getattr(m, name)(x, dim=1), T(3, 7, fill=distinct), gradgrad=True, **options)
        case(f"{name}-long", lambda m, x, name=name: getattr(m, name)(x, dim=0), T(5000, 3, fill=distinct), ulps=8 if name != "var" else 16)
        case(f"{name}-long-rows", lambda m, x, name=name: getattr(m, name)(x, dim=1), T(3, 5000, fill=distinct), ulps=8 if name != "var" else 16)
    big = T(70001, fill=uniform(0, 1))
    case("sum-big", lambda m, x: m.sum(x), big, reference=np.sum)
    case("mean-big", lambda m, x: m.mean(x), big, reference=np.mean)
    for name in ("sum", "mean", "prod", "any", "all", "var", "norm"):
        case(f"{name}-empty", lambda m, x, name=name: getattr(m, name)(x), T(0, 3, grad=False))
        if name != "prod":
            case(f"{name}-empty-dim", lambda m, x, name=name: getattr(m, name)(x, dim=0), T(0, 3, grad=False))
        case(f"{name}-empty-out", lambda m, x, name=name: getattr(m, name)(x, dim=1), T(0, 3))
    case("amax-ties", lambda m, x: m.amax(x, dim=1), T(5, 17, fill=integers(0, 4)), ulps=0)
    case("amin-ties", lambda m, x: m.amin(x), T(5, 17, fill=integers(0, 4)), ulps=0)
    case("max-all", lambda m, x: m.max(x), T(5, 17, fill=distinct), reference=np.max, ulps=0)
    case("max-two", lambda m, a, b: m.max(a, b), T(5, 17), T(17), reference=np.maximum, ulps=0)
    case("min-two", lambda m, a, b: a.min(b), T(5, 17), T(17), reference=np.minimum, ulps=0)
    case("prod", lambda m, x: m.prod(x), T(3, 7), reference=np.prod, gradgrad=True)
    case("prod-dim", lambda m, x: m.prod(x, dim=0, keepdim=True), T(3, 7, layout="transposed"), reference=lambda x: x.prod(0, keepdims=True), gradgrad=True)
    case("prod-dims", lambda m, x: m.prod(x, dim=(0, 2)), T(3, 4, 5), torch=lambda m, x: m.prod(m.prod(x, 2), 0), reference=lambda x: x.prod((0, 2)))
    case("prod-one-zero", lambda m, x: m.prod(x, dim=1), T(4, 5, fill=listed(1.5, 0.0, -2.0, 0.5, 3.0, 1.0)))
    case("prod-two-zeros", lambda m, x: m.prod(x), T(7, fill=listed(1.5, 0.0, -2.0, 0.0, 3.0)))
    for k, x in enumerate((T(5, 33, fill=distinct), T(3, 4, 5, fill=distinct, layout="reversed"), T(2, 3, 4, 5, fill=distinct, layout="channels_last"))):
        for name in ("max", "min"):
            for dim in (0, -1):
                case(f"{name}-dim-{k}-{dim}", lambda m, x, name=name, dim=dim: getattr(m, name)(x, dim, keepdim=dim == 0), x, ulps=0, gradgrad=k == 1)
        for name in ("argmax", "argmin"):
            case(f"{name}-{k}", lambda m, x, name=name: getattr(m, name)(x), x, reference=getattr(np, name), grad=False)
            case(
                f"{name}-{k}-dim",
                lambda m, x, name=name: getattr(m, name)(x, dim=1, keepdim=True),
                x,
                reference=lambda x, name=name: getattr(np, name)(x, axis=1, keepdims=True),
                grad=False,
            )
    for name in ("argmax", "argmin", "amax", "amin"):
        nan = listed(1.0, 5.0, np.nan, 7.0, np.nan, -1.0, 2.0)
        case(
            f"{name}-nan",
            lambda m, x, name=name: getattr(m, name)(x, 1),
            T(3, 18, fill=nan, grad=False),
            reference=lambda x, name=name: getattr(np, name.replace("amax", "max").replace("amin", "min"))(x, axis=1),
        )
        case(
            f"{name}-first",
            lambda m, x, name=name: getattr(m, name)(x, 1),
            T(4, 40, fill=integers(0, 3), grad=False),
            reference=lambda x, name=name: getattr(np, name.replace("amax", "max").replace("amin", "min"))(x, axis=1),
        )
    for name in ("sum", "prod", "amax", "amin", "any", "all", "count_nonzero"):
        # any and all of uint8 are bool here, as of every other dtype; PyTorch gives uint8
        dtypes = ("bool", "int32", "int64") if name in ("any", "all") else ("bool", *INTS)
        case(f"{name}-ints", lambda m, x, name=name: getattr(m, name)(x), T(3, 6, fill=integers(0, 4)), dtypes=dtypes)
        case(
            f"{name}-ints-dim", lambda m, x, name=name: getattr(m, name)(x, dim=1), T(4, 35, fill=integers(0, 4)), dtypes=dtypes if name != "prod" else ("bool", "int64")
        )
        case(f"{name}-ints-transposed", lambda m, x, name=name: getattr(m, name)(x, dim=0), T(17, 33, fill=integers(0, 2), layout="transposed"), dtypes=dtypes)
    for name in ("any", "all", "count_nonzero"):
        case(f"{name}-floats", lambda m, x, name=name: getattr(m, name)(x, 1), T(5, 17, fill=listed(0.0, 0.0, 0.0, np.nan, 0.0, 1.0, 0.0)), grad=False)
    for name in ("argmax", "argmin"):
        case(f"{name}-ints", lambda m, x, name=name: getattr(m, name)(x, 0), T(17, 5, fill=integers(0, 200)), dtypes=INTS)
    case("sum-dtype", lambda m, x: m.sum(x, dtype=m.float64), T(5, 33), ulps=2)
    case("sum-ints-dtype", lambda m, x: m.sum(x, dim=0, dtype=m.float32), T(5, 33, fill=integers(0, 9)), dtypes=INTS)
    case("mean-ints-dtype", lambda m, x: m.mean(x, dim=0, dtype=m.float32), T(5, 33, fill=integers(0, 9)), dtypes=INTS)
    case("var-correction", lambda m, x: m.var(x, dim=0, correction=0), T(5, 33), reference=lambda x: x.var(0), gradgrad=True)
    case("var-unbiased", lambda m, x: x.var(unbiased=False), T(5, 33), reference=np.var)
    case("std-unbiased", lambda m, x: x.std(1, unbiased=True, keepdim=True), T(5, 33), reference=lambda x: x.std(1, ddof=1, keepdims=True))
    for p in (0, 1, 2, 3, 0.5, math.inf, -math.inf):
        case(f"norm-{p}", lambda m, x, p=p: m.norm(x, p, dim=1), T(5, 17, fill=away_from(0)), reference=lambda x, p=p: np.linalg.norm(x, p, axis=1), ulps=8, grad=p != 0)
    case("norm-zero", lambda m, x: m.norm(x), T(3, 4, fill=listed(0.0)))
    case("logsumexp-extreme", lambda m, x: m.logsumexp(x, 1), T(2, 4, fill=listed(1000.0, 1000.0, -np.inf, 999.0, -np.inf, -np.inf, -np.inf, -np.inf), grad=False))
    for name, reference in (("cumsum", np.cumsum), ("cumprod", np.cumprod)):
        for dim in (0, 1, -1):
            case(
                f"{name}-{dim}", lambda m, x, name=name, dim=dim: getattr(m, name)(x, dim), T(3, 5, 4), reference=lambda x, f=reference, dim=dim: f(x, dim), gradgrad=True
            )
        case(
            f"{name}-transposed",
            lambda m, x, name=name: getattr(m, name)(x, 1),
            T(17, 33, fill=uniform(0.8, 1.2), layout="transposed"),
            reference=lambda x, f=reference: f(x, 1),
            ulps=16,
            grad_ulps=64,
        )
        case(f"{name}-ints", lambda m, x, name=name: getattr(m, name)(x, 0), T(6, 3, fill=integers(0, 3)), dtypes=("bool", *INTS))
        case(f"{name}-scalar", lambda m, x, name=name: getattr(m, name)(x, 0), T())
        case(f"{name}-empty", lambda m, x, name=name: getattr(m, name)(x, 1), T(3, 0))
    case("cumsum-long", lambda m, x: m.cumsum(x, 0), T(3000), reference=lambda x: x.cumsum(), ulps=64)
    case("cumsum-dtype", lambda m, x: m.cumsum(x, 0, dtype=m.float64), T(30, 2))
    case("cumprod-zeros", lambda m, x: m.cumprod(x, 1), T(3, 5, fill=listed(2.0, 0.0, 3.0, 0.0, 1.5, 0.5, 4.0)))


# --- products


def products() -> None:
    pairs = [((5,), (5,)), ((4, 5), (5,)), ((5,), (5, 3)), ((4, 5), (5, 3)), ((1, 1), (1, 1)), ((33, 17), (17, 31)), ((2, 3, 4), (4,)), ((4,), (2, 4, 3)),
             ((2, 3, 4), (4, 5)), ((3, 4), (2, 4, 5)), ((2, 3, 4), (2, 4, 5)), ((2, 1, 3, 4), (3, 4, 5)), ((2, 0, 4), (4, 5)), ((3, 0), (0, 4)), ((0, 3), (3, 4)),
             ((1, 65), (65, 70)), ((70, 64), (64, 1)), ((2, 17, 33), (1, 33, 16))]
    for a, b in pairs:
        case(
            f"matmul-{'x'.join(map(str, a))}-{'x'.join(map(str, b))}",
            lambda m, a, b: a @ b,
            T(*a),
            T(*b),
            reference=np.matmul,
            ulps=8,
            gradgrad=math.prod(a) + math.prod(b) < 40,
        )
    for la in ("plain", "transposed", "sliced", "rows", "expanded"):
        for lb in ("plain", "transposed", "sliced", "rows", "expanded"):
            case(f"matmul-{la}-{lb}", lambda m, a, b: m.matmul(a, b), T(15, 33, layout=la), T(33, 18, layout=lb), reference=np.matmul, ulps=8)
    case("matmul-batch-transposed", lambda m, a, b: m.matmul(a, b), T(3, 7, 9, layout="transposed"), T(3, 9, 5, layout="reversed"), reference=np.matmul, ulps=8)
    case("matmul-blocks", lambda m, a, b: m.matmul(a, b), T(131, 260), T(260, 150), reference=np.matmul, ulps=8)
    case("matmul-ints", lambda m, a, b: m.matmul(a, b), T(5, 7, fill=integers(0, 4)), T(7, 3, fill=integers(0, 4)), dtypes=INTS)
    case("mm", lambda m, a, b: m.mm(a, b), T(4, 5), T(5, 3), reference=np.matmul, ulps=8)
    case("bmm", lambda m, a, b: m.bmm(a, b), T(2, 4, 5), T(2, 5, 3), reference=np.matmul, ulps=8)
    case("mv", lambda m, a, b: m.mv(a, b), T(4, 5), T(5), reference=np.matmul, ulps=8)
    case("dot", lambda m, a, b: m.dot(a, b), T(33), T(33), reference=np.dot, ulps=8)
    case("outer", lambda m, a, b: m.outer(a, b), T(5), T(7), reference=np.outer)
    case(
        "addmm", lambda m, c, a, b: m.addmm(c, a, b, beta=0.5, alpha=2.0), T(3), T(4, 5), T(5, 3), reference=lambda c, a, b: 0.5 * c + 2 * (a @ b), ulps=8, gradgrad=True
    )
    for rows in ((), (1,), (7,), (2, 3), (0,), (64,)):
        for bias in (True, False):
            case(f"linear-{rows}-{bias}".replace(" ", ""), lambda m, x, w, b=None: F(m).linear(x, w, b), T(*rows, 17), T(5, 17), *([T(5)] if bias else []),
                 reference=lambda x, w, b=0.0: x @ w.T + b, ulps=8, gradgrad=rows == (7,))
    case(
        "linear-strided",
        lambda m, x, w, b: F(m).linear(x, w, b),
        T(9, 33, layout="sliced"),
        T(31, 33, layout="transposed"),
        T(31, layout="sliced"),
        reference=lambda x, w, b: x @ w.T + b,
        ulps=8,
    )
    case("linear-wide", lambda m, x, w, b: F(m).linear(x, w, b), T(64, 400), T(120, 400), T(120), reference=lambda x, w, b: x @ w.T + b, ulps=8)
    sums = [("ij,jk->ik", (3, 4), (4, 5)), ("ij,jk", (3, 4), (4, 5)), ("bij,bjk->bik", (2, 3, 4), (2, 4, 5)), ("ii->i", (4, 4)), ("ii", (4, 4)), ("ij->ji", (3, 4)), ("ij->", (3, 4)),
            ("i,j->ij", (3,), (4,)), ("i,i->", (5,), (5,)), ("bchw,kc->bkhw", (2, 3, 4, 5), (6, 3)), ("...ij,...jk->...ik", (2, 3, 4), (2, 4, 5)), ("b...,b...->b", (2, 3, 4), (2, 3, 4)),
            ("ijk,jl,km->ilm", (2, 3, 4), (3, 2), (4, 3)), ("ba", (3, 4)), ("bhqd,bhkd->bhqk", (2, 2, 3, 4), (2, 2, 5, 4)), ("iij,j->i", (3, 3, 4), (4,))]
    for equation, *shapes in sums:
        case(
            f"einsum-{equation}",
            lambda m, *x, e=equation: m.einsum(e, *x),
            *(T(*s) for s in shapes),
            reference=(lambda *x, e=equation: np.einsum(e, *x)) if not equation.endswith("->b") else None,
            ulps=8,
            gradgrad=sum(map(math.prod, shapes)) < 40,
        )


# --- views and joins


def views() -> None:
    x, y = T(2, 3, 4), T(2, 3, 4, layout="reversed")
    rows: list[tuple[str, Callable[..., Any]]] = [
        ("reshape", lambda m, x: m.reshape(x, (4, 6))),
        ("reshape-infer", lambda m, x: x.reshape(3, -1)),
        ("view", lambda m, x: x.contiguous().view(6, 4)),
        ("permute", lambda m, x: x.permute(2, 0, 1)),
        ("permute-function", lambda m, x: m.permute(x, (1, 2, 0))),
        ("transpose", lambda m, x: x.transpose(0, -1)),
        ("swapaxes", lambda m, x: m.swapaxes(x, 0, 1)),
        ("movedim", lambda m, x: m.movedim(x, 0, 2)),
        ("movedim-two", lambda m, x: m.movedim(x, (0, 1), (2, 0))),
        ("expand", lambda m, x: x[:, :1].expand(2, 5, 4)),
        ("expand-new", lambda m, x: x.expand(3, -1, 3, 4)),
        ("broadcast_to", lambda m, x: m.broadcast_to(x, (2, 2, 3, 4))),
        ("expand_as", lambda m, x: x[:1].expand_as(x)),
        ("view_as", lambda m, x: x.contiguous().view_as(x.reshape(4, 6))),
        ("narrow", lambda m, x: x.narrow(2, 1, 2)),
        ("select", lambda m, x: x.select(1, -1)),
        ("squeeze", lambda m, x: x[:, :1].squeeze()),
        ("squeeze-dim", lambda m, x: x[:1, :1].squeeze(1)),
        ("squeeze-dims", lambda m, x: x[:1, :1].squeeze((0, 1))),
        ("squeeze-none", lambda m, x: x.squeeze(0)),
        ("unsqueeze", lambda m, x: x.unsqueeze(-1) * x.unsqueeze(0).reshape(2, 3, 4, 1)),
        ("flatten", lambda m, x: x.flatten()),
        ("flatten-dims", lambda m, x: m.flatten(x, 1)),
        ("ravel", lambda m, x: x.ravel()),
        ("unflatten", lambda m, x: m.unflatten(x, 2, (2, -1))),
        ("diagonal", lambda m, x: x.diagonal(0, 1, 2)),
        ("diagonal-offset", lambda m, x: x.diagonal(1, 2, 0)),
        ("T", lambda m, x: x[0].T),
        ("mT", lambda m, x: x.mT),
        ("t", lambda m, x: x[0].t()),
        ("clone", lambda m, x: x.clone()),
        ("contiguous", lambda m, x: x.contiguous() * 1),
        ("slice", lambda m, x: x[1:, ::2, 1:3]),
        ("slice-empty", lambda m, x: x[:, 2:2]),
        ("index-int", lambda m, x: x[0, -1]),
        ("index-none", lambda m, x: x[:, None, ..., None, 2]),
        ("split", lambda m, x: x.split(2, 2)),
        ("split-uneven", lambda m, x: m.split(x, 2, 1)),
        ("split-sizes", lambda m, x: x.split((1, 3), -1)),
        ("chunk", lambda m, x: m.chunk(x, 3, 2)),
        ("unbind", lambda m, x: m.unbind(x, 1)),
        ("view-fan-out", lambda m, x: x[0] * x[1] + x.sum(0)),
    ]
    for name, call in rows:
        case(
            name,
            call,
            x,
            ulps=0 if "fan" not in name and name != "unsqueeze" else 4,
            gradgrad=name in ("reshape", "expand", "diagonal", "slice", "view-fan-out", "split-sizes"),
        )
        case(f"{name}-strided", call, y, ulps=0 if "fan" not in name and name != "unsqueeze" else 4)
    case("as_strided", lambda m, x: m.as_strided(x, (3, 4), (2, 3), 1), T(20), ulps=0, gradgrad=False)
    case("channels_last", lambda m, x: x.contiguous(memory_format=m.channels_last) * 2, T(2, 3, 4, 5), ulps=0)
    case("flatten-channels_last", lambda m, x: m.flatten(x, 1), T(2, 3, 4, 5, layout="channels_last"), ulps=0)
    for to in ("float32", "float64"):
        case(f"to-{to}", lambda m, x, to=to: x.to(getattr(m, to)), T(3, 17), ulps=1, dtypes=FLOATS)
    for to in ("uint8", "int32", "int64", "bool", "float32", "float64"):
        case(f"to-{to}-from", lambda m, x, to=to: x.to(getattr(m, to)), T(35, fill=integers(0, 3), layout="sliced"), dtypes=("bool", *INTS, *FLOATS), grad=False)
    case("to-int64-truncates", lambda m, x: x.to(m.int64), T(7, fill=listed(1.5, -1.5, 2.7, -0.3)), grad=False)


def joins() -> None:
    for dim in (0, 1, -1):
        shapes = [[3, 4, 5] for _ in range(3)]
        for i, s in enumerate(shapes):
            s[dim] = i + 1
        parts = [T(*s, layout=layout) for s, layout in zip(shapes, ("plain", "transposed", "sliced"), strict=True)]
        case(f"cat-{dim}", lambda m, *x, dim=dim: m.cat(x, dim), *parts, reference=lambda *x, dim=dim: np.concatenate(x, dim), ulps=0, gradgrad=dim == 1)
    case("cat-empty", lambda m, a, b: m.cat([a, b]), T(0), T(3, 2), ulps=0)
    case("cat-channels_last", lambda m, a, b: m.cat([a, b], 1), T(2, 3, 4, 5, layout="channels_last"), T(2, 2, 4, 5), ulps=0)
    case("cat-same", lambda m, a: m.cat([a, a], 0), T(3, 5), ulps=0)
    case("cat-dtypes", lambda m, a, b: m.cat([a, b], 0), T(3, fill=integers(0, 9)), I64(4, high=9), dtypes=(*FLOATS, *INTS), ulps=0)
    for dim in (0, 1, -1):
        case(
            f"stack-{dim}",
            lambda m, a, b, dim=dim: m.stack([a, b], dim),
            T(3, 5),
            T(3, 5, layout="transposed"),
            reference=lambda a, b, dim=dim: np.stack([a, b], dim),
            ulps=0,
        )
    modes = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}
    for mode, numpys in modes.items():
        case(f"pad-{mode}-1", lambda m, x, mode=mode: F(m).pad(x, (2, 3), mode), T(2, 3, 5), reference=lambda x, n=numpys: np.pad(x, ((0, 0), (0, 0), (2, 3)), n), ulps=0)
        case(
            f"pad-{mode}-2",
            lambda m, x, mode=mode: F(m).pad(x, (1, 2, 2, 1), mode),
            T(2, 2, 4, 3, layout="channels_last"),
            reference=lambda x, n=numpys: np.pad(x, ((0, 0), (0, 0), (2, 1), (1, 2)), n),
            ulps=0,
            gradgrad=True,
        )
    case("pad-constant", lambda m, x: F(m).pad(x, (1, 2)), T(3, 5), reference=lambda x: np.pad(x, ((0, 0), (1, 2))), ulps=0, gradgrad=True)
    case("pad-value", lambda m, x: F(m).pad(x, (1, 2, 0, 3), value=1.5), T(2, 3, 5, layout="reversed"), ulps=0)
    case("pad-crop", lambda m, x: F(m).pad(x, (-1, 2, 1, -2)), T(2, 4, 5), ulps=0)
    case("pad-ints", lambda m, x: F(m).pad(x, (1, 2), value=3), T(3, 5, fill=integers(0, 9)), dtypes=INTS)
    case("pad-empty", lambda m, x: F(m).pad(x, (1, 1)), T(2, 0), ulps=0)
    case("flip", lambda m, x: m.flip(x, (0, 2)), T(2, 3, 5, layout="transposed"), reference=lambda x: np.flip(x, (0, 2)), ulps=0, gradgrad=True)
    case("flip-empty", lambda m, x: m.flip(x, (0,)), T(0, 3), ulps=0)
    case("roll", lambda m, x: m.roll(x, (1, -2), (0, 1)), T(3, 5), reference=lambda x: np.roll(x, (1, -2), (0, 1)), ulps=0)
    case("roll-flat", lambda m, x: m.roll(x, 7), T(3, 5), reference=lambda x: np.roll(x, 7), ulps=0)
    case("repeat", lambda m, x: x.repeat(2, 1, 3), T(3, 2), reference=lambda x: np.tile(x, (2, 1, 3)), ulps=0, gradgrad=True)
    case("tile", lambda m, x: m.tile(x, (2,)), T(3, 5), reference=lambda x: np.tile(x, 2), ulps=0)
    case("repeat_interleave", lambda m, x: m.repeat_interleave(x, 3, dim=1), T(3, 5), reference=lambda x: np.repeat(x, 3, 1), ulps=0)
    case("repeat_interleave-flat", lambda m, x: x.repeat_interleave(2), T(3, 5), reference=lambda x: np.repeat(x, 2), ulps=0)
    case("full", lambda m: m.full((3, 5), 2.5, dtype=m.float64), dtypes=("float64",), reference=lambda: np.full((3, 5), 2.5))
    case("arange", lambda m: [m.arange(7), m.arange(2, 9, 3), m.arange(5, -3, -2), m.arange(1, 2, 0.25, dtype=m.float64), m.arange(0.0, 3.0)], dtypes=("float64",))
    case("linspace", lambda m: [m.linspace(-1, 1, 17, dtype=m.float64), m.linspace(3, 3, 1, dtype=m.float64)], dtypes=("float64",), ulps=2)
    case("eye", lambda m: [m.eye(3), m.eye(2, 4), m.eye(4, 2, dtype=m.int64)], dtypes=("float64",))
    case("likes", lambda m, x: [m.zeros_like(x), m.ones_like(x), m.full_like(x, 3)], T(3, 5, layout="transposed"), dtypes=(*FLOATS, *INTS), grad=False)
    case("meshgrid", lambda m, a, b: m.meshgrid(a, b, indexing="xy"), T(3), T(4), ulps=0)


# --- indexing, sorting


def indexing() -> None:
    x, index = T(4, 5, 3), I64(2, 3, high=4)
    case("index-tensor", lambda m, x, i: x[i], x, index, reference=lambda x, i: x[i], ulps=0, gradgrad=True)
    case("index-negative", lambda m, x, i: x[:, i - 5], x, I64(7, high=5), reference=lambda x, i: x[:, i], ulps=0)
    case("index-two", lambda m, x, i, j: x[i, j], x, I64(6, high=4), I64(6, high=5), reference=lambda x, i, j: x[i, j], ulps=0)
    case("index-apart", lambda m, x, i, j: x[i, :, j], x, I64(6, high=4), I64(1, high=3), reference=lambda x, i, j: x[i, :, j], ulps=0)
    case("index-broadcast", lambda m, x, i, j: x[i, j], T(4, 5, 3, layout="reversed"), I64(2, 1, high=4), I64(3, high=5), reference=lambda x, i, j: x[i, j], ulps=0)
    case("index-mask", lambda m, x, c: x[c], x, BOOL(4, 5), reference=lambda x, c: x[c], ulps=0)
    case("index-mask-whole", lambda m, x, c: x[c], x, BOOL(4, 5, 3), reference=lambda x, c: x[c], ulps=0)
    case("index-mask-after", lambda m, x, c: x[1:3, c], x, BOOL(5), reference=lambda x, c: x[1:3, c], ulps=0)
    case("index-list", lambda m, x: x[[0, 2, -1]], x, reference=lambda x: x[[0, 2, -1]], ulps=0)
    case("index-mixed", lambda m, x, i: x[1:, None, i, 0], x, I64(4, high=5), reference=lambda x, i: x[1:, None, i, 0], ulps=0)
    case("index-ellipsis", lambda m, x, i: x[..., i], x, I64(4, high=3), reference=lambda x, i: x[..., i], ulps=0)
    case("index-empty", lambda m, x, i: x[i], x, I64(0, high=4), ulps=0)
    case("index-ints", lambda m, x, i: x[i], T(4, 5, fill=integers(0, 99)), I64(7, high=4), dtypes=("bool", *INTS), reference=lambda x, i: x[i])
    case("index-int32", lambda m, x, i: x[i], x, I64(3, high=4, dtype="int32"), ulps=0)
    sets: list[tuple[str, Any, tuple[Input, ...], tuple[int, ...]]] = [
        ("slice", lambda: (slice(1, 3),), (), (5, 3)),
        ("int", lambda: (0, slice(None, None, 2)), (), (3, 3)),
        ("ellipsis", lambda: (..., 1), (), (4, 5)),
    ]
    for tag, key, _, shape in sets:
        case(f"setitem-{tag}", lambda m, x, v, key=key: _assigned(x, key(), v), x, T(*shape), ulps=0)
    case("setitem-scalar", lambda m, x: _assigned(x, (slice(None), 2), 1.5), x, ulps=0)
    case("setitem-tensor", lambda m, x, i, v: _assigned(x, i, v), x, Input((2,), listed(3, 1), "int64"), T(2, 5, 3), ulps=0)
    case("setitem-mask", lambda m, x, c: _assigned(x, c, 0.5), x, BOOL(4, 5), ulps=0)
    case("setitem-columns", lambda m, x, i, v: _assigned(x, (slice(None), i), v), x, Input((2,), listed(4, 0), "int64"), T(3), ulps=0)
    case("index_put_-accumulate", lambda m, x, i, v: x.clone().index_put_((i,), v, accumulate=True), x, I64(6, high=4), T(6, 5, 3))
    case("index_add", lambda m, x, i, v: m.index_add(x, 1, i, v, alpha=0.5), x, I64(4, high=5), T(4, 4, 3), gradgrad=True)
    case("index_add_", lambda m, x, i, v: x.clone().index_add_(0, i, v), x, I64(6, high=4), T(6, 5, 3))
    case("index_fill_", lambda m, x, i: x.clone().index_fill_(1, i, 2.0), x, I64(3, high=5), ulps=0)
    for dim in (0, 1, -1):
        case(
            f"index_select-{dim}",
            lambda m, x, i, dim=dim: m.index_select(x, dim, i),
            T(4, 5, 3, layout="transposed"),
            I64(7, high=3),
            reference=lambda x, i, dim=dim: x.take(i, dim),
            ulps=0,
            gradgrad=dim == 1,
        )
        case(f"gather-{dim}", lambda m, x, i, dim=dim: m.gather(x, dim, i), x, I64(3, 4, 2, high=3), ulps=0, gradgrad=dim == 1)
        case(f"scatter_add-{dim}", lambda m, x, i, v, dim=dim: m.scatter_add(x, dim, i, v), x, I64(3, 4, 2, high=3), T(3, 4, 2),
             reference=lambda x, i, v, dim=dim: ref.scatter(x, dim, i, v, add=True), gradgrad=dim == 1)
    unique = Input((3, 4), listed(3, 0, 1, 2, 0, 1, 2, 3, 2, 3, 0, 1), "int64")
    case("scatter", lambda m, x, i, v: m.scatter(x, 1, i, v), T(3, 6), unique, T(3, 4), reference=lambda x, i, v: ref.scatter(x, 1, i, v), ulps=0, gradgrad=True)
    case(
        "scatter-larger",
        lambda m, x, i, v: m.scatter(x, 1, i, v),
        T(4, 6, layout="transposed"),
        unique,
        T(5, 5),
        torch=lambda m, x, i, v: m.scatter(x, 1, i, v[:3, :4]),
        ulps=0,
    )
    case("scatter-value", lambda m, x, i: m.scatter(x, 1, i, 2.5), T(3, 6), unique, ulps=0)
    case("scatter_", lambda m, x, i, v: x.clone().scatter_(1, i, v), T(3, 6), unique, T(3, 4), ulps=0)
    case("scatter_add_", lambda m, x, i, v: x.clone().scatter_add_(0, i, v), T(3, 4), I64(6, 4, high=3), T(6, 4))
    case("take_along_dim", lambda m, x, i: m.take_along_dim(x, i, 1), T(3, 6), I64(3, 4, high=6), reference=lambda x, i: np.take_along_axis(x, i, 1), ulps=0)
    case("masked_select", lambda m, x, c: m.masked_select(x, c), T(4, 5, layout="transposed"), BOOL(4, 5), reference=lambda x, c: x[c], ulps=0)
    case("masked_select-broadcast", lambda m, x, c: m.masked_select(x, c), T(4, 5), BOOL(5), ulps=0)
    case("nonzero", lambda m, x: [m.nonzero(x), *m.nonzero(x, as_tuple=True)], T(4, 5, fill=bits, layout="transposed"), dtypes=(*FLOATS, "bool", *INTS), grad=False)
    case("nonzero-none", lambda m, x: m.nonzero(x), T(2, 0), grad=False)
    case("one_hot", lambda m, i: F(m).one_hot(i, 7), I64(3, 4, high=7), dtypes=("int64",), reference=lambda i: np.eye(7, dtype=np.int64)[i])
    case("one_hot-infer", lambda m, i: F(m).one_hot(i), I64(5, high=4), dtypes=("int64",), reference=lambda i: np.eye(i.max() + 1, dtype=np.int64)[i])
    for name, reference in (("tril", np.tril), ("triu", np.triu)):
        for k in (0, 1, -2):
            case(f"{name}-{k}", lambda m, x, name=name, k=k: getattr(m, name)(x, k), T(2, 4, 5), reference=lambda x, f=reference, k=k: f(x, k), ulps=0, gradgrad=k == 1)
        case(f"{name}-ints", lambda m, x, name=name: getattr(m, name)(x), T(5, 4, fill=integers(0, 9)), dtypes=("bool", *INTS), reference=reference)


def _assigned(x: Any, key: Any, value: Any) -> Any:
    y = x * 1
    y[key] = value
    return y


def sorting() -> None:
    for k, x in enumerate((T(5, 33, fill=distinct), T(3, 17, 4, fill=distinct, layout="reversed"), T(700, fill=distinct))):
        for descending in (False, True):
            case(f"sort-{k}-{descending}", lambda m, x, d=descending: m.sort(x, -1, d), x, ulps=0, gradgrad=k == 1 and descending)
        case(f"sort-{k}-0", lambda m, x: m.sort(x, 0), x, ulps=0)
        case(f"argsort-{k}", lambda m, x: m.argsort(x, dim=0), x, reference=lambda x: x.argsort(0), grad=False)
        for largest in (False, True):
            case(f"topk-{k}-{largest}", lambda m, x, largest=largest: m.topk(x, 3, 0, largest), x, ulps=0, gradgrad=k == 1 and largest)
    case("topk-all", lambda m, x: m.topk(x, 17), T(3, 17, fill=distinct), ulps=0)
    case("topk-none", lambda m, x: m.topk(x, 0), T(3, 17, fill=distinct, grad=False), ulps=0)
    case("sort-stable", lambda m, x: m.sort(x, dim=1, stable=True), T(3, 40, fill=integers(0, 4), grad=False), ulps=0)
    case("sort-stable-down", lambda m, x: m.sort(x, dim=1, descending=True, stable=True), T(3, 40, fill=integers(0, 4), grad=False), ulps=0)
    case("sort-nan", lambda m, x: m.sort(x), T(12, fill=listed(3.0, np.nan, -np.inf, 1.0, np.inf, 2.0, -1.0, 0.5, 7.0, 8.0, 9.0, 10.0), grad=False), ulps=0)
    case("topk-nan", lambda m, x: m.topk(x, 3), T(12, fill=listed(3.0, np.nan, -np.inf, 1.0, np.inf, 2.0, -1.0, 0.5, 7.0, 8.0, 9.0, 10.0), grad=False), ulps=0)
    case("sort-ints", lambda m, x: m.sort(x, stable=True), T(4, 35, fill=integers(0, 90)), dtypes=INTS)
    case("sort-scalar", lambda m, x: m.sort(x, 0), T(), ulps=0)
    case("sort-empty", lambda m, x: m.sort(x, 1), T(3, 0), ulps=0)


# --- convolution


def convolution() -> None:
    rows: list[tuple[str, tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
        # id, x (N, C, H, W), weight (K, C / groups, R, S), arguments
        ("lenet-1", (3, 1, 12, 12), (6, 1, 5, 5), {"padding": 2}),
        ("lenet-2", (2, 6, 9, 9), (16, 6, 5, 5), {}),
        ("rgb", (2, 3, 9, 11), (8, 3, 3, 3), {"padding": 1}),
        ("rgb-stride", (2, 3, 9, 11), (17, 3, 3, 3), {"stride": 2, "padding": 1}),
        ("planar-edge", (1, 8, 5, 33), (32, 8, 3, 3), {"padding": 1}),
        ("planar-wide", (1, 2, 3, 65), (3, 2, 3, 3), {"padding": 1}),
        ("planar-narrow", (4, 3, 7, 1), (5, 3, 3, 1), {}),
        ("planar-1x3", (2, 3, 6, 17), (4, 3, 1, 3), {"padding": (0, 1)}),
        ("planar-7x2", (2, 3, 9, 16), (4, 3, 7, 2), {"padding": (3, 1)}),
        ("one", (1, 1, 1, 1), (1, 1, 1, 1), {}),
        ("1x1", (2, 16, 5, 7), (33, 16, 1, 1), {}),
        ("1x1-stride", (2, 17, 7, 7), (16, 17, 1, 1), {"stride": 2}),
        ("1x1-padding", (1, 16, 4, 5), (8, 16, 1, 1), {"padding": 1}),
        ("3x3", (2, 16, 7, 9), (16, 16, 3, 3), {"padding": 1}),
        ("3x3-odd", (1, 17, 8, 8), (33, 17, 3, 3), {"padding": 1}),
        ("3x3-many", (1, 33, 6, 5), (17, 33, 3, 3), {}),
        ("3x3-stride", (2, 16, 9, 8), (17, 16, 3, 3), {"stride": 2, "padding": 1}),
        ("3x3-strides", (1, 9, 11, 10), (8, 9, 3, 3), {"stride": (3, 2), "padding": (0, 2)}),
        ("3x3-dilation", (2, 16, 9, 9), (8, 16, 3, 3), {"dilation": 2, "padding": 2}),
        ("3x3-dilations", (1, 5, 11, 9), (7, 5, 3, 3), {"dilation": (1, 3), "padding": 1}),
        ("dilation-stride", (1, 3, 13, 11), (4, 3, 3, 3), {"dilation": 2, "stride": 2, "padding": 3}),
        ("5x5", (1, 17, 9, 9), (9, 17, 5, 5), {"padding": 2}),
        ("1x3", (2, 16, 5, 9), (16, 16, 1, 3), {"padding": (0, 1)}),
        ("7x2", (2, 16, 9, 6), (8, 16, 7, 2), {"padding": (3, 0)}),
        ("padding-large", (1, 2, 3, 4), (3, 2, 3, 3), {"padding": 4}),
        ("padding-large-16", (1, 16, 3, 4), (8, 16, 3, 3), {"padding": 4}),
        ("kernel-whole", (2, 16, 4, 5), (8, 16, 4, 5), {}),
        ("groups", (2, 16, 6, 7), (8, 4, 3, 3), {"padding": 1, "groups": 4}),
        ("groups-odd", (1, 33, 5, 6), (9, 11, 3, 3), {"groups": 3, "stride": 2}),
        ("groups-2", (2, 4, 5, 6), (6, 2, 3, 3), {"groups": 2}),
        ("depthwise", (2, 16, 7, 8), (16, 1, 3, 3), {"padding": 1, "groups": 16}),
        ("depthwise-17", (1, 17, 8, 7), (17, 1, 3, 3), {"padding": 1, "groups": 17, "stride": 2}),
        ("depthwise-5x5", (1, 33, 9, 9), (33, 1, 5, 5), {"padding": 2, "groups": 33}),
        ("depthwise-7x7", (2, 17, 9, 10), (17, 1, 7, 7), {"padding": 3, "groups": 17}),
        ("depthwise-7x7-small", (3, 16, 4, 3), (16, 1, 7, 7), {"padding": 3, "groups": 16}),
        ("depthwise-7x7-stride", (1, 16, 13, 12), (16, 1, 7, 7), {"padding": 3, "groups": 16, "stride": 2}),
        ("depthwise-4x6-strides", (1, 9, 14, 17), (9, 1, 4, 6), {"padding": (0, 4), "groups": 9, "stride": (2, 3)}),
        ("depthwise-9x11", (1, 16, 12, 19), (16, 1, 9, 11), {"padding": (4, 5), "groups": 16}),
        ("depthwise-no-padding", (2, 5, 11, 12), (5, 1, 5, 5), {"groups": 5}),
        ("depthwise-skips", (1, 16, 9, 9), (16, 1, 2, 2), {"groups": 16, "stride": 4}),
        ("depthwise-dilation", (1, 8, 9, 9), (8, 1, 3, 3), {"padding": 2, "groups": 8, "dilation": 2}),
        ("depthwise-multiplier", (2, 8, 6, 6), (16, 1, 3, 3), {"padding": 1, "groups": 8}),
        ("batch-0", (0, 3, 5, 5), (4, 3, 3, 3), {"padding": 1}),
        ("batch-0-16", (0, 16, 5, 5), (4, 16, 3, 3), {"padding": 1}),
        ("stride-skips", (1, 16, 9, 9), (8, 16, 1, 1), {"stride": 4}),
        ("stride-over", (1, 3, 10, 10), (4, 3, 2, 2), {"stride": 3}),
    ]
    for id, x, w, arguments in rows:

        def call(m: Any, x: Any, w: Any, b: Any = None, arguments: dict[str, Any] = arguments) -> Any:
            return F(m).conv2d(x, w, b, **arguments)

        def reference(x: Any, w: Any, b: Any = None, arguments: dict[str, Any] = arguments) -> Any:
            return ref.conv2d(x, w, b, **arguments)

        fast = min(x[1], *w[:2]) >= 16  # by Winograd's transforms, which round more: docs/numerics.md
        options = {"reference": reference, "ulps": 24 if fast else 8, "grad_ulps": 72 if fast else 24}
        case(f"conv2d-{id}", call, T(*x), T(*w), T(w[0]), **options)
        case(f"conv2d-{id}-channels_last", call, T(*x, layout="channels_last"), T(*w, layout="channels_last"), **options)
    small = (T(1, 2, 4, 3), T(2, 2, 2, 2), T(2))
    case("conv2d-second", lambda m, x, w, b: F(m).conv2d(x, w, b, padding=1), *small, ulps=8, gradgrad=True)
    case("conv2d-second-gemm", lambda m, x, w, b: F(m).conv2d(x, w, b, stride=2, padding=1), *small, ulps=8, gradgrad=True)
    case("conv2d-second-groups", lambda m, x, w: F(m).conv2d(x, w, groups=2, dilation=2, padding=1), T(1, 2, 4, 3), T(2, 1, 2, 2), ulps=8, gradgrad=True)
    case("conv2d-3d", lambda m, x, w, b: F(m).conv2d(x, w, b), T(3, 6, 7), T(4, 3, 3, 3), T(4), ulps=8)
    case("conv2d-same", lambda m, x, w: F(m).conv2d(x, w, padding="same"), T(1, 3, 6, 7), T(4, 3, 4, 3), ulps=8)
    case("conv2d-valid", lambda m, x, w: F(m).conv2d(x, w, padding="valid"), T(1, 3, 6, 7), T(4, 3, 4, 3), ulps=8)
    case(
        "conv2d-strided",
        lambda m, x, w, b: F(m).conv2d(x, w, b, padding=1),
        T(2, 9, 6, 7, layout="sliced"),
        T(8, 9, 3, 3, layout="reversed"),
        T(8, layout="sliced"),
        ulps=8,
    )
    case("conv2d-strided-planar", lambda m, x, w: F(m).conv2d(x, w, padding=1), T(2, 3, 6, 7, layout="transposed"), T(8, 3, 3, 3, layout="sliced"), ulps=8)
    case("conv2d-expanded", lambda m, x, w: F(m).conv2d(x, w), T(3, 2, 6, 7, layout="expanded"), T(4, 2, 3, 3, layout="expanded"), ulps=8)
    case("conv2d-twice", lambda m, x, w: F(m).conv2d(F(m).conv2d(x, w, padding=1), w, padding=1), T(2, 9, 5, 5), T(9, 9, 3, 3), ulps=16, grad_ulps=32)


# --- pooling


def pooling() -> None:
    x = (2, 3, 7, 9)
    maxima: list[tuple[str, tuple[int, ...], tuple[Any, ...]]] = [
        ("2", x, (2,)),
        ("2-even", (2, 17, 8, 8), (2,)),
        ("2-33", (1, 33, 4, 66), (2,)),
        ("3-2", x, (3, 2)),
        ("3-2-1", x, (3, 2, 1)),
        ("pairs", x, ((3, 2), (2, 1), (1, 0))),
        ("dilation", x, (2, 1, 0, 2)),
        ("ceil", x, (2, 2, 0, 1, True)),
        ("ceil-3", (1, 16, 8, 7), (3, 2, 1, 1, True)),
        ("ceil-gap", (1, 2, 5, 5), (2, 3, 1, 1, True)),
        ("overlap", (2, 16, 6, 6), (3, 1, 1)),
        ("gaps", x, (1, 2)),
        ("whole", (2, 5, 4, 4), (4,)),
        ("window-17", (1, 2, 20, 20), (17,)),
        ("batch-0", (0, 3, 4, 4), (2,)),
        ("one", (1, 1, 1, 1), (1,)),
    ]
    for id, shape, arguments in maxima:
        for layout in ("plain", "channels_last"):
            given = T(*shape, fill=distinct, layout=layout)
            tag = f"{id}{'-' + layout if layout != 'plain' else ''}"
            reference = (lambda x, a=arguments: ref.max_pool2d(x, *a)) if shape[0] else None
            case(f"max_pool2d-{tag}", lambda m, x, a=arguments: F(m).max_pool2d(x, *a), given, reference=reference, ulps=0, gradgrad=id == "pairs")
            case(f"max_pool2d-indices-{tag}", lambda m, x, a=arguments: F(m).max_pool2d(x, *a, *(None, 0, 1, False)[len(a) - 1 :], True), given, ulps=0,
                 torch=lambda m, x, a=arguments: F(m).max_pool2d(x, *a, *(None, 0, 1, False)[len(a) - 1 :], return_indices=True))
    case("max_pool2d-3d", lambda m, x: F(m).max_pool2d(x, 2), T(3, 5, 6, fill=distinct), ulps=0)
    case("max_pool2d-ties", lambda m, x: F(m).max_pool2d(x, 2, return_indices=True), T(2, 3, 6, 6, fill=integers(0, 2)), ulps=0)
    case("max_pool2d-nan", lambda m, x: F(m).max_pool2d(x, 2), T(1, 2, 4, 4, fill=listed(1.0, np.nan, 2.0, 3.0, 4.0), grad=False), ulps=0)
    case("max_pool2d-inf", lambda m, x: F(m).max_pool2d(x, 3, 2, 1), T(1, 2, 4, 4, fill=listed(-np.inf), grad=False), ulps=0)
    averages: list[tuple[str, tuple[int, ...], tuple[Any, ...], dict[str, Any]]] = [
        ("2", x, (2,), {}),
        ("2-even", (2, 17, 8, 8), (2,), {}),
        ("3-2-1", x, (3, 2, 1), {}),
        ("exclude", x, (3, 2, 1), {"count_include_pad": False}),
        ("ceil", x, (2, 2, 0), {"ceil_mode": True}),
        ("ceil-pad", (1, 16, 8, 7), (3, 2, 1), {"ceil_mode": True}),
        ("ceil-exclude", (1, 16, 8, 7), (3, 2, 1), {"ceil_mode": True, "count_include_pad": False}),
        ("divisor", x, ((3, 2), 2, (1, 0)), {"divisor_override": 5}),
        ("overlap", (1, 33, 6, 6), (3, 1, 1), {}),
        ("whole", (2, 5, 4, 4), (4,), {}),
        ("batch-0", (0, 3, 4, 4), (2,), {}),
    ]
    for id, shape, arguments, options in averages:
        for layout in ("plain", "channels_last"):
            reference = (lambda x, a=arguments, o=options: ref.avg_pool2d(x, *a, **o)) if shape[0] else None
            case(
                f"avg_pool2d-{id}{'-' + layout if layout != 'plain' else ''}",
                lambda m, x, a=arguments, o=options: F(m).avg_pool2d(x, *a, **o),
                T(*shape, layout=layout),
                reference=reference,
            )
    case("avg_pool2d-second", lambda m, x: F(m).avg_pool2d(x, 2, 1).square(), T(1, 2, 4, 3), gradgrad=True)
    case("avg_pool2d-3d", lambda m, x: F(m).avg_pool2d(x, 2), T(3, 5, 6))
    for p, q in ((1, 1), (2, 3), (7, 9), (3, 4), (5, 2), (9, 11)):
        for layout in ("plain", "channels_last"):
            tag = f"{p}x{q}{'-' + layout if layout != 'plain' else ''}"
            case(
                f"adaptive_avg_pool2d-{tag}",
                lambda m, x, s=(p, q): F(m).adaptive_avg_pool2d(x, s),
                T(2, 17, 7, 9, layout=layout),
                reference=lambda x, s=(p, q): ref.adaptive_pool2d(x, s, np.mean),
            )
            case(
                f"adaptive_max_pool2d-{tag}",
                lambda m, x, s=(p, q): F(m).adaptive_max_pool2d(x, s, return_indices=True),
                T(2, 17, 7, 9, fill=distinct, layout=layout),
                ulps=0,
            )
    case("adaptive_avg_pool2d-none", lambda m, x: F(m).adaptive_avg_pool2d(x, (None, 2)), T(3, 5, 6))
    case("adaptive_avg_pool2d-second", lambda m, x: F(m).adaptive_avg_pool2d(x, (2, 2)).square(), T(1, 2, 3, 5), gradgrad=True)
    case("adaptive_max_pool2d-second", lambda m, x: F(m).adaptive_max_pool2d(x, (2, 2)).square(), T(1, 2, 3, 5, fill=distinct), gradgrad=True)


# --- normalization, softmax, losses


def normalization() -> None:
    for tag, x in (("2d", T(9, 17)), ("3d", T(4, 5, 7)), ("4d", T(3, 16, 5, 4)), ("4d-33", T(2, 33, 3, 5)), ("channels_last", T(3, 17, 5, 4, layout="channels_last")), ("one-channel", T(4, 1, 6, 7)),
                   ("strided", T(4, 6, 5, 7, layout="sliced")), ("wide", T(4, 8, 33, 31)), ("5d", T(2, 3, 2, 3, 4))):
        c = x.shape[1]
        affine, running = (T(c), T(c)), (Input((c,), normal, grad=False), Input((c,), positive, grad=False))
        case(f"batch_norm-{tag}", lambda m, x, w, b: F(m).batch_norm(x, None, None, w, b, True), x, *affine, reference=ref.batch_norm, ulps=16, grad_ulps=48)
        case(
            f"batch_norm-{tag}-plain",
            lambda m, x: F(m).batch_norm(x, None, None, training=True, eps=1e-3),
            x,
            reference=lambda x: ref.batch_norm(x, eps=1e-3),
            ulps=16,
            grad_ulps=48,
        )
        case(
            f"batch_norm-{tag}-eval",
            lambda m, x, w, b, mean, var: F(m).batch_norm(x, mean, var, w, b),
            x,
            *affine,
            *running,
            reference=ref.batch_norm,
            ulps=16,
            grad_ulps=32,
        )
        case(f"batch_norm-{tag}-running", lambda m, x, mean, var: _with_running(m, x, mean, var), x, *running, ulps=16, grad_ulps=48)
    case("batch_norm-second", lambda m, x, w, b: F(m).batch_norm(x, None, None, w, b, True), T(3, 2, 2, 2), T(2), T(2), ulps=16, gradgrad=True)
    case(
        "batch_norm-second-eval",
        lambda m, x, w, b, mean, var: F(m).batch_norm(x, mean, var, w, b),
        T(3, 2, 2),
        T(2),
        T(2),
        Input((2,), normal, grad=False),
        Input((2,), positive, grad=False),
        ulps=16,
        gradgrad=True,
    )
    case("batch_norm-weight-only", lambda m, x, w: F(m).batch_norm(x, None, None, w, None, True), T(3, 4, 5), T(4), ulps=16, grad_ulps=48)
    case(
        "batch_norm-offset", lambda m, x: F(m).batch_norm(x + 100.0, None, None, training=True), T(8, 3, 5, 5), ulps=600, grad_ulps=2000
    )  # x + 100 rounds to 64 eps already
    for tag, x, dims in (("64", T(7, 64), 1), ("33", T(9, 33), 1), ("5", T(3, 4, 5), 1), ("2-dims", T(3, 2, 5, 7), 2), ("all-dims", T(4, 5, 3), 3), ("long", T(3, 2500), 1),
                         ("transposed", T(2, 3, 4, 17, layout="transposed"), 1), ("strided", T(5, 19, layout="sliced"), 1), ("rows", T(301, 16), 1)):  # fmt: skip
        shape = x.shape[len(x.shape) - dims :]
        case(f"layer_norm-{tag}", lambda m, x, w, b, s=shape: F(m).layer_norm(x, s, w, b), x, T(*shape), T(*shape), reference=lambda x, w, b, d=dims: ref.layer_norm(x, w, b, d), ulps=16, grad_ulps=48)
        case(f"layer_norm-{tag}-plain", lambda m, x, s=shape: F(m).layer_norm(x, s, eps=1e-3), x, reference=lambda x, d=dims: ref.layer_norm(x, None, None, d, 1e-3), ulps=16, grad_ulps=48)
    case("layer_norm-permuted", lambda m, x, w, b: F(m).layer_norm(x.permute(0, 2, 3, 1), (17,), w, b).permute(0, 3, 1, 2), T(2, 17, 5, 4, layout="channels_last"), T(17), T(17), ulps=16, grad_ulps=48)
    case("layer_norm-second", lambda m, x, w, b: F(m).layer_norm(x, (2, 3), w, b), T(3, 2, 3), T(2, 3), T(2, 3), ulps=16, gradgrad=True)
    case("layer_norm-weight-only", lambda m, x, w: F(m).layer_norm(x, (5,), w), T(3, 5), T(5), ulps=16, grad_ulps=48)
    case("layer_norm-bias-only", lambda m, x, b: F(m).layer_norm(x, (5,), None, b), T(3, 5), T(5), ulps=16, grad_ulps=48)
    case("layer_norm-no-rows", lambda m, x, w, b: F(m).layer_norm(x, (5,), w, b), T(0, 5), T(5), T(5))
    case("layer_norm-offset", lambda m, x: F(m).layer_norm(x + 100.0, (40,)), T(8, 40), ulps=600, grad_ulps=2000)  # x + 100 rounds to 64 eps already
    for name in ("softmax", "log_softmax"):
        reference = getattr(ref, name)
        for tag, x, dim in (("rows", T(5, 10), 1), ("33", T(4, 33), -1), ("columns", T(9, 17), 0), ("4d", T(2, 3, 4, 5), 1), ("channels_last", T(2, 17, 3, 4, layout="channels_last"), 1), ("transposed", T(15, 16, layout="transposed"), 1),
                            ("one", T(5, 1), 1), ("empty", T(0, 3), 1), ("large", T(7, 1000, fill=uniform(-9, 9)), 1)):
            case(
                f"{name}-{tag}", lambda m, x, name=name, dim=dim: getattr(m, name)(x, dim), x, reference=lambda x, f=reference, dim=dim: f(x, dim), gradgrad=tag == "rows"
            )
        case(
            f"{name}-extreme", lambda m, x, name=name: getattr(m, name)(x, 1), T(3, 4, fill=listed(1000.0, -1000.0, 999.0, 0.0)), reference=lambda x, f=reference: f(x, 1)
        )
        case(f"{name}-inf", lambda m, x, name=name: getattr(m, name)(x, 1), T(2, 4, fill=listed(-np.inf, 1.0, 2.0, -np.inf), grad=False))
        case(f"{name}-scalar", lambda m, x, name=name: getattr(m, name)(x, 0), T())
        case(f"{name}-dtype", lambda m, x, name=name: getattr(m, name)(x, 1, dtype=m.float64), T(4, 5, fill=integers(0, 9)), dtypes=(*INTS, "float32"), grad=False)
    case("F.softmin", lambda m, x: F(m).softmin(x, 1), T(4, 17))
    case("F.normalize", lambda m, x: F(m).normalize(x), T(4, 17), reference=lambda x: x / np.sqrt((x * x).sum(1, keepdims=True)))
    case("F.normalize-1", lambda m, x: F(m).normalize(x, p=1, dim=0), T(4, 17, fill=away_from(0)))
    case("F.glu", lambda m, x: F(m).glu(x, 1), T(3, 6), reference=lambda x: x[:, :3] * ref.sigmoid(x[:, 3:]), gradgrad=True)
    case("F.prelu", lambda m, x, w: F(m).prelu(x, w), T(3, 5, 4, fill=away_from(0)), T(5), reference=ref.prelu, gradgrad=True)
    case("F.prelu-one", lambda m, x, w: F(m).prelu(x, w), T(3, 17, fill=away_from(0)), T(1), reference=ref.prelu)
    for name in ("relu", "leaky_relu", "elu", "silu", "hardswish", "hardtanh"):
        case(f"F.{name}-inplace", lambda m, x, name=name: getattr(F(m), name)(x * 1.0, inplace=True), T(3, 17, fill=away_from(0, -1, 1, -3, 3)))
    case("F.dropout-eval", lambda m, x: F(m).dropout(x, 0.5, training=False), T(3, 5), ulps=0)
    case("F.dropout-0", lambda m, x: F(m).dropout(x, 0.0), T(3, 5), ulps=0)
    case("F.dropout-1", lambda m, x: F(m).dropout(x, 1.0), T(3, 5), ulps=0)


def _with_running(m: Any, x: Any, mean: Any, var: Any) -> Any:
    """The output and the updated statistics."""
    mean, var = mean.clone(), var.clone()
    return [F(m).batch_norm(x, mean, var, training=True, momentum=0.3), mean, var]


def losses() -> None:
    shapes = [("2d", (7, 10), (7,)), ("33", (5, 33), (5,)), ("4d", (2, 5, 3, 4), (2, 3, 4)), ("3d", (2, 5, 3), (2, 3))]
    for tag, x, target in shapes:
        c = x[1]
        labels, weight = I64(*target, high=c), Input((c,), positive, grad=False)
        for reduction in ("mean", "sum", "none"):
            options: list[tuple[str, dict[str, Any]]] = [
                ("", {}),
                ("-ignore", {"ignore_index": 1}),
                ("-smooth", {"label_smoothing": 0.2}),
                ("-smooth-ignore", {"label_smoothing": 0.2, "ignore_index": 1}),
            ]
            for suffix, arguments in options:
                for weighted in (False, True):

                    def call(m: Any, x: Any, t: Any, w: Any = None, a: dict[str, Any] = arguments, r: str = reduction) -> Any:
                        return F(m).cross_entropy(x, t, w, reduction=r, **a)

                    def reference(x: Any, t: Any, w: Any = None, a: dict[str, Any] = arguments, r: str = reduction) -> Any:
                        return ref.cross_entropy(x, t, w, reduction=r, **a)

                    id = f"cross_entropy-{tag}-{reduction}{suffix}{'-weight' if weighted else ''}"
                    case(id, call, T(*x), labels, *([weight] if weighted else []), reference=reference, ulps=8, gradgrad=tag == "3d" and reduction == "mean")
            for smoothing in (0.0, 0.3):
                case(f"cross_entropy-{tag}-{reduction}-soft-{smoothing}", lambda m, x, t, w, r=reduction, s=smoothing: F(m).cross_entropy(x, t, w, reduction=r, label_smoothing=s), T(*x), T(*x, fill=probabilities, grad=False), weight,
                     reference=lambda x, t, w, r=reduction, s=smoothing: ref.cross_entropy(x, t, w, reduction=r, label_smoothing=s), ulps=8, gradgrad=tag == "3d" and reduction == "mean")
            for ignore in (-100, 1):
                case(f"nll_loss-{tag}-{reduction}-{ignore}", lambda m, x, t, w, r=reduction, i=ignore: F(m).nll_loss(x, t, w, ignore_index=i, reduction=r), T(*x), labels, weight,
                     reference=lambda x, t, w, r=reduction, i=ignore: ref.nll_loss(x, t, w, i, r), ulps=8, gradgrad=tag == "3d" and reduction == "mean")
    case("cross_entropy-one", lambda m, x, t: F(m).cross_entropy(x, t), T(5), I64(high=5))
    case("cross_entropy-one-soft", lambda m, x, t: F(m).cross_entropy(x, t), T(5), T(5, fill=probabilities, grad=False))
    case("cross_entropy-empty", lambda m, x, t: F(m).cross_entropy(x, t, reduction="none"), T(0, 5), I64(0, high=5))
    case("cross_entropy-empty-mean", lambda m, x, t: F(m).cross_entropy(x, t), T(0, 5, grad=False), I64(0, high=5))
    case("cross_entropy-all-ignored", lambda m, x, t: F(m).cross_entropy(x, t, ignore_index=0), T(3, 5, grad=False), I64(3, high=1))
    case("cross_entropy-extreme", lambda m, x, t: F(m).cross_entropy(x, t), T(4, 5, fill=listed(1000.0, -1000.0, 0.0)), I64(4, high=5))
    case("cross_entropy-channels_last", lambda m, x, t: F(m).cross_entropy(x, t), T(2, 5, 3, 4, layout="channels_last"), I64(2, 3, 4, high=5), ulps=8)
    case("nll_loss-one", lambda m, x, t: F(m).nll_loss(x, t), T(5), I64(high=5))
    x, y, weight = T(4, 17), T(4, 17), T(4, 17, fill=positive, grad=False)
    unit, logits = T(4, 17, fill=uniform(0.05, 0.95)), T(4, 17, fill=uniform(-30, 30))
    logp = T(4, 17, fill=lambda rng, shape: np.log(probabilities(rng, shape)))
    target = T(4, 17, fill=probabilities)
    for r in ("mean", "sum", "none"):
        case(
            f"mse_loss-{r}",
            lambda m, x, y, r=r: F(m).mse_loss(x, y, reduction=r),
            x,
            y,
            reference=lambda x, y, r=r: ref.reduced((x - y) ** 2, r, x.size),
            gradgrad=r == "mean",
        )
        case(f"l1_loss-{r}", lambda m, x, y, r=r: F(m).l1_loss(x, y, reduction=r), x, y, reference=lambda x, y, r=r: ref.reduced(abs(x - y), r, x.size))
        for delta in (0.5, 1.0):
            case(f"huber_loss-{delta}-{r}", lambda m, x, y, r=r, d=delta: F(m).huber_loss(x, y, reduction=r, delta=d), x, y)
            case(f"smooth_l1_loss-{delta}-{r}", lambda m, x, y, r=r, d=delta: F(m).smooth_l1_loss(x, y, reduction=r, beta=d), x, y)
        case(
            f"binary_cross_entropy-{r}",
            lambda m, p, y, w, r=r: F(m).binary_cross_entropy(p, y, w, reduction=r),
            unit,
            T(4, 17, fill=uniform(0, 1), grad=False),
            weight,
            gradgrad=r == "mean",
        )
        case(f"bce_with_logits-{r}", lambda m, x, y, w, r=r: F(m).binary_cross_entropy_with_logits(x, y, w, reduction=r), logits, T(4, 17, fill=bits), weight)
        case(
            f"bce_with_logits-pos-{r}",
            lambda m, x, y, p, r=r: F(m).binary_cross_entropy_with_logits(x, y, pos_weight=p, reduction=r),
            x,
            T(4, 17, fill=uniform(0, 1)),
            T(17, fill=positive, grad=False),
            gradgrad=r == "mean",
        )
        case(f"kl_div-log-{r}", lambda m, x, y, r=r: F(m).kl_div(x, y, reduction=r, log_target=True), logp, logp)
    for r in ("batchmean", "sum", "none"):
        case(f"kl_div-{r}", lambda m, x, y, r=r: F(m).kl_div(x, y, reduction=r), logp, target, gradgrad=r == "sum")
    case("mse_loss-broadcast", lambda m, x, y: F(m).mse_loss(x, y.expand(4, 17)), x, T(17))


# --- sizes with work for several threads


def large() -> None:
    matrix, image = T(301, 403), T(5, 16, 33, 34)
    case("relu-large", lambda m, x: m.relu(x), T(100_003, fill=away_from(0)), ulps=0)
    case("add-large", lambda m, x, y: x + y, matrix, T(403, layout="sliced"), ulps=1)
    case("mul-large-transposed", lambda m, x, y: x * y, T(301, 403, layout="transposed"), matrix, ulps=1)
    case("contiguous-large", lambda m, x: x.contiguous() * 2, T(301, 403, layout="transposed"), ulps=0)
    case("contiguous-large-channels_last", lambda m, x: x.contiguous() * 2, image.like("channels_last"), ulps=0)
    case("to-channels_last-large", lambda m, x: x.contiguous(memory_format=m.channels_last) * 2, image, ulps=0)
    case("cat-large", lambda m, x, y: m.cat([x, y], 1), matrix, matrix.like("transposed"), ulps=0)
    for dim in (0, 1):
        for layout in ("plain", "transposed"):
            case(f"sum-large-{dim}-{layout}", lambda m, x, dim=dim: m.sum(x, dim=dim), matrix.like(layout))
            case(f"max-large-{dim}-{layout}", lambda m, x, dim=dim: m.max(x, dim), Input(matrix.shape, distinct, None, layout), ulps=0)
        case(f"softmax-large-{dim}", lambda m, x, dim=dim: m.softmax(x, dim), matrix)
        case(f"index_select-large-{dim}", lambda m, x, i, dim=dim: m.index_select(x, dim, i), matrix, I64(500, high=301), ulps=0, grad_ulps=32)
    for layout in ("plain", "channels_last"):
        x = image.like(layout)
        case(f"conv2d-large-{layout}", lambda m, x, w, b: F(m).conv2d(x, w, b, padding=1), x, T(33, 16, 3, 3), T(33), ulps=24, grad_ulps=96)
        case(f"conv2d-large-planar-{layout}", lambda m, x, w, b: F(m).conv2d(x, w, b), T(9, 3, 33, 34, layout=layout), T(17, 3, 5, 5), T(17), ulps=8, grad_ulps=32)
        case(f"conv2d-large-depthwise-{layout}", lambda m, x, w: F(m).conv2d(x, w, padding=1, groups=16), x, T(16, 1, 3, 3), ulps=8, grad_ulps=32)
        case(f"conv2d-large-depthwise-7x7-{layout}", lambda m, x, w: F(m).conv2d(x, w, padding=3, groups=16), x, T(16, 1, 7, 7), ulps=8, grad_ulps=32)
        case(f"conv2d-large-1x1-{layout}", lambda m, x, w: F(m).conv2d(x, w, stride=2), x, T(65, 16, 1, 1), ulps=8, grad_ulps=32)
        case(f"max_pool2d-large-{layout}", lambda m, x: F(m).max_pool2d(x, 3, 2, 1), Input(image.shape, distinct, None, layout), ulps=0)
        case(f"avg_pool2d-large-{layout}", lambda m, x: F(m).avg_pool2d(x, 3, 2, 1), x)
        case(f"batch_norm-large-{layout}", lambda m, x, w, b: F(m).batch_norm(x, None, None, w, b, True), x, T(16), T(16), ulps=16, grad_ulps=64)
    case("layer_norm-large", lambda m, x, w, b: F(m).layer_norm(x, (64,), w, b), T(2500, 64), T(64), T(64), ulps=16, grad_ulps=64)
    case("linear-large", lambda m, x, w, b: F(m).linear(x, w, b), T(70, 401), T(203, 401), T(203), ulps=8, grad_ulps=24)
    case("bmm-large", lambda m, a, b: m.bmm(a, b), T(5, 65, 70), T(5, 70, 67, layout="transposed"), ulps=8)
    case("cross_entropy-large", lambda m, x, t: F(m).cross_entropy(x, t), T(500, 103), I64(500, high=103), ulps=8)


for rows in (of_one_tensor, of_two_tensors, reductions, products, views, joins, indexing, sorting, convolution, pooling, normalization, losses, large):
    rows()
BY_ID = {c.id: c for c in CASES}
assert len(BY_ID) == len(CASES), "two cases of one id"

# What the benchmarks time: a case, with inputs of a size that training has.
TIMED: dict[str, tuple[Input, ...]] = {
    "add-same": (T(64, 32, 28, 28), T(64, 32, 28, 28)),
    "relu": (T(64, 32, 28, 28),),
    "exp": (T(64, 32, 28, 28),),
    "F.gelu": (T(64, 32, 28, 28),),
    "sum-dim": (T(1024, 1024),),
    "contiguous-large": (T(1024, 1024, layout="transposed"),),
    "mm": (T(512, 512), T(512, 512)),
    "linear-(64,)-True": (T(64, 784), T(256, 784), T(256)),
    "conv2d-lenet-1": (T(64, 1, 28, 28), T(6, 1, 5, 5), T(6)),
    "conv2d-lenet-2": (T(64, 6, 14, 14), T(16, 6, 5, 5), T(16)),
    "conv2d-3x3-channels_last": (T(32, 64, 28, 28, layout="channels_last"), T(64, 64, 3, 3), T(64)),
    "conv2d-1x1-channels_last": (T(32, 64, 28, 28, layout="channels_last"), T(128, 64, 1, 1), T(128)),
    "max_pool2d-2": (T(64, 6, 28, 28),),
    "avg_pool2d-2-channels_last": (T(32, 64, 28, 28, layout="channels_last"),),
    "batch_norm-channels_last": (T(32, 64, 28, 28, layout="channels_last"), T(64), T(64)),
    "layer_norm-large": (T(32768, 64), T(64), T(64)),
    "softmax-rows": (T(512, 1000),),
    "cross_entropy-2d-mean": (T(512, 1000), I64(512, high=1000)),
    "sort-0-False": (T(64, 1000),),
}
assert TIMED.keys() <= BY_ID.keys()
