"""Large images tile by tile: one program and one batch size, whatever their size."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import grain
import jax
import numpy as np

from unet_jax.data.pipeline import Size
from unet_jax.data.sample import Window
from unet_jax.errors import UserError
from unet_jax.predict.tiles import Plan, Tile
from unet_jax.predict.windows import Read, read_padded
from unet_jax.process.multihost import in_any
from unet_jax.sharding import Shardings, process_rows, put_batch

_ELSEWHERE = "a part cannot be read by another process, which tells why."

Values = dict[str, Any]
"""What `Outputs.compute` returns, of one image or a part of it."""


class Large(NamedTuple):
    """A large image, of which nothing need be in memory.

    Attributes:
        name: For errors.
        size: [*n].
        read: Reads a window, as it comes to the devices.
        label: Valid classes [*n] or [*n, L], and weights [*n]; None of an image to predict.
    """

    name: str
    size: Size
    read: Read
    label: tuple[np.ndarray, np.ndarray] | None = None


class Reading(NamedTuple):
    """How the reads of all large images are computed.

    Attributes:
        program: (arrays by name) -> what is computed of each row.
        lengths: Of a read, in pixels with logits.
        reads: Pixels that the network takes for them.
        mode: Of `np.pad`; see `fits.Reach`.
        channels: C.
        dtype: Of the image on the devices.
        batch_size: Reads at once, over all devices.
        shardings: The mesh.
        workers: Threads that read.
    """

    program: Callable[[dict[str, jax.Array]], Any]
    lengths: Size
    reads: Size
    mode: str
    channels: int
    dtype: str
    batch_size: int
    shardings: Shardings
    workers: int


class Done(NamedTuple):
    """What was found of a part of an image.

    Attributes:
        number: Of the part.
        kept: The window of the image that it is.
        values: Arrays by name, those of pixels cut to the window; {} where it cannot be read.
        error: Why it cannot be read, and where it is; "" where it can.
    """

    number: int
    kept: Window
    values: Values
    error: str = ""


def run_tiles(
    image: Large,
    plan: Plan,
    reading: Reading,
    sums: Sequence[str] = (),
    todo: Sequence[int] | None = None,
) -> Iterator[Done]:
    """Computes the tiles of an image.

    Args:
        image: The image.
        plan: Its tiles.
        reading: How they are computed.
        sums: Names among the results that are of a whole row; all others are of its pixels.
        todo: Numbers of the tiles to compute, in order; None for all.

    Yields:
        Each tile, in order.
    """
    tiles = [plan.tile(number) for number in (range(len(plan)) if todo is None else todo)]
    for batch, errors, result in run_reads(image, tiles, reading):
        fetched = jax.device_get(result)
        for row, tile in enumerate(batch):
            if error := errors[row]:
                yield Done(tile.number, tile.kept, {}, error)
                continue
            yield Done(tile.number, tile.kept, take_row(fetched, row, tile, sums))


def take_row(result: Values, row: int, tile: Tile, sums: Sequence[str]) -> Values:
    """Takes what is kept of a tile out of the result of a batch.

    Args:
        result: Of the batch.
        row: The tile's.
        tile: The tile.
        sums: See `run_tiles`.

    Returns:
        Its own values.
    """
    pixels = (row, *_inside(tile))
    places = {name: (row,) if name in sums else pixels for name in result}
    return {
        name: jax.tree.map(lambda x, place=places[name]: np.asarray(x[place]), value)
        for name, value in result.items()
    }


def run_reads(
    image: Large, tiles: Sequence[Tile], reading: Reading
) -> Iterator[tuple[list[Tile], list[str], Any]]:
    """Computes reads of an image in batches; a result comes when the next batch is under way.

    Args:
        image: The image.
        tiles: What is read, and kept.
        reading: How it is computed.

    Yields:
        The tiles of a batch, why each cannot be read ("" where it can), and what the program
        returned: the first rows are those of the tiles.
    """
    size = reading.batch_size
    rows = process_rows(size, reading.shardings).tolist()
    batches = [list(tiles[first : first + size]) for first in range(0, len(tiles), size)]
    own = [[(row, batch[row]) for row in rows if row < len(batch)] for batch in batches]

    def load(place: int) -> tuple[dict[str, np.ndarray], str]:
        return _load(image, flat[place][1], reading)

    flat = list(itertools.chain.from_iterable(own))
    options = grain.ReadOptions(
        num_threads=min(reading.workers, 2 * len(rows)), prefetch_buffer_size=2 * len(rows)
    )
    loading = grain.MapDataset.range(len(flat)).map(load)
    loaded = iter(loading.to_iter_dataset(options) if flat else ())
    before = None
    for batch, places in zip(batches, own, strict=True):
        found = list(itertools.islice(loaded, len(places)))
        errors = [""] * len(batch)
        for (row, _), (_, error) in zip(places, found, strict=True):
            errors[row] = error
        lost = in_any([bool(error) for error in errors])
        errors = [error or flag * _ELSEWHERE for error, flag in zip(errors, lost, strict=True)]
        blank = _blank(image, reading)
        filled = [arrays for arrays, _ in found] + [blank] * (len(rows) - len(found))
        stacked = {name: np.stack([one[name] for one in filled]) for name in blank}
        under_way = batch, errors, reading.program(put_batch(stacked, reading.shardings))
        if before is not None:
            yield before
        before = under_way
    if before is not None:
        yield before


def _load(image: Large, tile: Tile, reading: Reading) -> tuple[dict[str, np.ndarray], str]:
    """Reads what a tile needs; where it cannot be read, blank with the reason."""
    pairs = zip(tile.start, reading.reads, reading.lengths, strict=True)
    first = tuple(start - (read - length) // 2 for start, read, length in pairs)
    arrays = _blank(image, reading)
    try:
        pixels = read_padded(image.read, image.size, first, reading.reads, reading.mode)
    except UserError as error:
        place = ", ".join(f"{part.start} to {part.stop - 1}" for part in tile.kept)
        return arrays, f"{image.name}: the tile of pixels {place} cannot be read: {error}"
    return arrays | {"image": pixels, **part_arrays(image, tile, reading.lengths)}, ""


def part_arrays(image: Large, tile: Tile | None, lengths: Size) -> dict[str, np.ndarray]:
    """Makes what goes with the logits of a read: what counts is what is kept of the tile.

    Args:
        image: The image.
        tile: The tile; None for a read of nothing, whose weight is 0.
        lengths: Of the read.

    Returns:
        "label" and "weight", or without labels "is_read"; see `images.image_batches`.
    """
    if image.label is None:
        return {"is_read": np.array(tile is not None)}
    arrays = {}
    for name, values in zip(("label", "weight"), image.label, strict=True):
        arrays[name] = np.zeros((*lengths, *values.shape[len(lengths) :]), np.uint8)
        if tile is not None:
            arrays[name][_inside(tile)] = values[tile.kept]
    return arrays


def blank_batch(reading: Reading) -> dict[str, jax.Array]:
    """Returns a batch of reads of nothing on the devices, of images without labels."""
    blank = _blank(Large("", reading.lengths, lambda window: np.zeros(0)), reading)
    rows = process_rows(reading.batch_size, reading.shardings)
    stacked = {name: np.stack([x] * len(rows)) for name, x in blank.items()}
    return put_batch(stacked, reading.shardings)


def _blank(image: Large, reading: Reading) -> dict[str, np.ndarray]:
    """Returns the arrays of a read of nothing."""
    return {
        "image": np.zeros((*reading.reads, reading.channels), reading.dtype),
        "size": np.array(reading.lengths, np.float32),
        **part_arrays(image, None, reading.lengths),
    }


def _inside(tile: Tile) -> Window:
    """Returns where what is kept of a tile lies in its read."""
    pairs = zip(tile.start, tile.kept, strict=True)
    return tuple(slice(part.start - start, part.stop - start) for start, part in pairs)
