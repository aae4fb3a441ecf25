"""The memory that a training run needs."""

from __future__ import annotations

from typing import Any

from .processes import take_turns
from .report import Section, table
from .settings import Settings


def run(settings: Settings) -> Section:
    """The most memory that was resident at once, in megabytes."""
    data: dict[str, Any] = {}
    facts: dict[str, dict[str, Any]] = {}
    rows = []
    for network in settings.networks:
        measured = take_turns(
            settings.variants(), 1, job="memory", network=network, seconds=settings.seconds, threads=settings.threads
        )
        facts.update(measured.facts)
        data[network] = {}
        for variant, slices in measured.slices.items():
            data[network][str(variant)] = slices[0]
            rows.append([network, str(variant), *(f"{slices[0][key] / 1e6:.0f}" for key in ("start", "peak"))])
    text = (
        "## Memory\n\nResident megabytes of the whole process: after the import, and at most while it trained.\n\n"
        + table(["network", "engine", "after import", "peak"], rows)
    )
    return Section("memory", text, {"bytes": data}, facts)
