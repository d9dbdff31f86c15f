"""Decoding, resizing and encoding of images, by Pillow; `headers` knows what Pillow leaves out.

What is read lies as viewers show it: the EXIF orientation is applied, to images and to masks. A
file of several frames or pages is an error. The checksums of PNG files are verified, so that
damage is an error. The other formats have none: JPEG, BMP, WebP, TIFF and GIF files whose bits
changed may give other pixels without a word, unless what is left cannot be decoded at all. Masks
are best kept as PNG.
"""

import io
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from unet_jax.data import headers
from unet_jax.errors import UserError

_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")
# 16-bit and floating-point pictures would be cut to 8 bits without a word.
_IMAGE_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"}
_UNREADABLE = (
    UnidentifiedImageError,
    Image.DecompressionBombError,
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    TypeError,
    LookupError,
)
# What makes a mask of each pixel format that is none.
_CURES = {
    **dict.fromkeys(
        ("RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB"), "Convert colours to ids first"
    ),
    **dict.fromkeys(("LA", "PA"), "Save it without transparency"),
}


class Mask(NamedTuple):
    """A decoded mask.

    Attributes:
        ids: uint8 [H, W]; of an indexed file, the indices.
        palette: uint8 [n, 3], the colours of the first n indices; None where the file has none.
    """

    ids: np.ndarray
    palette: np.ndarray | None


def _open(data: bytes, name: str, *, decoded: bool = True) -> Image.Image:
    try:
        if decoded and data.startswith(headers.PNG):
            headers.verify_png(data)
        picture = Image.open(io.BytesIO(data), formats=_FORMATS)
        if decoded:
            _refuse_frames(picture, name)
            picture.info.pop("xmp", None)  # Pillow would turn TIFF files by it, viewers do not
            picture.load()
    except _UNREADABLE as error:
        raise UserError(
            f"{name} cannot be read as a picture ({error}); replace it or take it out of the data."
        ) from None
    return picture


def _refuse_frames(picture: Image.Image, name: str) -> None:
    # Cameras keep previews and the like behind the image of a JPEG file; no viewer shows them.
    frames = 1 if picture.format == "MPO" else getattr(picture, "n_frames", 1)
    if frames > 1:
        raise UserError(
            f"{name} holds {frames} frames or pages; it must hold one. Save each as a file of its "
            "own."
        )
    if picture.format == "GIF" and picture.tile[0][1] != (0, 0, *picture.size):  # pyrefly: ignore
        raise UserError(f"{name} holds a frame that covers only a part of it; save it whole.")


def _refuse_misread(picture: Image.Image, data: bytes, name: str) -> None:
    if found := headers.misread(picture, data):
        raise UserError(f"{name} is {found}, which cannot be read; save it as an 8-bit PNG.")


def _turned(picture: Image.Image, data: bytes) -> Image.Image:
    turn = headers.turn_of(picture, headers.find_exif(picture, data))
    return picture if turn is None else picture.transpose(turn)


def read_size(data: bytes, name: str, exif: bytes | None = None) -> tuple[int, int]:
    """Reads a picture's size from its header, without decoding.

    Args:
        data: The encoded picture, or a first part that holds the header.
        name: Its file, for the error.
        exif: Its EXIF block where `data` may lack it; None to look for it there.

    Returns:
        (height, width) as viewers show it.

    Raises:
        UserError: It cannot be read.
    """
    picture = _open(data, name, decoded=False)
    turn = headers.turn_of(picture, headers.find_exif(picture, data) if exif is None else exif)
    size = picture.height, picture.width
    return size[::-1] if turn in headers.SWAPPING else size


def decode_image(data: bytes, name: str) -> np.ndarray:
    """Decodes a picture; grey and indexed ones become RGB, transparency is dropped.

    Args:
        data: The encoded picture.
        name: Its file, for the error.

    Returns:
        uint8 [H, W, 3].

    Raises:
        UserError: It cannot be read, has more than 8 bits per channel, or more than one frame.
    """
    picture = _open(data, name)
    bits = headers.bits_of(picture, data)
    if picture.mode not in _IMAGE_MODES or bits > 8:
        raise UserError(
            f"{name} has pixel format {picture.mode!r}{f', {bits} bits' if bits > 8 else ''}; "
            "images must have 8 bits per channel. Convert it first."
        )
    _refuse_misread(picture, data, name)
    picture = _turned(picture, data)
    if picture.mode == "P":
        picture = picture.convert("RGBA")  # Pillow warns where a palette's transparency is dropped
    return np.asarray(picture.convert("RGB"))


def decode_mask(data: bytes, name: str) -> np.ndarray:
    """Decodes a mask of class ids; an indexed file gives its indices.

    Args:
        data: The encoded mask.
        name: Its file, for the error.

    Returns:
        uint8 [H, W]; the ids in the file, also where it has 1, 2 or 4 bits.

    Raises:
        UserError: It cannot be read, has more than one channel, more than 8 bits or more than one
            frame, or its format changes pixels when it is saved, as JPEG does.
    """
    return decode_mask_and_palette(data, name).ids


def decode_mask_and_palette(data: bytes, name: str) -> Mask:
    """Does what `decode_mask` does; returns the palette too."""
    picture = _open(data, name)
    _refuse_lossy(picture, data, name)
    turned = _turned(picture, data)
    if picture.format == "WEBP" and _is_grey(turned):
        turned = turned.getchannel(0)  # WebP has no grey files
    if turned.mode not in ("1", "L", "P"):
        cure = _CURES.get(turned.mode, "Save it with 8 bits")
        raise UserError(
            f"{name} is a mask with pixel format {turned.mode!r}; a mask must have one 8-bit "
            f"channel that holds class ids (a grey or indexed PNG). {cure}."
        )
    _refuse_misread(picture, data, name)
    ids, bits = np.array(turned, np.uint8), headers.bits_of(picture, data)
    if turned.mode == "L" and bits < 8:
        ids //= 255 // (2**bits - 1)  # Pillow stretches them to 0..255
    return Mask(ids, _palette(picture))


def _is_grey(picture: Image.Image) -> bool:
    pixels = np.asarray(picture)
    return picture.mode == "RGB" and bool((pixels == pixels[..., :1]).all())


def _refuse_lossy(picture: Image.Image, data: bytes, name: str) -> None:
    if found := headers.loss(picture, data):
        raise UserError(
            f"{name} is a mask in {found}, which does not keep pixels as they were: some would get "
            "other classes. Make it again from the original as PNG."
        )
    if headers.is_inverted(picture):
        raise UserError(
            f"{name} is a mask in a TIFF file that counts from white to black, so that its numbers "
            "are not what viewers show; save it as PNG."
        )


def _palette(picture: Image.Image) -> np.ndarray | None:
    """Returns the colours of a file's indices; Pillow hides palettes of greys in order."""
    if picture.mode == "P":
        return np.array(picture.getpalette("RGB"), np.uint8).reshape(-1, 3)
    if picture.format in ("GIF", "BMP"):
        greys = np.array([0, 255]) if picture.mode == "1" else np.arange(256)
        return np.stack([greys.astype(np.uint8)] * 3, axis=-1)
    return None


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
