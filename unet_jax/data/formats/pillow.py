"""Decoding and resizing by Pillow; `headers` knows what Pillow leaves out.

What is read lies as viewers show it: the EXIF orientation is applied, to images and to masks. A
file of several frames or pages is an error. The checksums of PNG files are verified, so that
damage is an error. The other formats have none: JPEG, BMP, WebP, TIFF and GIF files whose bits
changed may give other pixels without a word, unless what is left cannot be decoded at all. Masks
are best kept as PNG.
"""

import io
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, UnidentifiedImageError

from unet_jax import figures
from unet_jax.data import retry
from unet_jax.data.formats import headers
from unet_jax.data.formats.base import Header, Mask, Shape, as_ids, bands
from unet_jax.data.sample import Window
from unet_jax.errors import UserError
from unet_jax.process.whole import writing_whole

_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")
_HEADER_BYTES = 1 << 16
_SCALES = (2, 4, 8)  # at which libjpeg decodes, each one part of so many
# Other 16-bit and floating-point images would be cut to 8 bits without a word.
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
    AttributeError,
    ArithmeticError,
    MemoryError,
    RecursionError,
    struct.error,
    zlib.error,
)
# What makes a mask of each pixel format that is none.
_CURES = {
    **dict.fromkeys(
        ("RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB"), "Convert colours to ids first"
    ),
    **dict.fromkeys(("LA", "PA"), "Save it without transparency"),
}


class Pillow:
    """The formats that Pillow reads.

    Images of 8 bits and less become RGB. PNG files of 16 bits keep them, and their channels.
    """

    is_folder = False

    def mask_suffix(self, axes: int) -> str:
        """Returns that of the mask; see `Format`."""
        return ".png"

    def header(self, file: IO[bytes], name: str, axes: int | None) -> Header:
        """Reads the header; see `Format`."""
        start = file.read(_HEADER_BYTES)
        is_long_png = len(start) == _HEADER_BYTES and start.startswith(headers.PNG)
        exif = headers.png_exif(file) if is_long_png else None
        try:
            return read_header(start, name, exif)
        except UserError:
            if len(start) < _HEADER_BYTES:
                raise
        # A header may be longer, such as with a preview or a colour profile in it.
        file.seek(0)
        return read_header(file.read(), name)

    def read(
        self, file: IO[bytes], name: str, axes: int, window: Window | None = None
    ) -> np.ndarray:
        """Reads an image; see `Format`."""
        image = decode_image(file.read(), name)
        return image if window is None else image[window]

    def read_resized(self, file: IO[bytes], name: str, size: tuple[int, int]) -> np.ndarray:
        """Reads an image; a JPEG of twice a size or more at a reduced scale and of that size.

        Args:
            file: The open file, at its start.
            name: Its name.
            size: (height, width) that the image is to have.

        Returns:
            uint8 [*size, 3], see `decode_reduced`; any other image as `read` gives it.
        """
        data = file.read()
        reduced = decode_reduced(data, name, size) if data.startswith(headers.JPEG) else None
        return decode_image(data, name) if reduced is None else reduced

    def read_mask(self, file: IO[bytes], name: str, window: Window | None = None) -> Mask:
        """Reads a mask; see `Format`."""
        mask = decode_mask(file.read(), name)
        return mask if window is None else mask._replace(ids=mask.ids[window])

    def write_mask(self, file: Path, ids: np.ndarray, num_classes: int) -> None:
        """Writes a mask as an indexed PNG; see `Format`."""
        figures.save_indexed_png(file, ids, num_classes)

    def reads_windows(self, file: IO[bytes], name: str, axes: int) -> bool:
        """Returns False: files are decoded whole; see `Format`."""
        return False

    def write_windows(
        self, file: Path, read: Callable[[Window], np.ndarray], shape: Shape, num_classes: int
    ) -> None:
        """Writes a mask as an indexed PNG, row by row; see `Format`."""
        height, width = shape
        rows = (read(window) for window in bands(shape))
        with writing_whole(file) as stream:
            figures.write_indexed_png(stream, (height, width), rows, num_classes)


def _open(
    data: bytes,
    name: str,
    *,
    decoded: bool = True,
    unpack: str = "",
    scale: int = 1,
) -> Image.Image:
    """Opens an image.

    Args:
        data: The encoded image.
        name: Its file, for the error.
        decoded: Whether its pixels are decoded too.
        unpack: How Pillow takes the bytes of pixels, in its "raw mode"; "" for its own choice.
        scale: Of a JPEG 2, 4 or 8 to decode it with so many times fewer pixels along each axis.

    Returns:
        The image.
    """
    try:
        if decoded and data.startswith(headers.PNG):
            headers.verify_png(data)
        opened = Image.open(io.BytesIO(data), formats=_FORMATS)
        if decoded:
            _refuse_frames(opened, name)
            opened.info.pop("xmp", None)  # Pillow would turn TIFF files by it, viewers do not
            if unpack:
                opened.tile = [tile._replace(args=unpack) for tile in opened.tile]  # pyrefly: ignore
            if scale > 1:  # Pillow finds it by a size
                opened.draft(None, (opened.width // scale, opened.height // scale))
            opened.load()
    except _UNREADABLE as error:
        raise UserError(
            f"{name} cannot be read as an image ({_reason(error)}); replace it or take it out of "
            "the data."
        ) from None
    return opened


def _reason(error: Exception) -> str:
    """Says why Pillow cannot read a file; it knows the bytes alone, and names their buffer."""
    if isinstance(error, UnidentifiedImageError):
        return f"it is none of {', '.join(_FORMATS)}, or its start is damaged"
    return re.sub(r"<_io\.BytesIO[^>]*>", "it", retry.one_line(error))


def _refuse_frames(opened: Image.Image, name: str) -> None:
    # Cameras keep previews and the like behind the image of a JPEG file; no viewer shows them.
    frames = 1 if opened.format == "MPO" else getattr(opened, "n_frames", 1)
    if frames > 1:
        raise UserError(
            f"{name} holds {frames} frames or pages; it must hold one. Save each as a file of its "
            "own."
        )
    if opened.format == "GIF" and opened.tile[0][1] != (0, 0, *opened.size):  # pyrefly: ignore
        raise UserError(f"{name} holds a frame that covers only a part of it; save it whole.")


def _refuse_misread(opened: Image.Image, data: bytes, name: str) -> None:
    if found := headers.misread(opened, data):
        raise UserError(f"{name} is {found}, which cannot be read; save it as an 8-bit PNG.")


def _turned(opened: Image.Image, data: bytes) -> Image.Image:
    turn = headers.TURNS.get(headers.orientation_of(opened, headers.find_exif(opened, data)))
    return opened if turn is None else opened.transpose(turn)


def read_header(data: bytes, name: str, exif: bytes | None = None) -> Header:
    """Reads an image's header, without decoding.

    Args:
        data: The encoded image, or a first part that holds the header.
        name: Its file, for the error.
        exif: Its EXIF block where `data` may lack it; None to look for it there.

    Returns:
        Its header, with the pixels as viewers show them.

    Raises:
        UserError: It cannot be read.
    """
    opened = _open(data, name, decoded=False)
    block = headers.find_exif(opened, data) if exif is None else exif
    orientation = headers.orientation_of(opened, block)
    is_turned = orientation > 4
    shape = (opened.width, opened.height) if is_turned else (opened.height, opened.width)
    is_deep = opened.format == "PNG" and headers.bits_of(opened, data) == 16
    kind = (headers.png_channels(data), "uint16") if is_deep else (3, "uint8")
    return Header(shape, *kind, (1.0, 1.0), orientation)


def holds_grey(data: bytes, name: str) -> bool:
    """Tells whether an encoded image holds grey values alone, of which RGB is made.

    Args:
        data: The encoded image.
        name: Its file, for the error.

    Returns:
        Whether it does; an indexed image has colours, also where these are grey.

    Raises:
        UserError: It cannot be read.
    """
    return _open(data, name, decoded=False).mode in ("1", "L")


def decode_image(data: bytes, name: str) -> np.ndarray:
    """Decodes an image; grey and indexed ones become RGB, transparency is dropped.

    Args:
        data: The encoded image.
        name: Its file, for the error.

    Returns:
        uint8 [H, W, 3]; of a PNG file of 16 bits uint16 [H, W, C], with transparency where it has a
        channel of it.

    Raises:
        UserError: It cannot be read, has more bits per channel, or more than one frame.
    """
    opened = _open(data, name)
    bits = headers.bits_of(opened, data)
    if opened.format == "PNG" and bits == 16:
        return _decode_deep(opened, data, name)
    if opened.mode not in _IMAGE_MODES or bits > 8:
        raise UserError(
            f"{name} has pixel format {opened.mode!r}{f', {bits} bits' if bits > 8 else ''}; "
            "images must have 8 bits per channel, or be PNG or TIFF files. Convert it first."
        )
    _refuse_misread(opened, data, name)
    opened = _turned(opened, data)
    if opened.mode == "P":
        opened = opened.convert("RGBA")  # Pillow warns where a palette's transparency is dropped
    return np.asarray(_as_rgb(opened))


def _as_rgb(opened: Image.Image) -> Image.Image:
    # Pillow copies an image that is of the mode that is asked for.
    return opened if opened.mode == "RGB" else opened.convert("RGB")


def decode_reduced(data: bytes, name: str, size: tuple[int, int]) -> np.ndarray | None:
    """Decodes a JPEG at 1/2, 1/4 or 1/8 of its scale, and resizes it to a size.

    The smallest scale at which neither height nor width is below the size is the one taken. The
    last pixels of a reduced image may stand for fewer pixels of the whole one than the others do,
    so that resizing has to know where that one ends.

    Args:
        data: A JPEG.
        name: Its file, for the error.
        size: (height, width), as viewers show the image.

    Returns:
        uint8 [*size, 3], bilinear and antialiased; None where the image is less than twice that.

    Raises:
        UserError: It cannot be read.
    """
    header = _open(data, name, decoded=False)
    turn = headers.TURNS.get(headers.orientation_of(header, headers.find_exif(header, data)))
    target = size if turn in headers.SWAPS else size[::-1]  # (width, height) in the file
    most = min(whole // wanted for whole, wanted in zip(header.size, target, strict=True))
    if most < 2:
        return None
    scale = max(scale for scale in _SCALES if scale <= most)
    box = (0, 0, header.width / scale, header.height / scale)
    opened = _as_rgb(_open(data, name, scale=scale))
    image = opened.resize(target, Image.Resampling.BILINEAR, box)
    return np.asarray(image if turn is None else image.transpose(turn))


def _decode_deep(opened: Image.Image, data: bytes, name: str) -> np.ndarray:
    """Decodes a PNG file of 16 bits, of which Pillow keeps only the upper 8 in colours.

    It can be told to keep the lower ones in their place.
    """
    channels, upper = headers.png_channels(data), np.asarray(opened).astype(np.uint16)
    if channels == 1:
        values = upper[..., None]
    elif channels == 2:  # two numbers are four bytes
        values = np.asarray(_open(data, name, unpack="RGBA")).view(">u2").astype(np.uint16)
    else:
        lower = np.asarray(_open(data, name, unpack=f"{opened.mode};16L"))
        values = upper << 8 | lower
    return headers.turned(values, headers.orientation_in(headers.find_exif(opened, data)))


def decode_mask(data: bytes, name: str) -> Mask:
    """Decodes a mask of class ids; an indexed file gives its indices.

    Args:
        data: The encoded mask.
        name: Its file, for the error.

    Returns:
        The ids in the file, also where it has 1, 2 or 4 bits, and its palette.

    Raises:
        UserError: It cannot be read, has more than one channel or more than one frame, or its
            format changes pixels when it is saved, as JPEG does.
    """
    opened = _open(data, name)
    _refuse_lossy(opened, data, name)
    turned = _turned(opened, data)
    if opened.format == "WEBP" and _is_grey(turned):
        turned = turned.getchannel(0)  # WebP has no grey files
    if opened.format == "PNG" and turned.mode.startswith("I"):
        return Mask(as_ids(np.asarray(turned), name), None)
    if turned.mode not in ("1", "L", "P"):
        cure = _CURES.get(turned.mode, "Save it with 8 bits")
        raise UserError(
            f"{name} is a mask with pixel format {turned.mode!r}; a mask must have one 8-bit "
            f"channel that holds class ids (a grey or indexed PNG). {cure}."
        )
    _refuse_misread(opened, data, name)
    ids, bits = np.array(turned, np.uint8), headers.bits_of(opened, data)
    if turned.mode == "L" and bits < 8:
        ids //= 255 // (2**bits - 1)  # Pillow stretches them to 0..255
    return Mask(ids, _palette(opened))


def _is_grey(opened: Image.Image) -> bool:
    pixels = np.asarray(opened)
    return opened.mode == "RGB" and bool((pixels == pixels[..., :1]).all())


def _refuse_lossy(opened: Image.Image, data: bytes, name: str) -> None:
    if found := headers.loss(opened, data):
        raise UserError(
            f"{name} is a mask in {found}, which does not keep pixels as they were: some would get "
            "other classes. Make it again from the original as PNG."
        )
    if headers.is_inverted(opened):
        raise UserError(
            f"{name} is a mask in a TIFF file that counts from white to black, so that its numbers "
            "are not what viewers show; save it as PNG."
        )


def _palette(opened: Image.Image) -> np.ndarray | None:
    """Returns the colours of a file's indices; Pillow hides palettes of greys in order."""
    if opened.mode == "P":
        return np.array(opened.getpalette("RGB"), np.uint8).reshape(-1, 3)
    if opened.format in ("GIF", "BMP"):
        greys = np.array([0, 255]) if opened.mode == "1" else np.arange(256)
        return np.stack([greys.astype(np.uint8)] * 3, axis=-1)
    return None


def resize_rgb(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes an image uint8 [H, W, 3] to (height, width), bilinear and antialiased."""
    return np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR))


def resize_rows(values: np.ndarray, count: int) -> np.ndarray:
    """Resizes values float32 [n, m] to [count, m], linear and antialiased, along the first axis."""
    image = Image.fromarray(values).resize((values.shape[1], count), Image.Resampling.BILINEAR)
    return np.asarray(image)


def nearest(length: int, count: int) -> np.ndarray:
    """Returns which of `length` pixels is the nearest to each of `count` in their place."""
    image = Image.fromarray(np.arange(length, dtype=np.int32)[None])
    return np.asarray(image.resize((count, 1), Image.Resampling.NEAREST))[0]
