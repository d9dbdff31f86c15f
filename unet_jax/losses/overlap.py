"""Losses that compare regions: how much of a class's pixels two segmentations share."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from unet_jax.config import check_range
from unet_jax.errors import UserError
from unet_jax.losses.example import Example
from unet_jax.losses.pixel import check_class_weights, weighted_mean
from unet_jax.traced import Number

MOST_COST = 1000.0  # of a false pixel, of which a right one is 1


class Sizes(NamedTuple):
    """Sums over the pixels of the whole batch, float32 [K].

    Attributes:
        overlap: sum w p_k y_k.
        truth: sum w y_k.
        predicted: sum w p_k.
    """

    overlap: jax.Array
    truth: jax.Array
    predicted: jax.Array


def find_sizes(example: Example) -> Sizes:
    """Sums each channel's probability and truth over the pixels of a batch."""
    logits, label, weight, task, _ = example
    probability = task.probability(logits) * weight[..., None]
    truth = task.target(label) * weight[..., None]
    pixels = tuple(range(weight.ndim))
    overlap = jnp.sum(task.probability(logits) * truth, axis=pixels)
    return Sizes(overlap, jnp.sum(truth, axis=pixels), jnp.sum(probability, axis=pixels))


def mean_present(
    losses: jax.Array, truth: jax.Array, class_weights: tuple[Number, ...] = ()
) -> jax.Array:
    """Returns the mean loss [K] of the channels whose truth has a pixel; 0 where none has.

    Args:
        losses: float32 [K].
        truth: float32 [K], above 0 where a channel has a pixel.
        class_weights: v_k of the mean sum_k v_k l_k / sum_k v_k; empty for 1 each.
    """
    present = (truth > 0).astype(jnp.float32)
    if not class_weights:
        return jnp.sum(present * losses) / jnp.maximum(jnp.sum(present), 1.0)
    return weighted_mean(losses, present * jnp.asarray(class_weights, jnp.float32))


def soft_dice(example: Example, *, class_weights: tuple[Number, ...] = ()) -> jax.Array:
    """One minus the mean soft Dice coefficient of the channels in the batch.

    Dice_k = 2 sum w p_k y_k / (sum w p_k + sum w y_k) (Milletari et al., 2016, without squares;
    Drozdzal et al., 2016), with sums over the pixels of the whole batch. Channels, which stand for
    classes or regions, without a pixel in the batch are left out of the mean. Written here since
    optax.dice_loss takes no pixel weights.

    Args:
        example: The batch.
        class_weights: K factors v_k of the mean over channels, sum_k v_k (1 - Dice_k) / sum_k v_k;
            empty for 1 each, or a rule, see `pixel.cross_entropy`.

    Returns:
        Scalar in [0, 1]; 0 if all weights are 0.
    """
    sizes = find_sizes(example)
    dice = 2 * sizes.overlap / jnp.maximum(sizes.predicted + sizes.truth, 1e-6)
    return mean_present(1 - dice, sizes.truth, class_weights)


def generalised_dice(example: Example) -> jax.Array:
    """One minus the Dice coefficient of all channels together, each by its size squared.

    1 - 2 sum_k v_k sum w p_k y_k / sum_k v_k (sum w p_k + sum w y_k) with v_k = 1 / (sum w y_k)^2
    (Sudre et al., 2017, eq. 2), with sums over the pixels of the whole batch. Channels without a
    pixel in the batch, whose v_k is infinite, are left out of both sums over k. What optax calls so
    is another quantity, the mean of Dice losses by these v_k, and takes no pixel weights.

    Args:
        example: The batch.

    Returns:
        Scalar in [0, 1]; 0 if all weights are 0.
    """
    sizes = find_sizes(example)
    present = sizes.truth > 0
    # Relative to the smallest channel that is there: only ratios of v_k matter.
    smallest = jnp.min(jnp.where(present, sizes.truth, jnp.inf))
    ratio = jnp.where(present, smallest / jnp.where(present, sizes.truth, 1), 0)
    both = jnp.sum(ratio**2 * (sizes.predicted + sizes.truth))
    dice = 2 * jnp.sum(ratio**2 * sizes.overlap) / jnp.where(present.any(), both, 1)
    return jnp.where(present.any(), 1 - dice, 0)


def tversky(
    example: Example,
    *,
    false_positives: Number = 0.3,
    false_negatives: Number = 0.7,
    gamma: Number = 1.0,
    class_weights: tuple[Number, ...] = (),
) -> jax.Array:
    """Mean of (1 - T_k)^(1 / gamma) of the channels in the batch, T_k the Tversky index.

    T_k = TP / (TP + a FP + b FN) with TP = sum w p_k y_k, FP = sum w p_k (1 - y_k) and
    FN = sum w (1 - p_k) y_k over the pixels of the whole batch (Salehi et al., 2017, eq. 3, whose
    a and b are the arguments). With gamma it is the focal Tversky loss (Abraham and Khan, 2019,
    eq. 4, whose gamma is 4 / 3), there a sum and here a mean over channels. Both at 1/2 make it
    `soft_dice`. Channels without a pixel in the batch are left out.

    Args:
        example: The batch.
        false_positives: What a pixel that is wrongly in a channel costs, a.
        false_negatives: What one that is wrongly not in it costs, b.
        gamma: Above 1, channels that are still wrong count more against those nearly right.
        class_weights: Of the mean over channels; see `soft_dice`.

    Returns:
        Scalar in [0, 1]; 0 if all weights are 0.
    """
    logits, label, weight, task, _ = example
    probability, target = task.probability(logits), task.target(label)
    # 1 - T_k from sums of its own, which lose no digits where T_k is near 1.
    wrong = false_positives * probability * (1 - target)
    wrong += false_negatives * (1 - probability) * target
    missing, overlap, truth = (
        jnp.sum(weight[..., None] * x, axis=tuple(range(weight.ndim)))
        for x in (wrong, probability * target, target)
    )
    loss = missing / jnp.maximum(overlap + missing, 1e-6)
    is_above = loss > 0  # at 0 the root has no derivative
    root = jnp.where(is_above, loss, 1) ** (1 / gamma)
    return mean_present(jnp.where(is_above, root, 0), truth, class_weights)


def check_class_mean(term: str) -> Callable[[Mapping[str, Any], int], None]:
    """Makes the check of a term whose mean over channels takes `class_weights`.

    Args:
        term: Its name in config.loss.

    Returns:
        (values by key, number of classes) -> None; raises a UserError where they do not fit.
    """
    key = f"config.loss.{term}.class_weights"
    return lambda values, num_classes: check_class_weights(
        key, values["class_weights"], num_classes
    )


def check_tversky(values: Mapping[str, Any], num_classes: int) -> None:
    """Checks the arguments of `tversky`, by name.

    Raises:
        UserError: A number is out of range, or false pixels cost nothing.
    """
    check_class_mean("tversky")(values, num_classes)
    key, costs = "config.loss.tversky", ("false_positives", "false_negatives")
    for name in costs:
        check_range(f"{key}.{name}", values[name], 0, MOST_COST)
    check_range(f"{key}.gamma", values["gamma"], 1, 10)
    if not any(values[name] for name in costs):
        raise UserError(
            f"{key}.false_positives={values['false_positives']} and {key}.false_negatives="
            f"{values['false_negatives']} must not both be 0."
        )
