"""Transposed convolution, convolution and max pooling, one window at a time, in numbers.

For small arrays [H, W] of one channel; `explain.draw_windows` draws what is computed here.
"""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from unet_jax.errors import UserError
from unet_jax.models.up.geometry import Geometry
from unet_jax.models.up.transpose import transpose_conv_reference
from unet_jax.process.paths import expand
from unet_jax.process.regular import open_regular


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
            with open_regular(expand(value, f"--{flag}")) as file:
                text = file.read().decode()
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
        UserError: See `Geometry.output_size` and `Geometry.window_output_size`.
    """
    if transposed:
        return geometry.grid_size(n)
    geometry.window_output_size(n)
    return n + 2 * geometry.padding


def transpose_conv_steps(
    x: np.ndarray, kernel: np.ndarray, geometry: Geometry
) -> TransposeConvSteps:
    """Computes a transposed convolution step by step.

    Args:
        x: Input [H, W].
        kernel: Filter [f, f].
        geometry: Of both axes.

    Returns:
        The steps; their result is that of `transpose.transpose_conv_reference`.

    Raises:
        UserError: The geometry is out of its range, or nothing would be left.
    """
    g = geometry
    grid = [g.grid_size(n) for n in x.shape]
    placements, sums = [], np.zeros(grid, np.result_type(x, kernel))
    for i, j in np.ndindex(*x.shape):
        rows, columns = g.taps(i), g.taps(j)
        before, product = sums.copy(), x[i, j] * kernel
        sums[rows, columns] += product
        placements.append(Placement((i, j), (rows, columns), product, before, sums.copy()))
    kept, touched = np.zeros(grid, bool), np.zeros(grid, bool)
    inside = tuple(g.kept(n) for n in x.shape)
    reached = tuple(slice(g.taps(n - 1).stop) for n in x.shape)
    kept[inside], touched[reached] = True, True
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
    return TransposeConvSteps(
        geometry=g,
        x=x,
        kernel=kernel,
        placements=placements,
        kept=kept,
        touched=touched,
        result=literal,
        overlaps=overlaps,
    )


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
    sizes = [g.window_output_size(n) for n in x.shape]
    fill = 0.0 if kernel is not None else -math.inf
    padded = np.pad(x.astype(float), g.padding, constant_values=fill)
    inside = np.pad(np.ones(x.shape, bool), g.padding)
    windows, output = [], np.full(sizes, math.nan)
    for i, j in np.ndindex(*sizes):
        rows, columns = g.taps(i), g.taps(j)
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
        window = Window(
            pixel=(i, j),
            window=(rows, columns),
            values=values,
            products=products,
            chosen=chosen,
            result=result,
            after=output.copy(),
        )
        windows.append(window)
    return WindowSteps(
        geometry=g,
        x=x,
        kernel=kernel,
        padded=padded,
        inside=inside,
        windows=windows,
        result=output,
    )
