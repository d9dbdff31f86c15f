"""Batch, group and instance normalisation in few passes over the activations."""

import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from unet_jax.models.fast.choice import channel_moments, channel_products, channel_sums
from unet_jax.models.fast.plain import along, has_known_size
from unet_jax.sharding import gather_parts, is_part

# Every so many columns of pixels are looked at for a value near the mean.
SAMPLED_COLUMNS = 16


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def normalise(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    epsilon: float,
    groups: int | None = None,
    is_of_part: bool = False,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalises by the mean and variance of every channel (Ioffe & Szegedy, 2015, Algorithm 1).

    Forward reads x once for both sums and once for the result, backward its gradient too.

    Args:
        x: [..., *n, C], with two axes before the last at least.
        scale: float32 [C].
        bias: float32 [C].
        epsilon: Added to the variance.
        groups: Of neighbouring channels that share a mean and a variance; None for one per channel.
        is_of_part: Whether x are a device's images of a batch, see `sharding.by_parts`; without
            groups. The gradients of scale and bias are then those of these images.

    Returns:
        (scale * (x - mean) / sqrt(variance + epsilon) + bias, in the type of x; mean; variance).
        No gradient goes through mean and variance as results.
    """
    return _forward(x, scale, bias, epsilon, groups, is_of_part)[0]


Residuals = tuple[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array]


def _forward(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    epsilon: float,
    groups: int | None,
    is_of_part: bool,
) -> tuple[tuple[jax.Array, jax.Array, jax.Array], Residuals]:
    mean, variance = _moments(x, groups)
    if is_of_part:
        mean, variance = _merge_moments(mean, variance)
    inverse = lax.rsqrt(variance + epsilon)
    y = affine(x, mean, scale * inverse, bias)
    return (y, mean, variance), (x, scale, bias, mean, inverse)


def _moments(x: jax.Array, groups: int | None) -> tuple[jax.Array, jax.Array]:
    """Returns mean and variance, float32 [C], of one reading of x.

    E[x^2] - E[x]^2 cancels where the mean is large beside the deviation, so that x - c takes the
    place of x, with c a sample's mean. A sample of a share s of the values whose mean is d off adds
    s * d^2 to the variance at least: whatever the values are, d is below sqrt(1 / s) deviations,
    and the variance loses no more than a factor 1 + 1 / s of float32's precision. Columns are not
    split over devices, unlike images and rows.
    """
    start = min(x.shape[-2], SAMPLED_COLUMNS) // 2 if has_known_size(x) else 0
    sample = x[..., start::SAMPLED_COLUMNS, :]
    near = _share(channel_sums(sample) / _count(sample), groups)
    count = _count(x)
    offset, squares = (_share(sums / count, groups) for sums in channel_moments(x, near))
    return near + offset, jnp.maximum(squares - jnp.square(offset), 0)


def _count(x: jax.Array) -> Any:
    """Counts the pixels of x [..., *n, C]; of a large batch there are more than int32 holds."""
    if has_known_size(x):
        return float(x.size // x.shape[-1])
    return math.prod(jnp.asarray(n, jnp.float32) for n in x.shape[:-1])


def _merge_moments(mean: jax.Array, variance: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the moments of a batch, of those of its parts, which are of one size."""
    parts = gather_parts(jnp.stack([mean, variance]))
    means, variances = parts[:, 0], parts[:, 1]
    mean = means.mean(0)
    return mean, (variances + jnp.square(means - mean[None])).mean(0)


def _share(values: jax.Array, groups: int | None) -> jax.Array:
    """Gives every channel the mean over its group of values [C]."""
    if groups is None:
        return values
    means = values.reshape(groups, -1).mean(1, keepdims=True)
    return jnp.broadcast_to(means, (groups, values.size // groups)).reshape(-1)


def _backward(
    groups: int | None,
    is_of_part: bool,
    residuals: Residuals,
    gradients: tuple[jax.Array, jax.Array, jax.Array],
) -> tuple[jax.Array, jax.Array, jax.Array, None]:
    x, scale, bias, mean, inverse = residuals
    dy, _, _ = gradients
    count = float(x.size // x.shape[-1])
    dy, centred = dy.astype(jnp.float32), x.astype(jnp.float32) - along(mean, x)
    dbias, products = channel_products(dy, x, mean)
    dscale = products * inverse
    along_bias, along_scale = dbias, dscale
    if is_of_part:
        along_bias, along_scale = gather_parts(jnp.stack([dbias, dscale])).mean(0)
    # dx = inverse * (scale * dy - mean(scale * dy) - normal * mean(scale * dy * normal))
    constant = inverse * _share(scale * along_bias / count, groups)
    by_centred = inverse * inverse * _share(scale * along_scale / count, groups)
    dx = along(scale * inverse, x) * dy - along(constant, x) - along(by_centred, x) * centred
    return dx.astype(x.dtype), dscale.astype(scale.dtype), dbias.astype(bias.dtype), None


normalise.defvjp(_forward, _backward)


def affine(x: jax.Array, mean: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
    """Returns scale * (x - mean) + bias per channel, computed in float32, in the type of x.

    The mean is subtracted first: scale * x + (bias - scale * mean) would cancel where it is large.
    """
    centred = x.astype(jnp.float32) - along(mean, x)
    return (centred * along(scale, x) + along(bias, x)).astype(x.dtype)


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
    def _own(self, features: int) -> tuple[Any, Any, jax.Array, jax.Array]:
        """Returns the variables mean and variance, and the parameters scale and bias."""
        shape = (features,)
        mean = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
        variance = self.variable("batch_stats", "var", jnp.ones, shape, jnp.float32)
        scale = self.param("scale", nn.initializers.ones, shape)
        return mean, variance, scale, self.param("bias", nn.initializers.zeros, shape)

    def running_affine(self, features: int) -> tuple[jax.Array, jax.Array]:
        """Returns what the running statistics scale by and add, float32 [features] each."""
        mean, variance, scale, bias = self._own(features)
        factor = scale * lax.rsqrt(variance.value + self.epsilon)
        return factor, bias - mean.value * factor

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps x [B, *n, C] to the same shape."""
        mean, variance, scale, bias = self._own(x.shape[-1])
        x = x.astype(self.dtype)
        if self.use_running_average:
            factor = scale * lax.rsqrt(variance.value + self.epsilon)
            return affine(x, mean.value, factor, bias)
        y, batch_mean, batch_variance = normalise(x, scale, bias, self.epsilon, None, is_part())
        if not self.is_initializing():
            keep = self.momentum
            mean.value = keep * mean.value + (1 - keep) * batch_mean
            variance.value = keep * variance.value + (1 - keep) * batch_variance
        return y


class GroupNorm(nn.Module):
    """Normalisation of every image by itself, with the parameters of `flax.linen.GroupNorm`.

    Attributes:
        groups: Of neighbouring channels that share a mean and a variance (Wu & He, 2018); None for
            one per channel, which is instance normalisation (Ulyanov et al., 2016).
        dtype: Type of the result.
        epsilon: Added to the variance.
    """

    groups: int | None
    dtype: str
    epsilon: float

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps x [B, *n, C], with two axes n or more, to the same shape."""
        shape = (x.shape[-1],)
        scale = self.param("scale", nn.initializers.ones, shape)
        bias = self.param("bias", nn.initializers.zeros, shape)

        def one(image: jax.Array) -> jax.Array:
            return normalise(image, scale, bias, self.epsilon, self.groups)[0]

        return jax.vmap(one)(x.astype(self.dtype))
