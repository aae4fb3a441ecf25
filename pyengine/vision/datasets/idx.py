"""The IDX format of the MNIST files: two zero bytes, element type, number of dimensions, sizes, elements."""

from __future__ import annotations

import numpy as np

from .errors import DatasetCorruptError

_UINT8 = 8  # the format's code for unsigned bytes


def parse_idx(content: np.ndarray, ndim: int, name: str) -> np.ndarray:
    """A view of the elements of an IDX file of unsigned bytes with `ndim` dimensions.

    Raises DatasetCorruptError naming the file when the header says something else or does not fit the length.
    """
    header_size = 4 + 4 * ndim
    if len(content) < header_size:
        raise DatasetCorruptError(
            f"{name} has {len(content)} bytes, an IDX header of {ndim} dimensions has {header_size}"
        )
    magic, expected = content[:4].tobytes(), bytes([0, 0, _UINT8, ndim])
    if magic != expected:
        raise DatasetCorruptError(
            f"{name} starts with {magic.hex()}, an IDX file of {ndim} dimensions with {expected.hex()}"
        )
    shape = [int(size) for size in content[4:header_size].view(">u4")]
    expected_size = header_size + int(np.prod(shape, dtype=object))
    if len(content) != expected_size:
        raise DatasetCorruptError(
            f"{name} has {len(content)} bytes, its header of shape {shape} asks for {expected_size}"
        )
    return content[header_size:].reshape(shape)
