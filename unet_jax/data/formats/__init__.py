"""Formats of image files: one object each, found by a file's suffix."""

from pathlib import PurePath

from unet_jax.data.formats.base import Format
from unet_jax.data.formats.npy import Npy
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
}
"""By suffix in small letters. What Pillow reads it knows by the content, whatever the suffix."""


def find_format(name: str) -> Format:
    """Returns the format of a file that has one of the suffixes of `FORMATS`."""
    return FORMATS[PurePath(name).suffix.lower()]
