"""Steps that change the values of pixels and leave them where they are."""

from collections.abc import Mapping
from typing import Any

import dm_pix
import jax
import jax.numpy as jnp

from unet_jax.augment.kinds import Given, Intensity
from unet_jax.errors import UserError
from unet_jax.traced import Number, Switch, is_on, is_traced


def check_colour(values: Mapping[str, Any], given: Given) -> None:
    """Checks the arguments of `colour`, by name.

    Raises:
        UserError: A number is out of range, or the images have no colours of which there is a hue.
    """
    for name in ("brightness", "contrast", "saturation", "hue"):
        value = values[name]
        most = 0.5 if name == "hue" else 1.0
        if not 0 <= value <= most:
            raise UserError(f"config.augment.colour.{name}={value} must be from 0 to {most}.")
    coloured = [name for name in ("saturation", "hue") if values[name]]
    if coloured and given.spec.channels != 3:
        named = [f"config.augment.colour.{name}={values[name]}" for name in coloured]
        are, them = ("are", "each") if len(named) > 1 else ("is", "it")
        raise UserError(
            f"{' and '.join(named)} {are} for images of three colours, and the first image of the "
            f"data has {given.spec}; set {them} to 0, or convert that image if it is the only such "
            "one."
        )


def colour(
    brightness: Switch = 0.0,
    contrast: Switch = 0.0,
    saturation: Switch = 0.0,
    hue: Switch = 0.0,
    probability: Number = 1.0,
) -> Intensity | None:
    """Makes a step that changes colours, by four numbers that each image draws.

    Args:
        brightness: Largest addition or subtraction, of values in [0, 1].
        contrast: Largest relative change of contrast, in [0, 1].
        saturation: Largest relative change of saturation, in [0, 1].
        hue: Largest shift of the hue as a part of its circle, in [0, 0.5].
        probability: Share of the images that take the step.

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

    changes = any(map(is_on, (brightness, contrast, saturation, hue)))
    return Intensity(change, probability) if changes else None


def gamma(power: tuple[Number, ...] = (1.0, 1.0), probability: Number = 1.0) -> Intensity | None:
    """Makes a step that raises values to a power, which each image draws.

    Args:
        power: Smallest and largest, in [0.1, 10], drawn log-uniformly; below 1 is brighter.
        probability: Share of the images that take the step.

    Returns:
        The step; None where it does nothing.
    """

    def change(key: jax.Array, image: jax.Array) -> jax.Array:
        low, high = jnp.log(power[0]), jnp.log(power[1])
        drawn = jnp.exp(jax.random.uniform(key, (), minval=low, maxval=high))
        return jnp.clip(image, 0, 1) ** drawn

    changes = is_traced(power) or tuple(power) != (1.0, 1.0)
    return Intensity(change, probability) if changes else None


def noise(sigma: Switch = 0.0, probability: Number = 1.0) -> Intensity | None:
    """Makes a step that adds independent Gaussian noise to every value.

    Args:
        sigma: Largest standard deviation, of values in [0, 1]; each image draws its own evenly.
        probability: Share of the images that take the step.

    Returns:
        The step; None where it does nothing.
    """

    def change(key: jax.Array, image: jax.Array) -> jax.Array:
        size_key, noise_key = jax.random.split(key)
        drawn = jax.random.uniform(size_key) * sigma
        return jnp.clip(image + drawn * jax.random.normal(noise_key, image.shape), 0, 1)

    return Intensity(change, probability) if is_on(sigma) else None
