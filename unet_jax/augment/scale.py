"""The ranges of values that images have on the way to the model."""

import jax
import jax.numpy as jnp
import numpy as np

from unet_jax.data.sample import Range

GREY = 0.5


def to_unit(image: jax.Array, value_range: Range, *, cuts: bool = False) -> jax.Array:
    """Turns images into float32 whose black is 0 and white 1.

    Args:
        image: [..., C], of any type.
        value_range: Its values of black and of white, or those of each channel; see `Spec`.
        cuts: Whether values outside become black and white.

    Returns:
        The same shape, in [0, 1] where all values are in the range.
    """
    black, white = value_range
    values = image.astype(jnp.float32)
    if isinstance(black, tuple) or isinstance(white, tuple):
        low, high = np.array(black), np.array(white)  # in float64
        shape = (1,) * (image.ndim - 1) + low.shape
        start, width = (x.astype(np.float32).reshape(shape) for x in (low, high - low))
        unit = (values - start) / width
    else:
        unit = (values - black if black else values) / (white - black)
    return jnp.clip(unit, 0, 1) if cuts else unit


def standardise(image: jax.Array) -> jax.Array:
    """Turns images in [0, 1] into what the model takes: grey is 0, black -2 and white 2."""
    return (image - GREY) / 0.25
