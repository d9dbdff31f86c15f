"""Where tiles lie: planning in integers, which needs no network and no image.

A *read* is what the network takes at once; all reads of all images have one size. Lengths and
places here are those of pixels with logits, which with valid convolutions are fewer than the
network reads. The *canvas* of an image is what the network would have logits for if it took the
image whole: the image with what it is padded with, at the end of each axis, to the next size that
the network takes, or to one read where it is smaller. Reads lie inside of the canvas, so that those
at its border begin or end on it, and every pixel of the image is kept from one read.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from unet_jax.data.pipeline import Size
from unet_jax.data.sample import Window


class Axis(NamedTuple):
    """The reads along one axis of an image, in order.

    Attributes:
        pixels: Of the image.
        canvas: See above.
        length: Of a read.
        starts: Where each read begins.
        ends: Where what is kept of each read ends; that of the next one begins there.
    """

    pixels: int
    canvas: int
    length: int
    starts: tuple[int, ...]
    ends: tuple[int, ...]

    def kept(self, number: int) -> slice:
        """Returns the pixels of the image that are kept of a read."""
        return slice(self.ends[number - 1] if number else 0, self.ends[number])

    def meeting(self, first: int, last: int) -> range:
        """Returns the numbers of the reads that hold any of the pixels first..last-1."""
        after = sum(start + self.length <= first for start in self.starts)
        return range(after, sum(start < last for start in self.starts))


def plan_axis(pixels: int, length: int, multiple: int, halo: int) -> Axis:
    """Plans the reads along one axis of which each pixel is kept of one.

    Args:
        pixels: n of the image, 1 or more.
        length: Of a read.
        multiple: See `Geometry`; reads begin at multiples of it.
        halo: Likewise; a kept pixel is at least so far from each side of its read that is not the
            canvas's. The length is at least twice that, and `multiple`.

    Returns:
        The reads, as few as there can be.
    """
    last = _last(pixels, length, multiple)
    step = (length - 2 * halo) // multiple * multiple
    count = -(-last // step) + 1
    starts = tuple(min(number * step, last) for number in range(count))
    ends = tuple(start + length - halo for start in starts[:-1])
    return Axis(pixels, last + length, length, starts, (*ends, pixels))


def plan_overlapping(pixels: int, length: int, multiple: int, overlap: float) -> Axis:
    """Plans the reads along one axis that are averaged; what is kept of each means nothing.

    Turned around they lie as they do, so that a turned image gives the turned result where nothing
    else speaks against it.

    Args:
        pixels: n of the image, 1 or more.
        length: Of a read.
        multiple: See `plan_axis`.
        overlap: Share of a read, in [0, 1), that the next one holds as well, or more.

    Returns:
        The reads, spread evenly.
    """
    last = _last(pixels, length, multiple)
    step = max(1, math.floor(length * (1 - overlap)) // multiple)
    places, count = last // multiple, -(-last // (step * multiple)) + 1
    starts = _spread(places, count)
    while max(np.diff(starts), default=0) > step or not _is_symmetric(starts):
        count += 1
        starts = _spread(places, count)
    found = tuple(int(start) * multiple for start in starts)
    ends = tuple(start + length for start in found[:-1])
    return Axis(pixels, last + length, length, found, (*ends, pixels))


def _spread(last: int, count: int) -> list[int]:
    """Returns numbers from 0 to `last`, the second half as the first one turned around."""
    first = [number * last // max(1, count - 1) for number in range((count + 1) // 2)]
    return first + [last - number for number in reversed(first[: count // 2])]


def _is_symmetric(starts: list[int]) -> bool:
    return all(one + other == starts[-1] for one, other in zip(starts, starts[::-1], strict=True))


def _last(pixels: int, length: int, multiple: int) -> int:
    """Returns where the last read begins: at the least multiple with which the image is in."""
    return max(0, -(-(pixels - length) // multiple)) * multiple


class Tile(NamedTuple):
    """What one read gives.

    Attributes:
        number: Of the tile in its plan.
        start: Where the read begins, along each axis.
        kept: The window of the image that is kept of it.
    """

    number: int
    start: Size
    kept: Window


class Plan(NamedTuple):
    """The tiles of an image.

    Attributes:
        axes: The reads along each axis.
    """

    axes: tuple[Axis, ...]

    @property
    def counts(self) -> Size:
        """Returns how many tiles there are along each axis."""
        return tuple(len(axis.starts) for axis in self.axes)

    def __len__(self) -> int:
        return math.prod(self.counts)

    def tile(self, number: int) -> Tile:
        """Returns a tile by its number, of 0..len-1; the last axis counts first."""
        places = [int(place) for place in np.unravel_index(number, self.counts)]
        pairs = list(zip(self.axes, places, strict=True))
        start = tuple(axis.starts[place] for axis, place in pairs)
        return Tile(number, start, tuple(axis.kept(place) for axis, place in pairs))

    def meeting(self, window: Window) -> Iterator[int]:
        """Yields the numbers of the tiles whose reads hold pixels of a window, in order."""
        parts = zip(self.axes, window, strict=True)
        found = [axis.meeting(part.start, part.stop) for axis, part in parts]
        sizes = [len(numbers) for numbers in found]
        for place in np.ndindex(*sizes):
            numbers = [own[i] for own, i in zip(found, place, strict=True)]
            yield int(np.ravel_multi_index(numbers, self.counts))

    @property
    def work(self) -> float:
        """Returns the pixels of all reads over those of the image."""
        read = math.prod(axis.length for axis in self.axes)
        return len(self) * read / math.prod(axis.pixels for axis in self.axes)


def plan_tiles(
    size: Size, lengths: Sequence[int], multiple: int, halo: int, overlap: float | None = None
) -> Plan:
    """Plans the tiles of an image.

    Args:
        size: [*n] of the image.
        lengths: Of a read, along each axis.
        multiple: See `Geometry`.
        halo: Likewise.
        overlap: None for `plan_axis`, else as `plan_overlapping` takes it.

    Returns:
        The tiles.
    """
    axes = []
    for n, length in zip(size, lengths, strict=True):
        if overlap is None:
            axes.append(plan_axis(n, length, multiple, halo))
        else:
            axes.append(plan_overlapping(n, length, multiple, overlap))
    return Plan(tuple(axes))
