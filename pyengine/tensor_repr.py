"""How a tensor prints: PyTorch's layout, four digits, long tensors summarized."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from . import _C

if TYPE_CHECKING:
    from ._C import Tensor

_PRECISION, _THRESHOLD, _EDGE_ITEMS, _LINE_WIDTH = 4, 1000, 3, 80


def _visible(x: Tensor) -> Tensor:
    """The elements that are printed: the edges of every long dimension when there are more than the threshold."""
    for d in range(x.dim()):
        if x.shape[d] > 2 * _EDGE_ITEMS:
            x = _C.cat([x.narrow(d, 0, _EDGE_ITEMS), x.narrow(d, x.shape[d] - _EDGE_ITEMS, _EDGE_ITEMS)], d)
    return x


class _Formatter:
    """Chooses one format for all elements, and pads them to one width."""

    def __init__(self, values: list[Any], floating: bool) -> None:
        self.floating = floating
        self.scientific = self.integral = False
        if floating:
            # Zeros, infinities and NaN decide neither the format nor the width.
            values = [v for v in values if math.isfinite(v) and v != 0]
            self.integral = all(v == math.ceil(v) for v in values)
            if values:
                low, high = min(map(abs, values)), max(map(abs, values))
                self.scientific = high / low > 1000.0 or high > 1.0e8 or (not self.integral and low < 1.0e-4)
        self.width = max((len(self._plain(v)) for v in values), default=0)

    def _plain(self, v: Any) -> str:
        if not self.floating or not math.isfinite(v):
            return str(v)
        if self.scientific:
            return f"{v:.{_PRECISION}e}"
        return f"{v:.0f}." if self.integral else f"{v:.{_PRECISION}f}"

    def __call__(self, v: Any) -> str:
        return self._plain(v).rjust(self.width)


def _nested(x: Tensor, indent: int, summarize: bool, form: _Formatter) -> str:
    if x.dim() == 0:
        return form(x.item())
    n = x.shape[0]
    cut = summarize and n > 2 * _EDGE_ITEMS
    rows = [*range(_EDGE_ITEMS), *range(n - _EDGE_ITEMS, n)] if cut else range(n)
    if x.dim() == 1:
        words = [form(x[i].item()) for i in rows]
        if cut:
            words.insert(_EDGE_ITEMS, " ...")
        per_line = max(1, (_LINE_WIDTH - indent) // max(1, form.width + 2))
        lines = [words[i : i + per_line] for i in range(0, len(words), per_line)]
        return "[" + (",\n" + " " * (indent + 1)).join(", ".join(line) for line in lines) + "]"
    parts = [_nested(x[i], indent + 1, summarize, form) for i in rows]
    if cut:
        parts.insert(_EDGE_ITEMS, "...")
    return "[" + ("," + "\n" * (x.dim() - 1) + " " * (indent + 1)).join(parts) + "]"


def _with_suffixes(body: str, suffixes: list[str]) -> str:
    """The text in parentheses; a suffix that does not fit into the line begins a new one."""
    indent = len("tensor(")
    used = len(body) - body.rfind("\n") + 1
    for suffix in suffixes:
        if used + len(suffix) + 2 > _LINE_WIDTH:
            body += ",\n" + " " * indent + suffix
            used = indent + len(suffix)
        else:
            body += ", " + suffix
            used += len(suffix) + 2
    return body + ")"


def tensor_repr(self: Tensor) -> str:
    """PyTorch's text: tensor(values, dtype where it is not obvious, grad_fn or requires_grad)."""
    x = self.detach()
    floating = x.is_floating_point()
    suffixes = []
    if x.numel() == 0:
        body = "[]"
        if x.dim() != 1:
            suffixes.append(f"size={tuple(x.shape)}")
        obvious = x.dtype == _C.get_default_dtype()
    else:
        summarize = x.numel() > _THRESHOLD
        form = _Formatter((_visible(x) if summarize else x).reshape(-1).tolist(), floating)
        body = _nested(x, len("tensor("), summarize, form)
        obvious = x.dtype in (_C.get_default_dtype(), _C.int64, _C.bool_)
    if not obvious:
        suffixes.append(f"dtype={x.dtype}")
    if self.grad_fn is not None:
        suffixes.append(f"grad_fn=<{self.grad_fn.name()}>")
    elif self.requires_grad:
        suffixes.append("requires_grad=True")
    return _with_suffixes(f"tensor({body}", suffixes)
