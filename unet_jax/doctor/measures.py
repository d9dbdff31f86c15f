"""Numbers of one decoded image, of a part of its pixels where exact ones are not needed."""

import functools
import zlib
from typing import NamedTuple

import numpy as np

_CELLS, _LOWEST, _SMALL = 32, 8, 16  # sides of what a fingerprint is made of, and a thumbnail
THUMBNAIL = _SMALL**2  # bytes
SIDE = 3 * _CELLS  # pixels along an axis, from which statistics are taken
_SORTED = 2048  # values of which quantiles are taken
_QUANTILES = (0.01, 0.25, 0.5, 0.75, 0.99)


class Measured(NamedTuple):
    """See `look.Look`, which has the same fields."""

    low: float
    high: float
    channels: np.ndarray
    quantiles: np.ndarray
    clipped: tuple[float, float]
    digest: int
    phash: int
    thumbnail: bytes


def measure(image: np.ndarray) -> Measured:
    """Measures an image.

    Args:
        image: [*n, C], of any type.

    Returns:
        The numbers: `low`, `high` and `digest` of all pixels, the others of a grid of them.
    """
    low, high = float(image.min()), float(image.max())
    few = thin(image).astype(np.float32)
    by_channel = np.ascontiguousarray(few.reshape(-1, few.shape[-1]).T)
    count = by_channel.shape[1]
    mean = np.add.reduce(by_channel, axis=1) / count
    square = np.add.reduce(np.square(by_channel), axis=1) / count
    channels = np.empty((len(mean), 2), np.float32)
    channels[:, 0], channels[:, 1] = mean, np.sqrt(np.maximum(square - mean * mean, 0))
    ordered = np.sort(by_channel[:, :: max(1, few.size // _SORTED) | 1].ravel())
    last = ordered.size - 1
    clipped = (
        float(np.searchsorted(ordered, np.float32(low), "right") / ordered.size),
        float(1 - np.searchsorted(ordered, np.float32(high), "left") / ordered.size),
    )
    grey = cells(few if few.ndim == 3 else few[len(few) // 2])
    return Measured(
        low,
        high,
        channels,
        ordered[[round(share * last) for share in _QUANTILES]],
        clipped,
        _digest(image),
        fingerprint(grey),
        thumbnail(grey),
    )


def thin(image: np.ndarray) -> np.ndarray:
    """Takes a grid of pixels: `SIDE` along each axis of an image, a third along those of a volume.

    Of an image with fewer, some come twice.
    """
    side = SIDE if image.ndim < 4 else _CELLS
    for axis, length in enumerate(image.shape[:-1]):
        image = image.take(_places(length, side), axis=axis)
    return image


@functools.lru_cache(maxsize=256)
def _places(length: int, count: int) -> np.ndarray:
    """Returns the pixels in the middle of `count` equal parts of `length`."""
    return (np.arange(count) * 2 + 1) * length // (2 * count)


def cells(few: np.ndarray) -> np.ndarray:
    """Averages a grid of pixels [n, n, C], n a multiple of 32, to grey cells float32 [32, 32]."""
    step = len(few) // _CELLS
    rows = sum((few[i::step] for i in range(1, step)), few[::step])
    both = sum((rows[:, i::step] for i in range(1, step)), rows[:, ::step])
    return np.add.reduce(both, axis=-1) / np.float32(step * step * few.shape[-1])


def fingerprint(grey: np.ndarray) -> int:
    """Makes 64 bits that nearly the same images share, whatever their size or compression.

    The perceptual hash by the discrete cosine transform of Zauner (2010), "Implementation and
    Benchmarking of Perceptual Image Hash Functions", 3.2.1: of the 32 x 32 grey image, those of the
    8 x 8 lowest frequencies (but the constant one) that are above their median.

    Args:
        grey: float32 [32, 32].

    Returns:
        The bits, as a number below 2^64.
    """
    # No matrix product: the library that makes it would start threads for each, which wait.
    rows = np.einsum("ir,rc->ic", _cosines(), grey)
    lowest = np.einsum("ic,jc->ij", rows, _cosines()).ravel()
    below, above = np.sort(lowest)[len(lowest) // 2 - 1 : len(lowest) // 2 + 1]
    middle = (below + above) / 2
    return int.from_bytes(np.packbits(lowest > middle).tobytes())


def thumbnail(grey: np.ndarray) -> bytes:
    """Makes an image uint8 [16 * 16] of [32, 32], from its own darkest to its own brightest."""
    rows = grey[::2] + grey[1::2]
    small = rows[:, ::2] + rows[:, 1::2]
    low, high = small.min(), small.max()
    return ((small - low) * (255 / max(high - low, 1e-6))).astype(np.uint8).tobytes()


@functools.cache
def _cosines() -> np.ndarray:
    """Returns the rows 1 to 8 of the discrete cosine transform of 32 values."""
    rows, columns = np.arange(1, _LOWEST + 1)[:, None], np.arange(_CELLS)
    return np.cos(np.pi * rows * (2 * columns + 1) / (2 * _CELLS)).astype(np.float32)


def _digest(image: np.ndarray) -> int:
    """Returns a checksum of all pixels with their shape and type."""
    head = repr((image.shape, image.dtype.str)).encode()
    return zlib.crc32(np.ascontiguousarray(image).data, zlib.crc32(head))


def count_colours(image: np.ndarray, most: int) -> tuple[tuple[tuple[int, int, int], int], ...]:
    """Counts the colours of an image.

    Args:
        image: uint8 [H, W, 3].
        most: How many colours are told at most.

    Returns:
        ((red, green, blue), pixels) from the most frequent one.
    """
    if image.dtype != np.uint8 or image.shape[-1] != 3:
        return ()
    codes = image.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    values, counts = np.unique(codes, return_counts=True)
    often = np.argsort(-counts, kind="stable")[:most]
    return tuple(
        ((int(v) >> 16, int(v) >> 8 & 255, int(v) & 255), int(n))
        for v, n in zip(values[often], counts[often], strict=True)
    )
