"""Steps that change the values of pixels and leave them where they are."""

from collections.abc import Mapping
from typing import Any

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

    def change(key: jax.Array, image: jax.Array) -> jax.Array:
        draws = jax.random.uniform(key, (4,), minval=-1.0)
        if is_on(brightness):
            image = image + draws[0] * brightness
        if is_on(contrast):
            mean = jnp.mean(image, axis=range(image.ndim - 1), keepdims=True)
            image = (1 + draws[1] * contrast) * (image - mean) + mean
        image = jnp.clip(image, 0, 1)  # hue and saturation are defined for colours that exist
        if is_on(saturation):
            image = saturate(image, 1 + draws[2] * saturation)
        if is_on(hue):
            image = turn_hue(image, draws[3] * hue)
        return jnp.clip(image, 0, 1)

    changes = any(map(is_on, (brightness, contrast, saturation, hue)))
    return Intensity(change, probability) if changes else None


def saturate(image: jax.Array, factor: jax.Array) -> jax.Array:
    """Multiplies the saturation of HSV (Smith, 1978), which is cut at 1; hue and value stay.

    Args:
        image: float32 [..., 3] in [0, 1].
        factor: 0 or more.

    Returns:
        The same shape.
    """
    value, spread = image.max(-1, keepdims=True), jnp.ptp(image, -1, keepdims=True)
    most = value / jnp.where(spread > 0, spread, 1)  # of the factor, with which saturation is 1
    return value - jnp.minimum(factor, most) * (value - image)


def turn_hue(image: jax.Array, shift: jax.Array) -> jax.Array:
    """Turns the hue of HSV (Smith, 1978); saturation and value stay.

    The sector of a hue is found by comparing colours, not by which of them equals the largest: a
    compiler may compute that one twice and round it differently. Near equal colours either sector
    gives the same hue.

    Args:
        image: float32 [..., 3] in [0, 1].
        shift: As a part of the circle.

    Returns:
        The same shape.
    """
    red, green, blue = jnp.moveaxis(image, -1, 0)
    value, spread = image.max(-1), jnp.ptp(image, -1)
    width = jnp.where(spread > 0, spread, 1)
    first = (green - blue) / width, (red >= green) & (red >= blue)
    second = (blue - red) / width + 2, green >= blue
    third = (red - green) / width + 4
    sixths = jnp.where(first[1], first[0], jnp.where(second[1], second[0], third)) + 6 * shift
    places = [jnp.mod(n + sixths, 6) for n in (5, 3, 1)]
    return jnp.stack(
        [value - spread * jnp.clip(jnp.minimum(k, 4 - k), 0, 1) for k in places], axis=-1
    )


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
