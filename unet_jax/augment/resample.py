"""Looking images, labels and weights up at any coordinates."""

import functools
import itertools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from unet_jax.augment.kinds import Arrays, Sampling
from unet_jax.augment.scale import GREY

Tap = tuple[jax.Array, jax.Array]
"""Indices along an axis, and the weights of what stands there."""


def sampling(cubic: bool = False) -> Sampling | None:
    """Says how images are looked up where steps move their pixels, all of which share one lookup.

    Args:
        cubic: Interpolate by cubic splines (Unser, 1999), which stay sharper than linear
            interpolation and take about four times as long. Labels are nearest all the same.

    Returns:
        The way; None for linear interpolation.
    """
    return Sampling(cubic) if cubic else None


def resample(
    image: jax.Array,
    label: jax.Array,
    weight: jax.Array,
    coordinates: jax.Array,
    *,
    cubic: bool = False,
) -> Arrays:
    """Resamples one image at any coordinates.

    Linear or cubic for the image, without a filter against aliasing where it shrinks; nearest
    neighbour for the label and the weight. What comes from outside the image is grey, class 0 and
    weight 0.

    Args:
        image: float32 [*n, C] in [0, 1].
        label: int [*n], or [*n, L].
        weight: float32 [*n].
        coordinates: float32 [*n, axes], where each pixel comes from.
        cubic: Whether by cubic splines, those of SciPy's `map_coordinates` with `order=3` and
            `mode="mirror"`, cut to the smallest and largest value that there are.

    Returns:
        The three, resampled.
    """
    size = weight.shape
    axes = [coordinates[..., axis] for axis in range(len(size))]
    inside = [(axis >= 0) & (axis < n) for axis, n in zip(axes, size, strict=True)]
    known = functools.reduce(jnp.logical_and, inside)
    nearest = [jnp.floor(axis).astype(jnp.int32) for axis in axes]
    # Centres of pixels, no farther out than the outermost ones.
    centres = [jnp.clip(axis - 0.5, 0, n - 1) for axis, n in zip(axes, size, strict=True)]
    moved = interpolate(image, centres, cubic=cubic)
    if cubic:
        moved = jnp.clip(moved, jnp.minimum(image.min(), 0), jnp.maximum(image.max(), 1))
    return (
        jnp.where(known[..., None], moved, GREY),
        where(known, look_up(label, nearest, size), 0),
        jnp.where(known, look_up(weight, nearest, size), 0),
    )


def interpolate(
    values: jax.Array, centres: Sequence[jax.Array], *, cubic: bool = False
) -> jax.Array:
    """Looks values up between the points of a grid.

    Args:
        values: float32 [*n, C].
        centres: By axis, float32 [*m] in [0, n - 1], where a point stands at whole numbers.
        cubic: See `resample`.

    Returns:
        float32 [*m, C].
    """
    way = _cubic if cubic else _linear
    taps = map(way, centres, values.shape[:-1])
    return _sum(_coefficients(values) if cubic else values, [*taps])


def where(known: jax.Array, label: jax.Array, other: jax.Array | int) -> jax.Array:
    """Takes a label [*n] or [*n, L] where pixels [*n] are known."""
    return jnp.where(known.reshape(known.shape + (1,) * (label.ndim - known.ndim)), label, other)


def _linear(centres: jax.Array, n: int) -> list[Tap]:
    lower = jnp.clip(jnp.floor(centres).astype(jnp.int32), 0, max(0, n - 2))
    part = centres - lower
    return [(lower, 1 - part), (lower + 1, part)]


def _cubic(centres: jax.Array, n: int) -> list[Tap]:
    """Returns the four cubic B-splines that are not 0 (Unser, 1999), mirrored at the ends."""
    lower = jnp.floor(centres).astype(jnp.int32)
    part = centres - lower
    weights = (
        (1 - part) ** 3 / 6,
        2 / 3 - part**2 * (2 - part) / 2,
        2 / 3 - (1 - part) ** 2 * (1 + part) / 2,
        part**3 / 6,
    )
    last = n - 1
    indices = [last - jnp.abs(last - jnp.abs(lower + step)) for step in (-1, 0, 1, 2)]
    return [*zip(indices, weights, strict=True)]


def _coefficients(image: jax.Array) -> jax.Array:
    """Returns the coefficients of the B-splines that go through the pixels of an image."""
    for axis, n in enumerate(image.shape[:-1]):
        ways = ndimage.spline_filter1d(np.eye(n), 3, axis=0, mode="mirror").astype(np.float32)
        image = along(ways, image, axis)
    return image


def along(ways: jax.Array | np.ndarray, array: jax.Array, axis: int) -> jax.Array:
    """Multiplies a matrix [m, n] with an array along its axis of n."""
    product = jnp.tensordot(ways, array, (1, axis), precision="highest")
    return jnp.moveaxis(product, 0, axis)


def stretch(values: jax.Array, axis: int, rank: int) -> jax.Array:
    """Returns values [n] as an array of a rank, n along its axis and 1 along all others."""
    return jnp.expand_dims(values, [other for other in range(rank) if other != axis])


def _sum(values: jax.Array, taps: Sequence[Sequence[Tap]]) -> jax.Array:
    """Sums values [*n, C] at all combinations of the taps of each axis."""
    size = values.shape[:-1]
    total = jnp.zeros((), values.dtype)
    for chosen in itertools.product(*taps):
        indices, weights = zip(*chosen, strict=True)
        factor = math.prod(weights[1:], start=weights[0])
        total = total + factor[..., None] * look_up(values, indices, size)
    return total


def look_up(array: jax.Array, indices: Sequence[jax.Array], size: Sequence[int]) -> jax.Array:
    """Looks an array [*n, ...] up at indices [*m] by axis, those outside moved to the edge."""
    flat = jnp.zeros((), jnp.int32)
    for index, n in zip(indices, size, strict=True):
        flat = flat * n + jnp.clip(index, 0, n - 1)
    pixels = array.reshape(math.prod(size), *array.shape[len(size) :])
    return pixels.at[flat].get(mode="promise_in_bounds")
