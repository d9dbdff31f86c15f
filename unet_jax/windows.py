"""Transposed convolution, convolution and max pooling, one window at a time, in numbers.

For small arrays [H, W] of one channel; `figures.explain_windows` draws what is computed here.
"""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from unet_jax.errors import UserError
from unet_jax.models.upsample import Geometry, transpose_conv_reference


def read_numbers(flag: str, value: str) -> np.ndarray:
    """Reads a matrix.

    Args:
        flag: Which flag it is, for errors.
        value: Rows separated by ";", numbers by blanks or commas; or a .txt or .csv file, whose
            rows are lines.

    Returns:
        float64 [rows, columns].

    Raises:
        UserError: There is no such file, something is no number, or the rows differ in length.
    """
    text = value
    if Path(value).suffix in (".txt", ".csv"):
        try:
            text = Path(value).read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(
                f"--{flag}={value} cannot be read ({error}); give a text file of numbers, or "
                'numbers such as "1 2; 3 4".'
            ) from None
    lines = [line.replace(",", " ").split() for line in text.replace(";", "\n").splitlines()]
    rows = [line for line in lines if line]
    lengths = sorted({len(row) for row in rows})
    if len(lengths) != 1:
        raise UserError(
            f"--{flag}={value} has rows of {lengths or 'no'} numbers; all must have the same "
            'count, 1 or more, such as "1 2; 3 4".'
        )
    numbers = []
    for word in (word for row in rows for word in row):
        try:
            numbers.append(float(word))
        except ValueError:
            numbers.append(float("nan"))
        if not abs(numbers[-1]) < float("inf"):
            raise UserError(
                f"--{flag}={value} holds {word!r}, which is no finite number; give numbers such "
                'as "1 2; 3 4", or a .txt or .csv file of them.'
            )
    return np.array(numbers).reshape(len(rows), -1)


class Placement(NamedTuple):
    """One input pixel of a transposed convolution: the filter times this pixel, added.

    Attributes:
        pixel: Row and column of the input pixel.
        window: Where the filter's taps lie on the grid, a slice of rows and one of columns.
        product: [f, f], the pixel's value times the filter.
        before: Sums [grid rows, grid columns] before this placement.
        after: The same after it.
    """

    pixel: tuple[int, int]
    window: tuple[slice, slice]
    product: np.ndarray
    before: np.ndarray
    after: np.ndarray


class TransposeConvSteps(NamedTuple):
    """A transposed convolution step by step.

    Attributes:
        geometry: Of both axes.
        x: Input [H, W].
        kernel: Filter [f, f].
        placements: One per input pixel, row by row.
        kept: bool [grid rows, grid columns], false where the padding is cut off.
        touched: The same shape, false where no filter can reach: in the output padding.
        result: [output rows, output columns].
        overlaps: int of the same shape, how many products each output pixel sums.
    """

    geometry: Geometry
    x: np.ndarray
    kernel: np.ndarray
    placements: list[Placement]
    kept: np.ndarray
    touched: np.ndarray
    result: np.ndarray
    overlaps: np.ndarray


def grid_size(n: int, geometry: Geometry, *, transposed: bool) -> int:
    """Returns how many cells the largest array of an operation has along one axis.

    Args:
        n: Input pixels along the axis.
        geometry: Of the axis.
        transposed: Whether it is a transposed convolution.

    Returns:
        Cells of its grid before the padding is cut; otherwise of the padded input.

    Raises:
        UserError: See `Geometry.output_size` and `window_output_size`.
    """
    g = geometry
    if transposed:
        reach = g.stride * (n - 1) + g.dilation * (g.filter - 1) + 1
        return max(reach, g.padding + g.output_size(n))
    window_output_size(g, n)
    return n + 2 * g.padding


def transpose_conv_steps(
    x: np.ndarray, kernel: np.ndarray, geometry: Geometry
) -> TransposeConvSteps:
    """Computes a transposed convolution step by step.

    Args:
        x: Input [H, W].
        kernel: Filter [f, f].
        geometry: Of both axes.

    Returns:
        The steps; their result is that of `upsample.transpose_conv_reference`.

    Raises:
        UserError: The geometry is out of its range, or nothing would be left.
    """
    g = geometry
    reach = [g.stride * (n - 1) + g.dilation * (g.filter - 1) + 1 for n in x.shape]
    sizes = [g.output_size(n) for n in x.shape]
    grid = [grid_size(n, g, transposed=True) for n in x.shape]
    placements, sums = [], np.zeros(grid, np.result_type(x, kernel))
    for i, j in np.ndindex(*x.shape):
        rows, columns = (
            slice(a * g.stride, a * g.stride + g.dilation * (g.filter - 1) + 1, g.dilation)
            for a in (i, j)
        )
        before, product = sums.copy(), x[i, j] * kernel
        sums[rows, columns] += product
        placements.append(Placement((i, j), (rows, columns), product, before, sums.copy()))
    kept, touched = np.zeros(grid, bool), np.zeros(grid, bool)
    inside = tuple(slice(g.padding, g.padding + m) for m in sizes)
    kept[inside], touched[: reach[0], : reach[1]] = True, True
    literal = transpose_conv_reference(
        x[None, ..., None],
        kernel[..., None, None],
        stride=g.stride,
        padding=g.padding,
        output_padding=g.output_padding,
        dilation=g.dilation,
    )[0, ..., 0]
    assert np.array_equal(sums[inside], literal), "the steps must sum to the reference"
    overlaps = np.multiply.outer(*(g.overlaps(n) for n in x.shape))
    return TransposeConvSteps(g, x, kernel, placements, kept, touched, literal, overlaps)


class Window(NamedTuple):
    """One output pixel of a convolution or of max pooling.

    Attributes:
        pixel: Row and column of the output pixel.
        window: Where the taps lie on the padded input, a slice of rows and one of columns.
        values: [f, f], the input under the window.
        products: [f, f], the values times the filter; None for max pooling.
        chosen: Row and column in the window of the (first) maximum; None for a convolution.
        result: The sum of the products, or the maximum.
        after: Output [output rows, output columns] so far, NaN where not yet written.
    """

    pixel: tuple[int, int]
    window: tuple[slice, slice]
    values: np.ndarray
    products: np.ndarray | None
    chosen: tuple[int, int] | None
    result: float
    after: np.ndarray


class WindowSteps(NamedTuple):
    """A convolution or max pooling step by step.

    Attributes:
        geometry: Of both axes.
        x: Input [H, W].
        kernel: Filter [f, f]; None for max pooling.
        padded: Input with its padding, [H + 2p, W + 2p]: zeros, for max pooling minus infinity.
        inside: bool of the same shape, false in the padding.
        windows: One per output pixel, row by row.
        result: [output rows, output columns].
    """

    geometry: Geometry
    x: np.ndarray
    kernel: np.ndarray | None
    padded: np.ndarray
    inside: np.ndarray
    windows: list[Window]
    result: np.ndarray


def window_output_size(geometry: Geometry, n: int) -> int:
    """Returns floor((n + 2p - d(f - 1) - 1) / s) + 1, the law of convolution and pooling.

    Args:
        geometry: Its output padding must be 0.
        n: Input pixels along one axis.

    Returns:
        Output pixels, 1 or more.

    Raises:
        UserError: The padding is out of its range, or the filter does not fit into the input.
    """
    f, s, p, extra, d = geometry
    if min(f, s, d) < 1 or extra:
        raise UserError(
            f"filter size f={f}, stride s={s} and dilation d={d} must be 1 or more and output "
            f"padding {extra} must be 0, which only a transposed convolution has."
        )
    reach = d * (f - 1) + 1
    if not 0 <= p < reach:
        raise UserError(
            f"padding p={p} must be 0 or more and below the reach of the filter, d(f - 1) + 1 = "
            f"{d}*({f} - 1) + 1 = {reach}."
        )
    if n < 1 or n + 2 * p < reach:
        raise UserError(
            f"the filter reaches over d(f - 1) + 1 = {reach} pixels and the padded input has n + 2p"
            f" = {n} + 2*{p} = {n + 2 * p}, so no output is left; use more input pixels, more "
            "padding or a smaller filter."
        )
    return (n + 2 * p - reach) // s + 1


def window_steps(x: np.ndarray, kernel: np.ndarray | None, geometry: Geometry) -> WindowSteps:
    """Computes a convolution or max pooling step by step.

    As in all deep learning, a convolution does not flip its filter.

    Args:
        x: Input [H, W].
        kernel: Filter [f, f], or None for max pooling.
        geometry: Of both axes, without output padding.

    Returns:
        The steps.

    Raises:
        UserError: The geometry is out of its range, the filter does not fit, or a window of max
            pooling lies in the padding alone.
    """
    g = geometry
    sizes = [window_output_size(g, n) for n in x.shape]
    fill = 0.0 if kernel is not None else -math.inf
    padded = np.pad(x.astype(float), g.padding, constant_values=fill)
    inside = np.pad(np.ones(x.shape, bool), g.padding)
    windows, output = [], np.full(sizes, math.nan)
    for i, j in np.ndindex(*sizes):
        rows, columns = (
            slice(a * g.stride, a * g.stride + g.dilation * (g.filter - 1) + 1, g.dilation)
            for a in (i, j)
        )
        values = padded[rows, columns]
        if kernel is None:
            if not inside[rows, columns].any():
                raise UserError(
                    f"the window of output row {i}, column {j} lies in the padding p={g.padding} "
                    "alone, so it has no maximum; use less padding."
                )
            products, result = None, values.max()
            chosen = divmod(int(values.argmax()), g.filter)
        else:
            products, chosen = values * kernel, None
            result = products.sum()
        output[i, j] = result
        window = Window((i, j), (rows, columns), values, products, chosen, result, output.copy())
        windows.append(window)
    return WindowSteps(g, x, kernel, padded, inside, windows, output)
