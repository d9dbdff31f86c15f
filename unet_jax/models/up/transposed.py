"""The transposed convolution as a way up, and what its filter starts as."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from unet_jax.config import choose
from unet_jax.models.up.stage import Stage
from unet_jax.models.up.transpose import transpose_conv


class TransposeConv(nn.Module):
    """Transposed convolution to s times the size; see `transpose.transpose_conv`.

    Attributes:
        stage: The stage, whose geometry is `geometry.stage_geometry`.
        use_bias: Whether to add one.
    """

    stage: Stage
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps x [B, *n, C] to [B, *(s * n), F]; larger by f - 2p - s where that is above 0."""
        features, geometry, strides = self.stage.features, self.stage.geometry, self.stage.strides
        init = choose(INITIALS, "config.model.up_initial", self.stage.initial)
        shape = (*(g.filter for g in geometry), x.shape[-1], features)
        kernel = self.param("kernel", lambda key: init(key, shape, strides))
        bias = self.param("bias", nn.initializers.zeros, (features,)) if self.use_bias else None
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.stage.dtype)
        return transpose_conv(
            x,
            kernel,
            stride=strides,
            padding=[g.padding for g in geometry],
            output_padding=[g.output_padding for g in geometry],
            bias=bias,
        )


def per_output_init(key: jax.Array, shape: tuple[int, ...], strides: tuple[int, ...]) -> jax.Array:
    """Draws a filter whose output has the input's variance.

    An output pixel sums about f / s taps per axis, so its fan-in is C times these, not f * C.

    Args:
        key: A key.
        shape: (*f, C, F).
        strides: s per axis.

    Returns:
        float32 of the shape.
    """
    *taps, c, features = shape
    seen = math.prod(max(1.0, f / s) for f, s in zip(taps, strides, strict=True))
    init = nn.initializers.variance_scaling(1 / seen, "fan_in", "truncated_normal")
    flat = init(key, (c, math.prod(taps) * features)).reshape(c, *taps, features)
    return jnp.moveaxis(flat, 0, -2)


def bilinear_init(key: jax.Array, shape: tuple[int, ...], strides: tuple[int, ...]) -> jax.Array:
    """Draws a random 1x1 convolution of a bilinear interpolation (Long et al., 2015, section 4).

    Args:
        key: A key.
        shape: (*f, C, F).
        strides: s per axis.

    Returns:
        float32 of the shape.
    """
    *taps, c, features = shape
    mix = nn.initializers.lecun_normal()(key, (c, features))
    window = np.ones(())
    for f, s in zip(taps, strides, strict=True):
        distance = np.abs(np.arange(f) - (f - 1) / 2)
        window = np.multiply.outer(window, np.maximum(0.0, 1 - distance / s))
    return jnp.asarray(window[..., None, None], jnp.float32) * mix.reshape(
        (1,) * len(taps) + mix.shape
    )


INITIALS = {"random": per_output_init, "bilinear": bilinear_init}
