"""Every case of tests/op_cases.py, forward and with its backward: small shapes, so mostly what a call costs."""

from __future__ import annotations

import statistics

from .processes import Variant, take_turns
from .report import Section, Spread, ratio, table
from .settings import Settings

SLICE = 0.002  # of the seconds of a slice, for each call
SLOWEST = 25


def run(settings: Settings) -> Section:
    """How much faster than PyTorch they are, and those that are slower than they should be."""
    measured = take_turns(
        settings.engines(),
        settings.rounds,
        job="ops",
        seconds=settings.seconds * SLICE,
        threads=settings.threads,
        pattern=settings.cases,
    )
    times = {
        variant: {name: [s[name] for s in slices] for name in slices[0]} for variant, slices in measured.slices.items()
    }
    ours = times[Variant("pyengine")]
    theirs = times.get(Variant("torch"), {})
    ratios = {name: ratio(theirs[name], values) for name, values in ours.items() if name in theirs}
    text = f"## Operations\n\n{len(ours)} calls of the case table of the tests, float32, eager; small shapes. "
    if ratios:
        medians = [r.median for r in ratios.values()]
        faster = sum(m >= 1 for m in medians)
        low, high = min(medians), max(medians)
        slowest = sorted(ratios, key=lambda name: ratios[name].median)[:SLOWEST]
        text += (
            f"PyTorch's time over pyengine's: {statistics.median(medians):.2f} in the median, {low:.2f} to {high:.2f}; "
            f"pyengine is faster in {faster} of {len(medians)}. "
        )
    else:
        slowest = sorted(ours, key=lambda name: -statistics.median(ours[name]))[:SLOWEST]
    text += f"Those with the {'lowest ratio' if ratios else 'longest time'}, in microseconds:\n\n"
    rows = []
    for name in slowest:
        cells = [f"`{name}`", Spread.of(ours[name]).text(1e6)]
        rows.append([*cells, Spread.of(theirs[name]).text(1e6), ratios[name].text()] if ratios else [*cells, "–", "–"])
    text += table(["case", "pyengine", "PyTorch", "ratio"], rows)
    return Section("ops", text, {"seconds": {str(v): t for v, t in times.items()}}, measured.facts)
