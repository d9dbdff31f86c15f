"""Numbers of decoded images, of a part of their pixels where exact ones are not needed."""

import functools
import itertools
import zlib
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

import numpy as np

_CELLS, _LOWEST, _SMALL = 32, 8, 16  # sides of what a fingerprint is made of, and a thumbnail
THUMBNAIL = _SMALL**2  # bytes
SIDE = 3 * _CELLS  # pixels along an axis, from which statistics are taken
_SORTED = 2048  # values of which quantiles are taken
_QUANTILES = (0.01, 0.25, 0.5, 0.75, 0.99)
_PASSES = 8  # over a mask, for as many values
_WORDS = 509  # of 64 bits, that a checksum is of; a prime


class Kept(NamedTuple):
    """What is kept of a decoded image until it is measured.

    Attributes:
        low: Smallest value.
        high: Largest value.
        digest: Of all pixels; see `digest`.
        few: [n, n, C], or [n, n, n, C] of a volume; see `thin`.
    """

    low: float
    high: float
    digest: int
    few: np.ndarray


class Measured(NamedTuple):
    """See `look.Look`, which has the same fields."""

    low: float
    high: float
    means: np.ndarray
    quantiles: np.ndarray
    clipped: tuple[float, float]
    digest: int
    phash: int
    thumbnail: bytes


def keep(image: np.ndarray) -> Kept:
    """Takes of an image [*n, C] of any type what is measured later, together with others."""
    return Kept(float(image.min()), float(image.max()), digest(image), thin(image))


def measure(kept: Sequence[Kept]) -> list[Measured]:
    """Measures some images, those at once that follow each other and are of one shape.

    Of one alone, most of the time would go into calling NumPy.

    Args:
        kept: What was kept of each.

    Returns:
        The numbers of each: `low`, `high` and `digest` of all pixels, the others of `few` of them.
    """
    alike = itertools.groupby(kept, lambda one: one.few.shape)
    return [found for _, images in alike for found in _measure([*images])]


def _measure(kept: Sequence[Kept]) -> Iterator[Measured]:
    few = np.stack([one.few for one in kept])
    count, channels = len(few), few.shape[-1]
    step = max(1, few[0].size // _SORTED) | 1
    ordered = few.reshape(count, -1, channels)[:, ::step].reshape(count, -1)
    ordered.sort(axis=-1, kind="stable")  # which of 8 and 16 bits is the fastest
    last = ordered.shape[-1] - 1
    quantiles = ordered[:, [round(share * last) for share in _QUANTILES]].astype(np.float32)
    few = few.astype(np.float32)
    # Along the first axis alone NumPy adds whole rows at once.
    by_column = np.add.reduce(few.reshape(count, few.shape[1], -1), axis=1)
    total = np.add.reduce(by_column.reshape(count, -1, channels), axis=1)
    means = total / np.float32(few[0].size // channels)
    grey = cells(few if few.ndim == 4 else few[:, few.shape[1] // 2])
    hashes, small = fingerprints(grey), thumbnails(grey)
    ends = np.array([[one.low, one.high] for one in kept])[..., None]
    clipped = (ordered[:, None] == ends.astype(ordered.dtype)).sum(axis=-1) / ordered.shape[-1]
    for place, one in enumerate(kept):
        yield Measured(
            one.low,
            one.high,
            means[place],
            quantiles[place],
            tuple(clipped[place].tolist()),
            one.digest,
            hashes[place],
            small[place],
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
    """Averages grids of pixels to grey cells.

    Args:
        few: float32 [N, n, n, C], n a multiple of 32; sums of 8 and 16 bits are exact.

    Returns:
        float32 [N, 32, 32].
    """
    step = few.shape[1] // _CELLS
    rows = sum((few[:, i::step] for i in range(1, step)), few[:, ::step])
    values = np.ascontiguousarray(rows.reshape(len(few) * _CELLS**2, -1).T)  # a cell's in a column
    total = np.add.reduce(values, axis=0).reshape(-1, _CELLS, _CELLS)
    return total / np.float32(len(values) * step)


def fingerprints(grey: np.ndarray) -> list[int]:
    """Makes 64 bits that nearly the same images share, whatever their size or compression.

    The perceptual hash by the discrete cosine transform of Zauner (2010), "Implementation and
    Benchmarking of Perceptual Image Hash Functions", 3.2.1: of the 32 x 32 grey image, those of the
    8 x 8 lowest frequencies (but the constant one) that are above their median.

    Args:
        grey: float32 [N, 32, 32].

    Returns:
        The bits of each, as a number below 2^64.
    """
    # No matrix product: the library that makes it would start threads for each, which wait.
    rows = np.einsum("ir,nrc->nic", _cosines(), grey)
    lowest = np.einsum("nic,jc->nij", rows, _cosines()).reshape(len(grey), -1)
    below, above = np.sort(lowest, axis=1)[:, _LOWEST**2 // 2 - 1 : _LOWEST**2 // 2 + 1].T
    bits = np.packbits(lowest > ((below + above) / 2)[:, None], axis=1)
    return [int.from_bytes(row.tobytes()) for row in bits]


def thumbnails(grey: np.ndarray) -> list[bytes]:
    """Makes thumbnails uint8 [16 * 16] of [N, 32, 32], each from its darkest to its brightest."""
    rows = grey[:, ::2] + grey[:, 1::2]
    small = (rows[..., ::2] + rows[..., 1::2]).reshape(len(grey), -1)
    low, high = small.min(axis=1, keepdims=True), small.max(axis=1, keepdims=True)
    shrunk = ((small - low) * (255 / np.maximum(high - low, 1e-6))).astype(np.uint8)
    return [row.tobytes() for row in shrunk]


@functools.cache
def _cosines() -> np.ndarray:
    """Returns the rows 1 to 8 of the discrete cosine transform of 32 values."""
    rows, columns = np.arange(1, _LOWEST + 1)[:, None], np.arange(_CELLS)
    return np.cos(np.pi * rows * (2 * columns + 1) / (2 * _CELLS)).astype(np.float32)


def digest(image: np.ndarray) -> int:
    """Makes a checksum of all pixels with their shape and type.

    CRC-32 of all bytes takes a tenth of the time that decoding does. Here it is of 4 kB: of the
    exclusive or of all parts of that length, which is no multiple of a usual row of pixels, so that
    what is moved by some rows is another image.

    Args:
        image: [*n, C].

    Returns:
        32 bits.
    """
    data = np.ascontiguousarray(image).reshape(-1).view(np.uint8)
    whole = data.size - data.size % (_WORDS * 8)
    parts = data[:whole].view(np.uint64).reshape(-1, _WORDS)
    head = repr((image.shape, image.dtype.str)).encode()
    folded = np.bitwise_xor.reduce(parts, axis=0)
    return zlib.crc32(data[whole:].data, zlib.crc32(folded.data, zlib.crc32(head)))


def count_values(ids: np.ndarray, likely: Collection[int] = ()) -> dict[int, int]:
    """Counts the values of a mask.

    Args:
        ids: uint8 or uint16 of any shape.
        likely: Values that it may hold. Where they are few, and all that there are, a pass over the
            pixels for each is the fastest way.

    Returns:
        Pixels by value, of the values that there are, in their order.
    """
    flat, counts = ids.ravel(), {}
    left = flat.size
    for value in likely if len(likely) <= _PASSES else ():
        counts[value] = int(np.count_nonzero(flat == value))
        left -= counts[value]
    if left:
        return _count_runs(flat)
    return {value: count for value, count in sorted(counts.items()) if count}


def _count_runs(flat: np.ndarray) -> dict[int, int]:
    """Counts values run by run, of which masks have far fewer than pixels."""
    ends = np.append(np.flatnonzero(flat[1:] != flat[:-1]), flat.size - 1)
    runs = ends + 1
    runs[1:] -= runs[:-1]
    counts = np.bincount(flat[ends], runs)
    return {value: int(counts[value]) for value in np.flatnonzero(counts).tolist()}


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
