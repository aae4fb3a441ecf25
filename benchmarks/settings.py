"""What a run of the benchmarks was asked for."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from .processes import Variant

TORCH_MODES = ("eager", "channels_last", "compile")


class Settings(NamedTuple):
    """`seconds` is the length of a slice; without `torch`, pyengine is measured alone; `cases` is a
    regular expression for the names of `ops`."""

    threads: int
    rounds: int
    seconds: float
    networks: tuple[str, ...]
    torch_modes: tuple[str, ...]
    torch: bool
    quick: bool
    wheel: Path | None
    cases: str

    def variants(self) -> list[Variant]:
        """Who takes turns in a benchmark of networks."""
        return [Variant("pyengine"), *(Variant("torch", mode) for mode in self.torch_modes if self.torch)]

    def engines(self) -> list[Variant]:
        """Who takes turns where modes make no difference."""
        return [Variant("pyengine"), *([Variant("torch")] if self.torch else [])]
