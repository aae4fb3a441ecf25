"""Image transforms, from uint8 NumPy images to normalised float32 tensors: `torchvision.transforms`' names.

Images are uint8 arrays (H, W) or (H, W, C) until `ToTensor` makes float32 tensors (C, H, W) of them. The random
transforms take either, and draw from `pyengine.data.sample_generator()` unless they are given a NumPy generator: inside
a DataLoader the numbers then follow from its seed, whatever the number of workers.

A transform may define `batch(images)` for images with a leading batch dimension. The image data sets use it to make
whole batches at once; a random transform draws there for all images from the stream of the batch's first.
"""

from .geometry import RandomCrop, RandomHorizontalFlip
from .pixels import Compose, Lambda, Normalize, ToTensor

__all__ = ["Compose", "Lambda", "Normalize", "RandomCrop", "RandomHorizontalFlip", "ToTensor"]
