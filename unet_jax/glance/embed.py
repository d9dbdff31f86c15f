"""Figures in a page: as they are where they are small, else in fewer bytes."""

import base64
from pathlib import Path

from unet_jax.figures.encode import encode_within
from unet_jax.html.elements import Html, make

MOST = 240_000  # bytes of a figure in a page
_READABLE = 0.72  # of its width that a wide figure keeps, where its text can still be read


def embed(file: Path, about: str) -> Html:
    """Makes the element of a figure, which can be moved sideways where there is little room.

    Args:
        file: PNG.
        about: What it shows, for who does not see it.

    Returns:
        The element.
    """
    kind, data, (width, height) = encode_within(file, MOST)
    url = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    size = {"width": str(width), "height": str(height)}
    style = f"min-width:{round(width * _READABLE)}px;max-width:{width}px"
    image = make("img", src=url, alt=about, style=style, **size)
    return make("div", image, kind="wide", tabindex="0")
