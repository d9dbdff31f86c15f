"""What every format of image files has in common."""

import errno
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol

import numpy as np

from unet_jax.data.sample import Spec, Window, make_spec, written
from unet_jax.errors import UserError

# What values of an image become in memory, by the type that the file has.
DTYPES = {
    **{name: name for name in ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32")},
    "float16": "float32",
    "float64": "float32",
}
MOST_VALUE = 2**16 - 1
"""The largest value of a mask; numbers of objects may be larger, and count as this one."""

Shape = tuple[int, ...]

_BAND = 2**24  # bytes of a mask that are written at once
_ALWAYS_READ = 2**30  # bytes of pixels, whatever the file has; Pillow decodes no more
_MOST_RATIO = 200  # of bytes of pixels to those of the file, above that


class NotFiniteError(UserError):
    """An image has values that are NaN or infinite."""


class Header(NamedTuple):
    """What a file says of its image before its pixels are decoded.

    Attributes:
        shape: Pixels [*n] along each axis, as viewers show them.
        channels: C; 1 of a mask.
        dtype: Name of the type of the values.
        spacing: Lengths of a pixel's sides, one for each axis; 1 where the file does not tell.
        orientation: How the file holds its pixels, as the EXIF standard numbers it; 1 as shown.
    """

    shape: tuple[int, ...]
    channels: int
    dtype: str
    spacing: tuple[float, ...]
    orientation: int = 1

    @property
    def is_turned(self) -> bool:
        """Whether the file holds its pixels turned by 90 degrees."""
        return self.orientation > 4

    def spec(self) -> Spec:
        """Returns the spec of images such as this one."""
        return make_spec(len(self.shape), self.channels, self.dtype)


class Mask(NamedTuple):
    """A decoded mask.

    Attributes:
        ids: uint8 or uint16 [*n]; of an indexed file, the indices.
        palette: uint8 [n, 3], the colours of the first n indices; None where the file has none.
    """

    ids: np.ndarray
    palette: np.ndarray | None


class Format(Protocol):
    """A kind of image files.

    Every method that reads takes an open binary file, at its start, and the file's name for errors,
    and raises a `UserError` that names it where it cannot be read.

    Attributes:
        is_folder: Whether an image is a folder; methods then take an empty file, and read the
            folder by its name.
    """

    is_folder: bool

    def mask_suffix(self, axes: int) -> str:
        """Returns that of the file that holds the mask predicted for an image of so many axes."""
        ...

    def header(self, file: IO[bytes], name: str, axes: int | None) -> Header:
        """Reads what the file says of its image.

        Args:
            file: The open file.
            name: Its name.
            axes: How many axes of pixels an image has, since some formats do not tell; None for a
                mask, whose axes are all of pixels.

        Returns:
            Its header.
        """
        ...

    def read(
        self, file: IO[bytes], name: str, axes: int, window: Window | None = None
    ) -> np.ndarray:
        """Reads an image, or the window of it: [*n, C]."""
        ...

    def read_mask(self, file: IO[bytes], name: str, window: Window | None = None) -> Mask:
        """Reads a mask, or the window of it."""
        ...

    def write_mask(self, file: Path, ids: np.ndarray, num_classes: int) -> None:
        """Writes a mask uint8 [*n] of class ids below a number, whole or not at all."""
        ...

    def reads_windows(self, file: IO[bytes], name: str, axes: int) -> bool:
        """Tells whether a window of an image is read without decoding the rest."""
        ...

    def write_windows(
        self, file: Path, read: Callable[[Window], np.ndarray], shape: Shape, num_classes: int
    ) -> None:
        """Writes a mask that need not be in memory, whole or not at all.

        Args:
            file: The file.
            read: Reads a window of the mask, uint8 of class ids.
            shape: [*n].
            num_classes: K; ids are below it.
        """
        ...


def bands(shape: Shape, rows: int = 1, most: int = _BAND) -> Iterator[Window]:
    """Yields windows of a mask whose pixels, one after the other, are all of it in order.

    Args:
        shape: [*n].
        rows: Of how many rows windows are whole multiples, but for the last of a plane.
        most: Pixels of a window, where so many rows are not more.

    Yields:
        Whole rows of one plane each, the last two axes.
    """
    *before, height, width = shape
    count = max(rows, most // max(1, width) // rows * rows)
    for place in np.ndindex(*before):
        first = tuple(slice(i, i + 1) for i in place)
        for row in range(0, height, count):
            yield (*first, slice(row, min(row + count, height)), slice(0, width))


def dtype_of(dtype: np.dtype[Any], name: str) -> str:
    """Returns the type that an image's values have in memory.

    Args:
        dtype: The type in the file.
        name: The file, for the error.

    Returns:
        The name of the type; one of `DTYPES`.

    Raises:
        UserError: Values of this type are not read.
    """
    if dtype.name not in DTYPES:
        raise UserError(
            f"{name} holds values of type {dtype.name}; allowed are {', '.join(DTYPES)}. Convert "
            "it."
        )
    return DTYPES[dtype.name]


def as_image(values: np.ndarray, name: str) -> np.ndarray:
    """Makes an image of decoded values.

    Args:
        values: [*n, C], as the file has them.
        name: The file, for errors.

    Returns:
        The same values in a type of `DTYPES`, in the machine's byte order.

    Raises:
        UserError: Their type is not read, or some are not finite.
    """
    dtype = dtype_of(values.dtype, name)
    with np.errstate(over="ignore"):
        image = values.astype(dtype, order="C")
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        count = image.size - np.count_nonzero(np.isfinite(image))
        raise NotFiniteError(f"{name} holds {count} values that are NaN or infinite; replace them.")
    return image


def as_ids(values: np.ndarray, name: str) -> np.ndarray:
    """Makes the values of a mask, class ids or numbers of objects, of what is decoded.

    Args:
        values: Integers or booleans [*n].
        name: The file, for errors.

    Returns:
        uint8 [*n], or uint16 where there are larger ones; all above `MOST_VALUE` become it.

    Raises:
        UserError: They are no integers, or some are negative.
    """
    if values.dtype.kind not in "iub":
        raise UserError(
            f"{name} is a mask of type {values.dtype}; it must hold class ids, integers."
        )
    if values.min() < 0:
        raise UserError(
            f"{name} is a mask with values from {values.min()} to {values.max()}; none may be "
            "negative."
        )
    if values.max() <= np.iinfo(np.uint8).max:
        return values.astype(np.uint8)
    return values.clip(max=MOST_VALUE).astype(np.uint16)


def split_channels(shape: Sequence[int], axes: int, name: str) -> tuple[tuple[int, ...], int]:
    """Splits the shape of an array without names of its axes into pixels and channels.

    Args:
        shape: [*n] or [*n, C].
        axes: Of pixels.
        name: The file, for the error.

    Returns:
        [*n], and C.

    Raises:
        UserError: There are more or fewer axes.
    """
    if len(shape) == axes:
        return tuple(shape), 1
    if len(shape) == axes + 1:
        return tuple(shape[:-1]), shape[-1]
    sizes = ", ".join("DHW"[-axes:])
    raise UserError(
        f"{name} holds an array of shape {tuple(shape)}; expected an image of {axes} axes, "
        f"[{sizes}] or [{sizes}, C]."
    )


def check_claim(shape: Sequence[int], itemsize: int, stored: int, name: str) -> None:
    """Checks that what a file claims to hold can be in it, before memory is taken for it.

    Args:
        shape: Of the array to decode.
        itemsize: Bytes of a value.
        stored: Bytes of the file, or of the part of it that holds the array.
        name: The file, for the error.

    Raises:
        UserError: It claims far more than compression makes of images: a decompression bomb.
    """
    claimed = math.prod(shape) * itemsize
    if claimed > max(_ALWAYS_READ, _MOST_RATIO * stored):
        raise UserError(
            f"{name} claims to hold {written(shape)} values, {claimed / 2**20:,.0f} MiB, in "
            f"{stored / 2**20:,.1f} MiB; such a file is not read. Replace it or take it out of the "
            "data."
        )


def may_pass(error: BaseException) -> bool:
    """Tells whether what reads failed for a moment, and not because of what a file holds."""
    # Damage makes readers seek to places that no file has, which is the invalid argument.
    return isinstance(error, OSError) and error.errno not in (None, errno.EINVAL)
