"""Overlapping tiles, averaged block by block, so that sums never span an image."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from unet_jax.data.pipeline import Size
from unet_jax.data.sample import Window
from unet_jax.predict.tiled import Done, Large, Reading, part_arrays, run_reads, take_row
from unet_jax.predict.tiles import Plan, Tile
from unet_jax.sharding import ROWS, put_batch

_MOST_BYTES, _MOST_PIXELS = 2**28, 2**22  # of a block's sums, and of a block
_DEVIATIONS = 8  # standard deviations of the Gaussian along a tile's side


def gaussian(length: int) -> np.ndarray:
    """Returns weights float32 along an axis, symmetric about its middle, (length - 1) / 2."""
    places = np.arange(length) - (length - 1) / 2
    return np.exp(-0.5 * (places * _DEVIATIONS / length) ** 2).astype(np.float32)


def constant(length: int) -> np.ndarray:
    """Returns weights of 1."""
    return np.ones(length, np.float32)


WINDOWS: dict[str, Callable[[int], np.ndarray]] = {"gaussian": gaussian, "constant": constant}


def tile_weights(lengths: Size, window: str) -> np.ndarray:
    """Returns the weight of every pixel of a tile, float32 [*lengths], above 0."""
    weights = np.ones((), np.float32)
    for length in lengths:
        weights = np.multiply.outer(weights, WINDOWS[window](length))
    return weights


def block_side(axes: int, channels: int) -> int:
    """Returns the pixels of a block along each axis: 2,048 of images, or less for many classes."""
    pixels = min(_MOST_PIXELS, _MOST_BYTES // (4 * channels))
    return max(1, int(pixels ** (1 / axes) + 1e-9))


class Blocks(NamedTuple):
    """The blocks of an image.

    Attributes:
        size: [*n] of the image.
        sides: Of a block, along each axis.
    """

    size: Size
    sides: Size

    @property
    def counts(self) -> Size:
        """Returns how many there are along each axis."""
        return tuple(-(-n // side) for n, side in zip(self.size, self.sides, strict=True))

    def __len__(self) -> int:
        return int(np.prod(self.counts))

    def window(self, number: int) -> Window:
        """Returns the pixels of a block, by its number."""
        places = np.unravel_index(number, self.counts)
        parts = zip(places, self.sides, self.size, strict=True)
        return tuple(slice(int(i) * side, min((int(i) + 1) * side, n)) for i, side, n in parts)


def run_blocks(
    image: Large,
    plan: Plan,
    reading: Reading,
    blocks: Blocks,
    weights: np.ndarray,
    decide: Callable[[dict[str, jax.Array]], Any],
    sums: Sequence[str] = (),
    todo: Sequence[int] | None = None,
) -> Iterator[Done]:
    """Computes the blocks of an image, each from the reads that meet it.

    A pixel's sum is over the same reads in the same order whatever the blocks are.

    Args:
        image: The image.
        plan: Its reads.
        reading: How their logits float32 [B, *m, K] are computed.
        blocks: Of the image.
        weights: Of the pixels of a read.
        decide: (arrays by name, with "logits") -> what is computed of each row.
        sums: See `tiled.run_tiles`.
        todo: Numbers of the blocks to compute, in order; None for all.

    Yields:
        Each block, in order.
    """
    numbers = list(range(len(blocks)) if todo is None else todo)
    reads = [(n, plan.tile(tile)) for n in numbers for tile in plan.meeting(blocks.window(n))]
    owners = iter(reads)
    last = dict(reads)  # by block, its last read
    sums_of: _Sums | None = None
    for batch, errors, result in run_reads(
        image._replace(label=None), [tile for _, tile in reads], reading
    ):
        logits = jax.device_get(result)
        for row, tile in enumerate(batch):
            number, _ = next(owners)
            if sums_of is None:
                sums_of = _Sums(blocks.window(number), logits.shape[-1])
            sums_of.add(tile, logits[row], weights, errors[row])
            if tile is last[number]:
                yield _finish(number, sums_of, image, blocks, reading, decide, sums)
                sums_of = None


class _Sums:
    """The weighted sum of the logits of a block's pixels."""

    def __init__(self, window: Window, channels: int) -> None:
        shape = [part.stop - part.start for part in window]
        self.window, self.error = window, ""
        self._logits = np.zeros((*shape, channels), np.float32)
        self._weights = np.zeros(shape, np.float32)

    def add(self, tile: Tile, logits: np.ndarray, weights: np.ndarray, error: str) -> None:
        """Adds a read."""
        self.error = self.error or error
        here, there = [], []
        for start, length, part in zip(tile.start, weights.shape, self.window, strict=True):
            first, end = max(start, part.start), min(start + length, part.stop)
            here.append(slice(first - part.start, end - part.start))
            there.append(slice(first - start, end - start))
        own = weights[tuple(there)]
        self._logits[tuple(here)] += logits[tuple(there)] * own[..., None]
        self._weights[tuple(here)] += own

    def mean(self) -> np.ndarray:
        """Returns the mean of the reads, float32 [*m, K]."""
        return self._logits / self._weights[..., None]


def _finish(
    number: int,
    found: _Sums,
    image: Large,
    blocks: Blocks,
    reading: Reading,
    decide: Callable[[dict[str, jax.Array]], Any],
    sums: Sequence[str],
) -> Done:
    if found.error:
        return Done(number, found.window, {}, found.error)
    start = tuple(part.start for part in found.window)
    tile = Tile(number, start, found.window)
    arrays = part_arrays(image, tile, blocks.sides)
    mean = found.mean()
    ends = [(0, side - n) for side, n in zip(blocks.sides, mean.shape, strict=False)]
    arrays["logits"] = np.pad(mean, (*ends, (0, 0)))
    rows = reading.shardings.size(*ROWS)
    stacked = {name: np.stack([x] * rows) for name, x in arrays.items()}
    result = jax.device_get(decide(put_batch(stacked, reading.shardings)))
    return Done(number, found.window, take_row(result, 0, tile, sums))
