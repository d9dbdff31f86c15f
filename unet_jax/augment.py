"""Augmentation: pure functions of (batch, key) that run on the device inside the train step."""

from collections.abc import Callable
from typing import Any

import dm_pix
import jax
import jax.numpy as jnp

from unet_jax.config import check_range
from unet_jax.errors import UserError
from unet_jax.traced import is_on, is_traced

Augment = Callable[[jax.Array, jax.Array, jax.Array, jax.Array], tuple[jax.Array, ...]]

GREY = 0.5
MOST_CHANGE = 100.0  # of size or shape; beyond it nothing of a picture is left to see


def to_unit(image: jax.Array) -> jax.Array:
    """Turns uint8 pictures into float32 in [0, 1]."""
    return image.astype(jnp.float32) / 255


def standardise(image: jax.Array) -> jax.Array:
    """Turns pictures in [0, 1] into what the model takes: grey is 0, black -2 and white 2."""
    return (image - GREY) / 0.25


def zoom_and_shift(
    image: jax.Array, label: jax.Array, weight: jax.Array, scale: jax.Array, shift: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Resamples one picture by output = scale * input + shift, along rows and columns.

    Coordinates are in pixels with centres at i + 1/2. Bilinear for the image, which is separable
    and so two small matrix products; nearest neighbour for the label and the weight. What comes
    from outside the picture is grey, class 0 and weight 0.

    Args:
        image: float32 [H, W, C] in [0, 1].
        label: int [H, W].
        weight: float32 [H, W].
        scale: float32 [2], for rows and columns; above 1 zooms in.
        shift: float32 [2], in output pixels.

    Returns:
        The three, resampled.
    """
    moved = jax.image.scale_and_translate(
        image - GREY, image.shape, (0, 1), scale, shift, method="linear", antialias=True
    )
    size = label.shape
    source = [
        jnp.floor((jnp.arange(size[axis]) + 0.5 - shift[axis]) / scale[axis]).astype(jnp.int32)
        for axis in (0, 1)
    ]
    inside = [(source[axis] >= 0) & (source[axis] < size[axis]) for axis in (0, 1)]
    rows, columns = (jnp.clip(source[axis], 0, size[axis] - 1) for axis in (0, 1))
    known = inside[0][:, None] & inside[1][None, :]
    image = jnp.where(known[..., None], jnp.clip(moved + GREY, 0, 1), GREY)
    label = jnp.where(known, label[rows][:, columns], 0)
    weight = jnp.where(known, weight[rows][:, columns], 0)
    return image, label, weight


def _random_crop(
    key: jax.Array, size: tuple[int, ...], zoom: tuple[float, ...], aspect: float
) -> tuple[jax.Array, jax.Array]:
    """Draws a scale and a shift that keep the smaller of picture and frame inside the other."""
    zoom_key, aspect_key, shift_key = jax.random.split(key, 3)
    log_zoom = jax.random.uniform(zoom_key, (), minval=jnp.log(zoom[0]), maxval=jnp.log(zoom[1]))
    log_aspect = jax.random.uniform(aspect_key, (), minval=-1.0) * jnp.log(aspect) / 2
    scale = jnp.exp(log_zoom + log_aspect * jnp.array([1.0, -1.0]))
    shift = jax.random.uniform(shift_key, (2,)) * (1 - scale) * jnp.array(size, jnp.float32)
    return scale, shift


def _colour_jitter(
    image: Any,  # dm_pix declares wider types than it returns
    key: jax.Array,
    brightness: float,
    contrast: float,
    saturation: float,
    hue: float,
) -> jax.Array:
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


def make_augment(
    flip_lr: bool = False,
    flip_ud: bool = False,
    zoom: tuple[float, ...] = (1.0, 1.0),
    aspect: float = 1.0,
    brightness: float = 0.0,
    contrast: float = 0.0,
    saturation: float = 0.0,
    hue: float = 0.0,
) -> Augment:
    """Makes the augmentation of a config; each picture of a batch draws its own values.

    Args:
        flip_lr: Mirror left to right, in half of the pictures.
        flip_ud: Mirror top to bottom, in half of the pictures.
        zoom: Smallest and largest zoom, drawn log-uniformly. Above 1 is a random resized crop,
            below 1 a smaller picture in a frame of weight 0.
        aspect: Largest change of the ratio of height to width, drawn log-uniformly from
            [1/aspect, aspect]; 1.0 for none.
        brightness: Largest addition or subtraction, of values in [0, 1].
        contrast: Largest relative change of contrast, in [0, 1].
        saturation: Largest relative change of saturation, in [0, 1].
        hue: Largest shift of the hue as a part of its circle, in [0, 0.5].

    Returns:
        augment(image uint8 [B, H, W, C], label uint8 [B, H, W], weight uint8 [B, H, W], key) ->
        (image float32 in [0, 1], label int32, weight float32) of the same sizes.

    Raises:
        UserError: A value is out of its range.
    """
    least = 1 / MOST_CHANGE
    if len(zoom) != 2 or (not is_traced(zoom) and not least <= zoom[0] <= zoom[1] <= MOST_CHANGE):
        raise UserError(
            f"config.augment.zoom={zoom} must be (smallest, largest), both above 0: from {least} "
            f"to {MOST_CHANGE}."
        )
    if not is_traced(aspect):
        check_range("config.augment.aspect", aspect, 1, MOST_CHANGE)
    jitter = {"brightness": brightness, "contrast": contrast, "saturation": saturation, "hue": hue}
    for name, value in jitter.items():
        if not is_traced(value) and not 0 <= value <= (0.5 if name == "hue" else 1.0):
            raise UserError(f"config.augment.{name}={value} is out of range; see augment.py.")

    def one(
        image: jax.Array, label: jax.Array, weight: jax.Array, key: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        flip_key, crop_key, colour_key = jax.random.split(key, 3)
        flips = jax.random.bernoulli(flip_key, shape=(2,))
        for axis, wanted in enumerate((flip_ud, flip_lr)):
            if wanted:
                image, label, weight = (
                    jnp.where(flips[axis], jnp.flip(x, axis), x) for x in (image, label, weight)
                )
        if is_traced(zoom, aspect) or zoom != (1.0, 1.0) or aspect != 1.0:
            scale, shift = _random_crop(crop_key, label.shape, zoom, aspect)
            image, label, weight = zoom_and_shift(image, label, weight, scale, shift)
        if any(map(is_on, jitter.values())):
            image = _colour_jitter(image, colour_key, **jitter)
        return image, label, weight

    def augment(
        image: jax.Array, label: jax.Array, weight: jax.Array, key: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        keys = jax.random.split(key, image.shape[0])
        return jax.vmap(one)(
            to_unit(image), label.astype(jnp.int32), weight.astype(jnp.float32), keys
        )

    return augment
