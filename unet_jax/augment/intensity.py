"""Steps that change the values of pixels and leave them where they are."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import dm_pix
import jax
import jax.numpy as jnp

from unet_jax.data.sample import Spec
from unet_jax.errors import UserError
from unet_jax.traced import Switch, is_on


class Intensity(NamedTuple):
    """A step that changes the values of one image.

    Attributes:
        change: (key, image float32 [*n, C] in [0, 1]) -> image of the same.
    """

    change: Callable[[jax.Array, jax.Array], jax.Array]


def check_colour(values: Mapping[str, Any], spec: Spec) -> None:
    """Checks the arguments of `colour`, by name.

    Raises:
        UserError: A number is out of range, or the images have no colours of which there is a hue.
    """
    for name, value in values.items():
        most = 0.5 if name == "hue" else 1.0
        if not 0 <= value <= most:
            raise UserError(f"config.augment.colour.{name}={value} must be from 0 to {most}.")
    coloured = [name for name in ("saturation", "hue") if values.get(name)]
    if coloured and spec.channels != 3:
        named = [f"config.augment.colour.{name}={values[name]}" for name in coloured]
        are, them = ("are", "each") if len(named) > 1 else ("is", "it")
        raise UserError(
            f"{' and '.join(named)} {are} for images of three colours, and the first image of the "
            f"data has {spec}; set {them} to 0, or convert that image if it is the only such one."
        )


def colour(
    brightness: Switch = 0.0,
    contrast: Switch = 0.0,
    saturation: Switch = 0.0,
    hue: Switch = 0.0,
) -> Intensity | None:
    """Makes a step that changes colours, by four numbers that each image draws.

    Args:
        brightness: Largest addition or subtraction, of values in [0, 1].
        contrast: Largest relative change of contrast, in [0, 1].
        saturation: Largest relative change of saturation, in [0, 1].
        hue: Largest shift of the hue as a part of its circle, in [0, 0.5].

    Returns:
        The step; None where it does nothing.
    """

    def change(key: jax.Array, image: Any) -> jax.Array:  # dm_pix declares wider types
        draws = jax.random.uniform(key, (4,), minval=-1.0)
        if is_on(brightness):
            image = dm_pix.adjust_brightness(image, draws[0] * brightness)
        if is_on(contrast):
            image = dm_pix.adjust_contrast(image, 1 + draws[1] * contrast)
        image = jnp.clip(image, 0, 1)  # hue and saturation are defined for colours that exist
        if is_on(saturation):
            image = dm_pix.adjust_saturation(image, 1 + draws[2] * saturation)
        if is_on(hue):
            image = dm_pix.adjust_hue(image, draws[3] * hue)
        return jnp.clip(image, 0, 1)

    return Intensity(change) if any(map(is_on, (brightness, contrast, saturation, hue))) else None
