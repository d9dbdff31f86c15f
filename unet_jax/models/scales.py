"""Scales of the input: from what `scale.standardise` makes to what weights were trained on."""

import jax
import jax.numpy as jnp
import numpy as np

from unet_jax.config import choose

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def _standardised(x: jax.Array) -> jax.Array:
    return x


def _unit(x: jax.Array) -> jax.Array:
    return x * 0.25 + 0.5  # undoes `scale.standardise`


def _imagenet(x: jax.Array) -> jax.Array:
    mean, std = np.array(IMAGENET_MEAN), np.array(IMAGENET_STD)
    if x.shape[-1] != 3:  # no colours: what they have in common
        mean, std = mean.mean(keepdims=True), std.mean(keepdims=True)
    shape = (1,) * (x.ndim - 1) + mean.shape
    factor, shift = (0.25 / std).reshape(shape), ((0.5 - mean) / std).reshape(shape)
    return x * jnp.asarray(factor, x.dtype) + jnp.asarray(shift, x.dtype)


SCALES = {"standardised": _standardised, "unit": _unit, "imagenet": _imagenet}


def rescale(image: jax.Array, scale: str) -> jax.Array:
    """Brings a standardised image to another scale.

    Args:
        image: float [B, *n, C], (x - 0.5) / 0.25 of x in [0, 1].
        scale: "standardised" to leave it, "unit" for x, "imagenet" for (x - mean) / std of
            ImageNet's colours, or of their mean where C is not 3.

    Returns:
        The same shape and type.

    Raises:
        UserError: The scale is unknown.
    """
    return choose(SCALES, "config.model.input_scale", scale)(image)
