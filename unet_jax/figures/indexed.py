"""Class ids as indexed PNG files, which viewers show in the class colours."""

import io
import os
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from unet_jax.figures.colours import IGNORED, palette
from unet_jax.process.whole import write_whole


def save_indexed_png(path: str | os.PathLike[str], label: np.ndarray, num_classes: int) -> None:
    """Writes class ids as an indexed PNG, which viewers show in the class colours.

    Args:
        path: file to write; missing folders are made.
        label: uint8[H, W] class ids; they are the pixel values of the file. 255 is ignored.
        num_classes: K, from 1 to 256.

    Raises:
        ValueError: see `encode_indexed_png`.
    """
    target, data = Path(path), encode_indexed_png(label, num_classes)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_whole(target, data)


def encode_indexed_png(label: np.ndarray, num_classes: int) -> bytes:
    """Encodes class ids as an indexed PNG, which viewers show in the class colours.

    Args:
        label: uint8[H, W] class ids; they are the pixel values of the file. 255 is ignored.
        num_classes: K, from 1 to 256; the file's palette begins with `palette(K)`, the rest is
            grey.

    Returns:
        The bytes of the file.

    Raises:
        ValueError: if `label` is not uint8[H, W], has an id that is neither below K nor 255, or
            `num_classes` is outside 1..256.
    """
    _check_ids(label, num_classes)
    image, buffer = Image.fromarray(label), io.BytesIO()
    image.putpalette(_colours_of_ids(num_classes).tobytes())
    # A palette of 256 keeps 8 bits per pixel: of fewer, Pillow would cut larger values off.
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def write_indexed_png(
    stream: BinaryIO, size: tuple[int, int], rows: Iterable[np.ndarray], num_classes: int
) -> None:
    """Writes class ids as an indexed PNG, of which no more than some rows are in memory.

    Args:
        stream: Where to; see the standard's second edition (ISO/IEC 15948:2004), section 11.
        size: (height, width), each below 2^31.
        rows: uint8[h, W] of class ids, from the top down; see `encode_indexed_png`.
        num_classes: K, from 1 to 256.

    Raises:
        ValueError: see `encode_indexed_png`.
    """
    height, width = size
    stream.write(b"\x89PNG\r\n\x1a\n")
    # 8 bits of an index, no interlacing.
    _write_chunk(stream, b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0))
    _write_chunk(stream, b"PLTE", _colours_of_ids(num_classes).tobytes())
    packed = zlib.compressobj()
    for part in rows:
        _check_ids(part, num_classes)
        filtered = np.zeros(
            (len(part), width + 1), np.uint8
        )  # each row begins with its filter: none
        filtered[:, 1:] = part
        _write_chunk(stream, b"IDAT", packed.compress(filtered.tobytes()))
    _write_chunk(stream, b"IDAT", packed.flush())
    _write_chunk(stream, b"IEND", b"")


def _write_chunk(stream: BinaryIO, kind: bytes, data: bytes) -> None:
    stream.write(struct.pack(">I", len(data)) + kind + data)
    stream.write(struct.pack(">I", zlib.crc32(kind + data)))


def _check_ids(label: np.ndarray, num_classes: int) -> None:
    if label.dtype != np.uint8 or label.ndim != 2:
        raise ValueError(f"expected uint8[H, W], got {label.dtype}{list(label.shape)}")
    if np.any((label >= num_classes) & (label != IGNORED)):
        raise ValueError(f"the largest class id is {label.max()}, but num_classes is {num_classes}")


def _colours_of_ids(num_classes: int) -> np.ndarray:
    """Returns a whole palette uint8[256, 3]: that of K classes, and grey for ignored pixels."""
    colours = np.full((256, 3), 190, np.uint8)
    colours[:num_classes] = palette(num_classes)
    return colours
