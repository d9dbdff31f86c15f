"""Unpooling as a way up."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from unet_jax.models.fast import convolve
from unet_jax.models.up.pixels import depth_to_space, space_to_depth
from unet_jax.models.up.stage import Stage


class Unpool(nn.Module):
    """A 1x1 convolution, its results placed where the encoder's maxima were (Noh et al., 2015).

    Attributes:
        stage: The stage; F is that of the encoder's activations.
    """

    stage: Stage

    @nn.compact
    def __call__(self, x: jax.Array, skip: jax.Array) -> jax.Array:
        """Maps x [B, *n, C] and the encoder's activations [B, *(s * n), F] to [B, *(s * n), F]."""
        own = {"dtype": self.stage.dtype, "conv_general_dilated": convolve}
        x = nn.Conv(self.stage.features, self.stage.ones, **own)(x)
        return max_unpool(x, skip, self.stage.strides)


def max_unpool(x: jax.Array, pooled_from: jax.Array, strides: tuple[int, ...]) -> jax.Array:
    """Places values where max pooling found the maxima, zeros elsewhere.

    Args:
        x: [B, *n, F].
        pooled_from: [B, *(s * n), F]; of equal maxima in a window the first counts.
        strides: s per axis.

    Returns:
        [B, *(s * n), F].
    """
    b, *spatial, features = x.shape
    phases = math.prod(strides)
    windows = _windows(pooled_from, strides)  # [B, *n, phases, F]
    where = jnp.argmax(windows, axis=-2, keepdims=True)
    taps = jnp.arange(phases).reshape((1,) * (x.ndim - 1) + (phases, 1))
    placed = jnp.where(where == taps, jnp.expand_dims(x, -2), 0)
    return depth_to_space(placed.reshape(b, *spatial, phases * features), strides)


def _windows(x: jax.Array, strides: tuple[int, ...]) -> jax.Array:
    folded = space_to_depth(x, strides)
    return folded.reshape(*folded.shape[:-1], math.prod(strides), x.shape[-1])
