"""The small image of a large one, of which an overlay is made."""

from collections.abc import Callable

import numpy as np

from unet_jax.data.formats.base import Header
from unet_jax.data.sample import Window

MOST_SIDE = 2048  # pixels along each axis


class Preview:
    """The small image of which an overlay is made: every so many pixels, of a volume its middle.

    Attributes:
        shape: [h, w, bytes], as a store keeps it.
    """

    def __init__(self, header: Header) -> None:
        """Plans it."""
        *before, height, width = header.shape
        self._step = -(-max(height, width) // MOST_SIDE)
        self._middle = tuple(n // 2 for n in before)
        self._channels = 3 if header.channels >= 3 else 1
        self._dtype = np.dtype(header.dtype)
        self._rows = slice(0, height, self._step)
        size = -(-height // self._step), -(-width // self._step)
        self.shape = (*size, self._channels * self._dtype.itemsize)

    def part(self, window: Window, image: np.ndarray) -> tuple[Window, np.ndarray] | None:
        """Takes its pixels out of a window of the image; None where there are none."""
        *before, rows, columns = window
        place = []
        for part, middle in zip(before, self._middle, strict=True):
            if not part.start <= middle < part.stop:
                return None
            place.append(middle - part.start)
        found, inside = [], []
        for part in (rows, columns):
            first, last = (-(-end // self._step) for end in (part.start, part.stop))
            if first == last:
                return None
            found.append(slice(first, last))
            inside.append(slice(first * self._step - part.start, None, self._step))
        values = np.ascontiguousarray(image[(*place, *inside)][..., : self._channels])
        return tuple(found), values.view(np.uint8).reshape(*values.shape[:2], -1)

    def image(self, values: np.ndarray) -> np.ndarray:
        """Returns the small image [h, w, C] of the bytes that a store kept."""
        return np.ascontiguousarray(values).view(self._dtype).reshape(*self.shape[:2], -1)

    def label(self, read: Callable[[Window], np.ndarray], width: int) -> np.ndarray:
        """Reads the same pixels of a mask, uint8 [h, w]."""
        middle = tuple(slice(n, n + 1) for n in self._middle)
        rows = range(self._rows.start, self._rows.stop, self._rows.step)
        lines = [read((*middle, slice(row, row + 1), slice(0, width))).ravel() for row in rows]
        return np.stack([line[:: self._step] for line in lines])
