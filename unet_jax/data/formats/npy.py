"""Arrays that `numpy.save` wrote: images and volumes of any channel count, and masks."""

import io
import math
import sys
import tokenize
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np

from unet_jax.data.formats.base import Header, Mask, as_ids, as_image, dtype_of, split_channels
from unet_jax.data.retry import one_line
from unet_jax.data.sample import Window
from unet_jax.errors import UserError
from unet_jax.process.parsing import parse_alone
from unet_jax.process.whole import write_whole

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
        """Reads the array, or the window of its first axes; other rows of it are skipped."""
        shape, row = self.shape, math.prod(self.shape[1:]) * self.dtype.itemsize
        rows = slice(0, shape[0]) if window is None or self.is_fortran else window[0]
        count = rows.stop - rows.start
        self._file.seek(rows.start * row, io.SEEK_CUR)
        data = self._file.read(min(count * row, sys.maxsize))
        if len(data) < count * row:
            raise UserError(f"{self._name} is truncated; replace it or take it out of the data.")
        flat, order = np.frombuffer(data, self.dtype), "F" if self.is_fortran else "C"
        array = flat.reshape((count, *shape[1:]), order=order)
        if window is None:
            return array
        first = window[0] if self.is_fortran else slice(None)
        return array[(first, *window[1:])]

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
