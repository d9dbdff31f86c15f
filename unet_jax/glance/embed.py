"""Figures in a page: as they are where they are small, else in fewer bytes."""

import base64
import io
from pathlib import Path

from PIL import Image

from unet_jax.html.elements import Html, make

MOST = 240_000  # bytes of a figure in a page
_QUALITIES = (85, 70, 50)
_SMALLER = 0.75
_READABLE = 0.72  # of its width that a wide figure keeps, where its text can still be read


def embed(file: Path, about: str) -> Html:
    """Makes the element of a figure, which can be moved sideways where there is little room.

    Args:
        file: PNG.
        about: What it shows, for who does not see it.

    Returns:
        The element.
    """
    with Image.open(file) as opened:
        width, height = opened.size
        kind, data = _encode(file.read_bytes(), opened)
    url = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    size = {"width": str(width), "height": str(height)}
    style = f"min-width:{round(width * _READABLE)}px;max-width:{width}px"
    image = make("img", src=url, alt=about, style=style, **size)
    return make("div", image, kind="wide", tabindex="0")


def _encode(data: bytes, opened: Image.Image) -> tuple[str, bytes]:
    """Returns what an image is, and its bytes: at most `MOST`."""
    if len(data) <= MOST:
        return "png", data
    image = opened.convert("RGB")
    while True:
        for quality in _QUALITIES:
            buffer = io.BytesIO()
            image.save(buffer, "WEBP", quality=quality, method=0)  # the fastest
            if buffer.tell() <= MOST:
                return "webp", buffer.getvalue()
        size = round(image.width * _SMALLER), round(image.height * _SMALLER)
        image = image.resize((max(1, size[0]), max(1, size[1])), Image.Resampling.BOX)
