"""Steps that mirror and zoom images."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from unet_jax.augment.kinds import Arrays, Given, Spatial
from unet_jax.augment.resample import where
from unet_jax.augment.scale import GREY
from unet_jax.config import check_range
from unet_jax.errors import UserError
from unet_jax.traced import Number, is_traced

MOST_CHANGE = 100.0  # of size or shape; beyond it nothing of an image is left to see


def flip(left_right: bool = False, up_down: bool = False) -> Spatial | None:
    """Makes a step that mirrors images.

    Args:
        left_right: Mirror left to right, half of the images.
        up_down: Mirror top to bottom, half of the images.

    Returns:
        The step; None where it does nothing.
    """
    # The last axis is from left to right, the one before it from top to bottom.
    wanted = {axis: drawn for axis, drawn, on in ((-2, 0, up_down), (-1, 1, left_right)) if on}

    def draw(key: jax.Array) -> jax.Array:
        return jax.random.bernoulli(key, shape=(2,))

    def move(key: jax.Array, coordinates: jax.Array) -> jax.Array:
        flips, size = draw(key), coordinates.shape[:-1]
        for axis, drawn in wanted.items():
            mirrored = coordinates.at[..., axis].set(size[axis] - coordinates[..., axis])
            coordinates = jnp.where(flips[drawn], mirrored, coordinates)
        return coordinates

    def direct(key: jax.Array, image: jax.Array, label: jax.Array, weight: jax.Array) -> Arrays:
        flips = draw(key)
        for axis, drawn in wanted.items():
            image, label, weight = (
                jnp.where(flips[drawn], jnp.flip(x, weight.ndim + axis), x)
                for x in (image, label, weight)
            )
        return image, label, weight

    return Spatial(move, direct) if wanted else None


def check_zoom(values: Mapping[str, Any], given: Given) -> None:
    """Checks the arguments of `zoom`, by name.

    Raises:
        UserError: A number is out of range, or the images are volumes.
    """
    if given.spec.axes != 2:
        raise UserError(
            f"config.augment.zoom is for images of 2 axes, and those of the data have {given.spec};"
            " leave it out of config.augment."
        )
    scale, least = values["scale"], 1 / MOST_CHANGE
    if len(scale) != 2 or not least <= scale[0] <= scale[1] <= MOST_CHANGE:
        raise UserError(
            f"config.augment.zoom.scale={scale} must be (smallest, largest), both above 0: from "
            f"{least} to {MOST_CHANGE}."
        )
    check_range("config.augment.zoom.aspect", values["aspect"], 1, MOST_CHANGE)


def zoom(
    scale: tuple[Number, ...] = (1.0, 1.0), aspect: Number = 1.0, probability: Number = 1.0
) -> Spatial | None:
    """Makes a step that scales images and crops them, and changes the shape.

    Args:
        scale: Smallest and largest, drawn log-uniformly. Above 1 is a random resized crop, below 1
            a smaller image in a frame of weight 0.
        aspect: Largest change of the ratio of height to width, drawn log-uniformly from
            [1/aspect, aspect]; 1.0 for none.
        probability: Share of the images that take the step.

    Returns:
        The step; None where it does nothing.
    """

    def move(key: jax.Array, coordinates: jax.Array) -> jax.Array:
        factor, shift = _random_crop(key, coordinates.shape[:-1], scale, aspect)
        moved = [(coordinates[..., axis] - shift[axis]) / factor[axis] for axis in (0, 1)]
        return jnp.stack(moved, axis=-1)

    def direct(key: jax.Array, image: jax.Array, label: jax.Array, weight: jax.Array) -> Arrays:
        return zoom_and_shift(image, label, weight, *_random_crop(key, weight.shape, scale, aspect))

    changes = is_traced(scale, aspect) or tuple(scale) != (1.0, 1.0) or aspect != 1.0
    return Spatial(move, direct, probability) if changes else None


def _random_crop(
    key: jax.Array, size: tuple[int, ...], zoom: tuple[float, ...], aspect: float
) -> tuple[jax.Array, jax.Array]:
    """Draws a scale and a shift that keep the smaller of image and frame inside the other."""
    zoom_key, aspect_key, shift_key = jax.random.split(key, 3)
    log_zoom = jax.random.uniform(zoom_key, (), minval=jnp.log(zoom[0]), maxval=jnp.log(zoom[1]))
    log_aspect = jax.random.uniform(aspect_key, (), minval=-1.0) * jnp.log(aspect) / 2
    scale = jnp.exp(log_zoom + log_aspect * jnp.array([1.0, -1.0]))
    shift = jax.random.uniform(shift_key, (2,)) * (1 - scale) * jnp.array(size, jnp.float32)
    return scale, shift


def zoom_and_shift(
    image: jax.Array, label: jax.Array, weight: jax.Array, scale: jax.Array, shift: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Resamples one image by output = scale * input + shift, along rows and columns.

    Coordinates are in pixels with centres at i + 1/2. Bilinear for the image, which is separable
    and so two small matrix products; nearest neighbour for the label and the weight. What comes
    from outside the image is grey, class 0 and weight 0.

    Args:
        image: float32 [H, W, C] in [0, 1].
        label: int [H, W], or [H, W, L].
        weight: float32 [H, W].
        scale: float32 [2], for rows and columns; above 1 zooms in.
        shift: float32 [2], in output pixels.

    Returns:
        The three, resampled.
    """
    moved = jax.image.scale_and_translate(
        image - GREY, image.shape, (0, 1), scale, shift, method="linear", antialias=True
    )
    size = weight.shape
    source = [
        jnp.floor((jnp.arange(size[axis]) + 0.5 - shift[axis]) / scale[axis]).astype(jnp.int32)
        for axis in (0, 1)
    ]
    inside = [(source[axis] >= 0) & (source[axis] < size[axis]) for axis in (0, 1)]
    rows, columns = (jnp.clip(source[axis], 0, size[axis] - 1) for axis in (0, 1))
    known = inside[0][:, None] & inside[1][None, :]
    # Linear: what is outside of the image's own values is rounding.
    low, high = jnp.minimum(image.min(), 0), jnp.maximum(image.max(), 1)
    image = jnp.where(known[..., None], jnp.clip(moved + GREY, low, high), GREY)
    label = where(known, label[rows][:, columns], 0)
    weight = jnp.where(known, weight[rows][:, columns], 0)
    return image, label, weight
