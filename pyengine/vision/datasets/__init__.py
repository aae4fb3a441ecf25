"""Image data sets in their official file layouts: `torchvision.datasets`' names, and `Digits`, which needs no files."""

from .cifar import CIFAR10
from .digits import Digits
from .download import download
from .errors import DatasetCorruptError, DatasetError, DatasetNotFoundError
from .image_dataset import ImageDataset
from .mnist import MNIST, FashionMNIST

__all__ = [
    "CIFAR10",
    "DatasetCorruptError",
    "DatasetError",
    "DatasetNotFoundError",
    "Digits",
    "FashionMNIST",
    "ImageDataset",
    "MNIST",
    "download",
]
