"""Figures as Markdown tables and JSON."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple


class Spread(NamedTuple):
    """The median of some figures and the quartiles around it."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        low, _, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(low, statistics.median(values), high)

    def text(self, scale: float = 1.0) -> str:
        """`1.23 (1.20 - 1.31)`, three digits each."""
        low, median, high = (_three_digits(v * scale) for v in self)
        return f"{median} ({low} – {high})"


def ratio(others: Sequence[float], ours: Sequence[float]) -> Spread:
    """How many times as much the others need, round by round: what disturbed a round disturbed both."""
    return Spread.of([a / b for a, b in zip(others, ours, strict=True)])


def _three_digits(value: float) -> str:
    digits = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:.{digits}f}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first column is text, the others are figures."""
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)


class Section(NamedTuple):
    """One benchmark's outcome: text and tables for people, `data` for programs, and what ran."""

    name: str
    markdown: str
    data: Any
    facts: dict[str, dict[str, Any]]


def markdown(machine: dict[str, str], sections: Sequence[Section]) -> str:
    """The whole report."""
    facts = dict(machine)
    for section in sections:
        for engine, found in section.facts.items():
            name = "PyTorch" if engine == "torch" else engine
            facts[name] = ", ".join(f"{k} {v}" for k, v in found.items() if k != "module bytes")
    lines = [f"- {name}: {value}" for name, value in facts.items()]
    return "\n".join(["# Benchmarks", "", *lines, "", *(f"{s.markdown}\n" for s in sections)])


def write(folder: Path, name: str, machine: dict[str, str], sections: Sequence[Section]) -> list[Path]:
    """`name`.md and `name`.json."""
    folder.mkdir(parents=True, exist_ok=True)
    text, data = folder / f"{name}.md", folder / f"{name}.json"
    text.write_text(markdown(machine, sections))
    content = {"machine": machine, **{s.name: {"engines": s.facts, "results": s.data} for s in sections}}
    data.write_text(json.dumps(content, indent=1) + "\n")
    return [text, data]
