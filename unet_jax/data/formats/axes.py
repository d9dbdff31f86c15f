"""Which axes of an array that names them are of pixels, and which of channels."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

CHANNELS = "SC"  # samples of a pixel, and channels


class Axes(NamedTuple):
    """Where the axes of an array are.

    Attributes:
        pixels: Indices of those of pixels.
        channels: Indices of those of channels.
    """

    pixels: tuple[int, ...]
    channels: tuple[int, ...]

    def shape(self, sizes: Sequence[int]) -> tuple[int, ...]:
        """Returns the pixels [*n] of an array with these lengths of axes."""
        return tuple(sizes[index] for index in self.pixels)

    def count(self, sizes: Sequence[int]) -> int:
        """Returns how many channels there are."""
        return math.prod(sizes[index] for index in self.channels)

    def window(self, sizes: Sequence[int], window: Sequence[slice]) -> tuple[slice, ...]:
        """Returns the window of all axes that is one of pixels."""
        slices = [slice(0, n) for n in sizes]
        for index, part in zip(self.pixels, window, strict=True):
            slices[index] = part
        return tuple(slices)

    def arrange(self, values: np.ndarray) -> np.ndarray:
        """Returns the values as [*n, C]; all other axes have the length 1."""
        order = (*self.pixels, *self.channels)
        rest = tuple(i for i in range(values.ndim) if i not in order)
        shape, channels = self.shape(values.shape), self.count(values.shape)
        return values.transpose(*order, *rest).reshape(*shape, channels)


def find_axes(letters: str, sizes: Sequence[int], wanted: int | None) -> Axes | None:
    """Tells axes of pixels and of channels apart.

    Args:
        letters: Of each axis: Y and X count whatever their length is, those in `CHANNELS` are of
            channels, and others count where they are longer than 1.
        sizes: Lengths of the axes.
        wanted: How many are of pixels; None for 2 or 3.

    Returns:
        Where they are; None where there are more or fewer.
    """
    channels = tuple(i for i, letter in enumerate(letters) if letter in CHANNELS)
    others = [i for i in range(len(sizes)) if i not in channels]
    pixels = [i for i in others if letters[i] in "YX" or sizes[i] > 1]
    short = [i for i in others if i not in pixels]  # such as that of a volume of one slice
    pixels = sorted(pixels + short[: max(0, (wanted or 0) - len(pixels))])
    if len(pixels) not in ((2, 3) if wanted is None else (wanted,)):
        return None
    return Axes(tuple(pixels), channels)
