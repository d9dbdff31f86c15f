"""The transposed convolution in words and panels."""

import numpy as np

from unet_jax.explain.grids import TIMES, Grid, number
from unet_jax.explain.lessons import FILTER, INPUT, OUTPUT, Lesson, bounds, mask, sizes, times
from unet_jax.explain.panels import Panel, Words
from unet_jax.explain.windows import Placement, TransposeConvSteps
from unet_jax.models.up.geometry import LAW


def explain_transpose_conv(steps: TransposeConvSteps) -> Lesson:
    """Explains a transposed convolution.

    Args:
        steps: Its steps.

    Returns:
        The words and panels.
    """
    g, x = steps.geometry, steps.x
    apart = f"{g.stride} pixel{'s' * (g.stride > 1)} apart (stride s = {g.stride})"
    words = (
        "A convolution gathers many pixels into one; a transposed convolution spreads one pixel "
        "over many. For every input pixel: multiply the whole filter by that pixel and put the "
        f"product on the output grid, {apart} from one input pixel to the next. Where products "
        "overlap, add them. "
    )
    if g.padding:
        words += f"At the end cut p = {g.padding} off every side."
    law = sizes(
        LAW,
        steps.result,
        [g.law_in_numbers(n, "·") for n in x.shape],
    )
    law += f"\nn = {' or '.join(map(str, dict.fromkeys(x.shape)))} input rows and columns, "
    law += f"f = {g.filter} filter size, s = {g.stride} stride, d = {g.dilation} dilation "
    law += f"({'taps lie side by side' if g.dilation == 1 else 'pixels from one tap to the next'})"
    law += f", p = {g.padding} padding"
    grid = np.zeros(steps.kept.shape)
    start = Panel(
        "Before: the input, the filter and an output grid full of zeros",
        (
            Grid(f"input {times(x.shape)}", x, INPUT),
            Grid(f"filter {times(steps.kernel.shape)}", steps.kernel, FILTER),
            Grid(f"output grid {times(grid.shape)}", grid, OUTPUT),
            Words("Rows and columns are counted from 0, as written beside the grids.", 190),
        ),
    )
    panels = [_placement(steps, k) for k in range(len(steps.placements))]
    title = f"Transposed convolution: {times(x.shape)} becomes {times(steps.result.shape)}"
    return Lesson(
        title=title,
        law=law,
        words=words,
        start=start,
        steps=panels,
        end=_ending(steps),
        extra=[_overlap_counts(steps)],
    )


def _placement(steps: TransposeConvSteps, k: int) -> Panel:
    step, g = steps.placements[k], steps.geometry
    (i, j), (rows, columns) = step.pixel, step.window
    value = step_value = steps.x[i, j]
    placed = np.full(step.after.shape, np.nan)
    placed[rows, columns] = step.product
    earlier = np.zeros(step.after.shape, int)
    for before in steps.placements[:k]:
        earlier[before.window] += 1
    window = mask(step.after.shape, step.window)
    overlapped = window & (earlier > 0)
    caption = (
        f"Step {k + 1} of {len(steps.placements)}: input row {i}, column {j} holds "
        f"{number(step_value)}: product from output row s·{i} = {g.stride * i}, "
        f"column s·{j} = {g.stride * j}"
    )
    frame = bounds(step.window)
    items = (
        Grid("input: take", steps.x, INPUT, mask(steps.x.shape, (i, j)), (i, j, i + 1, j + 1)),
        TIMES,
        Grid("whole filter", steps.kernel, FILTER),
        "=",
        Grid(f"{number(value)} {TIMES} filter, put here", placed, FILTER, window, frame),
        "→",
        Grid("sum so far", step.after, OUTPUT, window, frame, boxed=overlapped),
    )
    return Panel(caption, items, _sums_in_words(step, overlapped))


def _sums_in_words(step: Placement, overlapped: np.ndarray) -> str:
    if not overlapped.any():
        return "Nothing was there before, so the sum is the product itself."
    placed = np.zeros(step.after.shape)
    placed[step.window] = step.product
    at = np.argwhere(overlapped)
    shown = [
        f"{r}, column {c}: {number(step.before[r, c])} + {number(placed[r, c])} = "
        f"{number(step.after[r, c])}"
        for r, c in at[:3]
    ]
    more = f"; and {len(at) - 3} more" if len(at) > 3 else ""
    return f"Overlap (small frames): old sum + product. Row {'; row '.join(shown)}{more}."


def _ending(steps: TransposeConvSteps) -> list[Panel]:
    g, sums = steps.geometry, steps.placements[-1].after
    result = Grid(f"result {times(steps.result.shape)}", steps.result, OUTPUT)
    if steps.kept.all() and steps.touched.all():
        words = Words("There is no padding (p = 0), so nothing is cut off: the sum is it.", 240)
        return [Panel("The result", (result, words))]
    rows, columns = steps.result.shape
    frame = (g.padding, g.padding, g.padding + rows, g.padding + columns)
    cut = Grid("all sums", sums, OUTPUT, None, frame, hatched=~steps.kept)
    says = []
    if g.padding:
        says.append(f"Striped cells are cut off: padding p = {g.padding} at every side.")
        says.append("Padding makes the output of a transposed convolution smaller, not larger.")
    if g.output_padding:
        says.append(
            f"Output padding {g.output_padding}: so much more is kept, or added as zeros, at the "
            "bottom and at the right."
        )
    words = Words(" ".join(says), 230)
    return [
        Panel("The end: what lies in the frame is the result", (cut, words)),
        Panel("The end: what lies in the frame is the result", (cut, "→", result, words)),
    ]


def _overlap_counts(steps: TransposeConvSteps) -> Panel:
    g, counts = steps.geometry, steps.overlaps
    most = counts == counts.max()
    uneven = g.checkerboard()
    if uneven:
        says = f"Checkerboard: {uneven}"
    elif counts.min() == counts.max():
        says = "All output pixels sum equally many products: no checkerboard."
    else:
        says = (
            "Away from the border all output pixels sum equally many products: no checkerboard. "
            "Only at the border there are fewer."
        )
    heading = f"products per output pixel, {counts.min()} to {counts.max()}"
    grid = Grid(heading, counts.astype(float), INPUT, most if counts.min() < counts.max() else None)
    return Panel(
        "How many products each output pixel sums" + (" (bold: most)" * (not most.all())),
        (grid, Words(says, 420)),
    )
