"""The networks of the benchmarks, written once against PyTorch's interface: `torch` is that module or pyengine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Network(NamedTuple):
    """How to build a network, and the batch it is trained on."""

    build: Callable[[Any], Any]
    input_shape: tuple[int, ...]
    classes: int


def mlp(torch: Any) -> Any:
    nn = torch.nn
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)
    )


def lenet5(torch: Any) -> Any:
    """With tanh and average pooling, as its authors had it; 28x28 images, the first convolution pads by 2."""
    nn = torch.nn
    features = nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2)
    )
    classifier = nn.Sequential(
        nn.Flatten(), nn.Linear(400, 120), nn.Tanh(), nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, 10)
    )
    return nn.Sequential(features, classifier)


NETWORKS = {
    "mlp": Network(mlp, (64, 1, 28, 28), 10),
    "lenet5": Network(lenet5, (64, 1, 28, 28), 10),
}
