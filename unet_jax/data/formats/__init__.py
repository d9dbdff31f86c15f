"""Formats of image files: one object each, found by a file's suffix."""

import os.path

from unet_jax.data.formats.base import Format
from unet_jax.data.formats.npy import Npy
from unet_jax.data.formats.npz import Npz
from unet_jax.data.formats.ome_zarr import OmeZarr
from unet_jax.data.formats.pillow import Pillow
from unet_jax.data.formats.tiff import Tiff

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
    return FORMATS[os.path.splitext(name)[1].lower()]  # in a fifth of pathlib's time
