"""What encoded images say of themselves and Pillow leaves unchecked, drops or misreads."""

import io
import struct
import zlib
from collections.abc import Iterator
from typing import IO, Any

import numpy as np
from PIL import Image

PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLE_FORMAT, _ORIENTATION = 258, 262, 339, 274  # TIFF tags
_LOSSY_TIFF = ("jpeg", "tiff_jpeg", "webp", "tiff_sgilog", "tiff_sgilog24")
_SHORT = 3  # the type of a number of 16 bits in EXIF
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SWAPS = frozenset(TURNS[orientation] for orientation in (5, 6, 7, 8))
"""Those by which height and width change places."""
# The same for arrays: whether height and width change places, then which of them is reversed.
_ARRAY_TURNS = {
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}


def verify_png(data: bytes) -> None:
    """Checks the checksum of every chunk, which Pillow does not for those of the pixels.

    Args:
        data: A whole PNG file.

    Raises:
        ValueError: A checksum is wrong, or the file ends before its last chunk.
    """
    view, start, kind = memoryview(data), len(PNG), b""
    while kind != b"IEND":
        if start + 12 > len(data):
            raise ValueError("the file is truncated")
        length = int.from_bytes(view[start : start + 4])
        kind, stop = bytes(view[start + 4 : start + 8]), start + 8 + length
        if zlib.crc32(view[start + 4 : stop]) != int.from_bytes(view[stop : stop + 4]):
            raise ValueError(f"the checksum of its part {kind!r} at byte {start} is wrong")
        start = stop + 4


def png_channels(data: bytes) -> int:
    """Returns how many channels a PNG file has, by the type of colours in its header."""
    return {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[data[25]]


def png_exif(stream: IO[bytes]) -> bytes:
    """Finds the EXIF block of a PNG file, which may lie behind the pixels.

    Args:
        stream: The file; pixels are skipped and not read.

    Returns:
        The block; nothing where there is none.
    """
    stream.seek(len(PNG))
    exif = b""
    while len(head := stream.read(8)) == 8 and head[4:] != b"IEND":
        length = int.from_bytes(head[:4])
        if head[4:] == b"eXIf":
            exif = stream.read(length)
            length = 0
        stream.seek(length + 4, io.SEEK_CUR)
    return exif


def find_exif(opened: Image.Image, data: bytes) -> bytes:
    """Returns an opened image's EXIF block; nothing where there is none.

    The orientation that XMP or a text in a PNG file may name does not count, as in viewers.
    """
    return png_exif(io.BytesIO(data)) if opened.format == "PNG" else opened.info.get("exif", b"")


def orientation_of(opened: Image.Image, exif: bytes) -> int:
    """Tells how an image's pixels, as Pillow gives them, lie for a viewer.

    Args:
        opened: The opened image; Pillow turns TIFF files by itself.
        exif: Its EXIF block.

    Returns:
        1 to 8, as the EXIF standard numbers them; 1 where there is nothing to turn.
    """
    found = 1 if opened.format == "TIFF" else orientation_in(exif)
    return found if found in TURNS else 1


def turned(pixels: np.ndarray, orientation: int, axis: int = 0) -> np.ndarray:
    """Turns pixels so that they lie as viewers show them.

    Args:
        pixels: An array.
        orientation: 1 to 8, as the EXIF standard numbers them.
        axis: That of the height; the next one is that of the width.

    Returns:
        The pixels, in the same memory.
    """
    swaps, up, left = _ARRAY_TURNS.get(orientation, (False, False, False))
    if swaps:
        pixels = pixels.swapaxes(axis, axis + 1)
    reversed_axes = tuple(axis + i for i, is_so in enumerate((up, left)) if is_so)
    return np.flip(pixels, reversed_axes)


def orientation_in(exif: bytes) -> int:
    """Reads how an image lies, without Pillow's warnings of other numbers.

    Args:
        exif: Its EXIF block.

    Returns:
        1 to 8, as the EXIF standard numbers them; 1 where the block does not tell.
    """
    block = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(block[:2], "")
    try:
        (start,) = struct.unpack_from(f"{order}I", block, 4)
        (count,) = struct.unpack_from(f"{order}H", block, start)
        for place in range(start + 2, start + 2 + 12 * count, 12):
            tag = struct.unpack_from(f"{order}HHIH", block, place)
            if order and tag[:3] == (_ORIENTATION, _SHORT, 1):
                return tag[3]
    except struct.error:
        pass  # viewers do not turn an image whose EXIF is damaged
    return 1


def bits_of(opened: Image.Image, data: bytes) -> int:
    """Returns how many bits a channel of an opened image has in its file."""
    if opened.format == "PNG":
        return data[24]
    if opened.format == "BMP":
        place = 24 if int.from_bytes(data[14:18], "little") == 12 else 28
        return min(8, int.from_bytes(data[place : place + 2], "little"))  # more is of many channels
    return max(_tag(opened, _BITS_PER_SAMPLE, (1,))) if opened.format == "TIFF" else 8


def misread(opened: Image.Image, data: bytes) -> str:
    """Tells what Pillow would read wrongly.

    Args:
        opened: The opened image.
        data: Its file.

    Returns:
        What it is; nothing where all is well.
    """
    bits = bits_of(opened, data)
    if opened.format == "BMP" and bits != {"1": 1, "L": 8}.get(opened.mode, bits):
        return f"a BMP file of {bits} bits with a palette of greys"
    if opened.format == "TIFF" and 2 in _tag(opened, _SAMPLE_FORMAT, ()):
        return "a TIFF file of signed numbers"
    return ""


def loss(opened: Image.Image, data: bytes) -> str:
    """Tells what kind of lossy file an opened image is; nothing where its pixels are exact."""
    if opened.format in ("JPEG", "MPO"):
        return "a JPEG file"
    if opened.format == "WEBP" and b"VP8 " in dict(_riff_chunks(data)):
        return "a lossy WebP file"
    compression = opened.info.get("compression") if opened.format == "TIFF" else ""
    return f"a TIFF file with {compression} compression" if compression in _LOSSY_TIFF else ""


def is_inverted(opened: Image.Image) -> bool:
    """Tells whether an opened image's samples are not the values that Pillow makes of them."""
    return opened.format == "TIFF" and _tag(opened, _PHOTOMETRIC, 1) == 0


def _tag(opened: Image.Image, number: int, default: Any) -> Any:
    return opened.tag_v2.get(number, default)  # pyrefly: ignore[missing-attribute]


def _riff_chunks(data: bytes) -> Iterator[tuple[bytes, int]]:
    """Yields kind and start of the chunks of a WebP file."""
    start = 12
    while start + 8 <= len(data):
        yield data[start : start + 4], start
        length = int.from_bytes(data[start + 4 : start + 8], "little")
        start += 8 + length + length % 2
