"""Black and white of each image by itself, as `data.normalise` finds them on the host."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from unet_jax.data.normalise import DEVIATIONS, Normalise

BLOCK = 4096  # pixels that a rank is counted in, so that no product of it rounds


def normalise(image: jax.Array, how: Normalise) -> jax.Array:
    """Brings each image to its own black 0 and white 1.

    Args:
        image: [B, *n, C].
        how: With `of` "image".

    Returns:
        float32 [B, *n, C].
    """
    values = image.astype(jnp.float32)
    axes = tuple(range(1, image.ndim - 1))
    low = jnp.min(values, axes, keepdims=True)
    high = jnp.max(values, axes, keepdims=True)
    if how.kind == "z_score":
        # Less the middle first, beside which a deviation may be small.
        middle = (low + high) / 2
        mean = middle + jnp.mean(values - middle, axes, keepdims=True)
        deviation = jnp.sqrt(jnp.mean(jnp.square(values - mean), axes, keepdims=True))
        black, white = mean - DEVIATIONS * deviation, mean + DEVIATIONS * deviation
    elif how.kind == "percentiles":
        black, white = (_percentile(values, axes, q) for q in how.percentiles)
    else:
        black, white = low, high
    # See `normalise.apart`: what has a single value becomes grey.
    is_apart = (white > black) & (high > low)
    middle = (black + white) / 2
    width = jnp.where(is_apart, white - black, 1)
    unit = (values - jnp.where(is_apart, black, middle - 0.5)) / width
    return jnp.clip(unit, 0, 1) if how.cuts else unit


def _percentile(values: jax.Array, axes: tuple[int, ...], q: float) -> jax.Array:
    """Returns a percentile of each channel, linear between ranks, as `np.percentile` does."""
    batch, *size, channels = values.shape
    count: Any = math.prod(size)
    ranked = jnp.sort(values.reshape(batch, count, channels), axis=1)
    # The rank (count - 1) q / 100 as a whole number and a rest.
    last = jnp.asarray(count, jnp.int32) - 1
    whole, rest = divmod(BLOCK * q / 100, 1)
    share = (last // BLOCK) * rest + (last % BLOCK) * (q / 100)
    below = jnp.floor(share)
    rank = (last // BLOCK) * int(whole) + below.astype(jnp.int32)
    pair = [_at(ranked, jnp.clip(rank + i, 0, last)) for i in range(2)]
    found = pair[0] + (pair[1] - pair[0]) * (share - below)
    return found.reshape(batch, *(1 for _ in axes), channels)


def _at(ranked: jax.Array, rank: jax.Array) -> jax.Array:
    return jnp.take(ranked, rank[None], axis=1, mode="clip")[:, 0]
