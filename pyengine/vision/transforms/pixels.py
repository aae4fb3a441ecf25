"""Transforms of values: to tensors, normalised."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import pyengine as pe


class Compose:
    """Applies `transforms` one after the other."""

    def __init__(self, transforms: Sequence[Callable[[Any], Any]]) -> None:
        self.transforms = list(transforms)

    def __call__(self, image: Any) -> Any:
        for transform in self.transforms:
            image = transform(image)
        return image

    def batch(self, images: Any) -> Any:
        """The same for images with a leading batch dimension; NotImplemented when one of the transforms cannot."""
        if not all(hasattr(transform, "batch") for transform in self.transforms):
            return NotImplemented
        for transform in self.transforms:
            images = transform.batch(images)  # type: ignore[attr-defined]
            if images is NotImplemented:
                break
        return images

    def __repr__(self) -> str:
        return f"Compose({', '.join(map(repr, self.transforms))})"


class Lambda:
    """Applies the function `lambd` to each image."""

    def __init__(self, lambd: Callable[[Any], Any]) -> None:
        if not callable(lambd):
            raise TypeError(f"Lambda needs a function, got {type(lambd).__name__}")
        self.lambd = lambd

    def __call__(self, image: Any) -> Any:
        return self.lambd(image)

    def __repr__(self) -> str:
        return f"Lambda({getattr(self.lambd, '__name__', self.lambd)!s})"


class ToTensor:
    """An image array (H, W) or (H, W, C) to a float32 tensor (C, H, W); uint8 values are divided by 255.

    Arrays of floats keep their values. Raises TypeError for other dtypes and ValueError for other shapes.
    """

    def __call__(self, image: np.ndarray) -> pe.Tensor:
        return pe.from_numpy(_to_planes(np.asarray(image)[None])[0])

    def batch(self, images: np.ndarray) -> pe.Tensor:
        """(N, H, W) or (N, H, W, C) to (N, C, H, W)."""
        return pe.from_numpy(_to_planes(images))

    def __repr__(self) -> str:
        return "ToTensor()"


class Normalize:
    """(x - mean) / std for each channel of float tensors (..., C, H, W); `inplace` changes the tensor given.

    Raises ValueError for a std of zero and when the number of channels differs from mean's and std's.
    """

    def __init__(self, mean: float | Sequence[float], std: float | Sequence[float], inplace: bool = False) -> None:
        self.mean = [float(value) for value in np.atleast_1d(mean)]
        self.std = [float(value) for value in np.atleast_1d(std)]
        self.inplace = inplace
        if len(self.mean) != len(self.std) or 0.0 in self.std:
            raise ValueError(f"Normalize: mean {mean} and std {std} must be as many, and std not zero")
        self._tensors = [pe.tensor(values, dtype=pe.float32).view(-1, 1, 1) for values in (self.mean, self.std)]

    def __call__(self, image: pe.Tensor) -> pe.Tensor:
        if not isinstance(image, pe.Tensor):
            raise TypeError(f"Normalize takes tensors: put ToTensor() before it (got {type(image).__name__})")
        channels = tuple(image.shape)[-3:-2]
        if len(self.mean) > 1 and channels != (len(self.mean),):
            raise ValueError(f"Normalize: {len(self.mean)} means for an image of shape {tuple(image.shape)}")
        mean, std = (tensor.to(image.device).to(image.dtype) for tensor in self._tensors)
        centred: pe.Tensor = image.sub_(mean) if self.inplace else image - mean
        return centred.div_(std)

    batch = __call__

    def __repr__(self) -> str:
        return f"Normalize(mean={self.mean}, std={self.std})"


def _to_planes(images: np.ndarray) -> np.ndarray:
    """(N, H, W) or (N, H, W, C) of uint8 or float to contiguous float32 (N, C, H, W)."""
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4:
        raise ValueError(f"ToTensor: an image has shape (H, W) or (H, W, C), got {images.shape[1:]}")
    planes = images.transpose(0, 3, 1, 2)
    if planes.dtype == np.uint8:
        quotient: np.ndarray = np.divide(planes, np.float32(255), dtype=np.float32, order="C")
        return quotient
    if planes.dtype.kind != "f":
        raise TypeError(f"ToTensor: images must be uint8 or float, got {planes.dtype}")
    return np.array(planes, dtype=np.float32, order="C")
