"""What a call costs before it computes anything: small operations on four elements."""

from __future__ import annotations

from .processes import Variant, take_turns
from .report import Section, Spread, ratio, table
from .settings import Settings

SLICE = 0.05  # of the seconds of a slice, for each call


def run(settings: Settings) -> Section:
    """Microseconds for each call."""
    measured = take_turns(
        settings.engines(),
        settings.rounds,
        job="overhead",
        seconds=settings.seconds * SLICE,
        threads=settings.threads,
    )
    times: dict[Variant, dict[str, list[float]]] = {
        variant: {name: [s[name] for s in slices] for name in slices[0]} for variant, slices in measured.slices.items()
    }
    ours, theirs = times[Variant("pyengine")], times.get(Variant("torch"))
    rows = []
    for name, values in ours.items():
        cells = [f"`{name}`", Spread.of(values).text(1e6)]
        cells += [Spread.of(theirs[name]).text(1e6), ratio(theirs[name], values).text()] if theirs else ["–", "–"]
        rows.append(cells)
    text = (
        f"## Overhead of a call\n\nMicroseconds, on tensors of about four elements: the median of {settings.rounds} "
        "rounds and the quartiles.\n\n" + table(["call", "pyengine", "PyTorch", "ratio"], rows)
    )
    data = {"seconds": {str(v): t for v, t in times.items()}}
    return Section("overhead", text, data, measured.facts)
