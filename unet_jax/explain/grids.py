"""Grids of numbers and arrows on a page measured in pixels."""

import functools
from typing import Any, NamedTuple

import numpy as np

from unet_jax.figures.canvas import INK, MUTED, new_figure, plain, text_width

TIMES, MINUS = "\u00d7", "\u2212"
_BOLD: dict[str, Any] = {"edgecolor": INK, "linewidth": 2.6}


class Grid(NamedTuple):
    """Numbers in cells.

    Attributes:
        heading: One line above it.
        values: [rows, columns]; NaN is an empty cell.
        colour: Of the cells, as "#rrggbb".
        marked: bool of the same shape: cells in full colour and bold.
        frame: Bold frame around rows top to bottom and columns left to right, as (top, left,
            bottom, right), the last two exclusive.
        hatched: bool of the same shape: cells in grey with stripes.
        boxed: bool of the same shape: cells with a bold frame of their own.
    """

    heading: str
    values: np.ndarray
    colour: str
    marked: np.ndarray | None = None
    frame: tuple[int, int, int, int] | None = None
    hatched: np.ndarray | None = None
    boxed: np.ndarray | None = None


@functools.lru_cache(maxsize=4096)
def measure(text: str, size: float, weight: str = "normal") -> float:
    """Returns the width of text in pixels."""
    return text_width(text, size, weight)


def number(value: float) -> str:
    """Writes a number as in a cell: at most four digits, a true minus, nothing for NaN."""
    if np.isnan(value):
        return ""
    return f"{value:.4g}".replace("inf", "∞").replace("-", MINUS)


def wrap(text: str, size: float, width: float) -> list[str]:
    """Breaks text into lines of at most `width` pixels."""
    lines = []
    for paragraph in text.split("\n"):
        line = ""
        for word in plain(paragraph).split(" "):
            longer = f"{line} {word}" if line else word
            if line and measure(longer, size) > width:
                lines.append(line)
                longer = word
            line = longer
        lines.append(line)
    return lines


class Canvas:
    """A page in pixels, y downwards."""

    def __init__(self, width: float, height: float) -> None:
        """Makes an empty white page."""
        self.figure = new_figure(width, height)
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set_xlim(0, width)
        self.axes.set_ylim(height, 0)
        self.axes.axis("off")

    def text(self, x: float, y: float, text: str, size: float = 10, **style: Any) -> None:
        """Adds text with its baseline at y."""
        # Names are not formulas: "$" must not start one.
        look = {"fontsize": size, "color": INK, "va": "baseline", "parse_math": False, **style}
        self.axes.text(x, y, text, **look)

    def box(self, x: float, y: float, width: float, height: float, **style: Any) -> None:
        """Adds a rectangle; `style` is that of a matplotlib patch."""
        from matplotlib.patches import Rectangle

        look: dict[str, Any] = {"facecolor": "none", "edgecolor": MUTED, "linewidth": 0.8, **style}
        self.axes.add_patch(Rectangle((x, y), width, height, **look))

    def arrow(self, start: tuple[float, float], end: tuple[float, float], **style: Any) -> None:
        """Adds an arrow; `style` is that of a matplotlib patch."""
        from matplotlib.patches import FancyArrowPatch

        look: dict[str, Any] = {
            "arrowstyle": "-|>",
            "mutation_scale": 13,
            "color": INK,
            "linewidth": 1.4,
        }
        look |= {"shrinkA": 0, "shrinkB": 0, **style}
        self.axes.add_patch(FancyArrowPatch(start, end, **look))


def paler(colour: str, share: float) -> str:
    """Mixes a colour with white: `share` 1 leaves it as it is, 0 is white."""
    rgb = np.frombuffer(bytes.fromhex(colour[1:]), np.uint8)
    return "#" + np.rint(255 - (255 - rgb) * share).astype(np.uint8).tobytes().hex()


def draw_grid(canvas: Canvas, grid: Grid, x: float, y: float, cell: int) -> None:
    """Draws a grid whose first cell's corner is at (x, y); heading and numbering lie outside."""
    rows, columns = grid.values.shape
    none = np.zeros((rows, columns), bool)
    marked = none if grid.marked is None else grid.marked
    hatched = none if grid.hatched is None else grid.hatched
    canvas.text(x, y - 22, grid.heading, 10, color=INK)
    small = {"color": MUTED, "ha": "center"}
    for j in range(columns):
        canvas.text(x + (j + 0.5) * cell, y - 5, str(j), 8, **small)
    for (i, j), value in np.ndenumerate(grid.values):
        if j == 0:
            canvas.text(x - 8, y + (i + 0.5) * cell + 4, str(i), 8, **small)
        look: dict[str, Any] = {"facecolor": paler(grid.colour, 0.85 if marked[i, j] else 0.18)}
        if hatched[i, j]:
            look = {"facecolor": "#ececef", "hatch": "////", "edgecolor": "#a8a8b2"}
        canvas.box(x + j * cell, y + i * cell, cell, cell, **look)
        _draw_number(canvas, number(value), x, y, (i, j), cell, marked[i, j], hatched[i, j])
    canvas.box(x, y, columns * cell, rows * cell, linewidth=1.2)
    for i, j in np.argwhere(none if grid.boxed is None else grid.boxed):
        canvas.box(x + j * cell + 2, y + i * cell + 2, cell - 4, cell - 4, **_BOLD)
    if grid.frame:
        top, left, bottom, right = grid.frame
        place = (x + left * cell, y + top * cell, (right - left) * cell, (bottom - top) * cell)
        canvas.box(*place, **_BOLD)


def _draw_number(
    canvas: Canvas,
    text: str,
    x: float,
    y: float,
    at: tuple[int, int],
    cell: int,
    bold: bool,
    hatched: bool,
) -> None:
    weight = "bold" if bold else "normal"
    size = min(12.5, cell * 0.38)
    size *= min(1, (cell - 9) / max(1.0, measure(text, size, weight)))
    i, j = at
    style: dict[str, Any] = {"ha": "center", "weight": weight}
    if hatched:  # a plain ground, so that stripes do not cross the number
        style["bbox"] = {"facecolor": "#ececef", "edgecolor": "none", "pad": 1}
    middle = y + (i + 0.5) * cell + 0.49 * size
    canvas.text(x + (j + 0.5) * cell, middle, text, size, **style)
