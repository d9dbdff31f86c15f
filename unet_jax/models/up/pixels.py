"""Moving channels to pixels and back."""

import math
from collections.abc import Sequence

import jax


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
