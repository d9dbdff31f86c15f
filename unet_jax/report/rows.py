"""Figures with a row per variant or class."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from unet_jax.figures.canvas import INK, MUTED, RULE, new_figure, plain, text_width, to_svg
from unet_jax.report.drawing import (
    GROUND,
    SMALL,
    TEXT,
    WIDTH,
    draw_legend,
    fit,
    inner_ticks,
    look,
    make_axes,
    write,
)

_ROW = 42  # height of a row of intervals with its label


class Interval(NamedTuple):
    """A row of `draw_intervals`.

    Attributes:
        label: Above it.
        value: The point.
        thin: Interval drawn as a thin line with caps, or None.
        thick: Interval drawn as a bar, or None.
        dots: Single values.
        form: How the value is written.
        is_bold: Whether it stands out.
    """

    label: str
    value: float
    thin: tuple[float, float] | None = None
    thick: tuple[float, float] | None = None
    dots: Sequence[float] = ()
    form: str = "{:.4f}"
    is_bold: bool = False


def draw_intervals(rows: Sequence[Interval], axis: str, reference: float | None = None) -> str:
    """Draws values with their intervals, a row each, its label above.

    Args:
        rows: One or more.
        axis: Name of the values.
        reference: Where a dashed line marks equality; None for none.

    Returns:
        SVG.
    """
    height = _ROW * len(rows) + 58
    figure = new_figure(WIDTH, height)
    axes = make_axes(figure, height, (10, 8, WIDTH - 14, height - 44))
    axes.set_ylim(len(rows), 0)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_xlim(*limits(rows, reference))
    low, high = axes.get_xlim()
    if reference is not None:
        axes.axvline(reference, color=INK, linewidth=1.2, linestyle=(0, (4, 3)))
    across = axes.get_yaxis_transform()
    for index, row in enumerate(rows):
        y, value = index + 0.72, row.form.format(row.value)
        room = WIDTH - 24 - text_width(value, TEXT, "bold") - 12
        weight = "bold" if row.is_bold else "normal"
        # A white ground keeps the grid out of the letters.
        style = {"transform": across, "va": "center", "bbox": GROUND}
        write(axes, 0, index + 0.28, fit(row.label, TEXT, room, weight), weight=weight, **style)
        write(axes, 1, index + 0.28, value, weight="bold", ha="right", **style)
        if row.thick:
            axes.plot(row.thick, (y, y), color="#9fb4c7", linewidth=8, solid_capstyle="butt")
        if row.thin:
            _thin(axes, row.thin, y, low, high)
        axes.plot(row.dots, [y] * len(row.dots), "|", color=INK, markersize=9, markeredgewidth=1)
        axes.plot(row.value, y, "o", color=INK, markersize=6.5, markeredgecolor="white", zorder=5)
    axes.set_xlabel(plain(axis), fontsize=TEXT, color=INK)
    inner_ticks(axes)
    return to_svg(figure)


def limits(rows: Sequence[Interval], reference: float | None) -> tuple[float, float]:
    """Chooses the range of an axis.

    Args:
        rows: One or more.
        reference: Where a line marks equality; None for none.

    Returns:
        Its ends, which hold all points, bars and dots, and thin lines as long as most are; of a
        much longer one it holds a part, lest it hide how the points differ.
    """
    points = [x for row in rows for x in (row.value, *(row.thick or ()), *row.dots)]
    points += [] if reference is None else [reference]
    low, high = min(points), max(points)
    thin = np.array([row.thin for row in rows if row.thin]).reshape(-1, 2)
    usual = float(np.median(thin[:, 1] - thin[:, 0])) if len(thin) else 0.0
    room = max(high - low, usual, 1e-3)
    low, high = (
        max(low - room, min([low, *thin[:, 0].tolist()])),
        min(high + room, max([high, *thin[:, 1].tolist()])),
    )
    pad = 0.06 * (high - low) or room
    return low - pad, high + pad


def _thin(axes: Any, ends: tuple[float, float], y: float, low: float, high: float) -> None:
    """Draws a thin interval with caps; an end outside the axes is an arrowhead."""
    axes.plot(np.clip(ends, low, high), (y, y), color=INK, linewidth=1.3, zorder=3)
    pad = 0.008 * (high - low)
    for end, at, arrow in ((ends[0], low + pad, "<"), (ends[1], high - pad, ">")):
        if low <= end <= high:
            axes.plot(end, y, "|", color=INK, markersize=9, markeredgewidth=1.3, zorder=3)
        else:
            axes.plot(at, y, arrow, color=INK, markersize=6, zorder=3)


def draw_classes(
    names: Sequence[str],
    scores: Mapping[int, Sequence[float | None]],
    labels: Mapping[int, str],
    notes: Sequence[str],
    axis: str,
) -> str:
    """Draws a value of every class, a row each, with a marker per variant.

    Args:
        names: K class names.
        scores: K values by variant's index; None of an absent class.
        labels: Name by variant's index.
        notes: K texts at the right.
        axis: Name of the values.

    Returns:
        SVG.
    """
    rows = 40 * len(names)
    height = rows + 62 + 19 * len(labels)
    figure = new_figure(WIDTH, height)
    axes = make_axes(figure, height, (12, 8, WIDTH - 16, 8 + rows))
    axes.set_ylim(len(names), 0)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    for index, values in scores.items():
        known = [(v, row + 0.72) for row, v in enumerate(values) if v is not None]
        style = look(index) | {"linestyle": "", "markersize": 7.5, "markeredgewidth": 1.6}
        style |= {} if index == 0 else {"markerfacecolor": "none"}
        axes.plot(*np.array(known).reshape(-1, 2).T, **style)
    axes.margins(x=0.07)
    for row, (name, note) in enumerate(zip(names, notes, strict=True)):
        place = {"transform": axes.get_yaxis_transform(), "va": "center", "bbox": GROUND}
        room = WIDTH - 40 - text_width(plain(note), SMALL)
        write(axes, 0, row + 0.26, fit(name, TEXT, room), **place)
        write(axes, 1, row + 0.26, plain(note), SMALL, ha="right", color=MUTED, **place)
        axes.axhline(row + 0.72, color=RULE, linewidth=0.7, zorder=0)
    inner_ticks(axes)
    axes.set_xlabel(plain(axis), fontsize=TEXT)
    hollow = {"linestyle": "", "markerfacecolor": "none", "markeredgewidth": 1.6, "markersize": 7}
    draw_legend(figure, height, list(labels.items()), rows + 62, **hollow)
    return to_svg(figure)
