"""Figures in few bytes."""

import io
from pathlib import Path

from PIL import Image

_QUALITIES = (85, 70, 50)
_SMALLER = 0.75


def encode_within(file: Path, most: int) -> tuple[str, bytes, tuple[int, int]]:
    """Encodes a figure in so many bytes, with less detail where it takes more.

    Args:
        file: PNG.
        most: Bytes.

    Returns:
        "png" with the file's own bytes where they are few enough, or else "webp" with others; and
        the width and height of the figure in the file, which those may have fewer pixels than.

    Raises:
        OSError: It is no image.
    """
    data = file.read_bytes()
    with Image.open(io.BytesIO(data)) as opened:
        size = opened.size
        if len(data) <= most:
            return "png", data, size
        image = opened.convert("RGB")
    while True:
        for quality in _QUALITIES:
            buffer = io.BytesIO()
            image.save(buffer, "WEBP", quality=quality, method=0)  # the fastest
            if buffer.tell() <= most:
                return "webp", buffer.getvalue(), size
        width, height = (max(1, round(side * _SMALLER)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BOX)
