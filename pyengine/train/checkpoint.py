"""A run in one file: saved so that a run restored from it computes the same bits as one never interrupted."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyengine
from pyengine import io as engine_io
from pyengine import nn
from pyengine.data import DataLoader
from pyengine.train.errors import UserError
from pyengine.train.state import RunState

FORMAT = "pyengine.train"
VERSION = 1


class Checkpoint:
    """Saves a run's objects to `path` and restores them: weights, optimizer, schedule, loader, generators, state."""

    def __init__(
        self,
        path: Path,
        *,
        model: nn.Module,
        optimizer: Any,
        loader: DataLoader[Any],
        scheduler: Any = None,
        config: Mapping[str, Any] | None = None,
        every: int | None = None,
    ) -> None:
        self.path = path
        self.every = every  # steps between two checkpoints within an epoch
        self.config = dict(config or {})
        self._parts: dict[str, Any] = {"model": model, "optimizer": optimizer, "loader": loader, "scheduler": scheduler}
        self._parts = {name: part for name, part in self._parts.items() if part is not None}

    def due(self, state: RunState) -> bool:
        """Whether a checkpoint within the epoch should be written now."""
        return self.every is not None and state.step % self.every == 0

    def save(self, state: RunState) -> None:
        """Writes the checkpoint; at every moment the file is either the old one or the new one, whole."""
        content = {
            "format": FORMAT,
            "version": VERSION,
            "config": self.config,
            "state": state.to_dict(),
            "generator": pyengine.get_rng_state(),
            "parts": {name: part.state_dict() for name, part in self._parts.items()},
        }
        engine_io.save(content, self.path)

    def restore(self, content: Mapping[str, Any] | None = None) -> RunState:
        """Puts every object back to where it was saved, and returns the run's state."""
        content = content or load_checkpoint(self.path)
        try:
            for name, part in self._parts.items():
                part.load_state_dict(content["parts"][name])
            pyengine.set_rng_state(content["generator"])
            return RunState.from_dict(content["state"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise _not_of_this_run(self.path, error) from None


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Reads a checkpoint of this version; a file that is none is a `UserError`."""
    try:
        content = engine_io.load(path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None
    except engine_io.CheckpointError as error:  # it names the path
        raise UserError(str(error)) from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"{path} is not a checkpoint of a training run")
    if content["version"] != VERSION:
        raise UserError(f"{path} has version {content['version']} of the format; this engine reads version {VERSION}")
    return content


def load_weights(model: nn.Module, content: Mapping[str, Any], path: Path) -> None:
    """Loads a checkpoint's weights into a model of the same build."""
    try:
        model.load_state_dict(content["parts"]["model"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise _not_of_this_run(path, error) from None


def _not_of_this_run(path: Path, error: Exception) -> UserError:
    return UserError(f"{path} does not fit to this run: {error}")
