"""Text and images on a page; with the other files here the only home of matplotlib."""

import dataclasses
import functools
import io
import math
import os
from typing import Any

import numpy as np

from unet_jax.figures.colours import save_png

INK, MUTED, RULE = "#1b1b1f", "#60606b", "#d9d9df"
DPI = 100


def new_figure(width: float, height: float) -> Any:
    """An empty white figure of `width` x `height` pixels with an Agg canvas."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def render(figure: Any) -> np.ndarray:
    """Renders a figure to u8[H,W,3]."""
    figure.canvas.draw()
    return np.array(figure.canvas.buffer_rgba())[..., :3]


def to_svg(figure: Any) -> str:
    """Writes a figure as SVG, text as outlines; the same figure gives the same text.

    It sets rcParams meanwhile, so it is not for threads beside others that draw.
    """
    from matplotlib import rc_context

    buffer = io.StringIO()
    with rc_context({"svg.hashsalt": "unet_jax", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return "\n".join(line.strip() for line in buffer.getvalue().splitlines())


@functools.lru_cache(1024)  # each name comes on every page
def plain(text: str, limit: int = 0) -> str:
    """Makes any text drawable: no control characters, none that the font lacks (matplotlib warns).

    With `limit`, longer text is cut to so many characters, the last one an ellipsis.
    """
    from matplotlib.font_manager import FontProperties, findfont, get_font

    fonts = [get_font(findfont(FontProperties(weight=weight))) for weight in ("normal", "bold")]
    drawn = "".join(
        " " if ord(c) < 32 else c if all(f.get_char_index(ord(c)) for f in fonts) else "?"
        for c in text
    )
    return drawn[: limit - 1] + "…" if limit and len(drawn) > limit else drawn


@functools.lru_cache(1024)
def text_width(text: str, size: float, weight: str = "normal") -> float:
    """Width in pixels of `text` as drawn on a figure."""
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.font_manager import FontProperties

    font = FontProperties(size=size, weight=weight)
    return RendererAgg(1, 1, DPI).get_text_width_height_descent(text, font, False)[0]


@dataclasses.dataclass
class Page:
    """Text and images at exact pixel positions: matplotlib sets the text, tiles are copied."""

    texts: list[tuple[float, float, str, dict[str, Any]]] = dataclasses.field(default_factory=list)
    tiles: list[tuple[int, int, np.ndarray]] = dataclasses.field(default_factory=list)

    def text(
        self, x: float, y: float, text: str, size: float = 9, room: float = math.inf, **style: Any
    ) -> float:
        """Adds text with its baseline at `y`, cut to `room` pixels; returns where it ends."""
        text, weight = plain(text), style.get("weight", "normal")
        if (width := text_width(text, size, weight)) > room:
            text = text[: math.ceil(len(text) * room / width) + 8]
        while text and text_width(text, size, weight) > room:
            text = text[:-2].rstrip() + "…" if len(text) > 2 else ""
        self.texts.append((x, y, text, {"size": size, "color": INK, **style}))
        return x + text_width(text, size, weight)

    def save(self, path: str | os.PathLike[str], width: int, height: int) -> None:
        """Draws the texts, copies the tiles over them, and writes a PNG of that size."""
        save_png(path, self.draw(width, height))

    def draw(self, width: int, height: int) -> np.ndarray:
        """Draws the texts and copies the tiles over them: u8[height,width,3]."""
        figure = new_figure(width, height)
        for x, y, text, style in self.texts:
            # Names are not formulas: "$" must not start one.
            figure.text(x / width, 1 - y / height, text, parse_math=False, **style)
        pixels = render(figure)
        for x, y, tile in self.tiles:
            pixels[y : y + tile.shape[0], x : x + tile.shape[1]] = tile
        return pixels
