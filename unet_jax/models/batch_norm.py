"""Batch normalisation in few passes over the activations."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax


def channel_sums(x: jax.Array) -> jax.Array:
    """Sums over all axes but the last, in float32.

    The last two axes are summed as one first, which lets a core add whole vectors also where
    channels are few; three times as fast on CPU.

    Args:
        x: [B, *n, C].

    Returns:
        float32 [C].
    """
    *rest, width, channels = x.shape
    rows = x.reshape(*rest, width * channels).sum(range(len(rest)), dtype=jnp.float32)
    return rows.reshape(width, channels).sum(0)


@jax.custom_vjp
def normalise(
    x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalises by the mean and variance of every channel (Ioffe & Szegedy, 2015, Algorithm 1).

    Forward reads x once for both sums and once for the result; backward likewise with its gradient.

    Args:
        x: [B, *n, C].
        scale: float32 [C].
        bias: float32 [C].
        epsilon: Added to the variance.

    Returns:
        (scale * (x - mean) / sqrt(variance + epsilon) + bias, in the type of x; mean; variance).
        No gradient goes through mean and variance as results.
    """
    return _forward(x, scale, bias, epsilon)[0]


Residuals = tuple[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array]


def _forward(
    x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float
) -> tuple[tuple[jax.Array, jax.Array, jax.Array], Residuals]:
    count = x.size // x.shape[-1]
    mean = channel_sums(x) / count
    squares = channel_sums(jnp.square(x.astype(jnp.float32)))
    variance = jnp.maximum(squares / count - jnp.square(mean), 0)
    inverse = lax.rsqrt(variance + epsilon)
    y = affine(x, scale * inverse, bias - scale * inverse * mean)
    return (y, mean, variance), (x, scale, bias, mean, inverse)


def _backward(
    residuals: Residuals, gradients: tuple[jax.Array, jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array, jax.Array, None]:
    x, scale, bias, mean, inverse = residuals
    dy, _, _ = gradients
    count = x.size // x.shape[-1]
    dbias = channel_sums(dy)
    products = channel_sums(dy.astype(jnp.float32) * x.astype(jnp.float32))
    dscale = (products - mean * dbias) * inverse
    # dx = scale * inverse * (dy - dbias / n - (x - mean) * inverse * dscale / n)
    by_x = -scale * inverse * inverse * dscale / count
    constant = -scale * inverse * dbias / count - by_x * mean
    from_x = affine(x.astype(jnp.float32), by_x, constant)
    dx = affine(dy.astype(jnp.float32), scale * inverse, jnp.zeros_like(bias)) + from_x
    return dx.astype(x.dtype), dscale.astype(scale.dtype), dbias.astype(bias.dtype), None


normalise.defvjp(_forward, _backward)


def affine(x: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
    """Returns scale * x + bias per channel, computed in float32, in the type of x."""
    channels = (1,) * (x.ndim - 1) + (-1,)
    return (x.astype(jnp.float32) * scale.reshape(channels) + bias.reshape(channels)).astype(
        x.dtype
    )


class BatchNorm(nn.Module):
    """Batch normalisation with the parameters and running statistics of `flax.linen.BatchNorm`.

    Under jit with a batch sharded over devices the statistics are those of the global batch.

    Attributes:
        use_running_average: Whether to normalise by the running statistics and leave them.
        momentum: Share of the running statistics that stays with every batch.
        epsilon: Added to the variance.
        dtype: Type of the result.
    """

    use_running_average: bool
    momentum: float
    dtype: str
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps x [B, *n, C] to the same shape."""
        shape = (x.shape[-1],)
        mean = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
        variance = self.variable("batch_stats", "var", jnp.ones, shape, jnp.float32)
        scale = self.param("scale", nn.initializers.ones, shape)
        bias = self.param("bias", nn.initializers.zeros, shape)
        x = x.astype(self.dtype)
        if self.use_running_average:
            factor = scale * lax.rsqrt(variance.value + self.epsilon)
            return affine(x, factor, bias - factor * mean.value)
        y, batch_mean, batch_variance = normalise(x, scale, bias, self.epsilon)
        if not self.is_initializing():
            keep = self.momentum
            mean.value = keep * mean.value + (1 - keep) * batch_mean
            variance.value = keep * variance.value + (1 - keep) * batch_variance
        return y
