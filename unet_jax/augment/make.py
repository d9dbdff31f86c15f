"""The augmentation of a config: the steps that its section names, in the order it names them."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from unet_jax.augment.intensity import Intensity, check_colour, colour
from unet_jax.augment.scale import to_unit
from unet_jax.augment.spatial import Arrays, Spatial, check_zoom, flip, resample, zoom
from unet_jax.config import check_parts
from unet_jax.data.sample import Range, Spec

Augment = Callable[..., tuple[jax.Array, ...]]


class Step(NamedTuple):
    """A step that an augmentation can have.

    Attributes:
        make: (**its section) -> the step; None where the values switch it off.
        check: (values by key, the spec of the images) -> None; raises a UserError where they do not
            fit.
    """

    make: Callable[..., Spatial | Intensity | None]
    check: Callable[[Mapping[str, Any], Spec], None] = lambda values, spec: None


STEPS: dict[str, Step] = {
    "flip": Step(flip),
    "zoom": Step(zoom, check_zoom),
    "colour": Step(colour, check_colour),
}
"""By name in config.augment; the defaults of a step's keys stand in `defaults.PARTS`.

A step's place is that of its random key: new ones come last, so that others draw what they drew.
"""


def check_augment(section: Mapping[str, Any], spec: Spec) -> dict[str, dict[str, Any]]:
    """Checks a config's augment section.

    Args:
        section: By step, its keys.
        spec: Of the images.

    Returns:
        The steps as `make_augment` takes them, with a value for every key.

    Raises:
        UserError: A step is unknown, or a value does not fit.
    """
    makers = {name: step.make for name, step in STEPS.items()}
    steps = check_parts(makers, "config.augment", section)
    for name, values in steps.items():
        STEPS[name].check(values, spec)
    return steps


def make_augment(
    steps: Mapping[str, Mapping[str, Any]],
    value_range: Range,
    *,
    cuts: bool = False,
    is_bounded: bool = True,
) -> Augment:
    """Makes an augmentation; each image of a batch draws its own values.

    First come the steps that move pixels, then those that change values, each in the order that
    they are named. Where all that move pixels have a direct way they take it one after the other;
    otherwise they are composed, and everything is resampled once.

    Args:
        steps: By name of `STEPS`, the arguments of the step.
        value_range: The images' values of black and of white; see `Normalise.value_range`.
        cuts: Whether values outside become black and white.
        is_bounded: Whether black and white are the ends of what values there are. Where they are
            not, steps that change values see each image from its own smallest to its own largest
            value as 0 to 1.

    Returns:
        augment(image [B, *n, C], label uint8 [B, *n] or [B, *n, L], weight uint8 [B, *n], key,
        *extras float32 [B, *n] or [B, *n, channels]) -> (image float32, in [0, 1] where black and
        white are the ends, label int32, weight float32, *extras) of the same sizes. Extras move
        with the label, by nearest neighbour; what they say of lengths is not scaled.
    """
    made = {name: STEPS[name].make(**values) for name, values in steps.items()}
    spatial = {name: step for name, step in made.items() if isinstance(step, Spatial)}
    intensity = {name: step for name, step in made.items() if isinstance(step, Intensity)}

    def one(
        image: jax.Array, label: jax.Array, weight: jax.Array, key: jax.Array, *extras: jax.Array
    ) -> tuple[jax.Array, ...]:
        keys = dict(zip(STEPS, jax.random.split(key, len(STEPS)), strict=True))
        joined = _join(label, extras, weight.shape) if extras else label
        image, moved, weight = _move(spatial, keys, image, joined, weight)
        beside = _part(moved, label, extras) if extras else (moved,)
        if is_bounded or not intensity:
            return change(image, keys), beside[0], weight, *beside[1:]
        low, high = image.min(), image.max()
        width = jnp.where(high > low, high - low, 1)
        return change((image - low) / width, keys) * width + low, beside[0], weight, *beside[1:]

    def change(image: jax.Array, keys: Mapping[str, jax.Array]) -> jax.Array:
        for name, step in intensity.items():
            image = step.change(keys[name], image)
        return image

    def augment(
        image: jax.Array, label: jax.Array, weight: jax.Array, key: jax.Array, *extras: jax.Array
    ) -> tuple[jax.Array, ...]:
        keys = jax.random.split(key, image.shape[0])
        unit = to_unit(image, value_range, cuts=cuts)
        label, weight = label.astype(jnp.int32), weight.astype(jnp.float32)
        return jax.vmap(one)(unit, label, weight, keys, *extras)

    return augment


def _join(label: jax.Array, extras: Sequence[jax.Array], size: tuple[int, ...]) -> jax.Array:
    """Puts extras behind a label, as more labels of each pixel: float32 [*n, channels]."""
    arrays = [x.reshape(*size, -1).astype(jnp.float32) for x in (label, *extras)]
    return jnp.concatenate(arrays, axis=-1)


def _part(
    joined: jax.Array, label: jax.Array, extras: Sequence[jax.Array]
) -> tuple[jax.Array, ...]:
    """Takes apart what `_join` made of arrays such as these."""
    given = (label, *extras)
    axes = joined.shape[:-1]
    ends = itertools.accumulate(math.prod(x.shape[len(axes) :]) for x in given)
    pieces = jnp.split(joined, [*ends][:-1], axis=-1)
    return tuple(
        piece.reshape(x.shape).astype(x.dtype) for piece, x in zip(pieces, given, strict=True)
    )


def _move(
    steps: Mapping[str, Spatial],
    keys: Mapping[str, jax.Array],
    image: jax.Array,
    label: jax.Array,
    weight: jax.Array,
) -> Arrays:
    """Moves the pixels of one image; see `make_augment`."""
    direct = {name: step.direct for name, step in steps.items() if step.direct}
    if len(direct) == len(steps):
        for name, move in direct.items():
            image, label, weight = move(keys[name], image, label, weight)
        return image, label, weight
    places = jnp.meshgrid(*(jnp.arange(n) + 0.5 for n in weight.shape), indexing="ij")
    coordinates = jnp.stack(places, axis=-1)
    for name in reversed(list(steps)):  # from the result back to the input
        coordinates = steps[name].move(keys[name], coordinates)
    return resample(image, label, weight, coordinates)
