"""Networks for images: one family per file, and a registry that makes them by name."""

import difflib
from collections.abc import Callable

from pyengine import nn
from pyengine.vision.models.lenet import LeNet5
from pyengine.vision.models.mlp import MLP
from pyengine.vision.models.small_cnn import SmallCNN

__all__ = ["MLP", "LeNet5", "SmallCNN", "create", "names"]

# Every constructor takes (num_classes, in_channels, image_size).
_MODELS: dict[str, Callable[[int, int, int], nn.Module]] = {
    "lenet5": LeNet5,
    "mlp": MLP,
    "small_cnn": SmallCNN,
}


def names() -> list[str]:
    """The names that `create` knows."""
    return sorted(_MODELS)


def create(name: str, num_classes: int = 10, in_channels: int = 1, image_size: int = 28) -> nn.Module:
    """Makes the network called `name` for square images of `image_size` pixels with `in_channels` channels."""
    if name not in _MODELS:
        close = difflib.get_close_matches(name.lower(), _MODELS, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ValueError(f"unknown model {name!r}: {hint}there are {', '.join(names())}")
    for what, value in (("num_classes", num_classes), ("in_channels", in_channels), ("image_size", image_size)):
        if value < 1:
            raise ValueError(f"{name}: {what} must be at least 1, got {value}")
    return _MODELS[name](num_classes, in_channels, image_size)
