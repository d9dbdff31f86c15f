"""Arrays that `numpy.save` wrote: images and volumes of any channel count, and masks."""

import io
import math
import sys
import tokenize
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np

from unet_jax.data.formats.base import (
    Header,
    Mask,
    Shape,
    as_ids,
    as_image,
    bands,
    dtype_of,
    split_channels,
)
from unet_jax.data.retry import one_line
from unet_jax.data.sample import Window
from unet_jax.errors import UserError
from unet_jax.process.parsing import parse_alone
from unet_jax.process.whole import write_whole, writing_whole

# What NumPy raises for a header that is none; it parses one as Python.
_UNREADABLE = (
    *(AttributeError, EOFError, LookupError, MemoryError, OverflowError, RecursionError),
    *(SyntaxError, TypeError, ValueError, tokenize.TokenError),
)


def _parse(reader: Callable[[IO[bytes]], Any], file: IO[bytes]) -> Any:
    place = file.tell()

    def read() -> Any:
        file.seek(place)
        return reader(file)

    return parse_alone(read)


class Stored:
    """An array in a file, of which no number is read yet."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        """Reads the header; the file is then at its first number."""
        try:
            version = np.lib.format.read_magic(file)
            readers = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }
            self.shape, self.is_fortran, self.dtype = _parse(readers[version], file)
        except _UNREADABLE as error:
            raise UserError(
                f"{name} cannot be read as an npy file ({one_line(error)}); write it with "
                "numpy.save."
            ) from None
        if self.dtype.hasobject or min(self.shape, default=0) < 1:
            raise UserError(
                f"{name} holds an array of shape {self.shape} and type {self.dtype}; it must hold "
                "numbers, one or more."
            )
        self._file, self._name = file, name

    def read(self, window: Window | None) -> np.ndarray:
        """Reads the array, or the window of its first axes; what lies beside it is skipped."""
        if window is not None and not self.is_fortran:
            return self._read_rows(window)
        shape, row = self.shape, math.prod(self.shape[1:]) * self.dtype.itemsize
        data = self._file.read(min(shape[0] * row, sys.maxsize))
        if len(data) < shape[0] * row:
            raise UserError(f"{self._name} is truncated; replace it or take it out of the data.")
        flat, order = np.frombuffer(data, self.dtype), "F" if self.is_fortran else "C"
        array = flat.reshape(shape, order=order)
        return array if window is None else array[window]

    def _read_rows(self, window: Window) -> np.ndarray:
        """Reads a window alone, row by row of it."""
        inner = math.prod(self.shape[len(window) :]) * self.dtype.itemsize
        sizes = [part.stop - part.start for part in window]
        count, start, rows = sizes[-1] * inner, self._file.tell(), []
        for place in np.ndindex(*sizes[:-1]):
            number = 0
            for length, part, i in zip(self.shape, window, (*place, 0), strict=False):
                number = number * length + part.start + i
            self._file.seek(start + number * inner)
            rows.append(self._file.read(count))
        data = b"".join(rows)
        if len(data) < math.prod(sizes) * inner:
            raise UserError(f"{self._name} is truncated; replace it or take it out of the data.")
        return np.frombuffer(data, self.dtype).reshape((*sizes, *self.shape[len(window) :]))

    def header(self, axes: int | None) -> Header:
        """Returns the header; see `Format`."""
        if axes is None:
            return Header(self.shape, 1, self.dtype.name, (1.0,) * len(self.shape))
        shape, channels = split_channels(self.shape, axes, self._name)
        return Header(shape, channels, dtype_of(self.dtype, self._name), (1.0,) * axes)

    def image(self, axes: int, window: Window | None) -> np.ndarray:
        """Reads an image; see `Format`."""
        shape, channels = split_channels(self.shape, axes, self._name)
        dtype_of(self.dtype, self._name)  # before it is read
        array = self.read(window)
        return as_image(array.reshape(*array.shape[: len(shape)], channels), self._name)

    def mask(self, window: Window | None) -> Mask:
        """Reads a mask; see `Format`."""
        return Mask(as_ids(self.read(window), self._name), None)


class Npy:
    """The format of .npy files.

    An image is [*n, C], or [*n] of one channel; a mask is [*n]. Values are those of uint8, int8,
    uint16, int16 or floating-point numbers, which become float32.
    """

    is_folder = False

    def mask_suffix(self, axes: int) -> str:
        """Returns that of the mask; see `Format`."""
        return ".npy"

    def header(self, file: IO[bytes], name: str, axes: int | None) -> Header:
        """Reads the header; see `Format`."""
        return Stored(file, name).header(axes)

    def read(
        self, file: IO[bytes], name: str, axes: int, window: Window | None = None
    ) -> np.ndarray:
        """Reads an image; see `Format`."""
        return Stored(file, name).image(axes, window)

    def read_mask(self, file: IO[bytes], name: str, window: Window | None = None) -> Mask:
        """Reads a mask; see `Format`."""
        return Stored(file, name).mask(window)

    def write_mask(self, file: Path, ids: np.ndarray, num_classes: int) -> None:
        """Writes a mask; see `Format`."""
        buffer = io.BytesIO()
        np.save(buffer, ids)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, buffer.getvalue())

    def reads_windows(self, file: IO[bytes], name: str, axes: int) -> bool:
        """Tells whether the array lies row by row; see `Format`."""
        return not Stored(file, name).is_fortran

    def write_windows(
        self, file: Path, read: Callable[[Window], np.ndarray], shape: Shape, num_classes: int
    ) -> None:
        """Writes a mask row by row; see `Format`."""
        with writing_whole(file) as stream:
            write_array(stream, read, shape)


def write_array(stream: Any, read: Callable[[Window], np.ndarray], shape: Shape) -> None:
    """Writes what `numpy.save` would write of a mask uint8 [*n] that need not be in memory."""
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)
    for window in bands(shape):
        stream.write(read(window).tobytes())
