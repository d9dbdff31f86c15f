"""Steps that turn, slant and shift images, about their middle."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from unet_jax.augment.kinds import Arrays, Given, Spatial
from unet_jax.errors import UserError
from unet_jax.traced import Number, Switch, is_on

QUARTERS = ((1, 0), (0, 1), (-1, 0), (0, -1))  # cosines and sines, exactly


def check_turn(values: Mapping[str, Any], given: Given) -> None:
    """Checks the arguments of `turn`, by name.

    Raises:
        UserError: They are no different quarter turns, or change the size of the images.
    """
    quarters = values["quarters"]
    key = f"config.augment.turn.quarters={str(quarters)[:99]}"
    are_known = all(type(k) is int and 0 <= k < 4 for k in quarters)
    if not are_known or len(set(quarters)) < len(quarters):
        raise UserError(f"{key} must be different ones of 0, 1, 2 and 3, such as (0, 1, 2, 3).")
    height, width = given.size[-2:] or (1, 1)
    if height != width and {1, 3} & set(quarters):
        raise UserError(
            f"{key} turns {height} rows of {width} pixels into {width} of {height}; use (0, 2), or "
            "a square config.data.image_size."
        )


def turn(quarters: tuple[int, ...] = ()) -> Spatial | None:
    """Makes a step that turns images by whole quarters, in the plane of the last two axes.

    Args:
        quarters: How many, counterclockwise, of which each image draws one: (0, 1, 2, 3) for all
            four, (0, 2) for half turns.

    Returns:
        The step; None where it does nothing.
    """

    def draw(key: jax.Array) -> jax.Array:
        return jnp.array(quarters)[jax.random.randint(key, (), 0, len(quarters))]

    def move(key: jax.Array, coordinates: jax.Array) -> jax.Array:
        cosine, sine = jnp.array(QUARTERS, jnp.float32)[draw(key)]
        return _by_matrix(coordinates, ((cosine, sine), (-sine, cosine)))

    def direct(key: jax.Array, image: jax.Array, label: jax.Array, weight: jax.Array) -> Arrays:
        drawn, first = draw(key), weight.ndim - 2

        def turned(array: jax.Array) -> jax.Array:
            result = array
            for k in sorted(set(quarters) - {0}):
                result = jnp.where(drawn == k, jnp.rot90(array, k, (first, first + 1)), result)
            return result

        return turned(image), turned(label), turned(weight)

    return Spatial(move, direct) if set(quarters) - {0} else None


def rotation(degrees: Switch = 0.0, probability: Number = 1.0) -> Spatial | None:
    """Makes a step that rotates images about their middle, in the plane of the last two axes.

    Args:
        degrees: Largest angle, to either side, in [0, 180]; drawn evenly.
        probability: Share of the images that take the step.

    Returns:
        The step; None where it does nothing.
    """

    def move(key: jax.Array, coordinates: jax.Array) -> jax.Array:
        angle = jnp.deg2rad(jax.random.uniform(key, (), minval=-1.0) * degrees)
        cosine, sine = jnp.cos(angle), jnp.sin(angle)
        return _by_matrix(coordinates, ((cosine, sine), (-sine, cosine)))

    return Spatial(move, None, probability) if is_on(degrees) else None


def shear(degrees: Switch = 0.0, probability: Number = 1.0) -> Spatial | None:
    """Makes a step that slants images about their middle, in the plane of the last two axes.

    Half of the images are slanted along their rows, the others along their columns; areas stay.

    Args:
        degrees: Largest angle, to either side, in [0, 60]; drawn evenly.
        probability: Share of the images that take the step.

    Returns:
        The step; None where it does nothing.
    """

    def move(key: jax.Array, coordinates: jax.Array) -> jax.Array:
        angle_key, axis_key = jax.random.split(key)
        angle = jnp.deg2rad(jax.random.uniform(angle_key, (), minval=-1.0) * degrees)
        along_rows = jax.random.bernoulli(axis_key)
        slope = jnp.tan(angle)
        down, right = jnp.where(along_rows, 0, slope), jnp.where(along_rows, slope, 0)
        return _by_matrix(coordinates, ((1.0, down), (right, 1.0)))

    return Spatial(move, None, probability) if is_on(degrees) else None


def translation(share: Switch = 0.0, probability: Number = 1.0) -> Spatial | None:
    """Makes a step that shifts images; what comes in from outside has weight 0.

    Args:
        share: Largest shift along each axis, to either side, as a part of its pixels, in [0, 1];
            drawn evenly.
        probability: Share of the images that take the step.

    Returns:
        The step; None where it does nothing.
    """

    def move(key: jax.Array, coordinates: jax.Array) -> jax.Array:
        size = coordinates.shape[:-1]
        shares = jax.random.uniform(key, (len(size),), minval=-1.0) * share
        moved = [coordinates[..., axis] - shares[axis] * n for axis, n in enumerate(size)]
        return jnp.stack(moved, axis=-1)

    return Spatial(move, None, probability) if is_on(share) else None


def _by_matrix(
    coordinates: jax.Array, matrix: tuple[tuple[Any, Any], tuple[Any, Any]]
) -> jax.Array:
    """Multiplies the last two coordinates by a matrix, as seen from the middle of the image."""
    *others, height, width = coordinates.shape[:-1]
    y, x = coordinates[..., -2] - height / 2, coordinates[..., -1] - width / 2
    moved = [
        row[0] * y + row[1] * x + n / 2 for row, n in zip(matrix, (height, width), strict=True)
    ]
    return jnp.stack([*(coordinates[..., axis] for axis in range(len(others))), *moved], axis=-1)
