"""Child processes that measure in turn."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

CHILD = Path(__file__).with_name("child.py")
# PyTorch maps and unmaps every large tensor unless glibc's malloc is told to keep its memory.
TUNED_MALLOC = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "100000000000",
    "MALLOC_TOP_PAD_": "1000000000",
}
ENVIRONMENTS = {"as shipped": {}, "tuned malloc": TUNED_MALLOC}


class ChildError(RuntimeError):
    """A measuring process that failed; the text is the end of what it wrote."""


class Variant(NamedTuple):
    """One of those that take turns."""

    engine: str
    mode: str = "eager"

    def __str__(self) -> str:
        return self.engine if self.engine == "pyengine" else f"PyTorch {self.mode}"


class Child:
    """A running measuring process: `facts` about it, and `measure()` for a slice of its job."""

    def __init__(self, environment: str, **options: Any) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(
            [sys.executable, str(CHILD), json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            cwd=tempfile.gettempdir(),
            env={**os.environ, **ENVIRONMENTS[environment]},
        )
        self.facts: dict[str, Any] = self._answer()

    def measure(self) -> Any:
        """One slice."""
        assert self._process.stdin
        try:
            self._process.stdin.write("go\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # _answer tells why
        return self._answer()

    def close(self) -> None:
        """Ends the process, also one that hangs."""
        self._process.kill()
        self._process.wait()
        for file in (self._process.stdin, self._process.stdout, self._errors):
            if file:
                file.close()

    def _answer(self) -> Any:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        self._process.wait()
        self._errors.seek(0)
        lines = [text for text in self._errors.read().splitlines() if text.strip()]
        self.close()
        raise ChildError(lines[-1] if lines else f"exit code {self._process.returncode}")


class Measured(NamedTuple):
    """The slices of each variant, round by round, and facts about it; why a variant of PyTorch failed."""

    slices: dict[Variant, list[Any]]
    facts: dict[str, dict[str, Any]]
    failed: dict[Variant, str]


def take_turns(variants: list[Variant], rounds: int, environment: str = "as shipped", **options: Any) -> Measured:
    """Runs a child for each variant and lets them measure one slice each, round after round (A B C, A B C, ...)."""
    children: dict[Variant, Child] = {}
    measured = Measured({}, {}, {})
    try:
        for variant in variants:
            # A network's mode does not concern jobs that have none.
            mode = {"mode": variant.mode} if "network" in options else {}
            try:
                children[variant] = Child(environment, engine=variant.engine, **mode, **options)
            except ChildError as error:
                if variant.engine == "pyengine":
                    raise
                measured.failed[variant] = str(error)
        for variant, child in children.items():
            measured.facts[variant.engine] = child.facts
            measured.slices[variant] = []
        for _ in range(rounds):
            for variant, child in children.items():
                measured.slices[variant].append(child.measure())
    finally:
        for child in children.values():
            child.close()
    return measured
