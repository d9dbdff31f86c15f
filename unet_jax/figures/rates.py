"""Curves of rates between 0 and 1: ROC, precision by recall, reliability."""

import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from unet_jax.figures.canvas import INK, MUTED, RULE, new_figure, plain, render
from unet_jax.figures.colours import COLOURS, save_png

_SIDE, _MARGIN, _MOST = 420, 60, 12  # pixels, and curves of a panel


class Curve(NamedTuple):
    """One line of a panel.

    Attributes:
        x: [n], in [0, 1].
        y: Likewise.
        label: In the legend.
        is_marked: Whether its points are marked.
    """

    x: np.ndarray
    y: np.ndarray
    label: str
    is_marked: bool = False


class Panel(NamedTuple):
    """A square of curves.

    Attributes:
        title: Above it.
        across: What the horizontal axis is.
        up: What the vertical axis is.
        curves: One or more; the first 12 are drawn.
        has_diagonal: Whether the line of equal rates is drawn too.
    """

    title: str
    across: str
    up: str
    curves: Sequence[Curve]
    has_diagonal: bool = False


def rates(path: str | os.PathLike[str], title: str, panels: Sequence[Panel]) -> None:
    """Writes a PNG with panels side by side.

    Args:
        path: File to write; missing folders are made.
        title: Above all.
        panels: One or more.
    """
    figure = new_figure(len(panels) * _SIDE, _SIDE + _MARGIN)
    figure.suptitle(plain(title, 90), x=0.01, ha="left", fontsize=11, color=INK)
    drawn = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, panel in zip(drawn, panels, strict=True):
        if panel.has_diagonal:
            axes.plot([0, 1], [0, 1], ":", color=MUTED, linewidth=1)
        for index, curve in enumerate(panel.curves[:_MOST]):
            look = {"color": COLOURS[index % 256] / 255 * 0.85, "linewidth": 1.6}
            marker = "o" if curve.is_marked else ""
            axes.plot(curve.x, curve.y, marker=marker, label=plain(curve.label, 28), **look)
        axes.set(xlim=(0, 1), ylim=(0, 1.01))
        axes.set_title(panel.title, loc="left", fontsize=10, color=INK)
        axes.set_xlabel(panel.across, color=MUTED)
        axes.set_ylabel(panel.up, color=MUTED)
        axes.grid(color=RULE, linewidth=0.7)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=9, colors=MUTED)
        for text in axes.legend(frameon=False, fontsize=8).get_texts():
            text.set_parse_math(False)
    figure.tight_layout()
    save_png(path, render(figure))
