"""Gates: activations scaled by what they say themselves, or a deeper level says."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from unet_jax.models.fast import convolve
from unet_jax.models.up.resize import resize_bilinear


class SqueezeExcite(nn.Module):
    """Scales channels by what their means say (Hu et al., 2018, Fig. 2).

    Attributes:
        reduction: Hidden channels are F / reduction, at least 4.
        dtype: Type of the computation.
    """

    reduction: int
    dtype: str

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps x [B, *n, F] to the same shape."""
        features = x.shape[-1]
        mean = jnp.mean(x, axis=range(1, x.ndim - 1), keepdims=True, dtype=jnp.float32)
        hidden = nn.Dense(max(4, features // self.reduction), dtype=self.dtype)(mean)
        return x * nn.sigmoid(nn.Dense(features, dtype=self.dtype)(nn.relu(hidden)))


class AttentionGate(nn.Module):
    """Scales the pixels of a skip by what the next deeper level says (Oktay et al., 2018, Fig. 2).

    alpha = sigmoid(psi(relu(W_x skip + W_g g))), computed on the coarse grid and interpolated.

    Attributes:
        features: Hidden channels.
        dtype: Type of the computation.
        strides: From the skip's grid to that of g, per axis.
    """

    features: int
    dtype: str
    strides: tuple[int, ...]

    @nn.compact
    def __call__(self, skip: jax.Array, g: jax.Array) -> jax.Array:
        """Maps skip [B, *(s * n), F] and g [B, *n, C] to the skip, scaled."""
        ones = (1,) * len(self.strides)
        from_skip = nn.Conv(
            self.features, self.strides, self.strides, "VALID", use_bias=False, dtype=self.dtype
        )(skip)
        own = {"dtype": self.dtype, "conv_general_dilated": convolve}
        from_g = nn.Conv(self.features, ones, **own)(g)
        score = nn.Conv(1, ones, **own)(nn.relu(from_skip + from_g))
        return skip * resize_bilinear(nn.sigmoid(score), self.strides)
