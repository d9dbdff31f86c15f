"""Learning curves."""

import functools
import math
import numbers
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from unet_jax.figures.canvas import INK, MUTED, RULE, Page, new_figure, plain, render
from unet_jax.figures.colours import COLOURS, save_png

SPEED_PANEL = np.s_[336:672, 570:1200]
"""Pixels of the panel of throughput, where all panels are there; no two runs have the same."""
_MAX_CURVES = 24
_SHORT = 40  # series of fewer values are drawn with markers and not smoothed


def _is_finite(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)


def _series(records: Sequence[Mapping[str, Any]], key: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and finite values of one metric by step; of a step repeated by a resume, the last."""
    points = {
        record["step"]: record[key]
        for record in records
        if _is_finite(record.get("step")) and _is_finite(record.get(key))
    }
    steps = sorted(points)
    return np.array(steps, float), np.array([points[s] for s in steps], float)


def _smooth(values: np.ndarray) -> np.ndarray:
    """Centred moving mean over about a twentieth of the values; shorter windows at the ends."""
    window = np.ones(2 * (len(values) // 40) + 1)
    counts = np.convolve(np.ones_like(values), window, "same")
    return np.convolve(values, window, "same") / counts


def _colour(index: int) -> np.ndarray:
    """Class colour as RGB floats, darkened so that its lines show on white."""
    return COLOURS[index % 256] / 255 * 0.85


def _title(axes: Any, text: str, pad: float = 24) -> None:
    axes.set_title(text, loc="left", fontsize=11, fontweight="bold", color=INK, pad=pad)


def _legend_above(axes: Any, handles: list[Any]) -> None:
    """A legend in one line between title and axes, where it covers no curve."""
    place = {"loc": "lower left", "bbox_to_anchor": (-0.01, 0.98), "ncols": len(handles)}
    axes.legend(handles=handles, frameon=False, fontsize=9, columnspacing=1.5, **place)


def _noisy_line(
    axes: Any, points: tuple[Any, Any], style: str, colour: int, label: str
) -> list[Any]:
    """Draws a metric of every step: faint as it is and smoothed, or with markers if short."""
    steps, values = points
    look = {"color": _colour(colour), "linewidth": 1.8, "label": label}
    if len(steps) < _SHORT:
        return axes.plot(steps, values, style, marker=".", **look)
    axes.plot(steps, values, color=_colour(colour), alpha=0.25, linewidth=0.7)
    return axes.plot(steps, _smooth(values), style, **look)


def _loss_panel(axes: Any, records: Sequence[Mapping[str, Any]]) -> None:
    _title(axes, "Loss")
    handles = []
    train, val = _series(records, "train/loss"), _series(records, "val/cross_entropy")
    if len(train[0]):
        label = f"training (all terms{'' if len(train[0]) < _SHORT else ', smoothed'})"
        handles += _noisy_line(axes, train, "-", 4, label)
    if len(val[0]):
        handles += axes.plot(
            *val, "--o", color=_colour(5), markersize=4.5, label="validation (cross-entropy)"
        )
    _legend_above(axes, handles)


def _score_panel(
    axes: Any, records: Sequence[Mapping[str, Any]], score: str, higher_is_better: bool
) -> None:
    """Draws the score that decides, its best step starred, and the pixel accuracy beside it."""
    others = {"pixel_accuracy"} - {score} if higher_is_better else {}
    _title(axes, f"Validation {plain(score, 60)}{' and pixel accuracy' if others else ''}")
    handles = []
    steps, values = _series(records, f"val/{score}")
    if len(steps):
        look = {"color": _colour(4), "markersize": 4.5, "label": plain(score, 28)}
        handles += axes.plot(steps, values, "-o", **look)
        best = int(values.argmax() if higher_is_better else values.argmin())
        # Named in the legend: beside the point, the text would cover the curve.
        label = f"best {values[best]:.4f} at step {steps[best]:,.0f}"
        star = {"color": INK, "markersize": 13, "linestyle": "", "zorder": 5}
        handles += axes.plot(steps[best], values[best], "*", label=label, **star)
    for other in others:
        points = _series(records, f"val/{other}")
        if len(points[0]):
            look = {"color": _colour(0), "markersize": 4}
            handles += axes.plot(*points, "--s", label="pixel accuracy", **look)
    _legend_above(axes, handles)


def _rate_panel(axes: Any, records: Sequence[Mapping[str, Any]]) -> None:
    _title(axes, "Learning rate")
    steps, values = _series(records, "learning_rate")
    marker = "." if len(steps) < _SHORT else ""
    label = f"highest {values.max():.3g}, last {values[-1]:.3g}"
    look = {"marker": marker, "color": _colour(2), "linewidth": 1.8}
    _legend_above(axes, axes.plot(steps, values, "-", label=label, **look))
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter("{x:g}")


def _speed_panel(axes: Any, records: Sequence[Mapping[str, Any]]) -> None:
    from matplotlib.ticker import PercentFormatter

    speed, wait = _series(records, "images_per_s"), _series(records, "data_wait")
    _title(axes, "Throughput and waiting for data")
    handles = []
    if len(speed[0]):
        handles += _noisy_line(axes, speed, "-", 4, "images/s")
        axes.set_ylim(0, max(speed[1].max() * 1.1, 1e-9))
        axes.yaxis.set_major_formatter("{x:,g}")
    if len(wait[0]):
        side = axes.twinx() if handles else axes
        handles += _noisy_line(side, wait, "--", 5, "share of time waiting for data")
        side.set_ylim(0, max(0.1, min(1.0, wait[1].max() * 1.25)))
        side.yaxis.set_major_formatter(PercentFormatter(1.0))
        side.spines["top"].set_visible(False)
        side.tick_params(labelsize=9, colors=MUTED)
    _legend_above(axes, handles)


def _class_curves(
    records: Sequence[Mapping[str, Any]],
) -> list[tuple[np.ndarray, np.ndarray, str, int]]:
    """(steps, IoUs, class, number) of the classes with a value, the best last value first.

    The number counts all classes mentioned, absent ones too, so that it is the class id and its
    colour the one in the figures.
    """
    validated = [r for r in records if any(key.startswith("val/IoU/") for key in r)]
    keys = {key: None for r in validated for key in r if key.startswith("val/IoU/")}
    curves = [
        (*_series(validated, key), key.removeprefix("val/IoU/"), number)
        for number, key in enumerate(keys)
    ]
    return sorted((c for c in curves if len(c[0])), key=lambda curve: -curve[1][-1])


def _class_panel(axes: Any, records: Sequence[Mapping[str, Any]]) -> None:
    """One curve per class; the legend is in the order of the last values, best first."""
    styles = ("-", "--", "-.", ":")
    markers = "osD^vP*Xph<>"
    curves = _class_curves(records)
    title = "Validation IoU by class (last value in the legend)"
    if len(curves) > _MAX_CURVES:
        half = _MAX_CURVES // 2
        title = f"Validation IoU: the {half} best and {half} worst of {len(curves)} classes"
        curves = curves[:half] + curves[-half:]
    _title(axes, title, pad=8)
    for steps, values, name, number in curves:
        look = {
            "linestyle": styles[number % len(styles)],
            "marker": markers[number % len(markers)],
            "markevery": max(1, len(steps) // 15),
            "color": _colour(number),
        }
        label = f"{values[-1]:.3f}  {plain(name, 28)}"
        axes.plot(steps, values, markersize=4.5, label=label, **look)
    legend = axes.legend(
        loc="upper left", bbox_to_anchor=(1.0, 1.03), handlelength=4, frameon=False
    )
    for text in legend.get_texts():
        text.set_parse_math(False)


def _panels(
    score: str, higher_is_better: bool
) -> tuple[tuple[Callable[..., None], tuple[str, ...]], ...]:
    """Returns the panels, each with the keys of which it needs one."""
    options = {"score": score, "higher_is_better": higher_is_better}
    beside = ("val/pixel_accuracy",) if higher_is_better else ()
    return (
        (_loss_panel, ("train/loss", "val/cross_entropy")),
        (functools.partial(_score_panel, **options), (f"val/{score}", *beside)),
        (_rate_panel, ("learning_rate",)),
        (_speed_panel, ("images_per_s", "data_wait")),
    )


def _style(axes: Any, steps: np.ndarray) -> None:
    """The look that all panels share, with the same range of steps."""
    from matplotlib.ticker import MaxNLocator

    pad = max(1, 0.02 * (steps.max() - steps.min()))
    axes.set_xlim(steps.min() - pad, steps.max() + pad)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlabel("step", color=MUTED)
    axes.grid(color=RULE, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9, colors=MUTED)


def learning_curves(
    path: str | os.PathLike[str],
    records: Sequence[Mapping[str, float | None]],
    score: str,
    *,
    higher_is_better: bool = True,
) -> None:
    """Writes a PNG with panels of loss, score, learning rate, throughput and IoU by class.

    Args:
        path: file to write; missing folders are made.
        records: parsed lines of a metrics.jsonl: "step" and any of "train/loss",
            "val/cross_entropy", "val/<score>", "val/pixel_accuracy", "val/IoU/<class>",
            "learning_rate", "images_per_s" and "data_wait" (share 0..1). Missing, None and
            non-finite values are skipped, panels without any value are left out, and of a step
            repeated by a resume the last line counts.
        score: name of the score that decides which step is the best.
        higher_is_better: whether its highest value is the best; else the lowest is.
    """
    dated = [record for record in records if _is_finite(record.get("step"))]
    known = _panels(score, higher_is_better)
    panels = [draw for draw, keys in known if any(len(_series(dated, k)[0]) for k in keys)]
    classes = min(len(_class_curves(dated)), _MAX_CURVES)
    if not panels and not classes:
        page = Page()
        page.text(18, 40, "No metrics recorded yet", 13)
        page.save(path, 400, 70)
        return
    width, height, left, gap = 1200, 336, 66, 112  # pixels: page, panel with margins, margins
    tall = max(height, 110 + 20 * classes) if classes else 0
    above = height * math.ceil(len(panels) / 2)
    figure = new_figure(width, above + tall)
    steps = np.array([record["step"] for record in dated], float)

    def add(draw: Callable[..., None], x: float, top: float, wide: float, high: float) -> None:
        box = (x, above + tall - top - high + 46, wide, high - 106)
        axes = figure.add_axes(tuple(np.divide(box, (width, above + tall) * 2)))
        draw(axes, dated)
        _style(axes, steps)

    for index, draw in enumerate(panels):
        half = (width - 2 * left - gap) / 2
        # An odd last panel has the whole line.
        wide = width - 2 * left if index == len(panels) - 1 and index % 2 == 0 else half
        add(draw, left + (index % 2) * (half + gap), index // 2 * height, wide, height)
    if classes:
        add(_class_panel, left, above, width - left - 340, tall)
    save_png(path, render(figure))
