"""Figures of a report: 420 pixels wide, told apart by markers, lines and letters, not by colour.

Text is 9 points or more, so that it stays above 10 pixels where a phone shrinks a figure.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from unet_jax.figures.canvas import INK, MUTED, RULE, new_figure, plain, text_width, to_svg

WIDTH = 420
SMALL, TEXT = 9, 9.5
# Dark enough for lines on white; the first is the baseline's.
_COLOURS = (INK, "#0072b2", "#d55e00", "#007a57", "#8d4a86", "#8a6d00", "#56748c", "#a3123f")
_MARKERS, _LINES = "osD^vP*X", ("-", "--", "-.", ":")
_ROW = 42  # height of a row of intervals with its label


class Interval(NamedTuple):
    """A row of `intervals`.

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


def look(index: int) -> dict[str, Any]:
    """Returns the marker, line and colour of a variant; the pair of the first two is its own."""
    return {
        "color": _COLOURS[index % len(_COLOURS)],
        "marker": _MARKERS[index % len(_MARKERS)],
        "linestyle": _LINES[index % len(_LINES)],
    }


def fit(text: str, size: float, room: float) -> str:
    """Cuts text to `room` pixels, the last character an ellipsis."""
    text = plain(text)
    while len(text) > 2 and text_width(text, size) > room:
        text = text[:-2].rstrip() + "…"
    return text


def wrap(text: str, room: float) -> list[str]:
    """Breaks text into at most two lines of `room` pixels, in the small size."""
    words, first = plain(text).split(" "), ""
    while words and text_width(f"{first} {words[0]}", SMALL) <= room:
        first = f"{first} {words.pop(0)}".strip()
    rest = fit(" ".join(words), SMALL, room)
    return [line for line in (first, rest) if line]


def _axes(figure: Any, height: float, box: tuple[float, float, float, float]) -> Any:
    """Adds axes at (left, top, right, bottom) pixels of a figure `height` high."""
    left, top, right, bottom = box
    place = (left / WIDTH, 1 - bottom / height, (right - left) / WIDTH, (bottom - top) / height)
    axes = figure.add_axes(place)
    axes.set_axisbelow(True)
    axes.grid(color=RULE, linewidth=0.7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(MUTED)
    axes.tick_params(labelsize=SMALL, colors=MUTED, labelcolor=INK)
    return axes


def _text(axes: Any, x: float, y: float, text: str, size: float = TEXT, **style: Any) -> Any:
    return axes.text(x, y, text, **{"fontsize": size, "color": INK, "parse_math": False, **style})


def intervals(rows: Sequence[Interval], axis: str, reference: float | None = None) -> str:
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
    axes = _axes(figure, height, (10, 8, WIDTH - 14, height - 44))
    axes.set_ylim(len(rows), 0)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_xlim(*_limits(rows, reference))
    low, high = axes.get_xlim()
    if reference is not None:
        axes.axvline(reference, color=INK, linewidth=1.2, linestyle=(0, (4, 3)))
    across = axes.get_yaxis_transform()
    for index, row in enumerate(rows):
        y, value = index + 0.72, row.form.format(row.value)
        room = WIDTH - 24 - text_width(value, TEXT, "bold") - 12
        weight = "bold" if row.is_bold else "normal"
        # A white ground keeps the grid out of the letters.
        style = {"transform": across, "va": "center", "bbox": _GROUND}
        _text(axes, 0, index + 0.28, fit(row.label, TEXT, room), weight=weight, **style)
        _text(axes, 1, index + 0.28, value, weight="bold", ha="right", **style)
        if row.thick:
            axes.plot(row.thick, (y, y), color="#9fb4c7", linewidth=8, solid_capstyle="butt")
        if row.thin:
            _thin(axes, row.thin, y, low, high)
        axes.plot(row.dots, [y] * len(row.dots), "|", color=INK, markersize=9, markeredgewidth=1)
        axes.plot(row.value, y, "o", color=INK, markersize=6.5, markeredgecolor="white", zorder=5)
    axes.set_xlabel(plain(axis), fontsize=TEXT, color=INK)
    _inner_ticks(axes)
    return to_svg(figure)


def _inner_ticks(axes: Any) -> None:
    """Keeps the ticks whose labels do not reach over the edge of the figure."""
    axes.locator_params(axis="x", nbins=5)
    low, high = axes.get_xlim()
    pad = 0.06 * (high - low)
    axes.set_xticks([tick for tick in axes.get_xticks() if low + pad <= tick <= high - pad])
    axes.set_xlim(low, high)


_GROUND: dict[str, Any] = {"facecolor": "white", "edgecolor": "none", "pad": 1}


def _limits(rows: Sequence[Interval], reference: float | None) -> tuple[float, float]:
    """Chooses the range: all points, bars and dots, and thin lines up to three times that."""
    points = [x for row in rows for x in (row.value, *(row.thick or ()), *row.dots)]
    points += [] if reference is None else [reference]
    low, high = min(points), max(points)
    room = max(high - low, 1e-3 * max(abs(low), abs(high)), 1e-6)
    thin = [x for row in rows for x in row.thin or ()]
    low, high = (
        max(low - room, min([low, *thin])),
        min(high + room, max([high, *thin])),
    )
    pad = 0.06 * (high - low)
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


def curves(found: Sequence[Curve], axis: str) -> str:
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
        axes = _axes(figure, height, (56, 26, WIDTH - 30, 214))
        for curve in found:
            _draw_curve(axes, curve)
        _name_ends(axes, found)
        axes.set_xlabel("step", fontsize=TEXT)
        _text(axes, -0.12, 1.06, plain(axis), transform=axes.transAxes)
        _draw_legend(figure, height, [(c.index, c.label) for c in found], 262)
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
        axes = _axes(figure, height, (left, top, left + 152, top + 92))
        axes.plot(first.steps, first.middle, color=MUTED, linewidth=1.3, linestyle=":")
        _draw_curve(axes, curve._replace(index=0))
        pad = 0.05 * (span[1] - span[0]) or 1e-3
        axes.set_ylim(span[0] - pad, span[1] + pad)
        for line, text in enumerate(reversed(wrap(curve.label, 190))):
            _text(axes, -0.22, 1.07 + 0.15 * line, text, SMALL, transform=axes.transAxes)
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


def short(value: float) -> str:
    """Writes a number in few characters: 950, 12k, 4.5M."""
    for power, unit in ((12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if abs(value) >= 10**power * 0.9995:
            return f"{value / 10**power:.3g}{unit}"
    return f"{value:.3g}"


def _draw_legend(
    figure: Any, height: float, entries: Sequence[tuple[int, str]], top: float, **style: Any
) -> None:
    """Draws a line, marker and name per variant, below each other from `top` on."""
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, WIDTH)
    axes.set_ylim(height, 0)
    axes.axis("off")
    for row, (index, label) in enumerate(entries):
        y = top + 19 * row
        line = {"markevery": [1], "markersize": 5, "linewidth": 1.6, **look(index), **style}
        line |= {"markerfacecolor": line["color"]} if index == 0 else {}
        axes.plot((12, 30, 48), (y, y, y), **line)
        _text(axes, 58, y, fit(label, TEXT, WIDTH - 70), va="center")


class Point(NamedTuple):
    """A variant in `costs`.

    Attributes:
        key: Its letter.
        cost: Across, positive.
        score: Upwards.
        low: Of the scores of its seeds.
        high: Likewise.
        is_on_front: Whether none is as cheap and as good.
    """

    key: str
    cost: float
    score: float
    low: float
    high: float
    is_on_front: bool


def costs(points: Sequence[Point], axis: str, score: str) -> str:
    """Draws scores against a cost, the Pareto front as steps and filled points.

    Args:
        points: One per variant.
        axis: Name of the cost.
        score: Name of the score.

    Returns:
        SVG.
    """
    height = 300
    figure = new_figure(WIDTH, height)
    axes = _axes(figure, height, (56, 30, WIDTH - 24, height - 52))
    values = np.array([p.cost for p in points])
    _scale(axes, values)
    front = sorted((p for p in points if p.is_on_front), key=lambda p: p.cost)
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
    _text(axes, -0.12, 1.05, plain(score), transform=axes.transAxes)
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
    taken += [(x, y, 2.0) for x, y in axes.transData.transform(_along(front, axes.get_xlim()[1]))]
    # First where no front, which goes right and comes from below, and no line of seeds passes.
    around = [(-12, 10), (12, -10), (12, 10), (-12, -10), (14, 0), (-14, 0), (0, 15), (0, -15)]
    for p, (x, y) in zip(points, middles, strict=True):
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


def classes(
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
    axes = _axes(figure, height, (12, 8, WIDTH - 16, 8 + rows))
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
        place = {"transform": axes.get_yaxis_transform(), "va": "center", "bbox": _GROUND}
        room = WIDTH - 40 - text_width(plain(note), SMALL)
        _text(axes, 0, row + 0.26, fit(name, TEXT, room), **place)
        _text(axes, 1, row + 0.26, plain(note), SMALL, ha="right", color=MUTED, **place)
        axes.axhline(row + 0.72, color=RULE, linewidth=0.7, zorder=0)
    _inner_ticks(axes)
    axes.set_xlabel(plain(axis), fontsize=TEXT)
    hollow = {"linestyle": "", "markerfacecolor": "none", "markeredgewidth": 1.6, "markersize": 7}
    _draw_legend(figure, height, list(labels.items()), rows + 62, **hollow)
    return to_svg(figure)
