"""The transposed convolution: its law, its literal meaning and its fast forms.

Filter size f, stride s, padding p: place the filter on the output grid at every input pixel times
the stride, multiply it by that pixel, add, and sum where placements overlap; then cut p off every
side (Dumoulin & Visin, "A guide to convolution arithmetic for deep learning", 2016, chapter 4).
"""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from unet_jax.errors import UserError


class Geometry(NamedTuple):
    """How a transposed convolution places its filter along one axis.

    Input pixel i times filter tap k adds to output pixel i * stride + k * dilation - padding.

    Attributes:
        filter: f, taps, 1 or more.
        stride: s, output pixels from one placement to the next, 1 or more.
        padding: p, pixels cut off either end, 0 <= p < f.
        output_padding: Pixels added at the far end, below the larger of s and d.
        dilation: d, output pixels from one tap to the next, 1 or more.
    """

    filter: int
    stride: int
    padding: int = 0
    output_padding: int = 0
    dilation: int = 1

    def output_size(self, n: int) -> int:
        """Returns s(n - 1) + d(f - 1) + 1 - 2p + output padding, for n input pixels.

        Raises:
            UserError: A number is out of its range, or nothing would be left.
        """
        f, s, p, extra, d = self
        allowed = {
            f"filter size f={f} must be 1 or more": f >= 1,
            f"stride s={s} must be 1 or more": s >= 1,
            f"dilation d={d} must be 1 or more": d >= 1,
            f"padding p={p} must be 0 or more and below the filter size f={f}": 0 <= p < max(f, 1),
            f"output padding {extra} must be 0 or more and below the larger of stride s={s} and "
            f"dilation d={d}": 0 <= extra < max(s, d),
        }
        for law, holds in allowed.items():
            if not holds:
                raise UserError(f"transposed convolution: {law}.")
        size = s * (n - 1) + d * (f - 1) + 1 - 2 * p + extra
        if n < 1 or size < 1:
            raise UserError(
                "transposed convolution: the output size s(n - 1) + d(f - 1) + 1 - 2p + output "
                f"padding = {s}*({n} - 1) + {d}*({f} - 1) + 1 - 2*{p} + {extra} = {size} must be 1 "
                "or more; use more input pixels or less padding."
            )
        return size

    def overlaps(self, n: int) -> np.ndarray:
        """Counts the products that each output pixel sums.

        Args:
            n: Input pixels.

        Returns:
            int [output_size(n)]; over several axes the counts multiply. They are uneven inside,
            which shows as a checkerboard (Odena et al., 2016), unless s divides f.
        """
        end = self.padding + self.output_size(n)
        counts = np.zeros(max(end, self.stride * n + self.dilation * self.filter), int)
        for i, k in itertools.product(range(n), range(self.filter)):
            counts[i * self.stride + k * self.dilation] += 1
        return counts[self.padding : end]

    def checkerboard(self) -> str | None:
        """Warns of a checkerboard.

        Returns:
            A sentence with the numbers where inner output pixels sum unequally many products;
            None where they do not.
        """
        f, s, d = self.filter, self.stride, self.dilation
        phases = np.bincount(np.arange(f) * d % s, minlength=s)
        if phases.min() == phases.max():
            return None
        fitting = s * -(-f // s)
        why, remedy = f"filter size {f} is no multiple of stride {s}", f"filter size {fitting}"
        if d > 1:
            why = f"the {f} taps of a filter with dilation {d} fall unevenly on stride {s}"
            remedy += " with dilation 1"
        return (
            f"{why}, so along each axis output pixels sum {phases.min()} to {phases.max()} "
            f"products in turn, a checkerboard; {remedy} and padding {(fitting - s) // 2} has none."
        )


def _geometries(
    x_ndim: int,
    filter_shape: Sequence[int],
    stride: int | Sequence[int],
    padding: int | Sequence[int],
    output_padding: int | Sequence[int],
    dilation: int | Sequence[int],
) -> list[Geometry]:
    axes = x_ndim - 2
    if axes not in (1, 2, 3) or len(filter_shape) != axes + 2:
        raise UserError(
            f"transposed convolution: x with {x_ndim} axes and a filter with {len(filter_shape)} "
            "must be [B, *spatial, C_in] and [*f, C_in, C_out] with the same 1 to 3 spatial axes."
        )
    values = [stride, padding, output_padding, dilation]
    each = [[v] * axes if isinstance(v, int) else list(v) for v in values]
    for name, v in zip(("stride", "padding", "output padding", "dilation"), each, strict=True):
        if len(v) != axes:
            raise UserError(f"transposed convolution: {name} {v} must have {axes} numbers or one.")
    return [Geometry(*numbers) for numbers in zip(filter_shape[:axes], *each, strict=True)]


def _check_channels(x_shape: Sequence[int], filter_shape: Sequence[int]) -> None:
    if x_shape[-1] != filter_shape[-2]:
        raise UserError(
            f"transposed convolution: x has {x_shape[-1]} channels and the filter takes "
            f"{filter_shape[-2]}; they must be equal."
        )


def transpose_conv_reference(
    x: np.ndarray,
    filter: np.ndarray,
    *,
    stride: int | Sequence[int],
    padding: int | Sequence[int] = 0,
    output_padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    bias: np.ndarray | None = None,
) -> np.ndarray:
    """Computes a transposed convolution literally: what `transpose_conv` must equal.

    Args:
        x: [B, *spatial, C_in], 1 to 3 spatial axes.
        filter: [*f, C_in, C_out].
        stride: s, one for all axes or one per axis; likewise the next three.
        padding: p.
        output_padding: Pixels added at the far end.
        dilation: d.
        bias: [C_out] or None.

    Returns:
        [B, *output sizes, C_out], in the type of x * filter.

    Raises:
        UserError: Shapes or numbers do not fit.
    """
    geometry = _geometries(x.ndim, filter.shape, stride, padding, output_padding, dilation)
    _check_channels(x.shape, filter.shape)
    spatial = x.shape[1:-1]
    size = [g.output_size(n) for g, n in zip(geometry, spatial, strict=True)]
    reach = [g.stride * n + g.dilation * g.filter for g, n in zip(geometry, spatial, strict=True)]
    total = [max(r, g.padding + m) for r, g, m in zip(reach, geometry, size, strict=True)]
    grid = np.zeros((x.shape[0], *total, filter.shape[-1]), np.result_type(x, filter))
    for pixel in np.ndindex(*spatial):
        place = tuple(
            slice(i * g.stride, i * g.stride + g.dilation * g.filter, g.dilation)
            for i, g in zip(pixel, geometry, strict=True)
        )
        values = x[(slice(None), *pixel)]  # [B, C_in]
        # The filter times this pixel, added to what earlier placements left there.
        grid[(slice(None), *place)] += np.einsum("bc,...cf->b...f", values, filter)
    inside = tuple(slice(g.padding, g.padding + m) for g, m in zip(geometry, size, strict=True))
    y = grid[(slice(None), *inside)]
    return y if bias is None else y + bias


def transpose_conv(
    x: jax.Array,
    filter: jax.Array,
    *,
    stride: int | Sequence[int],
    padding: int | Sequence[int] = 0,
    output_padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    bias: jax.Array | None = None,
) -> jax.Array:
    """Computes a transposed convolution in the form that is fastest for its shape.

    Where filters do not overlap (f == s) it is one matrix product per pixel and a move of the
    results to their places. Where they do, output pixels q = s m + r of one phase r see the taps
    k = s a + r alone: y[s m + r] = sum_a x[m - a] filter[s a + r]. So all phases together are one
    convolution without holes, of ceil(f / s) taps, to s channels per axis and output channel, and
    the same move (Shi et al., 2016, "Is the deconvolution layer the same as a convolutional
    layer?"). A dilated filter is a convolution of x with s - 1 zeros between its pixels.

    Args:
        x: [B, *spatial, C_in], 1 to 3 spatial axes.
        filter: [*f, C_in, C_out], in the type of x.
        stride: s, one for all axes or one per axis; likewise the next three.
        padding: p, 0 <= p < f.
        output_padding: Pixels added at the far end, below the larger of s and d.
        dilation: d.
        bias: [C_out] or None.

    Returns:
        [B, *(s(n - 1) + d(f - 1) + 1 - 2p + output padding), C_out].

    Raises:
        UserError: Shapes or numbers do not fit.
    """
    geometry = _geometries(x.ndim, filter.shape, stride, padding, output_padding, dilation)
    _check_channels(x.shape, filter.shape)
    sizes = [g.output_size(n) for g, n in zip(geometry, x.shape[1:-1], strict=True)]
    if any(g.dilation > 1 for g in geometry):
        y = _with_zeros_between(x, filter, geometry)
    elif all(g.filter == g.stride and g.padding == g.output_padding == 0 for g in geometry):
        y = _without_overlap(x, filter)
    else:
        y = _by_phase(x, filter, geometry, sizes)
    return y if bias is None else y + bias.reshape((1,) * (y.ndim - 1) + (-1,))


def _dimension_numbers(axes: int) -> tuple[str, str, str]:
    spatial = "DHW"[3 - axes :]
    return f"N{spatial}C", f"{spatial}IO", f"N{spatial}C"


def _with_zeros_between(x: jax.Array, filter: jax.Array, geometry: list[Geometry]) -> jax.Array:
    """Convolves x, with s - 1 zeros between its pixels, with the flipped filter."""
    axes = tuple(range(len(geometry)))
    reach = [g.dilation * (g.filter - 1) for g in geometry]
    padding = [
        (r - g.padding, r - g.padding + g.output_padding)
        for r, g in zip(reach, geometry, strict=True)
    ]
    return lax.conv_general_dilated(
        x,
        jnp.flip(filter, axes),
        window_strides=(1,) * len(axes),
        padding=padding,
        lhs_dilation=[g.stride for g in geometry],
        rhs_dilation=[g.dilation for g in geometry],
        dimension_numbers=_dimension_numbers(len(axes)),
    )


def _without_overlap(x: jax.Array, filter: jax.Array) -> jax.Array:
    """Multiplies every pixel with the filter and lays the results side by side; s == f."""
    *taps, _, features = filter.shape
    b, *spatial, _ = x.shape
    letters = "hwd"[: len(spatial)]
    inner = "ijk"[: len(spatial)]
    out = "".join(a + i for a, i in zip(letters, inner, strict=True))
    y = jnp.einsum(f"b{letters}c,{inner}cf->b{out}f", x, filter)
    return y.reshape(b, *(n * s for n, s in zip(spatial, taps, strict=True)), features)


def _by_phase(
    x: jax.Array, filter: jax.Array, geometry: list[Geometry], sizes: list[int]
) -> jax.Array:
    """Convolves to s channels per axis, one per phase, and interleaves them."""
    axes = len(geometry)
    c, features = filter.shape[-2:]
    strides = [g.stride for g in geometry]
    taps = [-(-g.filter // g.stride) for g in geometry]
    missing = [(0, a * g.stride - g.filter) for a, g in zip(taps, geometry, strict=True)]
    kernel = jnp.pad(filter, (*missing, (0, 0), (0, 0)))
    split = [n for a, s in zip(taps, strides, strict=True) for n in (a, s)]
    kernel = kernel.reshape(*split, c, features)
    order = (*range(0, 2 * axes, 2), 2 * axes, *range(1, 2 * axes, 2), 2 * axes + 1)
    kernel = kernel.transpose(order).reshape(*taps, c, math.prod(strides) * features)
    # Only m from first to last, which hold the output pixels q = p .. p + size - 1.
    first = [g.padding // g.stride for g in geometry]
    last = [(g.padding + m - 1) // g.stride for g, m in zip(geometry, sizes, strict=True)]
    padding = [
        (a - 1 - low, high - n + 1)
        for a, low, high, n in zip(taps, first, last, x.shape[1:-1], strict=True)
    ]
    y = lax.conv_general_dilated(
        x,
        jnp.flip(kernel, tuple(range(axes))),
        window_strides=(1,) * axes,
        padding=padding,
        dimension_numbers=_dimension_numbers(axes),
    )
    y = depth_to_space(y, strides)
    start = [g.padding - low * g.stride for g, low in zip(geometry, first, strict=True)]
    inside = tuple(slice(at, at + m) for at, m in zip(start, sizes, strict=True))
    return y[(slice(None), *inside)]


def depth_to_space(x: jax.Array, factors: Sequence[int]) -> jax.Array:
    """Moves channels to pixels, s per axis (the pixel shuffle of Shi et al., 2016).

    Args:
        x: [B, *spatial, prod(s) * F], the phases slowest and the features fastest.
        factors: s per axis.

    Returns:
        [B, *(s * n), F].
    """
    b, *spatial, channels = x.shape
    axes = len(spatial)
    x = x.reshape(b, *spatial, *factors, channels // math.prod(factors))
    order = (0, *(i for axis in range(axes) for i in (1 + axis, 1 + axes + axis)), 1 + 2 * axes)
    return x.transpose(order).reshape(
        b, *(n * s for n, s in zip(spatial, factors, strict=True)), -1
    )


def space_to_depth(x: jax.Array, factors: Sequence[int]) -> jax.Array:
    """Moves pixels to channels, the inverse of `depth_to_space`.

    Args:
        x: [B, *spatial, F], every size a multiple of its factor.
        factors: s per axis.

    Returns:
        [B, *(n / s), prod(s) * F].
    """
    b, *spatial, features = x.shape
    axes = len(spatial)
    split = [m for n, s in zip(spatial, factors, strict=True) for m in (n // s, s)]
    order = (0, *range(1, 2 * axes, 2), *range(2, 2 * axes + 1, 2), 1 + 2 * axes)
    x = x.reshape(b, *split, features).transpose(order)
    return x.reshape(*x.shape[: 1 + axes], math.prod(factors) * features)
