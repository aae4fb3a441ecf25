"""pyengine: a tensor engine for training convolutional networks, with PyTorch's interface and kernels of its own.

import pyengine as pe
from pyengine import nn

model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 26 * 26, 10))
loss = nn.functional.cross_entropy(model(pe.randn(4, 1, 28, 28)), pe.tensor([1, 2, 3, 4]))
loss.backward()
"""

from __future__ import annotations

import importlib
from math import e, inf, nan, pi
from typing import TYPE_CHECKING, Any

from . import _C
from ._C import *  # noqa: F403 - the engine's functions are the package's
from ._C import ShapeError, Size, Tensor, device, dtype
from ._C import __version__ as __version__
from .autograd.grad_mode import enable_grad, inference_mode, no_grad, set_grad_enabled
from .tensor import allclose, as_tensor, asarray, channels_last, contiguous_format, equal, isclose, meshgrid, tensor

if TYPE_CHECKING:
    from . import autograd, cuda, data, io, nn, optim, train, utils, vision
    from .io import load, save

bool = _C.bool_
float = float32 = _C.float32
double = float64 = _C.float64
int = int32 = _C.int32
long = int64 = _C.int64
uint8 = _C.uint8

# Loaded when first used, so that importing pyengine stays fast.
_SUBMODULES = ("autograd", "cuda", "data", "io", "nn", "optim", "train", "utils", "vision")


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in ("save", "load"):
        return getattr(importlib.import_module(f"{__name__}.io"), name)
    raise AttributeError(f"module 'pyengine' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_SUBMODULES, "save", "load"})
