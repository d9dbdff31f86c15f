"""The augmentation of a config: the steps that its section names, in the order it names them."""

import itertools
import math
import reprlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from unet_jax.augment.affine import check_turn, rotation, shear, translation, turn
from unet_jax.augment.degrade import blur, jpeg, low_resolution, ringing
from unet_jax.augment.elastic import elastic
from unet_jax.augment.intensity import check_colour, colour, gamma, noise
from unet_jax.augment.kinds import Arrays, Given, Intensity, Mix, Part, Sampling, Spatial, perhaps
from unet_jax.augment.mix import check_copy_paste, check_cutmix, copy_paste, cutmix, cutout
from unet_jax.augment.resample import resample, sampling, where
from unet_jax.augment.scale import to_unit
from unet_jax.augment.spatial import check_zoom, flip, zoom
from unet_jax.config import check_parts
from unet_jax.data.sample import Range
from unet_jax.errors import UserError

Augment = Callable[..., tuple[jax.Array, ...]]


class Step(NamedTuple):
    """A step that an augmentation can have.

    Attributes:
        make: (**its section) -> the step; None where the values switch it off.
        bounds: By key, the smallest and the largest number that it can have; a probability has 0
            and 1. A key of two numbers has a smaller one and a larger one, both in the bounds.
        check: (values by key, what is known of the images) -> None; raises a UserError where they
            do not fit.
    """

    make: Callable[..., Part | None]
    bounds: Mapping[str, tuple[float, float]] = {}
    check: Callable[[Mapping[str, Any], Given], None] = lambda values, given: None


STEPS: dict[str, Step] = {
    "flip": Step(flip),
    "zoom": Step(zoom, check=check_zoom),
    "colour": Step(colour, check=check_colour),
    "turn": Step(turn, check=check_turn),
    "rotation": Step(rotation, {"degrees": (0, 180)}),
    "shear": Step(shear, {"degrees": (0, 60)}),
    "translation": Step(translation, {"share": (0, 1)}),
    "sampling": Step(sampling),
    "gamma": Step(gamma, {"power": (0.1, 10)}),
    "noise": Step(noise, {"sigma": (0, 1)}),
    "blur": Step(blur, {"sigma": (0, 16)}),
    "low_resolution": Step(low_resolution, {"scale": (0.05, 1)}),
    "ringing": Step(ringing, {"cut": (0, 0.9)}),
    "jpeg": Step(jpeg, {"quality": (1, 100)}),
    "elastic": Step(elastic, {"deviation": (0, 1000), "points": (2, 64)}),
    "cutout": Step(cutout, {"share": (0, 1), "count": (1, 64)}),
    "cutmix": Step(cutmix, {"share": (0, 1)}, check_cutmix),
    "copy_paste": Step(copy_paste, check=check_copy_paste),
}
"""By name in config.augment; the defaults of a step's keys stand in `parts.PARTS`.

A step's place is that of its random key: new ones come last, so that others draw what they drew.
"""


def check_augment(section: Mapping[str, Any], given: Given) -> dict[str, dict[str, Any]]:
    """Checks a config's augment section.

    Args:
        section: By step, its keys.
        given: What is known of the images.

    Returns:
        The steps as `make_augment` takes them, with a value for every key.

    Raises:
        UserError: A step is unknown, or a value does not fit.
    """
    makers = {name: step.make for name, step in STEPS.items()}
    steps = check_parts(makers, "config.augment", section)
    for name, values in steps.items():
        step = STEPS[name]
        for key, bounds in {"probability": (0, 1), **step.bounds}.items():
            if key in values:
                _check_bounds(f"config.augment.{name}.{key}", values[key], *bounds)
        step.check(values, given)
    return steps


def _check_bounds(key: str, value: Any, low: float, high: float) -> None:
    is_range = isinstance(value, tuple)
    ends = (low, *value, high) if is_range else (low, value, high)
    if (is_range and len(value) != 2) or list(ends) != sorted(ends):
        said = reprlib.repr(value)
        what = "(smallest, largest), both from" if is_range else "from"
        raise UserError(f"{key}={said} must be {what} {low:g} to {high:g}.")


def make_augment(
    steps: Mapping[str, Mapping[str, Any]],
    value_range: Range,
    *,
    cuts: bool = False,
    is_bounded: bool = True,
) -> Augment:
    """Makes an augmentation; each image of a batch draws its own values.

    First come the steps that move pixels, then those that change values, then those that take
    pixels of other images, each in the order that they are named. Where all that move pixels have a
    direct way, and images are not sampled otherwise, they take it one after the other; else they
    are composed, and everything is resampled once.

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
    mix = {name: step for name, step in made.items() if isinstance(step, Mix)}
    cubic = any(isinstance(step, Sampling) and step.cubic for step in made.values())

    def one(
        image: jax.Array, label: jax.Array, weight: jax.Array, key: jax.Array, *extras: jax.Array
    ) -> tuple[jax.Array, ...]:
        keys = dict(zip(STEPS, jax.random.split(key, len(STEPS)), strict=True))
        joined = _join(label, extras, weight.shape) if extras else label
        image, moved, weight = _move(spatial, cubic, keys, image, joined, weight)
        beside = _part(moved, label, extras) if extras else (moved,)
        if is_bounded or not intensity:
            return change(image, keys), beside[0], weight, *beside[1:]
        low, high = image.min(), image.max()
        width = jnp.where(high > low, high - low, 1)
        return change((image - low) / width, keys) * width + low, beside[0], weight, *beside[1:]

    def change(image: jax.Array, keys: Mapping[str, jax.Array]) -> jax.Array:
        for name, step in intensity.items():
            changed = step.change(keys[name], image)
            image = perhaps(step.probability, keys[name], changed, image)
        return image

    def augment(
        image: jax.Array, label: jax.Array, weight: jax.Array, key: jax.Array, *extras: jax.Array
    ) -> tuple[jax.Array, ...]:
        keys = jax.random.split(key, image.shape[0])
        unit = to_unit(image, value_range, cuts=cuts)
        label, weight = label.astype(jnp.int32), weight.astype(jnp.float32)
        arrays = jax.vmap(one)(unit, label, weight, keys, *extras)
        for name, step in mix.items():
            arrays = _mix(name, step, keys, arrays)
        return arrays

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


def _mix(
    name: str, step: Mix, keys: jax.Array, arrays: tuple[jax.Array, ...]
) -> tuple[jax.Array, ...]:
    """Takes pixels of the image before in the batch: of the last one for the first."""

    def one(key: jax.Array, own: tuple[jax.Array, ...], other: tuple[jax.Array, ...]) -> Any:
        own_key = jax.random.split(key, len(STEPS))[list(STEPS).index(name)]
        taken = step.choose(own_key, other[1], other[2])
        mixed = tuple(where(taken, theirs, x) for theirs, x in zip(other, own, strict=True))
        return perhaps(step.probability, own_key, mixed, own)

    # On a mesh only the images at the borders of two devices travel.
    return jax.vmap(one)(keys, arrays, tuple(jnp.roll(x, 1, axis=0) for x in arrays))


def _move(
    steps: Mapping[str, Spatial],
    cubic: bool,
    keys: Mapping[str, jax.Array],
    image: jax.Array,
    label: jax.Array,
    weight: jax.Array,
) -> Arrays:
    """Moves the pixels of one image; see `make_augment`."""
    if all(step.direct for step in steps.values()) and not (steps and cubic):
        arrays = image, label, weight
        for name, step in steps.items():
            assert step.direct
            moved = step.direct(keys[name], *arrays)
            arrays = perhaps(step.probability, keys[name], moved, arrays)
        return arrays
    places = jnp.meshgrid(*(jnp.arange(n) + 0.5 for n in weight.shape), indexing="ij")
    coordinates = jnp.stack(places, axis=-1)
    for name, step in reversed(list(steps.items())):  # from the result back to the input
        moved = step.move(keys[name], coordinates)
        coordinates = perhaps(step.probability, keys[name], moved, coordinates)
    return resample(image, label, weight, coordinates, cubic=cubic)
