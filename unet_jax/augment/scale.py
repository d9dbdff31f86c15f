"""The ranges of values that images have on the way to the model."""

import jax
import jax.numpy as jnp

GREY = 0.5


def to_unit(image: jax.Array, value_range: tuple[float, float]) -> jax.Array:
    """Turns images into float32 whose black is 0 and white 1.

    Args:
        image: Of any type and shape.
        value_range: Its values of black and of white; see `Spec`.

    Returns:
        The same shape, in [0, 1] where all values are in the range.
    """
    black, white = value_range
    values = image.astype(jnp.float32)
    return (values - black if black else values) / (white - black)


def standardise(image: jax.Array) -> jax.Array:
    """Turns images in [0, 1] into what the model takes: grey is 0, black -2 and white 2."""
    return (image - GREY) / 0.25
