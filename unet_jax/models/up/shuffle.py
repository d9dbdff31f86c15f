"""The pixel shuffle as a way up."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from unet_jax.models.fast import convolve
from unet_jax.models.up.geometry import Geometry
from unet_jax.models.up.pixels import depth_to_space
from unet_jax.models.up.stage import Stage


class PixelShuffle(nn.Module):
    """A 1x1 convolution to s channels per axis, moved to pixels (Shi et al., 2016).

    Initialised so that it repeats pixels at first (ICNR: Aitken et al., 2017), without the
    checkerboard of independent phases.

    Attributes:
        stage: The stage.
    """

    stage: Stage

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps x [B, *n, C] to [B, *(s * n), F]."""
        features, strides = self.stage.features, self.stage.strides
        phases = math.prod(strides)

        def icnr(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype) -> jax.Array:
            one = nn.initializers.he_normal()(key, (*shape[:-1], features), dtype)
            return jnp.tile(one, (1,) * (len(shape) - 1) + (phases,))

        own = {"dtype": self.stage.dtype, "conv_general_dilated": convolve}
        conv = nn.Conv(phases * features, self.stage.ones, kernel_init=icnr, **own)
        return depth_to_space(conv(x), strides)


def shuffle_geometry(f: int, p: int, s: int) -> Geometry:
    """Describes s output pixels a pixel, which see it alone, whatever f and p are."""
    return Geometry(s, s)
