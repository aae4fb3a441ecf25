"""The data sets of the training command: kept as bytes, made into normalized batches by the loader's threads."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pyengine
from pyengine.data import DataLoader
from pyengine.train.config import did_you_mean
from pyengine.train.errors import UserError
from pyengine.vision import datasets, transforms

EVALUATION_BATCH = 500


class ImageShape(NamedTuple):
    """Channels and side length of square images."""

    channels: int
    size: int

    def __str__(self) -> str:
        return f"{self.channels}x{self.size}x{self.size}"


@dataclasses.dataclass(frozen=True)
class Source:
    """A data set as the command knows it, and what is known of its images before they are read."""

    dataset: Callable[..., datasets.ImageDataset]
    shape: ImageShape
    classes: int = 10
    needs_folder: bool = True
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


SOURCES = {
    "digits": Source(datasets.Digits, ImageShape(1, 28), needs_folder=False, options={"size": 28}),
    "mnist": Source(datasets.MNIST, ImageShape(1, 28)),
    "fashion-mnist": Source(datasets.FashionMNIST, ImageShape(1, 28)),
    "cifar10": Source(datasets.CIFAR10, ImageShape(3, 32)),
}


def source(name: str) -> Source:
    """The data set's entry in `SOURCES`."""
    if name not in SOURCES:
        known = ", ".join(SOURCES)
        raise UserError(f"--data: unknown data set {name!r}{did_you_mean(name, SOURCES)} (there are {known})")
    return SOURCES[name]


def load_images(
    name: str,
    folder: str | None = None,
    train: bool = True,
    *,
    limit: int | None = None,
    download: bool = False,
) -> datasets.ImageDataset:
    """The training or the test images of a data set, normalized; `limit` keeps the first so many."""
    found = source(name)
    if found.needs_folder and folder is None:
        raise UserError(f"--data {name} needs --data-dir, the folder that holds its files")
    try:
        data = found.dataset(folder, train=train, download=download, **found.options)
    except (OSError, datasets.DatasetError) as error:
        raise UserError(f"--data {name}: {str(error).replace('download=True', '--download')}") from None
    data.data, data.targets = data.data[:limit], data.targets[:limit]
    data.transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(data.mean, data.std)])
    return data


def train_loader(data: datasets.ImageDataset, batch_size: int, seed: int) -> DataLoader[Any]:
    """Batches of the training images, in an order that the seed decides."""
    order = pyengine.Generator()
    order.manual_seed(seed)
    return DataLoader(data, batch_size=batch_size, shuffle=True, generator=order, persistent_workers=True)


def test_loader(data: datasets.ImageDataset) -> DataLoader[Any]:
    """The test images in order."""
    return DataLoader(data, batch_size=EVALUATION_BATCH)
