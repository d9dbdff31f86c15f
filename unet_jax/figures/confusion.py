"""Confusion matrices as heat maps."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from unet_jax.figures.canvas import INK, MUTED, new_figure, plain, render, text_width
from unet_jax.figures.colours import save_png

_MAX_PRINTED_CLASSES = 25


def _short_count(count: int) -> str:
    """A pixel count in at most five characters: 950, 12.3k, 4.56M."""
    power = (len(str(count)) - 1) // 3
    # Rounded up, 999,999 would print as 1e+03k.
    return f"{min(count / 1000**power, 999):.3g}{' kMGTPE'[power].strip()}"


def _print_cells(axes: Any, confusion: np.ndarray, shares: np.ndarray) -> None:
    """Prints the percentage and the pixel count into every cell; a bare 0 where there is none."""
    middle = {"ha": "center", "va": "center"}
    for (row, column), share in np.ndenumerate(shares):
        if not np.isfinite(share):
            continue
        if not confusion[row, column]:
            axes.text(column, row, "0", fontsize=7.5, color="#a0a0aa", **middle)
            continue
        strong, weak = ("white", "#e4e4ee") if share > 0.4 else (INK, MUTED)
        number = "<0.1%" if share < 0.0005 else f"{share:.1%}"
        weight = "bold" if row == column else "normal"
        look = {"fontsize": 8.5, "color": strong, "fontweight": weight}
        axes.text(column, row - 0.14, number, **look, **middle)
        count = _short_count(int(confusion[row, column]))
        axes.text(column, row + 0.22, count, fontsize=7, color=weak, **middle)


def _heat_map(
    axes: Any, shares: np.ndarray, rows: list[str], columns: list[str], size: float, rotate: bool
) -> Any:
    """Draws the cells, with names at the left and the top; returns the colour mapping."""
    from matplotlib.colors import PowerNorm

    axes.set_facecolor("#e6e6ea")
    # The square root keeps small confusions visible beside a diagonal near 100 %.
    heat = axes.imshow(np.ma.masked_invalid(shares), cmap="Blues", norm=PowerNorm(0.5, 0, 1))
    tilt = {"rotation": 45, "ha": "left", "rotation_mode": "anchor"} if rotate else {}
    axes.set_xticks(range(len(columns)), columns, **tilt)
    axes.set_yticks(range(len(rows)), rows)
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_ylabel("truth", fontsize=10, fontweight="bold", color=MUTED)
    axes.set_xlabel("prediction", fontsize=10, fontweight="bold", color=MUTED)
    axes.tick_params(length=0, labelsize=size, pad=4)
    for text in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        text.set(parse_math=False, color=INK)
    axes.set_xticks(np.arange(len(columns) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(rows) + 1) - 0.5, minor=True)
    axes.tick_params(which="minor", length=0)
    axes.grid(
        which="minor", color="white", linewidth=1.5 if len(rows) <= _MAX_PRINTED_CLASSES else 0.4
    )
    axes.spines[:].set_visible(False)
    return heat


def confusion_matrix(
    path: str | os.PathLike[str], confusion: np.ndarray, class_names: Sequence[str], title: str = ""
) -> None:
    """Writes a PNG of a confusion matrix as a heat map of row shares.

    Up to 25 rows each cell has its percentage of the row and its pixel count. Rows of classes
    without a pixel are grey. Classes that are independent have two rows each, and the two columns
    "on" and "off".

    Args:
        path: file to write; missing folders are made.
        confusion: int[K, K] pixel counts >= 0; rows are the truth, columns the prediction. Or
            int[K, 2, 2] of independent classes, likewise, each off and on.
        class_names: K names, by class id.
        title: what was evaluated, such as the split and the step; "" for nothing.

    Raises:
        ValueError: if `confusion` is neither.
    """
    k = len(class_names)
    confusion = np.asarray(confusion)
    rows = [plain(name, 28) for name in class_names]
    columns = rows
    if confusion.shape == (k, 2, 2):
        rows = [plain(name, 28) for one in class_names for name in (one, f"not {one}")]
        columns, confusion = ["on", "off"], confusion[:, ::-1, ::-1].reshape(2 * k, 2)
    elif confusion.shape != (k, k):
        raise ValueError(f"expected a confusion matrix of {k} classes, got {confusion.shape}")
    printed = len(rows) <= _MAX_PRINTED_CLASSES
    size = 9 if printed else 7
    cell = (100 if len(rows) <= 4 else 60) if printed else 14
    label = max(text_width(name, size) for name in rows)
    rotate = max(text_width(name, size) for name in columns) > cell - 6
    above = 0.75 * label if rotate else 16
    across, down = len(columns) * cell, len(rows) * cell
    heading = 62 if title else 46  # where the last line of the heading stands
    left, top, right = label + 50, above + 50 + heading, max(80, above)
    width, height = left + max(across, 280) + right, top + down + 24
    figure = new_figure(width, height)
    axes = figure.add_axes((left / width, 24 / height, across / width, down / height))
    totals = confusion.sum(axis=1, keepdims=True)
    shares = np.where(totals > 0, confusion / np.maximum(totals, 1), np.nan)
    heat = _heat_map(axes, shares, rows, columns, size, rotate)
    if printed:
        _print_cells(axes, confusion, shares)
    bar_axes = figure.add_axes(
        ((left + across + 18) / width, 24 / height, 12 / width, min(down, 260) / height)
    )
    bar = figure.colorbar(heat, cax=bar_axes, ticks=[0, 0.01, 0.05, 0.2, 0.5, 1])
    bar_axes.set_yticklabels(["0", "1%", "5%", "20%", "50%", "100%"], fontsize=8, color=MUTED)
    bar.outline.set_visible(False)
    note = f"share of each true class's pixels; {int(confusion.sum()):,} pixels in all"
    if not totals.all():
        note += "; grey: class without a pixel"
    figure.text(14 / width, 1 - 26 / height, "Confusion matrix", size=13, weight="bold", color=INK)
    if title:
        figure.text(14 / width, 1 - 46 / height, plain(title, 80), size=9, color=INK)
    figure.text(14 / width, 1 - heading / height, note, size=9, color=MUTED)
    save_png(path, render(figure))
