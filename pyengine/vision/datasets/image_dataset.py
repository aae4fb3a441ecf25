"""What the image data sets share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import pyengine as pe
from pyengine.data.dataset import Dataset
from pyengine.vision.transforms import Normalize, ToTensor


class ImageDataset(Dataset[tuple[Any, Any]]):
    """Labelled uint8 images in memory.

    `data` holds the images, (N, H, W) or (N, H, W, C), and `targets` the N labels; both may be replaced, by a part of
    themselves for instance. `ds[i]` is `(image, label)`:

    - without a `transform`, `image` is a float32 tensor (C, H, W) of values from 0 to 1;
    - with one, it is `transform(pixels)`, where `pixels` is a uint8 NumPy array (H, W) or (H, W, C);
    - `label` is an int, or `target_transform(label)`.
    """

    classes: list[str] = []
    # Of the training images on the 0-1 scale, one number per channel.
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __init__(
        self,
        root: Path | None,
        train: bool,
        transform: Callable[[np.ndarray], Any] | None,
        target_transform: Callable[[int], Any] | None,
    ) -> None:
        self.root = root
        self.train = train
        self.transform = transform
        self.target_transform = target_transform
        self.data: Any = np.empty((0, 0, 0), np.uint8)
        self.targets: Any = []

    def __len__(self) -> int:
        return len(self.data)

    @property
    def class_to_idx(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.classes)}

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        image = (self.transform or ToTensor())(_as_array(self.data)[index])
        label = int(self.targets[index])
        return image, label if self.target_transform is None else self.target_transform(label)

    def __getbatch__(self, indices: Sequence[int]) -> Any:
        make_batch = ToTensor().batch if self.transform is None else getattr(self.transform, "batch", None)
        if make_batch is None or self.target_transform is not None:
            return NotImplemented
        rows = np.array(indices, dtype=np.int64)
        images = make_batch(_gather(_as_array(self.data), rows))
        if images is NotImplemented:
            return NotImplemented
        if isinstance(self.targets, list):
            labels = np.array([self.targets[i] for i in indices], dtype=np.int64)
        else:
            labels = _as_array(self.targets)[rows].astype(np.int64, copy=False)
        return [images if isinstance(images, pe.Tensor) else pe.from_numpy(images), pe.from_numpy(labels)]

    def tensors(
        self,
        normalize: bool = True,
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
    ) -> tuple[pe.Tensor, pe.Tensor]:
        """The whole split, transforms left aside: float32 images (N, C, H, W) and int64 labels (N,).

        Values are from 0 to 1, or with `normalize` (x - mean) / std, by default with the training images' `mean` and
        `std`. `TensorDataset(*ds.tensors())` is the fastest thing to train on.
        """
        images = ToTensor().batch(_as_array(self.data))
        if normalize:
            Normalize(self.mean if mean is None else mean, self.std if std is None else std, inplace=True)(images)
        return images, pe.from_numpy(np.array(_as_array(self.targets), dtype=np.int64))

    def __repr__(self) -> str:
        split = "train" if self.train else "test"
        shape = tuple(self.data.shape[1:])
        return f"{type(self).__name__}({len(self)} {split} images of shape {shape}, root={str(self.root)!r})"


def _as_array(values: Any) -> np.ndarray:
    array: np.ndarray = values.numpy() if isinstance(values, pe.Tensor) else np.asarray(values)
    return array


def _gather(images: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """images[rows]; images whose memory is planar (N, C, H, W), as CIFAR's are, are copied plane by plane."""
    if images.ndim == 4 and not images.flags.c_contiguous:
        planar: np.ndarray = images.transpose(0, 3, 1, 2)[rows].transpose(0, 2, 3, 1)
        return planar
    gathered: np.ndarray = images[rows]
    return gathered
