"""Formats of image files: one object each, found by a file's suffix."""

from pathlib import PurePath
from typing import IO

import numpy as np

from unet_jax.data.formats.base import Format
from unet_jax.data.formats.npy import Npy
from unet_jax.data.formats.npz import Npz
from unet_jax.data.formats.ome_zarr import OmeZarr
from unet_jax.data.formats.pillow import Pillow
from unet_jax.data.formats.tiff import Tiff
from unet_jax.data.sample import Window

FORMATS: dict[str, Format] = {
    ".png": Pillow(),
    ".jpg": Pillow(),
    ".jpeg": Pillow(),
    ".jfif": Pillow(),
    ".bmp": Pillow(),
    ".gif": Pillow(),
    ".webp": Pillow(),
    ".tif": Tiff(),
    ".tiff": Tiff(),
    ".npy": Npy(),
    ".npz": Npz(),
    ".zarr": OmeZarr(),
}
"""By suffix in small letters. What Pillow reads it knows by the content, whatever the suffix."""
FOLDERS = frozenset(suffix for suffix, form in FORMATS.items() if form.is_folder)
"""Suffixes of images that are folders."""


def find_format(name: str) -> Format:
    """Returns the format of a file that has one of the suffixes of `FORMATS`."""
    return FORMATS[PurePath(name).suffix.lower()]


def read_image(
    file: IO[bytes],
    name: str,
    axes: int,
    window: Window | None = None,
    size: tuple[int, ...] | None = None,
) -> np.ndarray:
    """Reads an image by the format of its file's name.

    Args:
        file: The open file, at its start.
        name: Its name.
        axes: How many axes of pixels it has.
        window: The part to read; None for all.
        size: Without a window, what the image will be resized to, [*n]: a JPEG may come in that
            size, decoded at a reduced scale. None for the image as it is.

    Returns:
        [*n, C].

    Raises:
        UserError: It cannot be read.
    """
    form = find_format(name)
    if isinstance(form, Pillow) and window is None and size is not None and len(size) == 2:
        return form.read_resized(file, name, (size[0], size[1]))
    return form.read(file, name, axes, window)
