"""Whole training steps: pyengine against PyTorch in the best of its modes."""

from __future__ import annotations

from typing import Any

from .processes import ENVIRONMENTS, Measured, Variant, take_turns
from .report import Section, Spread, ratio, table
from .settings import Settings

TITLE = "Training steps"


def run(settings: Settings) -> Section:
    """Time per step for each network, in each environment."""
    data: dict[str, Any] = {}
    facts: dict[str, dict[str, Any]] = {}
    parts = [
        f"## {TITLE}\n\nForward, cross-entropy, backward and SGD with momentum and weight decay in float32; "
        f"{settings.threads} threads each; milliseconds per step: the median of {settings.rounds} rounds in which the "
        "processes took turns, and the quartiles. PyTorch's best mode is the one with the lowest median; the ratio is "
        "PyTorch's time over pyengine's, round by round."
    ]
    for environment in ENVIRONMENTS if not settings.quick else ["as shipped"]:
        rows = []
        for network in settings.networks:
            measured = take_turns(
                settings.variants(),
                settings.rounds,
                environment,
                job="steps",
                network=network,
                seconds=settings.seconds,
                threads=settings.threads,
            )
            facts.update(measured.facts)
            rows.append(row(network, measured))
            data.setdefault(environment, {})[network] = {
                "seconds per step": {str(v): times for v, times in measured.slices.items()},
                "failed": {str(v): why for v, why in measured.failed.items()},
            }
        head = ["network", "pyengine", "PyTorch, best", "mode", "ratio", "PyTorch, all modes"]
        parts.append(f"### {environment.capitalize()}\n\n{table(head, rows)}")
    return Section("steps", "\n\n".join(parts), data, facts)


def row(network: str, measured: Measured) -> list[str]:
    """One line of the table."""
    ours = measured.slices[Variant("pyengine")]
    medians = {v: Spread.of(times).median for v, times in measured.slices.items() if v.engine == "torch"}
    others = [f"{v.mode} {t * 1e3:.2f}" for v, t in medians.items()]
    others += [f"{v.mode} failed ({why})" for v, why in measured.failed.items()]
    cells = [network, Spread.of(ours).text(1e3)]
    if not medians:
        return [*cells, "–", "–", "–", ", ".join(others) or "–"]
    best = min(medians, key=medians.__getitem__)
    theirs = measured.slices[best]
    return [*cells, Spread.of(theirs).text(1e3), best.mode, ratio(theirs, ours).text(), ", ".join(others)]
