"""The multilayer perceptron that every network is measured against."""

from pyengine import nn


class MLP(nn.Sequential):
    """Two hidden layers of 256 units with ReLU over the flattened image: 784-256-256-10 for MNIST."""

    def __init__(self, num_classes: int = 10, in_channels: int = 1, image_size: int = 28) -> None:
        super().__init__(
            nn.Flatten(),
            nn.Linear(in_channels * image_size * image_size, 256),
            nn.ReLU(),
            nn.Linear(256, 256),
            nn.ReLU(),
            nn.Linear(256, num_classes),
        )
