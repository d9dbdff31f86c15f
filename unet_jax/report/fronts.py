"""Scores against costs, with the Pareto front."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from unet_jax.figures.canvas import INK, MUTED, new_figure, plain, to_svg
from unet_jax.report.drawing import TEXT, WIDTH, make_axes, short, write


class Point(NamedTuple):
    """A variant in `draw_front`.

    Attributes:
        key: Its letter.
        cost: Across, positive.
        score: Upwards.
        low: Lowest score of its seeds.
        high: Highest score of its seeds.
        is_on_front: Whether none is as cheap and as good.
    """

    key: str
    cost: float
    score: float
    low: float
    high: float
    is_on_front: bool


_MOST_LETTERS = 16


def draw_front(points: Sequence[Point], axis: str, score: str, *, has_steps: bool = True) -> str:
    """Draws scores against a cost, the Pareto front as steps and filled points.

    Args:
        points: One per variant; of many only those on the front have a letter.
        axis: Name of the cost.
        score: Name of the score.
        has_steps: Whether to draw the steps; without, filled points are merely marked.

    Returns:
        SVG.
    """
    height = 300
    figure = new_figure(WIDTH, height)
    axes = make_axes(figure, height, (56, 30, WIDTH - 24, height - 52))
    values = np.array([p.cost for p in points])
    _scale(axes, values)
    front = sorted((p for p in points if p.is_on_front and has_steps), key=lambda p: p.cost)
    if front:
        steps, heights = np.array(_along(front, axes.get_xlim()[1])).T
        axes.plot(steps, heights, color=INK, linewidth=1.1, linestyle="--")
    for p in points:
        axes.plot((p.cost, p.cost), (p.low, p.high), color=MUTED, linewidth=1.2)
        face = INK if p.is_on_front else "white"
        style = {"markersize": 7, "markerfacecolor": face, "markeredgecolor": INK, "zorder": 4}
        axes.plot(p.cost, p.score, "o", **style)
    low, high = axes.get_ylim()
    axes.set_ylim(low - 0.06 * (high - low), high + 0.08 * (high - low))
    _place_letters(figure, axes, points, front)
    axes.locator_params(axis="y", nbins=5)
    axes.set_xlabel(plain(axis), fontsize=TEXT)
    write(axes, -0.12, 1.05, plain(score), transform=axes.transAxes)
    return to_svg(figure)


def _along(front: Sequence[Point], end: float) -> list[tuple[float, float]]:
    """Returns points along the steps of a front, close to each other."""
    path = []
    for p, after in zip(front, [*front[1:], None], strict=True):
        stop = end if after is None else after.cost
        path += [(x, p.score) for x in np.linspace(p.cost, stop, 60)]
        path += [(stop, y) for y in np.linspace(p.score, after.score, 60)] if after else []
    return path


def _scale(axes: Any, values: np.ndarray) -> None:
    """Sets the range across, logarithmic where the largest is three times the smallest."""
    low, high = float(values.min()), float(values.max())
    if low > 0 and high / low > 3:
        axes.set_xscale("log")
        axes.set_xlim(low / 1.25, high * 1.35)
        decades = range(int(np.floor(np.log10(low))) - 1, int(np.ceil(np.log10(high))) + 1)
        ticks = [m * 10.0**d for d in decades for m in (1, 2, 5)]
        inside = [t for t in ticks if low / 1.25 <= t <= high * 1.35]
        step = max(1, -(-len(inside) // 6))
        axes.set_xticks(inside[::step], [short(t) for t in inside[::step]])
        axes.minorticks_off()
    else:
        pad = 0.1 * (high - low) or 0.1 * abs(high)
        axes.set_xlim(low - pad, high + 1.4 * pad)
        axes.locator_params(axis="x", nbins=5)
        axes.xaxis.set_major_formatter(lambda value, _: short(value))


def _place_letters(figure: Any, axes: Any, points: Sequence[Point], front: Sequence[Point]) -> None:
    """Writes letters beside points, each where it covers the fewest points and other letters."""
    figure.canvas.draw()
    middles = axes.transData.transform([(p.cost, p.score) for p in points])
    taken = [(x, y, 6.0) for x, y in middles]
    if front:
        path = axes.transData.transform(_along(front, axes.get_xlim()[1]))
        taken += [(x, y, 2.0) for x, y in path]
    # First where no front, which goes right and comes from below, and no line of seeds passes.
    around = [(-12, 10), (12, -10), (12, 10), (-12, -10), (14, 0), (-14, 0), (0, 15), (0, -15)]
    for p, (x, y) in zip(points, middles, strict=True):
        if len(points) > _MOST_LETTERS and not p.is_on_front:
            continue
        wide = 5 * len(p.key)

        def crowding(shift: tuple[float, float], x: float = x, y: float = y) -> float:
            at = np.array([x, y]) + shift
            gaps = [np.hypot(*(at - (a, b))) - r - 7 for a, b, r in taken]
            return sum(max(0.0, -gap) for gap in gaps)

        dx, dy = min(around, key=crowding)
        dx += np.sign(dx) * (wide - 5)
        taken.append((x + dx, y + dy, 7.0))
        scale = 72 / figure.dpi
        place = {"xytext": (dx * scale, dy * scale), "textcoords": "offset points"}
        style = {"ha": "center", "va": "center", "fontsize": TEXT, "weight": "bold", "color": INK}
        axes.annotate(p.key, (p.cost, p.score), **place, **style, zorder=6)
