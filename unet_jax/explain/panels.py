"""Grids of numbers in rows with operators between them, as a sheet or as an animation."""

import os
from collections.abc import Sequence
from typing import NamedTuple

from unet_jax.explain.grids import Canvas, Grid, draw_grid, measure, wrap
from unet_jax.figures.canvas import MUTED, RULE, render
from unet_jax.figures.colours import save_drawing, save_gif

WIDTH = 900  # pixels, more where the numbers need it
MARGIN, GUTTER, GAP = 24, 16, 10  # around the page; for the row numbers of a grid; between items
LINE, HEADING = 19, 40  # height of a line of text; of a grid's heading with its column numbers
_CELLS = (24, 40)  # smallest and largest side of a cell


class Words(NamedTuple):
    """A paragraph beside grids.

    Attributes:
        text: Wrapped to the width; its own line ends stay.
        width: In pixels.
    """

    text: str
    width: int


class Panel(NamedTuple):
    """One row of a page.

    Attributes:
        caption: Bold, above it.
        items: Grids, paragraphs, and operators such as "=" between them.
        note: Below it, wrapped.
    """

    caption: str
    items: tuple[Grid | Words | str, ...] = ()
    note: str = ""


def _item_width(item: Grid | Words | str, cell: int) -> float:
    if isinstance(item, Grid):
        return max(GUTTER + item.values.shape[1] * cell, GUTTER + measure(item.heading, 10))
    return item.width if isinstance(item, Words) else measure(item, 17, "bold")


def panel_size(panel: Panel, cell: int) -> tuple[float, float]:
    """Measures a panel.

    Args:
        panel: What to measure.
        cell: Side of a cell in pixels.

    Returns:
        Width without the page's margins, and height; notes count one line per `WIDTH`.
    """
    width = sum(_item_width(item, cell) + GAP for item in panel.items) - GAP
    height = LINE + 4 if panel.caption else 0
    grids = [item for item in panel.items if isinstance(item, Grid)]
    words = [item for item in panel.items if isinstance(item, Words)]
    tall = [HEADING + grid.values.shape[0] * cell + 8 for grid in grids]
    tall += [len(wrap(w.text, 10, w.width)) * LINE + 8 for w in words]
    height += max(tall, default=0)
    if panel.note:
        height += len(wrap(panel.note, 10, WIDTH - 2 * MARGIN)) * LINE + 4
    return width, height


def cell_size(panels: Sequence[Panel]) -> int:
    """Returns the largest cell for which all panels fit into `WIDTH`, between 24 and 40 pixels."""
    smallest, largest = _CELLS
    for cell in range(largest, smallest, -1):
        if all(panel_size(panel, cell)[0] <= WIDTH - 2 * MARGIN for panel in panels):
            return cell
    return smallest


def draw_panel(canvas: Canvas, panel: Panel, y: float, cell: int) -> float:
    """Draws a panel with its upper edge at y; returns the y below it."""
    end = y + panel_size(panel, cell)[1]
    if panel.caption:
        room = (WIDTH - 2 * MARGIN) / measure(panel.caption, 11, "bold")
        canvas.text(MARGIN, y + 14, panel.caption, 11 * min(1.0, room), weight="bold")
        y += LINE + 4
    grids = [item.values.shape[0] for item in panel.items if isinstance(item, Grid)]
    tallest, x = max(grids, default=0) * cell, float(MARGIN)
    for item in panel.items:
        if isinstance(item, Grid):
            top = y + HEADING + (tallest - item.values.shape[0] * cell) / 2
            draw_grid(canvas, item, x + GUTTER, top, cell)
        elif isinstance(item, Words):
            lines = wrap(item.text, 10, item.width)
            room = HEADING + tallest - len(lines) * LINE if grids else 0
            for k, line in enumerate(lines):
                canvas.text(x, y + max(0, room / 2) + 14 + k * LINE, line)
        else:
            canvas.text(x, y + HEADING + tallest / 2 + 8, item, 17, weight="bold", color=MUTED)
        x += _item_width(item, cell) + GAP
    if panel.note:
        lines = wrap(panel.note, 10, WIDTH - 2 * MARGIN)
        for k, line in enumerate(lines):
            canvas.text(MARGIN, end - (len(lines) - 1 - k) * LINE - 6, line)
    return end


def _draw_head(canvas: Canvas, title: str, words: str) -> None:
    canvas.text(MARGIN, MARGIN + 14, title, 15, weight="bold")
    for k, line in enumerate(wrap(words, 10, WIDTH - 2 * MARGIN)):
        canvas.text(MARGIN, MARGIN + 40 + k * LINE, line)


def _head_height(words: str) -> int:
    return MARGIN + 34 + LINE * len(wrap(words, 10, WIDTH - 2 * MARGIN))


def _page_width(panels: Sequence[Panel], cell: int) -> int:
    return max(WIDTH, *(round(panel_size(p, cell)[0]) + 2 * MARGIN for p in panels))


def write_sheet(
    path: str | os.PathLike[str], title: str, words: str, panels: Sequence[Panel]
) -> None:
    """Writes a PNG with panels below each other.

    Args:
        path: File to write; missing folders are made.
        title: One line.
        words: Below the title, wrapped.
        panels: One or more.
    """
    cell = cell_size(panels)
    heights = [panel_size(panel, cell)[1] for panel in panels]
    space = 2 * GAP
    height = _head_height(words) + sum(heights) + space * len(panels) + 8
    canvas = Canvas(_page_width(panels, cell), round(height))
    _draw_head(canvas, title, words)
    y = _head_height(words)
    for panel in panels:
        canvas.box(MARGIN, y + space / 2 - 1, canvas.axes.get_xlim()[1] - 2 * MARGIN, 0)
        y = draw_panel(canvas, panel, y + space, cell)
    save_drawing(path, render(canvas.figure))


def write_animation(
    path: str | os.PathLike[str],
    title: str,
    words: str,
    panels: Sequence[Panel],
    seconds: Sequence[float],
) -> None:
    """Writes a GIF with a frame per panel, which begins again at its end.

    Args:
        path: File to write; missing folders are made.
        title: One line, on every frame.
        words: Below the title, wrapped.
        panels: One or more.
        seconds: How long each is shown.
    """
    cell = cell_size(panels)
    head = _head_height(words)
    height = round(head + max(panel_size(panel, cell)[1] for panel in panels) + 26)
    width = _page_width(panels, cell)
    frames = []
    for index, panel in enumerate(panels):
        canvas = Canvas(width, height)
        _draw_head(canvas, title, words)
        draw_panel(canvas, panel, head + 4, cell)
        # How far it is, which an animation that repeats does not show by itself.
        canvas.box(0, height - 6, width, 6, facecolor=RULE, edgecolor="none")
        done = width * (index + 1) / len(panels)
        canvas.box(0, height - 6, done, 6, facecolor=MUTED, edgecolor="none")
        frames.append(render(canvas.figure))
    save_gif(path, frames, seconds)
