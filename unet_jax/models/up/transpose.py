"""The transposed convolution: its literal meaning and its fast forms.

Filter size f, stride s, padding p: place the filter on the output grid at every input pixel times
the stride, multiply it by that pixel, add, and sum where placements overlap; then cut p off every
side (Dumoulin & Visin, "A guide to convolution arithmetic for deep learning", 2016, chapter 4). The
numbers of it are those of `geometry.Geometry`.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from unet_jax.errors import UserError
from unet_jax.models import fast
from unet_jax.models.up.geometry import Geometry
from unet_jax.models.up.pixels import depth_to_space


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
        stride: s, as all of the next three one for all axes or one per axis.
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
    total = [g.grid_size(n) for g, n in zip(geometry, spatial, strict=True)]
    grid = np.zeros((x.shape[0], *total, filter.shape[-1]), np.result_type(x, filter))
    for pixel in np.ndindex(*spatial):
        place = tuple(g.taps(i) for g, i in zip(geometry, pixel, strict=True))
        values = x[(slice(None), *pixel)]  # [B, C_in]
        # The filter times this pixel, added to what earlier placements left there.
        grid[(slice(None), *place)] += np.einsum("bc,...cf->b...f", values, filter)
    inside = tuple(g.kept(n) for g, n in zip(geometry, spatial, strict=True))
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
        stride: s, as all of the next three one for all axes or one per axis.
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
    return lax.conv_general_dilated(
        x,
        jnp.flip(filter, axes),
        window_strides=(1,) * len(axes),
        padding=[g.padding_with_holes() for g in geometry],
        lhs_dilation=[g.stride for g in geometry],
        rhs_dilation=[g.dilation for g in geometry],
        dimension_numbers=_dimension_numbers(len(axes)),
    )


def _without_overlap(x: jax.Array, filter: jax.Array) -> jax.Array:
    """Multiplies every pixel with the filter and lays the results side by side; s == f."""
    *taps, channels, _ = filter.shape
    phases = jnp.moveaxis(filter, -2, 0).reshape(channels, -1)
    return depth_to_space(fast.multiply(x, phases), taps)


def _by_phase(
    x: jax.Array, filter: jax.Array, geometry: list[Geometry], sizes: list[int]
) -> jax.Array:
    """Convolves to s channels per axis, one per phase, and interleaves them."""
    axes = len(geometry)
    c, features = filter.shape[-2:]
    strides = [g.stride for g in geometry]
    phases = [g.phases(n) for g, n in zip(geometry, x.shape[1:-1], strict=True)]
    taps = [each.taps for each in phases]
    missing = [(0, a * g.stride - g.filter) for a, g in zip(taps, geometry, strict=True)]
    kernel = jnp.pad(filter, (*missing, (0, 0), (0, 0)))
    split = [n for a, s in zip(taps, strides, strict=True) for n in (a, s)]
    kernel = kernel.reshape(*split, c, features)
    order = (*range(0, 2 * axes, 2), 2 * axes, *range(1, 2 * axes, 2), 2 * axes + 1)
    kernel = kernel.transpose(order).reshape(*taps, c, math.prod(strides) * features)
    y = lax.conv_general_dilated(
        x,
        jnp.flip(kernel, tuple(range(axes))),
        window_strides=(1,) * axes,
        padding=[each.padding for each in phases],
        dimension_numbers=_dimension_numbers(axes),
    )
    y = depth_to_space(y, strides)
    starts = [each.start for each in phases]
    ends = (start + m for start, m in zip(starts, sizes, strict=True))
    return lax.slice(y, (0, *starts, 0), (y.shape[0], *ends, features))
