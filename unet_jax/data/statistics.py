"""Black and white of the training split: exact, and the same on any number of threads.

All pixels of all its files count; see `normalise`. Smallest and largest values and percentiles are
those of the values themselves, by radix selection in passes over the files. Means and squared
deviations are summed for each image in float64 and joined in the order of the images, by
Chan et al., "Updating formulae and a pairwise algorithm for computing sample variances", 1979.
"""

import contextlib
import functools
import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from unet_jax.data.base import PairSource
from unet_jax.data.normalise import Normalise, apart, z_score
from unet_jax.data.sample import Ends, Source, check_spec, spec_of
from unet_jax.process import records
from unet_jax.process.console import console
from unet_jax.process.runtime import cache_dir
from unet_jax.process.whole import write_whole

_DIGIT = 16  # bits of a value that a pass looks at
_RULES = 1  # the number of these: what was remembered under other ones is found anew
Channels = list[np.ndarray]
"""The values [N] of each channel of an image."""


def find_ends(source: Source, normalise: Normalise) -> Ends:
    """Finds black and white of each channel of a split.

    What was found for files of the same names, sizes and times is remembered.

    Args:
        source: The split.
        normalise: Of "train".

    Returns:
        The two, of each channel.

    Raises:
        UserError: An image cannot be read, or is of another kind than the first.
    """
    if not isinstance(source, PairSource):
        return _find(source, normalise)
    stamps = [source.pairs.stamp(index) for index in source.indices]
    key = hashlib.sha256(repr((_RULES, normalise[:3], stamps)).encode()).hexdigest()
    remembered = cache_dir() / "statistics" / f"{key}.json"
    recalled = records.recall(remembered, [[float]])
    if recalled is not None and [len(x) for x in recalled] == [source.spec.channels] * 2:
        return as_ends(recalled)
    found = _find(source, normalise)
    with contextlib.suppress(OSError):  # it only saves time
        remembered.parent.mkdir(parents=True, exist_ok=True)
        write_whole(remembered, json.dumps(found).encode())
    return found


def as_ends(lists: Sequence[Sequence[float]]) -> Ends:
    """Makes black and white of what JSON holds."""
    black, white = lists
    return tuple(map(float, black)), tuple(map(float, white))


def _find(source: Source, normalise: Normalise) -> Ends:
    limits = list(_each(source, _limits))
    low = np.min([low for low, _ in limits], axis=0).tolist()
    high = np.max([high for _, high in limits], axis=0).tolist()
    pairs = list(zip(low, high, strict=True))
    if normalise.kind == "z_score":
        moments = list(_each(source, _moments))
        joined = [_join([one[channel] for one in moments]) for channel in range(len(pairs))]
        # What has a single value has no deviation, whatever rounding says.
        pairs = [
            pair if pair[0] == pair[1] else z_score(*own)
            for pair, own in zip(pairs, joined, strict=True)
        ]
    if normalise.kind == "percentiles":
        pairs = _percentiles(source, normalise.percentiles)
    return as_ends(list(zip(*(apart(*pair) for pair in pairs), strict=True)))


def _each(source: Source, look: Callable[[Channels], Any]) -> Iterator[Any]:
    """Yields what is seen in the channels of every image, in their order."""

    def one(index: int) -> Any:
        image = source.read(index).image
        check_spec(source.ids[index], spec_of(image), source.spec, "the first image has")
        return look([image[..., channel].ravel() for channel in range(image.shape[-1])])

    says = f"reading the values of {len(source)} training images"
    with console.status(says), ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(one, range(len(source)))


def _limits(channels: Channels) -> tuple[list[float], list[float]]:
    return [float(x.min()) for x in channels], [float(x.max()) for x in channels]


def _moments(channels: Channels) -> list[tuple[int, float, float]]:
    """Returns the count, the mean and the sum of squared deviations of each channel."""
    found = []
    for values in channels:
        exact = values.astype(np.float64)
        mean = float(exact.mean())
        found.append((exact.size, mean, float(np.square(exact - mean).sum())))
    return found


def _join(parts: Sequence[tuple[int, float, float]]) -> tuple[float, float]:
    """Joins counts, means and squares of parts: the mean and the deviation of all."""
    total, centre, squares = 0, 0.0, 0.0
    for count, mean, own in parts:
        shift, before, total = mean - centre, total, total + count
        centre += shift * count / total
        squares += own + shift * shift * count * before / total
    return centre, math.sqrt(squares / total)


def _percentiles(source: Source, percents: Sequence[float]) -> list[tuple[float, ...]]:
    """Returns percentiles of each channel, linear between two values as `numpy.percentile`."""
    total = sum(math.prod(source.shape(index)) for index in range(len(source)))
    places = [(total - 1) * percent / 100 for percent in percents]
    ranks = [rank for x in places for rank in (math.floor(x), min(math.floor(x) + 1, total - 1))]
    return [
        tuple(
            low + (high - low) * (place - math.floor(place))
            for low, high, place in zip(values[::2], values[1::2], places, strict=True)
        )
        for values in _select(source, ranks)
    ]


def _select(source: Source, ranks: Sequence[int]) -> list[list[float]]:
    """Returns of each channel the values that so many of all sorted ones come before."""
    dtype, shape = np.dtype(source.spec.dtype), (source.spec.channels, len(ranks))
    digits = math.ceil(dtype.itemsize * 8 / _DIGIT)
    prefixes, left = np.zeros(shape, np.int64), np.tile(np.array(ranks, np.int64), (shape[0], 1))
    for shift in range((digits - 1) * _DIGIT, -1, -_DIGIT):

        def look(channels: Channels, shift: int = shift) -> np.ndarray:
            """Counts the next digits of the values that begin as those that are sought."""
            rows = []
            for values, wanted in zip(channels, prefixes, strict=True):
                keys = _sortable(values).astype(np.int64)
                counts = {
                    prefix: np.bincount(
                        keys[keys >> (shift + _DIGIT) == prefix] >> shift & (1 << _DIGIT) - 1,
                        minlength=1 << _DIGIT,
                    )
                    for prefix in set(wanted.tolist())
                }
                rows.append([counts[prefix] for prefix in wanted.tolist()])
            return np.array(rows)

        counts = functools.reduce(np.add, _each(source, look))
        for place in np.ndindex(shape):
            row = np.cumsum(counts[place])
            digit = int(np.searchsorted(row, left[place], side="right"))
            left[place] -= row[digit - 1] if digit else 0
            prefixes[place] = prefixes[place] << _DIGIT | digit
    return [[float(_value(int(key), dtype)) for key in row] for row in prefixes]


def _sortable(values: np.ndarray) -> np.ndarray:
    """Turns values into unsigned integers in the same order."""
    dtype = values.dtype
    bits = values.view(f"u{dtype.itemsize}")
    sign = np.array(1 << dtype.itemsize * 8 - 1, bits.dtype)
    if dtype.kind == "i":
        return bits ^ sign
    return np.where(bits & sign, ~bits, bits | sign) if dtype.kind == "f" else bits


def _value(key: int, dtype: np.dtype[Any]) -> Any:
    """Turns what `_sortable` made of a value of a type back into it."""
    sign, full = 1 << dtype.itemsize * 8 - 1, (1 << dtype.itemsize * 8) - 1
    if dtype.kind == "i":
        key ^= sign
    elif dtype.kind == "f":
        key = key ^ sign if key & sign else key ^ full
    return np.array(key, f"u{dtype.itemsize}").view(dtype)[()]
