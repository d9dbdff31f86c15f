"""What every format of image files has in common."""

from pathlib import Path
from typing import IO, NamedTuple, Protocol

import numpy as np

from unet_jax.data.sample import Spec, Window, make_spec


class Header(NamedTuple):
    """What a file says of its image before its pixels are decoded.

    Attributes:
        shape: Pixels [*n] along each axis, as viewers show them.
        channels: C; 1 of a mask.
        dtype: Name of the type of the values.
        spacing: Lengths of a pixel's sides, one for each axis; 1 where the file does not tell.
        is_turned: Whether the file holds its pixels turned by 90 degrees.
    """

    shape: tuple[int, ...]
    channels: int
    dtype: str
    spacing: tuple[float, ...]
    is_turned: bool = False

    def spec(self) -> Spec:
        """Returns the spec of images such as this one."""
        return make_spec(len(self.shape), self.channels, self.dtype)


class Mask(NamedTuple):
    """A decoded mask.

    Attributes:
        ids: uint8 [*n]; of an indexed file, the indices.
        palette: uint8 [n, 3], the colours of the first n indices; None where the file has none.
    """

    ids: np.ndarray
    palette: np.ndarray | None


class Format(Protocol):
    """A kind of image files.

    Every method that reads takes an open binary file, at its start, and the file's name for errors,
    and raises a `UserError` that names it where it cannot be read.

    Attributes:
        mask_suffix: Of the file that holds the mask predicted for an image of this format.
    """

    mask_suffix: str

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
