"""Windows of padded images: of the image only those of its pixels are read that are in them."""

from collections.abc import Callable

import numpy as np

from unet_jax.data.pipeline import Size
from unet_jax.data.sample import Window

Read = Callable[[Window], np.ndarray]
"""Reads a window of an image, which lies inside of it: [*m, C]."""


def read_padded(read: Read, size: Size, first: Size, lengths: Size, mode: str) -> np.ndarray:
    """Reads a window that may lie outside of an image, wholly or in parts.

    Args:
        read: Reads what lies inside.
        size: [*n] of the image.
        first: The window's first pixel along each axis; may be negative.
        lengths: Of the window, [*m].
        mode: Of `np.pad`, "edge" or "symmetric": what lies outside, however far.

    Returns:
        [*m, C], what `np.pad` of the whole image would have there.
    """
    places = [_sources(*one, mode) for one in zip(size, first, lengths, strict=True)]
    inside = tuple(slice(int(own.min()), int(own.max()) + 1) for own in places)
    array = read(inside)
    if array.shape[:-1] == tuple(lengths) and all(own[0] <= own[-1] for own in places):
        return array
    for axis, (own, part) in enumerate(zip(places, inside, strict=True)):
        array = array.take(own - part.start, axis)
    return array


def _sources(n: int, first: int, length: int, mode: str) -> np.ndarray:
    """Returns which pixel of an axis of n is at each place of a window."""
    places = np.arange(first, first + length)
    if mode == "edge":
        return places.clip(0, n - 1)
    places = places % (2 * n)
    return np.minimum(places, 2 * n - 1 - places)
