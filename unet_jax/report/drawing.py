"""What the figures of a report share: 420 pixels wide, told apart by markers, lines and letters.

Nothing is told by colour alone. Text is 9 points or more, so that it stays above 10 pixels where a
phone shrinks a figure.
"""

from collections.abc import Sequence
from typing import Any

from unet_jax.figures.canvas import INK, MUTED, RULE, plain, text_width

WIDTH = 420
SMALL, TEXT = 9, 9.5
# Dark enough for lines on white; the first is the baseline's.
_COLOURS = (INK, "#0072b2", "#d55e00", "#007a57", "#8d4a86", "#8a6d00", "#56748c", "#a3123f")
_MARKERS, _LINES = "osD^vP*X", ("-", "--", "-.", ":")

GROUND: dict[str, Any] = {"facecolor": "white", "edgecolor": "none", "pad": 1}
"""Behind text, to keep the grid out of the letters."""


def look(index: int) -> dict[str, Any]:
    """Returns the marker, line and colour of a variant; the pair of the first two is its own."""
    return {
        "color": _COLOURS[index % len(_COLOURS)],
        "marker": _MARKERS[index % len(_MARKERS)],
        "linestyle": _LINES[index % len(_LINES)],
    }


def fit(text: str, size: float, room: float, weight: str = "normal") -> str:
    """Cuts text to `room` pixels, the last character an ellipsis."""
    text = plain(text)
    while len(text) > 2 and text_width(text, size, weight) > room:
        text = text[:-2].rstrip() + "…"
    return text


def wrap(text: str, room: float, most: int = 2, weight: str = "normal") -> list[str]:
    """Breaks text into at most some lines of `room` pixels, in the small size."""
    words, lines = plain(text).split(), []
    while words:
        line = words.pop(0)
        while words and text_width(f"{line} {words[0]}", SMALL, weight) <= room:
            line += f" {words.pop(0)}"
        if len(lines) == most - 1:
            line, words = " ".join([line, *words]), []
        lines.append(fit(line, SMALL, room, weight))
    return lines


def make_axes(figure: Any, height: float, box: tuple[float, float, float, float]) -> Any:
    """Adds axes at (left, top, right, bottom) pixels of a figure `height` high."""
    left, top, right, bottom = box
    place = (left / WIDTH, 1 - bottom / height, (right - left) / WIDTH, (bottom - top) / height)
    axes = figure.add_axes(place)
    axes.set_axisbelow(True)
    axes.grid(color=RULE, linewidth=0.7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(MUTED)
    axes.tick_params(labelsize=SMALL, colors=MUTED, labelcolor=INK)
    axes.ticklabel_format(useOffset=False)  # of equal scores too, the numbers that a reader knows
    return axes


def write(axes: Any, x: float, y: float, text: str, size: float = TEXT, **style: Any) -> Any:
    """Writes text at (x, y) of the data, as it is: names are not formulas."""
    return axes.text(x, y, text, **{"fontsize": size, "color": INK, "parse_math": False, **style})


def inner_ticks(axes: Any) -> None:
    """Keeps the ticks whose labels do not reach over the edge of the figure."""
    axes.locator_params(axis="x", nbins=5)
    low, high = axes.get_xlim()
    pad = 0.06 * (high - low)
    axes.set_xticks([tick for tick in axes.get_xticks() if low + pad <= tick <= high - pad])
    axes.set_xlim(low, high)


def short(value: float) -> str:
    """Writes a number in few characters: 950, 12k, 4.5M."""
    for power, unit in ((12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if abs(value) >= 10**power * 0.9995:
            return f"{value / 10**power:.3g}{unit}"
    return f"{value:.3g}"


def draw_legend(
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
        write(axes, 58, y, fit(label, TEXT, WIDTH - 70), va="center")
