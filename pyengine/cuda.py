"""The GPU's part of PyTorch's interface. This build of pyengine computes on the CPU: no device is available."""

from __future__ import annotations


def is_available() -> bool:
    """Whether a GPU can be used: False."""
    return False


def device_count() -> int:
    """How many GPUs can be used: 0."""
    return 0


def manual_seed_all(seed: int) -> None:
    """Seeds every GPU's generator: there is none."""
