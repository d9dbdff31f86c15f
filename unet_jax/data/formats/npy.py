"""Arrays that `numpy.save` wrote: images and volumes of any channel count, and masks."""

import io
import math
import sys
import tokenize
from pathlib import Path
from typing import IO, Any

import numpy as np

from unet_jax.data.formats.base import Header, Mask
from unet_jax.data.retry import one_line
from unet_jax.data.sample import Window
from unet_jax.errors import UserError
from unet_jax.process.whole import write_whole

# What values of an image become in memory, by the type that the file has.
_TYPES = {
    **{name: name for name in ("uint8", "int8", "uint16", "int16", "float32")},
    "float16": "float32",
    "float64": "float32",
}


# What NumPy raises for a header that is none; it parses one as Python.
_UNREADABLE = (
    *(AttributeError, EOFError, LookupError, MemoryError, OverflowError, RecursionError),
    *(SyntaxError, TypeError, ValueError, tokenize.TokenError),
)


class _Stored:
    """An array in a file, of which no number is read yet."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        """Reads the header; the file is then at its first number."""
        try:
            version = np.lib.format.read_magic(file)
            readers = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }
            self.shape, self.is_fortran, self.dtype = readers[version](file)
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


class Npy:
    """The format of .npy files.

    An image is [*n, C], or [*n] of one channel; a mask is [*n]. Values are those of uint8, int8,
    uint16, int16 or floating-point numbers, which become float32.
    """

    mask_suffix = ".npy"

    def header(self, file: IO[bytes], name: str, axes: int | None) -> Header:
        """Reads the header; see `Format`."""
        stored = _Stored(file, name)
        if axes is None:
            return Header(stored.shape, 1, stored.dtype.name, (1.0,) * len(stored.shape))
        shape, channels = _split(stored.shape, axes, name)
        return Header(shape, channels, _type(stored.dtype, name), (1.0,) * axes)

    def read(
        self, file: IO[bytes], name: str, axes: int, window: Window | None = None
    ) -> np.ndarray:
        """Reads an image; see `Format`."""
        stored = _Stored(file, name)
        shape, channels = _split(stored.shape, axes, name)
        dtype = _type(stored.dtype, name)
        array = stored.read(window)
        image = array.reshape(*array.shape[: len(shape)], channels).astype(dtype)
        if image.dtype.kind == "f" and not np.isfinite(image).all():
            raise UserError(f"{name} holds values that are NaN or infinite; replace them.")
        return image

    def read_mask(self, file: IO[bytes], name: str, window: Window | None = None) -> Mask:
        """Reads a mask; see `Format`."""
        stored = _Stored(file, name)
        if stored.dtype.kind not in "iub":
            raise UserError(
                f"{name} is a mask of type {stored.dtype}; it must hold class ids, integers."
            )
        ids = stored.read(window)
        if ids.min() < 0 or ids.max() > 255:
            raise UserError(
                f"{name} is a mask with values from {ids.min()} to {ids.max()}; class ids are 0 to "
                "255."
            )
        return Mask(ids.astype(np.uint8), None)

    def write_mask(self, file: Path, ids: np.ndarray, num_classes: int) -> None:
        """Writes a mask; see `Format`."""
        buffer = io.BytesIO()
        np.save(buffer, ids)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, buffer.getvalue())


def _split(shape: tuple[int, ...], axes: int, name: str) -> tuple[tuple[int, ...], int]:
    """Splits an array's shape into pixels [*n] and channels."""
    if len(shape) == axes:
        return shape, 1
    if len(shape) == axes + 1:
        return shape[:-1], shape[-1]
    sizes = ", ".join("DHW"[-axes:])
    raise UserError(
        f"{name} holds an array of shape {shape}; expected an image of {axes} axes, [{sizes}] or "
        f"[{sizes}, C]."
    )


def _type(dtype: np.dtype[Any], name: str) -> str:
    if dtype.name not in _TYPES:
        raise UserError(
            f"{name} holds values of type {dtype.name}; allowed are {', '.join(_TYPES)}. Convert "
            "it."
        )
    return _TYPES[dtype.name]
