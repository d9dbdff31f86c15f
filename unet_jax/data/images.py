"""The only file that knows picture formats: decoding, resizing and encoding, by Pillow."""

import io

import numpy as np
from PIL import Image, UnidentifiedImageError

from unet_jax.errors import UserError

# 16-bit and floating-point pictures would be cut to 8 bits without a word.
_IMAGE_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"}
_UNREADABLE = (
    UnidentifiedImageError,
    Image.DecompressionBombError,
    OSError,
    SyntaxError,
    ValueError,
)


def _open(data: bytes, name: str, *, decoded: bool = True) -> Image.Image:
    try:
        picture = Image.open(io.BytesIO(data))
        if decoded:
            picture.load()
    except _UNREADABLE as error:
        raise UserError(
            f"{name} cannot be read as a picture ({error}); replace it or take it out of the data."
        ) from None
    return picture


def read_size(data: bytes, name: str) -> tuple[int, int]:
    """Reads a picture's size from its header, without decoding.

    Args:
        data: The encoded picture, or a first part that holds the header.
        name: Its file, for the error.

    Returns:
        (height, width).

    Raises:
        UserError: It cannot be read.
    """
    picture = _open(data, name, decoded=False)
    return picture.height, picture.width


def decode_image(data: bytes, name: str) -> np.ndarray:
    """Decodes a picture; grey and indexed ones become RGB, transparency is dropped.

    Args:
        data: The encoded picture.
        name: Its file, for the error.

    Returns:
        uint8 [H, W, 3].

    Raises:
        UserError: It cannot be read, or has more than 8 bits per channel.
    """
    picture = _open(data, name)
    is_16_bit_png = data.startswith(b"\x89PNG") and data[24] == 16  # RGB for Pillow
    if picture.mode not in _IMAGE_MODES or is_16_bit_png:
        raise UserError(
            f"{name} has pixel format {picture.mode!r}{', 16 bits' if is_16_bit_png else ''}; "
            "pictures must have 8 bits per channel. Convert it first."
        )
    if picture.mode == "P":
        picture = picture.convert("RGBA")  # Pillow warns where a palette's transparency is dropped
    return np.asarray(picture.convert("RGB"))


def decode_mask(data: bytes, name: str) -> np.ndarray:
    """Decodes a mask of class ids; an indexed PNG gives its indices.

    Args:
        data: The encoded mask.
        name: Its file, for the error.

    Returns:
        uint8 [H, W].

    Raises:
        UserError: It cannot be read, or has more than one channel or more than 8 bits.
    """
    picture = _open(data, name)
    if picture.mode == "1":
        picture = picture.convert("L")
    if picture.mode not in ("L", "P"):
        raise UserError(
            f"{name} is a mask with pixel format {picture.mode!r}; a mask must have one 8-bit "
            "channel that holds class ids (a grey or indexed PNG). Convert colours to ids first."
        )
    return np.asarray(picture)


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes a picture to (height, width), bilinear and antialiased; uint8 [H, W, 3]."""
    if image.shape[:2] == size:
        return image
    picture = Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR)
    return np.asarray(picture)


def resize_label(label: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes a label to (height, width) by nearest neighbour; uint8 [H, W]."""
    if label.shape == size:
        return label
    return np.asarray(Image.fromarray(label).resize(size[::-1], Image.Resampling.NEAREST))
