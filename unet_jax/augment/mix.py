"""Steps that hide a part of an image, or put a part of another one in its place."""

import reprlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from unet_jax.augment.kinds import Given, Intensity, Mix
from unet_jax.augment.resample import stretch
from unet_jax.augment.scale import GREY
from unet_jax.errors import UserError
from unet_jax.task import IGNORE
from unet_jax.traced import Number, is_traced


def cutout(
    share: tuple[Number, ...] = (0.0, 0.0), count: int = 1, probability: Number = 1.0
) -> Intensity | None:
    """Makes a step that hides boxes behind grey; labels stay (DeVries & Taylor, 2017).

    Args:
        share: Smallest and largest part of an image that a box has, in [0, 1], drawn evenly; it is
            of the image's shape.
        count: How many boxes, from 1 to 64; they may overlap.
        probability: Share of the images that take the step.

    Returns:
        The step; None where it does nothing.
    """

    def change(key: jax.Array, image: jax.Array) -> jax.Array:
        boxes = jax.vmap(lambda each: _box(each, image.shape[:-1], share))
        hidden = boxes(jax.random.split(key, count)).any(axis=0)
        return jnp.where(hidden[..., None], GREY, image)

    return Intensity(change, probability) if is_traced(share) or any(share) else None


def check_cutmix(values: Mapping[str, Any], given: Given) -> None:
    """Checks the arguments of `cutmix`, by name.

    Raises:
        UserError: There is no other image in a batch.
    """
    if any(values["share"]):
        _check_others("cutmix", given)


def cutmix(share: tuple[Number, ...] = (0.0, 0.0), probability: Number = 1.0) -> Mix | None:
    """Makes a step that puts a box of another image into an image (Yun et al., 2019).

    Image, label, weight and what the loss needs beside them come from the other together.

    Args:
        share: Smallest and largest part of an image that the box has, in [0, 1], drawn evenly, as
            in the paper with (0.0, 1.0); it is of the image's shape, and lies inside it.
        probability: Share of the images that take the step.

    Returns:
        The step; None where it does nothing.
    """

    def choose(key: jax.Array, label: jax.Array, weight: jax.Array) -> jax.Array:
        return _box(key, weight.shape, share)

    return Mix(choose, probability) if is_traced(share) or any(share) else None


def check_copy_paste(values: Mapping[str, Any], given: Given) -> None:
    """Checks the arguments of `copy_paste`, by name.

    Raises:
        UserError: The classes are none of the labels', or there is no other image in a batch.
    """
    classes, task = values["classes"], given.task
    is_known = task is not None and (task.decides == "ids" or task.label_shape)
    names = task.names if task is not None and is_known else ()
    count = len(names) or IGNORE
    are_known = all(type(k) is int and 0 <= k < count for k in classes)
    if not are_known or len(set(classes)) < len(classes):
        listed = ", ".join(f"{k} {name}" for k, name in enumerate(names)) or f"0 to {count - 1}"
        raise UserError(
            f"config.augment.copy_paste.classes={reprlib.repr(classes)} must be different class "
            f"ids: {listed}."
        )
    if classes:
        _check_others("copy_paste", given)


def copy_paste(classes: tuple[int, ...] = (), probability: Number = 1.0) -> Mix | None:
    """Makes a step that pastes all pixels of some classes of another image (Ghiasi et al., 2021).

    Pixels of the other image that do not count are not pasted.

    Args:
        classes: Ids, such as (2, 5): those that are rare.
        probability: Share of the images that take the step.

    Returns:
        The step; None where it does nothing.
    """

    def choose(key: jax.Array, label: jax.Array, weight: jax.Array) -> jax.Array:
        if label.ndim > weight.ndim:
            chosen = label[..., jnp.array(classes)].any(axis=-1)
        else:
            chosen = jnp.isin(label, jnp.array(classes))
        return chosen & (weight > 0)

    return Mix(choose, probability) if classes else None


def _check_others(name: str, given: Given) -> None:
    if given.batch_size == 1:
        raise UserError(
            f"config.augment.{name} takes parts of another image of the batch, and "
            "config.train.batch_size=1; raise it, or leave the step out."
        )


def _box(key: jax.Array, size: tuple[int, ...], share: tuple[Number, ...]) -> jax.Array:
    """Draws a box inside an image, and tells bool [*n] which pixels have their middle in it."""
    share_key, place_key = jax.random.split(key)
    part = jax.random.uniform(share_key, minval=share[0], maxval=share[1]) ** (1 / len(size))
    starts = jax.random.uniform(place_key, (len(size),)) * (1 - part)
    inside = jnp.ones(size, bool)
    for axis, n in enumerate(size):
        middles = stretch((jnp.arange(n) + 0.5) / n, axis, len(size))
        inside &= (middles >= starts[axis]) & (middles < starts[axis] + part)
    return inside
