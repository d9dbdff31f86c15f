"""Numbers of one decoded image, of a part of its pixels where exact ones are not needed."""

import functools
import zlib
from typing import NamedTuple

import numpy as np

SIDE = 64  # pixels along an axis, about, from which statistics are taken
_HASHED, _LOWEST, _SMALL = 32, 8, 16  # sides of what a fingerprint is made of, and a thumbnail
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
        The numbers: `low`, `high` and `digest` of all pixels, the others of about every so many
        that `SIDE` are left along an axis.
    """
    low, high = float(image.min()), float(image.max())
    few = thin(image, SIDE).reshape(-1, image.shape[-1])
    values = few.astype(np.float32)
    mean = values.mean(axis=0)
    spread = np.sqrt(np.maximum((values * values).mean(axis=0) - mean * mean, 0))
    ordered = np.sort(values.ravel())
    places = [round(share * (ordered.size - 1)) for share in _QUANTILES]
    clipped = (
        float(np.searchsorted(ordered, low, "right") / ordered.size),
        float(1 - np.searchsorted(ordered, high, "left") / ordered.size),
    )
    grey = thin(flat(image), 4 * _HASHED).mean(axis=-1, dtype=np.float32)
    hashed = _averages(_HASHED, grey.shape[0]) @ grey @ _averages(_HASHED, grey.shape[1]).T
    return Measured(
        low,
        high,
        np.stack([mean, spread], axis=-1),
        ordered[places],
        clipped,
        _digest(image),
        fingerprint(hashed),
        thumbnail(hashed),
    )


def flat(image: np.ndarray) -> np.ndarray:
    """Returns an image [H, W, C], of a volume the slice in the middle."""
    while image.ndim > 3:
        image = image[len(image) // 2]
    return image


def thin(image: np.ndarray, side: int) -> np.ndarray:
    """Takes every so many pixels along each axis that `side` to twice as many are left."""
    return image[tuple(slice(None, None, max(1, n // side)) for n in image.shape[:-1])]


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
    lowest = (_cosines() @ grey @ _cosines().T).ravel()
    return int.from_bytes(np.packbits(lowest > np.median(lowest)).tobytes())


def thumbnail(grey: np.ndarray) -> bytes:
    """Makes an image uint8 [16 * 16] of [32, 32], from its own darkest to its own brightest."""
    pairs = _averages(_SMALL, _HASHED)
    small = pairs @ grey @ pairs.T
    low, high = small.min(), small.max()
    return ((small - low) * (255 / max(high - low, 1e-6))).astype(np.uint8).tobytes()


@functools.cache
def _cosines() -> np.ndarray:
    """Returns the rows 1 to 8 of the discrete cosine transform of 32 values."""
    rows, columns = np.arange(1, _LOWEST + 1)[:, None], np.arange(_HASHED)
    return np.cos(np.pi * rows * (2 * columns + 1) / (2 * _HASHED)).astype(np.float32)


@functools.lru_cache(maxsize=256)
def _averages(count: int, length: int) -> np.ndarray:
    """Returns [count, length] that averages `length` values to `count`, each over its own share."""
    edges = np.linspace(0, length, count + 1)
    starts = np.maximum(edges[:-1, None], np.arange(length))
    stops = np.minimum(edges[1:, None], np.arange(1, length + 1))
    return (np.maximum(stops - starts, 0) / (length / count)).astype(np.float32)


def _digest(image: np.ndarray) -> int:
    """Returns a checksum of all pixels with their shape and type."""
    head = repr((image.shape, image.dtype.name)).encode()
    return zlib.crc32(np.ascontiguousarray(image).data, zlib.crc32(head))


def count_values(ids: np.ndarray) -> dict[int, int]:
    """Counts the values of a mask.

    Args:
        ids: uint8 or uint16 of any shape.

    Returns:
        Pixels by value, of the values that there are.
    """
    counts = np.bincount(ids.ravel())
    return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}


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
