"""Black and white of an image that is not in memory: found window by window.

What is found is what `Normalise.find` finds of the whole image, up to the rounding of float64 sums.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from unet_jax.data.normalise import Normalise, apart, z_score
from unet_jax.data.sample import Spec, Window

_SIDE = {2: 2048, 3: 128}  # pixels of a window along each axis


def can_stream(normalise: Normalise, spec: Spec) -> bool:
    """Tells whether black and white can be found window by window.

    Percentiles are, of integers of 16 bits and less, whose values can be counted.
    """
    dtype = np.dtype(spec.dtype)
    return normalise.kind != "percentiles" or (dtype.kind in "iu" and dtype.itemsize <= 2)


def find_ends(
    normalise: Normalise, spec: Spec, size: Sequence[int], read: Callable[[Window], np.ndarray]
) -> list[tuple[float, float]]:
    """Finds black and white of every channel of an image.

    Args:
        normalise: With statistics of each image, for which `can_stream` holds.
        spec: Of the image.
        size: [*n].
        read: Reads a window of it, [*m, C].

    Returns:
        The two of each channel.
    """
    counts = normalise.kind == "percentiles"
    channels = [_Values(np.dtype(spec.dtype), counts=counts) for _ in range(spec.channels)]
    for window in _windows(size):
        image = read(window)
        for number, channel in enumerate(channels):
            channel.add(image[..., number].ravel())
    return [channel.ends(normalise) for channel in channels]


def _windows(size: Sequence[int]) -> Iterator[Window]:
    side = _SIDE[len(size)]
    for place in np.ndindex(*(-(-n // side) for n in size)):
        pairs = zip(place, size, strict=True)
        yield tuple(slice(i * side, min((i + 1) * side, n)) for i, n in pairs)


class _Values:
    """What is known of the values of a channel so far."""

    def __init__(self, dtype: np.dtype, *, counts: bool) -> None:
        self._low, self._high = np.inf, -np.inf
        self._count, self._mean, self._squares = 0, 0.0, 0.0
        self._first = int(np.iinfo(dtype).min) if counts else 0
        self._histogram = np.zeros(256**dtype.itemsize, np.int64) if counts else None

    def add(self, values: np.ndarray) -> None:
        """Takes more values; sums are put together as Chan et al., 1983, equation 2.1."""
        self._low = min(self._low, float(values.min()))
        self._high = max(self._high, float(values.max()))
        wide = values.astype(np.float64)
        count, mean = len(values), float(wide.mean())
        total = self._count + count
        shift = mean - self._mean
        self._squares += float(np.square(wide - mean).sum())
        self._squares += shift**2 * self._count * count / total
        self._mean += shift * count / total
        self._count = total
        if self._histogram is not None:
            places = values.astype(np.int64) - self._first
            self._histogram += np.bincount(places, minlength=len(self._histogram))

    def ends(self, normalise: Normalise) -> tuple[float, float]:
        """Returns black and white."""
        if self._low == self._high:  # as `Normalise.find`
            return apart(self._low, self._high)
        if normalise.kind == "min_max":
            return apart(self._low, self._high)
        if normalise.kind == "z_score":
            return apart(*z_score(self._mean, (self._squares / self._count) ** 0.5))
        low, high = (self._percentile(q) for q in normalise.percentiles)
        return apart(low, high)

    def _percentile(self, percentile: float) -> float:
        """Returns a percentile, linear between values as that of NumPy."""
        assert self._histogram is not None
        place = percentile / 100 * (self._count - 1)
        below = int(place)
        upto = np.cumsum(self._histogram)
        ranks = [below, min(below + 1, self._count - 1)]
        first, second = np.searchsorted(upto, ranks, side="right") + self._first
        return float(first + (second - first) * (place - below))
