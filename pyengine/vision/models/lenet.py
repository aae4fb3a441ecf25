"""LeNet-5, of LeCun, Bottou, Bengio, Haffner: "Gradient-Based Learning Applied to Document Recognition" (1998)."""

from pyengine import Tensor, nn


class LeNet5(nn.Module):
    """LeNet-5 with tanh and average pooling, in its form for 28x28 images (the first convolution pads by 2).

    Other sizes work too, from 12 pixels up: only the first linear layer changes.
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 1, image_size: int = 28) -> None:
        super().__init__()
        if image_size < 12:
            raise ValueError(f"lenet5: images must have at least 12x12 pixels, got {image_size}x{image_size}")
        side = (image_size // 2 - 4) // 2  # pool, 5x5 convolution without padding, pool
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 6, 5, padding=2),
            nn.Tanh(),
            nn.AvgPool2d(2),
            nn.Conv2d(6, 16, 5),
            nn.Tanh(),
            nn.AvgPool2d(2),
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(16 * side * side, 120),
            nn.Tanh(),
            nn.Linear(120, 84),
            nn.Tanh(),
            nn.Linear(84, num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x))
