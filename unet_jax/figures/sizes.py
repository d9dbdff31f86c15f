"""Scores of objects by their size."""

import itertools
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from unet_jax.figures.canvas import INK, MUTED, RULE, new_figure, plain, render
from unet_jax.figures.colours import COLOURS, save_png

_WIDTH, _HEIGHT, _MOST = 840, 460, 8  # pixels, and classes with a line
_MARKERS, _STYLES = "osD^vP*X", ("-", "--", "-.", ":")


def size_names(least: Sequence[int]) -> list[str]:
    """Names the bins of sizes that begin at some numbers of pixels, such as "16 to 63"."""
    ends = [
        f"{low:,}" if low + 1 == high else f"{low:,} to {high - 1:,}"
        for low, high in itertools.pairwise(least)
    ]
    return [*ends, f"{least[-1]:,} or more"]


def recall_by_size(
    path: str | os.PathLike[str],
    objects: np.ndarray,
    shares: np.ndarray,
    least: Sequence[int],
    class_names: Sequence[str],
    title: str,
) -> None:
    """Writes a PNG: how much of objects is found by size, above how many there are.

    Args:
        path: File to write; missing folders are made.
        objects: [K, S], the objects of each class and size.
        shares: [K, S], the sum over these of the share of its pixels that is found, 0 to 1.
        least: S numbers of pixels, the least of each size.
        class_names: K names.
        title: Heading of the figure.
    """
    used = np.flatnonzero(objects.any(axis=0))
    first, last = (used[0], used[-1] + 1) if len(used) else (0, len(least))
    objects, shares = objects[:, first:last], shares[:, first:last]
    names = size_names(least)[first:last]
    places = np.arange(len(names))
    figure = new_figure(_WIDTH, _HEIGHT)
    top = figure.add_axes((0.08, 0.42, 0.66, 0.46))
    bottom = figure.add_axes((0.08, 0.14, 0.66, 0.2))
    figure.text(0.015, 0.95, plain(title, 90), size=11, weight="bold", color=INK)
    for index in _worst(objects, shares):
        _line(top, places, objects[index], shares[index], plain(class_names[index], 22), index)
    if (objects.sum(axis=1) > 0).sum() > 1:
        all_objects, all_shares = objects.sum(axis=0), shares.sum(axis=0)
        _line(top, places, all_objects, all_shares, "all objects", None)
    top.set(ylim=(0, 1.03), xlim=(-0.5, len(names) - 0.5), xticks=places)
    top.set_xticklabels([])
    top.set_ylabel("share of an object\nthat is found", color=MUTED)
    counts = objects.sum(axis=0)
    bottom.bar(places, counts, color="#a9b4c2", width=0.7)
    for x, count in zip(places, counts, strict=True):
        bottom.text(x, count, f"{int(count):,}", ha="center", va="bottom", fontsize=8, color=INK)
    bottom.set(xlim=(-0.5, len(names) - 0.5), ylim=(0, max(counts.max() * 1.3, 1)), xticks=places)
    bottom.set_xticklabels(names, fontsize=8, rotation=15 if len(names) > 5 else 0)
    bottom.set_ylabel("objects", color=MUTED)
    bottom.set_xlabel("pixels of an object", color=MUTED)
    for axes in (top, bottom):
        axes.grid(color=RULE, linewidth=0.7, axis="y")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8.5, colors=MUTED)
    if top.lines:
        legend = top.legend(loc="upper left", bbox_to_anchor=(1.01, 1.05), frameon=False)
        for text in legend.get_texts():
            text.set(parse_math=False, fontsize=8.5)
    save_png(path, render(figure))


def _worst(objects: np.ndarray, shares: np.ndarray) -> list[int]:
    """Returns the classes with a line: those of which the least is found, in their order."""
    totals = objects.sum(axis=1)
    there = [k for k in range(len(objects)) if totals[k] > 0]
    there.sort(key=lambda k: shares[k].sum() / totals[k])
    return sorted(there[:_MOST])


def _line(
    axes: Any,
    places: np.ndarray,
    objects: np.ndarray,
    shares: np.ndarray,
    name: str,
    index: int | None,
) -> None:
    """Draws a class, or all classes, where it has objects."""
    there = objects > 0
    mean = shares[there] / objects[there]
    if index is None:
        look = {"color": INK, "linewidth": 2.6, "marker": "o", "markersize": 5}
    else:
        look = {
            "color": COLOURS[index % 256] / 255 * 0.85,
            "marker": _MARKERS[index % len(_MARKERS)],
            "linestyle": _STYLES[index % len(_STYLES)],
            "linewidth": 1.6,
        }
    axes.plot(places[there], mean, label=name, **look)
