"""Losses that are means over pixels."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from unet_jax.data.class_weights import RULES, find_rule
from unet_jax.errors import UserError
from unet_jax.losses.example import Example
from unet_jax.traced import Number, Switch

MOST_WEIGHT = 1e6  # of a class or a term; sums over an image's pixels are then far from overflow


def cross_entropy(
    example: Example,
    *,
    class_weights: tuple[Number, ...] = (),
    label_smoothing: Switch = 0.0,
) -> jax.Array:
    """Weighted mean of the pixels' cross-entropy, -sum w log p / sum w.

    Where channels are independent, the weighted mean of their binary cross-entropy over pixels i
    and channels k: -sum w_ik (y_ik log p_ik + (1 - y_ik) log(1 - p_ik)) / sum w_ik.

    Args:
        example: The batch.
        class_weights: K factors by which a pixel of each class, or each channel, counts more or
            less, in the sum and in the divisor; empty for 1 each. A config may name a rule of
            `data.class_weights.RULES` instead, which finds them in the training split.
        label_smoothing: a in [0, 1): the target is (1 - a) y + a / K where a pixel has one of K
            classes, and (1 - a) y + a / 2 where channels are independent.

    Returns:
        Scalar, 0 if all weights are 0.
    """
    task, label = example.task, example.label
    weight = task.weigh(label, example.weight, class_weights)
    losses = task.cross_entropy(example.logits, label, label_smoothing)
    # No sum of weights is too small to divide by, so that the scale of class weights says nothing.
    return jnp.sum(weight * losses) / jnp.maximum(jnp.sum(weight), jnp.finfo(weight.dtype).tiny)


def check_cross_entropy(values: Mapping[str, Any], num_classes: int) -> None:
    """Checks the arguments of `cross_entropy`.

    Args:
        values: By name; class weights may be a rule that finds them in the data.
        num_classes: K.

    Raises:
        UserError: There is not a weight per class, or a number is out of range.
    """
    key, class_weights = "config.loss.cross_entropy", values["class_weights"]
    if find_rule(class_weights):
        class_weights = ()
    if class_weights and len(class_weights) != num_classes:
        raise UserError(
            f"{key}.class_weights={class_weights} has {len(class_weights)} values for "
            f"{num_classes} classes; give one per class, or () for equal weights."
        )
    are_weights = all(isinstance(w, int | float) and 0 <= w <= MOST_WEIGHT for w in class_weights)
    if not are_weights or (class_weights and not any(class_weights)):
        raise UserError(
            f"{key}.class_weights={class_weights} must be numbers from 0 to {MOST_WEIGHT:g}, one "
            f"or more of them above 0, or one of {', '.join(map(repr, RULES))}."
        )
    if not 0 <= values["label_smoothing"] < 1:
        raise UserError(f"{key}.label_smoothing={values['label_smoothing']} must be in [0, 1).")
