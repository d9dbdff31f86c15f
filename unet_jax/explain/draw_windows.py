"""Convolution and max pooling in words and panels."""

import numpy as np

from unet_jax.explain.grids import MINUS, TIMES, Grid, number
from unet_jax.explain.lessons import FILTER, INPUT, OUTPUT, Lesson, bounds, mask, sizes, times
from unet_jax.explain.panels import Panel
from unet_jax.explain.windows import Window, WindowSteps
from unet_jax.models.up.geometry import WINDOW_LAW


def explain_windows(steps: WindowSteps) -> Lesson:
    """Explains a convolution or max pooling.

    Args:
        steps: Its steps.

    Returns:
        The words and panels.
    """
    g, x, pooling = steps.geometry, steps.x, steps.kernel is None
    f, s, p, _, d = g
    move = f"{s} pixel{'s' * (s > 1)} (stride s = {s})"
    if pooling:
        name = "Max pooling"
        words = (
            f"A window of {f}{TIMES}{f} pixels slides over the input in moves of {move}; of the "
            "pixels under it only the largest is written to the output. Nothing in it is learned."
        )
        if p:
            words += f" Padding p = {p} adds minus infinity around the input, never the largest."
    else:
        name = "Convolution"
        words = (
            f"The filter slides over the input in moves of {move}. At every place multiply each "
            "pixel under it by the filter's number there, and add all products: that sum is one "
            "output pixel."
        )
        if p:
            words += f" Padding p = {p} adds zeros around the input, so that windows fit there too."
    law = sizes(
        WINDOW_LAW,
        steps.result,
        [g.window_law_in_numbers(n, "·") for n in x.shape],
    )
    law += f"\nn = {' or '.join(map(str, dict.fromkeys(x.shape)))} input rows and columns, "
    law += f"f = {f} {'window' if pooling else 'filter'} size, s = {s} stride, d = {d} dilation, "
    law += f"p = {p} padding; ⌊ ⌋ rounds down"
    source = _source(steps)
    kernel = () if steps.kernel is None else (Grid("filter", steps.kernel, FILTER),)
    empty = Grid("output, still empty", np.full(steps.result.shape, np.nan), OUTPUT)
    note = "Rows and columns are counted from 0, as written beside the grids."
    if p:
        note += " Striped cells are the padding."
    start = Panel("Before", (source, *kernel, "→", empty), note)
    panels = [_window(steps, k) for k in range(len(steps.windows))]
    result = Grid(f"result {times(steps.result.shape)}", steps.result, OUTPUT)
    end = Panel("The result", (source, *kernel, "→", result))
    title = f"{name}: {times(x.shape)} becomes {times(steps.result.shape)}"
    return Lesson(title=title, law=law, words=words, start=start, steps=panels, end=[end], extra=[])


def _source(
    steps: WindowSteps,
    marked: np.ndarray | None = None,
    frame: tuple[int, int, int, int] | None = None,
    boxed: np.ndarray | None = None,
) -> Grid:
    heading = f"input {times(steps.x.shape)}"
    if not steps.inside.all():
        heading += " and padding"
    return Grid(heading, steps.padded, INPUT, marked, frame, ~steps.inside, boxed)


def _window(steps: WindowSteps, k: int) -> Panel:
    step, g = steps.windows[k], steps.geometry
    i, j = step.pixel
    shape = steps.padded.shape
    window, frame = mask(shape, step.window), bounds(step.window)
    caption = (
        f"Step {k + 1} of {len(steps.windows)}: output row {i}, column {j}; the window begins at "
        f"row s·{i} = {g.stride * i}, column s·{j} = {g.stride * j}"
    )
    output = Grid(
        "output so far", step.after, OUTPUT, mask(step.after.shape, (i, j)), (i, j, i + 1, j + 1)
    )
    if step.products is None or steps.kernel is None:
        return Panel(caption, *_maximum(steps, step, window, frame, output))
    items = (
        _source(steps, window, frame),
        TIMES,
        Grid("filter", steps.kernel, FILTER),
        "=",
        Grid("products", step.products, FILTER),
        "→",
        output,
    )
    terms = [number(v) for v in step.products.ravel()]
    return Panel(caption, items, f"Sum of the products: {_sum(terms)} = {number(step.result)}")


def _sum(terms: list[str]) -> str:
    if len(terms) > 25:
        terms = [*terms[:12], "…", *terms[-12:]]
    return " + ".join(f"({t})" if t.startswith(MINUS) else t for t in terms)


def _maximum(
    steps: WindowSteps,
    step: Window,
    window: np.ndarray,
    frame: tuple[int, int, int, int],
    output: Grid,
) -> tuple[tuple[Grid | str, ...], str]:
    assert step.chosen is not None
    rows, columns = step.window
    r, c = step.chosen
    d = steps.geometry.dilation
    boxed = mask(steps.padded.shape, (rows.start + d * r, columns.start + d * c))
    largest = mask(step.values.shape, step.chosen)
    items = (
        _source(steps, window, frame, boxed),
        "→",
        Grid("window", step.values, INPUT, largest, (r, c, r + 1, c + 1), np.isinf(step.values)),
        "→",
        output,
    )
    values = ", ".join(number(v) for v in step.values.ravel())
    return items, f"Largest of {values}: {number(step.result)}"
