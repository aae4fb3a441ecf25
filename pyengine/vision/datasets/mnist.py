"""MNIST and Fashion-MNIST, from their official IDX files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import pyengine as pe

from .download import download_from
from .errors import DatasetCorruptError, DatasetError
from .idx import parse_idx
from .image_dataset import ImageDataset
from .raw_file import RawFile


class MNIST(ImageDataset):
    """Handwritten digits: 60,000 training and 10,000 test images of 28×28 (Y. LeCun, C. Cortes, C. Burges).

    The four files are looked for in `<root>/MNIST/raw/`, plain, `.gz` or `.xz`, and checked against the published
    content. `download=True` fetches what is missing or damaged there.
    `data` is a uint8 tensor (N, 28, 28), `targets` an int64 tensor (N,); see `ImageDataset` for the samples.
    Raises DatasetNotFoundError (a FileNotFoundError), DatasetCorruptError, or DatasetError when a download fails.
    """

    folder = "MNIST/raw"
    mirrors = ["https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/"]
    files = {
        "train images": RawFile(
            "train-images-idx3-ubyte",
            47040016,
            "sha256:ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "sha256:440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        ),
        "train labels": RawFile(
            "train-labels-idx1-ubyte",
            60008,
            "sha256:65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "sha256:3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        ),
        "test images": RawFile(
            "t10k-images-idx3-ubyte",
            7840016,
            "sha256:0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "sha256:8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        ),
        "test labels": RawFile(
            "t10k-labels-idx1-ubyte",
            10008,
            "sha256:ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            "sha256:f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        ),
    }
    classes = [
        "0 - zero",
        "1 - one",
        "2 - two",
        "3 - three",
        "4 - four",
        "5 - five",
        "6 - six",
        "7 - seven",
        "8 - eight",
        "9 - nine",
    ]
    mean = (0.1307,)
    std = (0.3081,)

    def __init__(
        self,
        root: str | os.PathLike[str],
        train: bool = True,
        transform: Callable[[np.ndarray], Any] | None = None,
        target_transform: Callable[[int], Any] | None = None,
        download: bool = False,
    ) -> None:
        super().__init__(Path(root), train, transform, target_transform)
        self.raw_folder = Path(root) / self.folder
        if download:
            self.download()
        split = "train" if train else "test"
        images = parse_idx(self._read(f"{split} images"), 3, self.files[f"{split} images"].name)
        labels = parse_idx(self._read(f"{split} labels"), 1, self.files[f"{split} labels"].name)
        if len(images) != len(labels) or labels.max(initial=0) >= len(self.classes):
            raise DatasetCorruptError(
                f"{self.raw_folder}: {len(images)} images do not fit {len(labels)} labels up to {labels.max(initial=0)}"
            )
        self.data = pe.from_numpy(images)
        self.targets = pe.from_numpy(labels.astype(np.int64))

    def download(self) -> None:
        """Fetches those of the four files that are missing or damaged."""
        for key, file in self.files.items():
            try:
                self._read(key)
            except DatasetError:
                download_from(
                    self.mirrors, file.name + ".gz", self.raw_folder / (file.name + ".gz"), file.archive_checksum
                )

    def _read(self, key: str) -> np.ndarray:
        return self.files[key].read(self.raw_folder, "put it there or pass download=True")


class FashionMNIST(MNIST):
    """Zalando's article images, in MNIST's format and number; files in `<root>/FashionMNIST/raw/`. See `MNIST`."""

    folder = "FashionMNIST/raw"
    mirrors = [
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
    ]
    files = {
        "train images": RawFile(
            "train-images-idx3-ubyte",
            47040016,
            "sha256:c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "sha256:3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        ),
        "train labels": RawFile(
            "train-labels-idx1-ubyte",
            60008,
            "sha256:bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "sha256:a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        ),
        "test images": RawFile(
            "t10k-images-idx3-ubyte",
            7840016,
            "sha256:5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "sha256:346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        ),
        "test labels": RawFile(
            "t10k-labels-idx1-ubyte",
            10008,
            "sha256:0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
            "sha256:67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        ),
    }
    classes = [
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ]
    mean = (0.2860,)
    std = (0.3530,)
