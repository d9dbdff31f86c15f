"""Interpolation, alone and as a way up."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from unet_jax.models.fast import convolve
from unet_jax.models.up.geometry import Geometry
from unet_jax.models.up.stage import Stage


def resize_nearest(x: jax.Array, strides: tuple[int, ...]) -> jax.Array:
    """Repeats every pixel: x [B, *n, C] to [B, *(s * n), C]."""
    for axis, s in enumerate(strides, start=1):
        x = jnp.repeat(x, s, axis=axis)
    return x


def resize_bilinear(x: jax.Array, strides: tuple[int, ...]) -> jax.Array:
    """Interpolates linearly along every axis, pixel centres at halves, edges repeated.

    Every output pixel is a weighted sum of its two nearest input pixels, computed for all pixels of
    one phase at once; equal to `jax.image.resize`, which multiplies with n x (s n) matrices.

    Args:
        x: [B, *n, C].
        strides: s per axis.

    Returns:
        [B, *(s * n), C].
    """
    for axis, s in enumerate(strides, start=1):
        n = x.shape[axis]
        # As `jnp.pad` does, which also repeats the edges of the other axes, no times.
        first, last = (jax.lax.slice_in_dim(x, i, i + 1, axis=axis) for i in (0, n - 1))
        padded = jax.lax.concatenate([first, x, last], axis)
        before, here, after = (
            jax.lax.slice_in_dim(padded, start, start + n, axis=axis) for start in range(3)
        )
        phases = []
        for r in range(s):
            at = (r + 0.5) / s - 0.5  # where the output pixel lies between input pixels
            near = before if at < 0 else after
            phases.append((1 - abs(at)) * here + abs(at) * near)
        x = jnp.stack(phases, axis=axis + 1)
        x = x.reshape(*x.shape[:axis], n * s, *x.shape[axis + 2 :])
    return x


class ResizeConv(nn.Module):
    """Interpolation followed by a 3x3 convolution (Odena et al., 2016).

    Attributes:
        stage: The stage.
        nearest: Whether to repeat pixels instead of interpolating.
    """

    stage: Stage
    nearest: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps x [B, *n, C] to [B, *(s * n), F]."""
        features, dtype, strides = self.stage.features, self.stage.dtype, self.stage.strides
        resize = resize_nearest if self.nearest else resize_bilinear
        x = resize(x.astype(dtype), strides)
        size = (3,) * len(strides)
        return nn.Conv(features, size, dtype=dtype, conv_general_dilated=convolve)(x)


def bilinear_geometry(f: int, p: int, s: int) -> Geometry:
    """Describes bilinear interpolation by s and a 3x3 convolution, whatever f and p are."""
    return Geometry(2 * s - s % 2 + 2, s, s // 2 + 1)


def nearest_geometry(f: int, p: int, s: int) -> Geometry:
    """Describes repeating every pixel s times and a 3x3 convolution, whatever f and p are."""
    return Geometry(s + 2, s, 1)
