"""A step that deforms images as if they were of rubber."""

import jax
import jax.numpy as jnp

from unet_jax.augment.kinds import Spatial
from unet_jax.augment.resample import interpolate
from unet_jax.traced import Number, Switch, is_on


def elastic(deviation: Switch = 0.0, points: int = 3, probability: Number = 1.0) -> Spatial | None:
    """Makes a step that deforms images by displacements that are drawn on a coarse grid.

    The first and the last points of the grid lie on the edges of the image. Between them cubic
    splines lead through the drawn displacements (those of SciPy's `map_coordinates` with `order=3`
    and `mode="mirror"`), so that a point is moved by what was drawn for it and the deformation is
    smooth in its second derivatives. With 10 pixels and 3 points it is that of the U-Net
    (Ronneberger et al., 2015, section 3.1: "random displacement vectors on a coarse 3 by 3 grid",
    "10 pixels standard deviation", "bicubic interpolation").

    Args:
        deviation: Standard deviation of the displacement along each axis, in pixels, in [0, 1000].
        points: Of the grid along each axis, from 2 to 64; more of them bend images in smaller
            parts.
        probability: Share of the images that take the step.

    Returns:
        The step; None where it does nothing.
    """

    def move(key: jax.Array, coordinates: jax.Array) -> jax.Array:
        axes = coordinates.shape[-1]
        drawn = deviation * jax.random.normal(key, (*(points,) * axes, axes))
        places = [
            jnp.clip(coordinates[..., axis] / n, 0, 1) * (points - 1)
            for axis, n in enumerate(coordinates.shape[:-1])
        ]
        return coordinates + interpolate(drawn, places, cubic=True)

    return Spatial(move, None, probability) if is_on(deviation) else None
