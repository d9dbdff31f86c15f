"""Parts of the pages of a TIFF file: only the tiles and strips that they touch are decoded."""

import itertools
from typing import Any

import numpy as np

from unet_jax.data.sample import Window

_JPEG = (6, 7, 34892, 33007)  # of the tag Compression


def read_part(series: Any, slices: Window) -> np.ndarray:
    """Reads a part of a series of pages, each of which is a plane.

    Args:
        series: The series, of tifffile.
        slices: The part, along all its axes.

    Returns:
        The values, in the file's type.
    """
    key = series.keyframe
    sizes = [part.stop - part.start for part in slices]
    values = np.empty(sizes, key.dtype)
    before = len(slices) - len(key.shape)  # axes that count pages
    own = dict(zip(key.axes, slices[before:], strict=True))
    for index in np.ndindex(*sizes[:before]):
        place = [part.start + i for part, i in zip(slices[:before], index, strict=True)]
        number = int(np.ravel_multi_index(place, series.shape[:before])) if before else 0
        if series.dataoffset is not None:
            start = series.dataoffset + number * key.nbytes
            part = _read_stored(key, start, own["Y"], own["X"])
        elif (page := series[number]).is_final:
            part = _read_stored(key, page.dataoffsets[0], own["Y"], own["X"])
        else:
            part = _read_encoded(page, own["Y"], own["X"])
        values[index] = part.reshape(values.shape[before:])
    return values


def _read_stored(key: Any, start: int, rows: slice, columns: slice) -> np.ndarray:
    """Reads a window of a page that is stored as an array; see `_read_encoded`.

    Args:
        key: A page of the same layout.
        start: Its first byte in the file.
        rows: Of the window.
        columns: Of the window.
    """
    separate, _, height, width, together = key.shaped
    dtype = key.dtype.newbyteorder(key.parent.byteorder)
    row, count = width * together * dtype.itemsize, rows.stop - rows.start
    file, planes = key.parent.filehandle, []
    for sample in range(separate):
        file.seek(start + (sample * height + rows.start) * row)
        data = file.read(count * row)
        if len(data) < count * row:
            raise ValueError("the file is truncated")
        plane = np.frombuffer(data, dtype).reshape(count, width, together)
        planes.append(plane[:, columns])
    return np.stack(planes)


def _read_encoded(page: Any, rows: slice, columns: slice) -> np.ndarray:
    """Reads a window of a page.

    Args:
        page: The page; all its samples are read.
        rows: Of the window.
        columns: Of the window.

    Returns:
        [S, rows, columns, s] of S samples that are stored apart, or s that are stored together.
    """
    key = page.keyframe
    separate, _, height, width, together = key.shaped
    size = rows.stop - rows.start, columns.stop - columns.start
    values = np.empty((separate, *size, together), key.dtype)
    tall = key.tilelength if key.is_tiled else min(key.rowsperstrip, height)
    wide = key.tilewidth if key.is_tiled else width
    down, across = -(-height // tall), -(-width // wide)
    file = page.parent.filehandle
    tables: dict[str, Any] = {}
    if int(key.compression) in _JPEG:
        tables = {"jpegtables": page.jpegtables, "jpegheader": key.jpegheader}
    for sample, row, column in itertools.product(
        range(separate),
        range(rows.start // tall, -(-rows.stop // tall)),
        range(columns.start // wide, -(-columns.stop // wide)),
    ):
        number = (sample * down + row) * across + column
        count = page.databytecounts[number]
        file.seek(page.dataoffsets[number])
        data = file.read(count) if count else None
        part, _, shape = key.decode(data, number, **tables)
        own_y, there_y = _overlap(row * tall, min(shape[1], tall), rows)
        own_x, there_x = _overlap(column * wide, min(shape[2], wide), columns)
        values[sample, there_y, there_x] = key.nodata if part is None else part[0, own_y, own_x]
    return values


def _overlap(start: int, length: int, window: slice) -> tuple[slice, slice]:
    """Returns what a tile and a window share along an axis: places in the tile, in the window."""
    first, last = max(start, window.start), min(start + length, window.stop)
    return slice(first - start, last - start), slice(first - window.start, last - window.start)
