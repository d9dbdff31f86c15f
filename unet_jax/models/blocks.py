"""Small blocks that U-Nets are made of."""

import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from unet_jax.config import choose

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "relu": nn.relu,
    "leaky_relu": nn.leaky_relu,
    "gelu": nn.gelu,
    "silu": nn.silu,
}


def _batch_norm(x: jax.Array, train: bool, dtype: str) -> jax.Array:
    return nn.BatchNorm(use_running_average=not train, momentum=0.9, dtype=dtype)(x)


def _group_norm(x: jax.Array, train: bool, dtype: str) -> jax.Array:
    groups = math.gcd(32, max(1, x.shape[-1] // 8))
    return nn.GroupNorm(num_groups=groups, dtype=dtype)(x)


def _instance_norm(x: jax.Array, train: bool, dtype: str) -> jax.Array:
    return nn.GroupNorm(num_groups=None, group_size=1, dtype=dtype)(x)


def _no_norm(x: jax.Array, train: bool, dtype: str) -> jax.Array:
    return x


# Statistics, scale and bias are float32 whatever the dtype. Under jit with a batch sharded over
# devices, batch statistics are those of the global batch: the mean is taken over the global array.
NORMS = {
    "batch": _batch_norm,  # Ioffe & Szegedy, 2015
    "group": _group_norm,  # Wu & He, 2018; at most 32 groups of at least 8 channels
    "instance": _instance_norm,  # Ulyanov et al., 2016
    "none": _no_norm,
}


class DoubleConv(nn.Module):
    """Two times 3x3 convolution, normalisation, activation (Ronneberger et al., 2015, Fig. 1).

    Attributes:
        features: F, channels of both convolutions.
        norm: A key of `NORMS`.
        activation: A key of `ACTIVATIONS`.
        dtype: Type that convolutions compute in; parameters stay float32.
    """

    features: int
    norm: str
    activation: str
    dtype: str

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps x [B, H, W, C] to [B, H, W, F]."""
        activation = choose(ACTIVATIONS, "config.model.activation", self.activation)
        norm = choose(NORMS, "config.model.norm", self.norm)
        for _ in range(2):
            x = nn.Conv(
                self.features,
                (3, 3),
                # A bias before a normalisation that subtracts the mean would do nothing.
                use_bias=self.norm == "none",
                kernel_init=nn.initializers.he_normal(),
                dtype=self.dtype,
            )(x)
            x = activation(norm(x, train, self.dtype))
        return x


def max_pool(x: jax.Array) -> jax.Array:
    """Takes the largest of every 2x2 pixels.

    Written as a reduction of a reshaped array because its gradient is then an elementwise mask,
    which is several times faster on CPU than the select-and-scatter of a reduce-window. Where
    several of the four are largest, they share the gradient.

    Args:
        x: [B, H, W, F] with even H and W.

    Returns:
        [B, H/2, W/2, F].
    """
    b, h, w, f = x.shape
    return jnp.max(x.reshape(b, h // 2, 2, w // 2, 2, f), axis=(2, 4))
