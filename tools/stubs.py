"""The stub of the compiled module, pyengine/_C.pyi: python tools/stubs.py writes it, with --check it only compares.

Signatures come from the docstrings that pybind11 writes, from Python's own introspection for the methods that
pyengine/tensor.py attaches, and from the table of slots below for the operators.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import keyword
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyengine
import pyengine.autograd
from pyengine import _C

STUB = Path(__file__).resolve().parents[1] / "pyengine" / "_C.pyi"

HEADER = '''\
"""{doc}

Made by tools/stubs.py from the built module; a test compares the two.
"""

# Tensor has methods called float, int, bool, dtype and device, so the types go by names of their own.
from builtins import bool as _bool
from builtins import float as _float
from builtins import int as _int
from builtins import str as _str
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias, overload

import numpy as np

'''
TYPE_NAMES = {name: f"_{name}" for name in ("bool", "dtype", "device", "float", "int", "str")}

BINARY = "add sub mul truediv floordiv mod matmul and or xor lshift rshift".split()
REFLECTED = [f"r{name}" for name in BINARY]
IN_PLACE = "iadd isub imul itruediv ifloordiv imod imatmul iand ior ixor ilshift irshift".split()
COMPARISONS = "eq ne lt le gt ge".split()
SLOTS = {
    **{f"__{name}__": "(self, other: Any, /) -> Tensor" for name in [*BINARY, *REFLECTED, *IN_PLACE, *COMPARISONS]},
    **{f"__{name}__": "(self) -> Tensor" for name in ("abs", "invert", "neg", "pos")},
    "__bool__": "(self) -> _bool",
    "__contains__": "(self, item: Any, /) -> _bool",
    "__delitem__": "(self, index: Any, /) -> None",
    "__float__": "(self) -> _float",
    "__getitem__": "(self, index: Any, /) -> Tensor",
    "__hash__": "(self) -> _int",
    "__index__": "(self) -> _int",
    "__int__": "(self) -> _int",
    "__ipow__": "(self, exponent: Any, modulo: None = None, /) -> Tensor",
    "__iter__": "(self) -> Iterator[Tensor]",
    "__len__": "(self) -> _int",
    "__pow__": "(self, exponent: Any, modulo: None = None, /) -> Tensor",
    "__repr__": "(self) -> _str",
    "__rpow__": "(self, base: Any, modulo: None = None, /) -> Tensor",
    "__setitem__": "(self, index: Any, value: Any, /) -> None",
}
# What every class has, and what depends on Python's and pybind11's version.
LEFT_OUT = {
    "__annotations__", "__buffer__", "__del__", "__dict__", "__doc__", "__getattribute__", "__module__", "__new__",
    "__release_buffer__", "__setattr__", "__static_attributes__", "__firstlineno__", "__weakref__",
    "__slotnames__", "_pybind11_conduit_v1_",
}  # fmt: skip
# The tensor's attributes, whose C getters carry no signature; those that can be set.
ATTRIBUTES = {
    "T": "Tensor", "_version": "_int", "data": "Tensor", "device": "_device", "dtype": "_dtype",
    "grad": "Tensor | None", "grad_fn": "Node | None", "is_cuda": "_bool", "is_leaf": "_bool",
    "itemsize": "_int", "mT": "Tensor", "nbytes": "_int", "ndim": "_int",
    "requires_grad": "_bool", "retains_grad": "_bool", "shape": "Size",
}  # fmt: skip
SETTABLE = ("data", "grad", "requires_grad")
# Where the C++ type says less than the docstring.
KNOWN = {
    "Tensor.__reduce_ex__": "(self, protocol: Any) -> tuple[Any, ...]",
    "Tensor.tolist": "(self) -> Any",
    "Node.variable": "Tensor | None",
    "Node.next_functions": "tuple[tuple[Node | None, _int], ...]",
    "Generator.manual_seed": "(self, seed: _int) -> Generator",
    "manual_seed": "(seed: _int) -> Generator",
    "memory_stats": "() -> dict[_str, _int]",
}


def type_of(text: str) -> str:
    """A type of a pybind11 signature as a stub writes it."""
    for number in ("Int", "Float"):
        for index in (" | typing.SupportsIndex", ""):
            text = text.replace(f"typing.Supports{number}{index}", number.lower())
    text = text.replace("collections.abc.", "").replace("typing.", "").replace("pyengine._C.", "")
    text = text.replace("numpy.", "np.").replace("np.ndarray", "np.ndarray[Any, Any]")
    text = re.sub(r"\bobject\b", "Any", text)
    if "::" in text:  # a C++ type without a Python name
        return "tuple[Any, ...]" if text.startswith("tuple") else "Any"
    bare = {"dict": "dict[Any, Any]", "list": "list[Any]", "tuple": "tuple[Any, ...]"}
    text = re.sub(r"\b(dict|list|tuple)\b(?!\[)", lambda m: bare[m[1]], text)
    return re.sub(r"(?<![\w.])[a-z]+\b", lambda m: TYPE_NAMES.get(m[0], m[0]), text)


def split_arguments(text: str) -> Iterator[str]:
    """The text between commas that stand in no bracket."""
    depth = start = 0
    for i, c in enumerate(text):
        depth += (c in "([{") - (c in ")]}")
        if c == "," and depth == 0:
            yield text[start:i].strip()
            start = i + 1
    if text[start:].strip():
        yield text[start:].strip()


def argument(text: str) -> str:
    if text.startswith("*"):
        return text if text == "*" else f"{text}: Any"
    name, _, rest = text.partition(":")
    kind, has_default, default = rest.partition(" = ")
    name = f"{name}_" if keyword.iskeyword(name) else name
    kind = type_of(kind.strip())
    if not has_default:
        return f"{name}: {kind}"
    try:
        ast.literal_eval(default)
    except (ValueError, SyntaxError):
        default = "..."
    return f"{name}: {kind} = {default}".replace("'", '"')


def signature(line: str, method: bool) -> str:
    """`name(a: int) -> Tensor`, a line of a docstring, as `(a: _int) -> Tensor`."""
    arguments, _, result = line[line.index("(") + 1 :].rpartition(") -> ")
    parts = [argument(a) for a in split_arguments(arguments)]
    if method:
        parts[0] = "self"
    if any(p.partition(":")[0].endswith("_") for p in parts):  # a Python keyword: cannot be given by name
        last = max(i for i, p in enumerate(parts) if p.partition(":")[0].endswith("_"))
        parts.insert(last + 1, "/")
    return f"({', '.join(parts)}) -> {type_of(result)}"


def pybind_signatures(function: Any, method: bool) -> list[str]:
    lines = (function.__doc__ or "").splitlines()
    if len(lines) > 1 and lines[1] == "Overloaded function.":
        lines = [line.partition(". ")[2] for line in lines if re.match(r"\d+\. ", line)]
        return [signature(line, method) for line in lines]
    return [signature(lines[0], method)]


def python_signature(function: Any) -> str:
    """A function written in Python; its annotations are texts already."""
    parts = []
    for p in inspect.signature(function).parameters.values():
        star = {p.VAR_POSITIONAL: "*", p.VAR_KEYWORD: "**"}.get(p.kind, "")
        if p.kind is p.KEYWORD_ONLY and "*" not in "".join(parts):
            parts.append("*")
        if not parts:  # the tensor, whatever its name
            parts.append("self")
            continue
        default = "" if p.default is p.empty else f" = {p.default!r}".replace("'", '"')
        parts.append(f"{star}{p.name}: {annotation(p.annotation)}{default}")
    return f"({', '.join(parts)}) -> {annotation(inspect.signature(function).return_annotation)}"


def annotation(text: Any) -> str:
    if text is inspect.Signature.empty:
        return "Any"
    text = text if isinstance(text, str) else getattr(text, "__name__", repr(text))
    # Classes of pyengine's Python files are not known here.
    return "Any" if "Removable" in text else type_of(text.replace("np.ndarray", "numpy.ndarray"))


def function_lines(name: str, signatures: list[str], indent: str = "", decorator: str = "") -> Iterator[str]:
    if len(signatures) > 1:
        decorator = "@overload"
    for text in signatures:
        if decorator:
            yield f"{indent}{decorator}"
        ignore = "  # type: ignore[override]" if name in ("__eq__", "__ne__") and text.endswith("Tensor") else ""
        yield f"{indent}def {name}{text}: ...{ignore}"


def property_lines(owner: str, name: str, value: Any) -> Iterator[str]:
    settable = isinstance(value, property) and value.fset is not None
    if owner == "Tensor" and name in ATTRIBUTES:
        result, settable = ATTRIBUTES[name], name in SETTABLE
    elif f"{owner}.{name}" in KNOWN:
        result = KNOWN[f"{owner}.{name}"]
    elif isinstance(value, property):
        lines = (value.fget.__doc__ or "").splitlines()
        line = next(line for line in lines if " -> " in line)
        result = signature(line, method=True).partition(" -> ")[2]
    else:
        raise TypeError(f"{owner}.{name}: an attribute without a row in ATTRIBUTES or KNOWN")
    yield from function_lines(name, [f"(self) -> {result}"], "    ", "@property")
    if settable:
        yield from function_lines(name, [f"(self, value: {result}) -> None"], "    ", f"@{name}.setter")


def class_lines(cls: type) -> Iterator[str]:
    base = next((b.__name__ for b in cls.__bases__ if b.__module__ not in ("builtins", "pybind11_builtins")), "")
    if cls is _C.Size:
        base = "tuple[_int, ...]"
    elif cls is _C.ShapeError:
        base = "ValueError, RuntimeError"
    yield f"class {cls.__name__}({base}):" if base else f"class {cls.__name__}:"
    members = [line for name in sorted(vars(cls)) for line in member_lines(cls, name)]
    if cls is _C.Tensor:
        members.insert(0, "    def __new__(cls, *args: Any) -> Tensor: ...")
    yield from members or ["    ..."]


def member_lines(cls: type, name: str) -> Iterator[str]:
    value = vars(cls)[name]
    known = KNOWN.get(f"{cls.__name__}.{name}", "")
    if name in LEFT_OUT or (name == "__init__" and not (value.__doc__ or "").startswith("__init__(")):
        return
    if known.startswith("("):
        yield from function_lines(name, [known], "    ")
    elif value is None or isinstance(value, int):
        yield f"    {name}: {'None' if value is None else '_int'}"
    elif inspect.isfunction(value):
        yield from function_lines(name, [python_signature(value)], "    ")
    elif isinstance(value, property) or inspect.isdatadescriptor(value):
        yield from property_lines(cls.__name__, name, value)
    elif name in SLOTS and "->" not in (value.__doc__ or ""):
        yield from function_lines(name, [SLOTS[name]], "    ")
    elif " -> " in (value.__doc__ or ""):
        yield from function_lines(name, pybind_signatures(value, method=True), "    ")
    elif cls is _C.Size and name == "numel":
        yield from function_lines(name, ["(self) -> _int"], "    ")
    else:
        raise TypeError(f"{cls.__name__}.{name}: no signature in its docstring and no row in SLOTS or KNOWN")


def stub() -> str:
    """The whole text, before the formatter has seen it."""
    lines = [HEADER.format(doc=_C.__doc__)]
    names = sorted(n for n in vars(_C) if not n.startswith("__") or n == "__version__")
    classes = [n for n in names if inspect.isclass(getattr(_C, n))]
    for name in classes:
        lines += class_lines(getattr(_C, name))
    lines += ["_dtype: TypeAlias = dtype", "_device: TypeAlias = device", ""]
    for name in names:
        value = getattr(_C, name)
        if name in classes:
            continue
        if callable(value):
            known = KNOWN.get(name)
            lines += function_lines(name, [known] if known else pybind_signatures(value, method=False))
        else:
            lines.append(f"{name}: {TYPE_NAMES.get(type(value).__name__, type(value).__name__)}")
    return "\n".join(lines) + "\n"


def declarations(text: str) -> dict[str, str]:
    """Qualified name (and overload number) -> its declaration, however the text is laid out."""
    found: dict[str, str] = {}

    def add(name: str, node: ast.AST) -> None:
        number = sum(other == name or other.startswith(f"{name} #") for other in found)
        found[f"{name} #{number + 1}" if number else name] = ast.unparse(node)

    def walk(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.ClassDef):
                found[prefix + node.name] = f"class {node.name}({', '.join(map(ast.unparse, node.bases))})"
                walk(node.body, f"{prefix}{node.name}.")
            elif isinstance(node, ast.FunctionDef):
                add(prefix + node.name, node)
            elif isinstance(node, ast.AnnAssign):
                add(prefix + ast.unparse(node.target), node)

    walk(ast.parse(text).body, "")
    return found


def differences(committed: str, built: str) -> list[str]:
    """One line for each name that only one side has, or whose signatures differ."""
    ours, theirs = declarations(committed), declarations(built)
    lines = []
    for name in sorted({*ours, *theirs}):
        if name not in theirs:
            lines.append(f"{name}: in the stub, not in the built module")
        elif name not in ours:
            lines.append(f"{name}: in the built module, not in the stub")
        elif ours[name] != theirs[name]:
            lines.append(f"{name}: the stub has {ours[name]!r}, the built module {theirs[name]!r}")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare the committed stub with the built module")
    if not parser.parse_args().check:
        STUB.write_text(stub())
        print(f"wrote {STUB}; now format it: ruff format {STUB.parent}")
        return 0
    found = differences(STUB.read_text(), stub())
    print("\n".join([*found, "run: python tools/stubs.py"] if found else ["the stub is the module's"]))
    return 1 if found else 0


if __name__ == "__main__":
    assert pyengine.autograd and pyengine.Tensor  # their import attaches the methods that are written in Python
    sys.exit(main())
