"""Saving and loading: data only, versioned, checksummed, written atomically, never unpickled."""

from .atomic import atomic_file, write_atomic
from .checkpoint import CheckpointError, load, save

__all__ = ["CheckpointError", "atomic_file", "load", "save", "write_atomic"]
