"""Learning curves with bands."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from unet_jax.figures.canvas import INK, MUTED, new_figure, plain, to_svg
from unet_jax.report.drawing import (
    SMALL,
    TEXT,
    WIDTH,
    draw_legend,
    look,
    make_axes,
    short,
    wrap,
    write,
)


class Curve(NamedTuple):
    """A line over steps with a band.

    Attributes:
        label: Its name.
        index: Of the variant, which gives the look.
        steps: [T].
        middle: [T].
        low: [T].
        high: [T].
    """

    label: str
    index: int
    steps: np.ndarray
    middle: np.ndarray
    low: np.ndarray
    high: np.ndarray


def draw_curves(found: Sequence[Curve], axis: str) -> str:
    """Draws learning curves: up to three in one pair of axes, more in one each beside the first.

    Args:
        found: The curves, the baseline first.
        axis: Name of the values.

    Returns:
        SVG.
    """
    if len(found) <= 3:
        height = 258 + 19 * len(found)
        figure = new_figure(WIDTH, height)
        axes = make_axes(figure, height, (56, 26, WIDTH - 30, 214))
        for curve in found:
            _draw_curve(axes, curve)
        _name_ends(axes, found)
        axes.set_xlabel("step", fontsize=TEXT)
        write(axes, -0.12, 1.06, plain(axis), transform=axes.transAxes)
        draw_legend(figure, height, [(c.index, c.label) for c in found], 262)
        _tick(axes, found)
        return to_svg(figure)
    rows, first = found[1:], found[0]
    lines = (len(rows) + 1) // 2
    height = 158 * lines + 46
    figure = new_figure(WIDTH, height)
    figure.text(8 / WIDTH, 1 - 17 / height, plain(axis), fontsize=TEXT, color=INK)
    span = [min(float(c.low.min()) for c in found), max(float(c.high.max()) for c in found)]
    for index, curve in enumerate(rows):
        left, top = (44, 246)[index % 2], 60 + index // 2 * 158
        axes = make_axes(figure, height, (left, top, left + 152, top + 92))
        axes.plot(first.steps, first.middle, color=MUTED, linewidth=1.3, linestyle=":")
        _draw_curve(axes, curve._replace(index=0))
        pad = 0.05 * (span[1] - span[0]) or 1e-3
        axes.set_ylim(span[0] - pad, span[1] + pad)
        for line, text in enumerate(reversed(wrap(curve.label, 190))):
            write(axes, -0.22, 1.07 + 0.15 * line, text, SMALL, transform=axes.transAxes)
        _tick(axes, [first, curve], 3)
        if index >= len(rows) - 2:
            axes.set_xlabel("step", fontsize=TEXT)
    return to_svg(figure)


def _draw_curve(axes: Any, curve: Curve) -> None:
    style = look(curve.index)
    axes.fill_between(
        curve.steps, curve.low, curve.high, color=style["color"], alpha=0.18, linewidth=0
    )
    style |= {"markersize": 4.5, "markevery": max(1, len(curve.steps) // 8), "linewidth": 1.6}
    axes.plot(curve.steps, curve.middle, **style)


def _name_ends(axes: Any, found: Sequence[Curve]) -> None:
    """Writes each curve's letter beside its end, moved apart where they would overlap."""
    low, high = axes.get_ylim()
    axes.set_ylim(low, high)
    order = sorted(found, key=lambda curve: curve.middle[-1])
    places, least = [], 0.075 * (high - low)
    for curve in order:
        places.append(max(curve.middle[-1], places[-1] + least if places else low))
    for curve, y in zip(order, places, strict=True):
        letter, x = curve.label.split(" ", 1)[0], curve.steps[-1]
        shift = {"xytext": (7, 0), "textcoords": "offset points", "va": "center"}
        axes.annotate(letter, (x, y), **shift, fontsize=TEXT, weight="bold", annotation_clip=False)


def _tick(axes: Any, found: Sequence[Curve], count: int = 5) -> None:
    steps = max(float(curve.steps.max()) for curve in found)
    axes.set_xlim(0, steps)
    axes.locator_params(axis="x", nbins=count, integer=True)
    axes.locator_params(axis="y", nbins=count)
    axes.xaxis.set_major_formatter(lambda value, _: short(value))
