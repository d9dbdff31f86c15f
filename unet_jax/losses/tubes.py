"""A loss that compares the centre lines of tubes: vessels, roads, membranes."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from unet_jax.config import check_range
from unet_jax.errors import UserError
from unet_jax.losses.example import Example
from unet_jax.losses.overlap import mean_present

MOST_ITERATIONS = 1000


def cldice(example: Example, *, iterations: int = 10, classes: tuple[int, ...] = ()) -> jax.Array:
    """One minus the mean soft centre-line Dice coefficient of the channels in the batch.

    2 T_prec T_sens / (T_prec + T_sens) with T_prec = (1 + sum w S(p) y) / (1 + sum w S(p)) and
    T_sens = (1 + sum w S(y) p) / (1 + sum w S(y)) (Shit et al., 2021, eq. 1 and 2, with the 1 of
    its authors' code), where S is `soft_skeleton`, in 2-D and in 3-D, and sums are over the pixels
    of the whole batch. Channels without a pixel in the batch are left out of the mean. The paper
    adds it to soft Dice: the term "dice" beside this one.

    Args:
        example: The batch.
        iterations: Of `soft_skeleton`: the largest radius of a tube in pixels, or more.
        classes: Channels that are tubes; () for all, but for the first where a pixel has one class,
            which is the background.

    Returns:
        Scalar in [0, 1]; 0 if all weights are 0, or there is no such channel.
    """
    logits, label, weight, task, _ = example
    first = 1 if task.decides == "ids" else 0
    chosen = jnp.asarray(classes or range(first, task.channels), jnp.int32)
    probability = task.probability(logits)[..., chosen]
    target = task.target(label)[..., chosen]
    pixels, wide = tuple(range(weight.ndim)), weight[..., None]
    skeleton = functools.partial(soft_skeleton, counts=wide > 0, iterations=iterations)

    def share(line: jax.Array, region: jax.Array) -> jax.Array:
        inside = jnp.sum(wide * line * region, axis=pixels)
        return (1 + inside) / (1 + jnp.sum(wide * line, axis=pixels))

    precision = share(skeleton(probability), target)
    sensitivity = share(skeleton(target), probability)
    both = 2 * precision * sensitivity / (precision + sensitivity)
    return mean_present(1 - both, jnp.sum(wide * target, axis=pixels))


def soft_skeleton(values: jax.Array, counts: jax.Array, iterations: int) -> jax.Array:
    """Thins regions to their centre lines by minima and maxima, which have derivatives.

    Algorithm 1 of Shit et al. (2021): again and again the values are eroded by the least of a
    pixel and its neighbours along each axis, and what an opening would take away is added. What
    lies outside the image, and pixels that do not count, are no neighbours.

    Args:
        values: float32 [B, *n, K] in [0, 1].
        counts: Bool [B, *n, 1].
        iterations: Erosions.

    Returns:
        float32 [B, *n, K] in [0, 1]; where a pixel does not count, it means nothing.
    """
    axes = range(1, values.ndim - 1)

    def erode(x: jax.Array) -> jax.Array:
        x = jnp.where(counts, x, 1)
        return functools.reduce(jnp.minimum, (_among(x, jnp.minimum, axis, 1.0) for axis in axes))

    def above_opening(x: jax.Array, eroded: jax.Array) -> jax.Array:
        opened = jnp.where(counts, eroded, 0)
        for axis in axes:  # the greatest of all 3^axes around a pixel
            opened = _among(opened, jnp.maximum, axis, 0.0)
        return jax.nn.relu(x - opened)

    def thin(carry: tuple[jax.Array, jax.Array], _: None) -> tuple[Any, None]:
        x, skeleton = carry
        eroded = erode(x)
        more = above_opening(x, eroded)
        return (eroded, skeleton + jax.nn.relu(more - skeleton * more)), None

    first = erode(values)
    begin = first, above_opening(values, first)
    (_, skeleton), _ = jax.lax.scan(thin, begin, length=iterations)
    return skeleton


def _among(x: jax.Array, choose: Any, axis: int, beyond: float) -> jax.Array:
    """Chooses among each pixel and its two neighbours along an axis, `beyond` at its ends."""

    def shift(before: int, after: int) -> jax.Array:
        ends = [(0, 0, 0)] * x.ndim
        ends[axis] = (before, after, 0)
        return jax.lax.pad(x, jnp.asarray(beyond, x.dtype), ends)

    return choose(choose(x, shift(1, -1)), shift(-1, 1))


def check_cldice(values: Mapping[str, Any], num_classes: int) -> None:
    """Checks the arguments of `cldice`, by name.

    Raises:
        UserError: A number is out of range.
    """
    key, classes = "config.loss.cldice", values["classes"]
    check_range(f"{key}.iterations", values["iterations"], 0, MOST_ITERATIONS)
    are_ids = all(type(k) is int and 0 <= k < num_classes for k in classes)
    if not are_ids or len(set(classes)) < len(classes):
        raise UserError(
            f"{key}.classes={classes} must be different channels from 0 to {num_classes - 1}, or ()"
            " for all that are not the background."
        )
