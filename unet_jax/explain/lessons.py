"""What an explained operation is made of: words, panels, and how they become files."""

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from unet_jax.explain.grids import TIMES
from unet_jax.explain.panels import Panel, write_animation, write_sheet
from unet_jax.figures.colours import palette

INPUT, FILTER, OUTPUT = ("#" + colour.tobytes().hex() for colour in palette(3))

_MOST = 9  # placements on a sheet; of more, the first ones and the last
_FIRST = 5


class Lesson(NamedTuple):
    """What a sheet and an animation show.

    Attributes:
        title: One line.
        law: How large the output is, in one sentence, with the numbers.
        words: What happens, in a few sentences.
        start: Before the first step.
        steps: One per input pixel or window.
        end: What follows the last step; of these, a sheet shows the last.
        extra: On the sheet alone.
    """

    title: str
    law: str
    words: str
    start: Panel
    steps: list[Panel]
    end: list[Panel]
    extra: list[Panel]


def write_lesson(lesson: Lesson, stem: str | os.PathLike[str]) -> list[str]:
    """Writes a lesson as STEM.png, of many steps only some, and STEM.gif, with all.

    Args:
        lesson: What to draw.
        stem: Path without suffix; missing folders are made.

    Returns:
        Both paths.
    """
    shown = list(lesson.steps)
    if (many := len(shown)) > _MOST:
        left = many - _FIRST - 1
        gap = Panel(f"… {left} more steps of the same kind; the animation shows all {many} …")
        shown = [*shown[:_FIRST], gap, shown[-1]]
    panels = [lesson.start, *shown, lesson.end[-1], *lesson.extra]
    write_sheet(f"{stem}.png", lesson.title, f"{lesson.words}\n{lesson.law}", panels)
    frames = [lesson.start, *lesson.steps, *lesson.end]
    each = 2.0 if len(lesson.steps) <= _MOST else 1.2
    seconds = [2.5] + [each] * len(lesson.steps) + [4.0] * len(lesson.end)
    write_animation(f"{stem}.gif", lesson.title, lesson.law, frames, seconds)
    return [f"{stem}.png", f"{stem}.gif"]


def times(shape: Sequence[int]) -> str:
    """Writes a shape, such as 3x3."""
    return TIMES.join(map(str, shape))


def bounds(window: tuple[slice, slice]) -> tuple[int, int, int, int]:
    """Returns the top, left, bottom and right of a window, the last two exclusive."""
    rows, columns = window
    return rows.start, columns.start, rows.stop, columns.stop


def mask(shape: tuple[int, ...], place: Any) -> np.ndarray:
    """Returns a bool array of that shape, true at that place."""
    inside = np.zeros(shape, bool)
    inside[place] = True
    return inside


def sizes(law: str, result: np.ndarray, filled: list[str]) -> str:
    """Returns the law of the output size with numbers: once if rows and columns agree."""
    parts = [f"{text} = {size}" for text, size in zip(filled, result.shape, strict=True)]
    if filled[0] == filled[1]:
        return f"Output size = {law} = {parts[0]}"
    return f"Output size = {law}\nRows: {parts[0]}. Columns: {parts[1]}."
