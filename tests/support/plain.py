"""What a network says of an image, by applying it plainly and sampling its logits by SciPy."""

import functools

import jax
import numpy as np
from scipy.ndimage import map_coordinates


def plain_logits(trained, unit, size):
    """Applies a network to an image as it reads it, black 0 and white 1; returns [*size, K].

    The logits are sampled at the centres of the image's own pixels, with the edge repeated.
    """
    read = ((unit - 0.5) / 0.25).astype(np.float32)[None]
    variables = jax.device_get(trained.variables)
    logits = np.asarray(_apply(trained.network.model, variables, read))[0]
    ratios = [m / n for n, m in zip(size, logits.shape, strict=False)]
    axes = [(np.arange(n) + 0.5) * ratio - 0.5 for n, ratio in zip(size, ratios, strict=True)]
    where = np.meshgrid(*axes, indexing="ij")
    each = [map_coordinates(x, where, order=1, mode="nearest") for x in np.moveaxis(logits, -1, 0)]
    return np.stack(each, axis=-1)


@functools.partial(jax.jit, static_argnums=0)
def _apply(model, variables, image):
    return model.apply(variables, image, train=False)
