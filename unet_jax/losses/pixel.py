"""Losses that are means over pixels."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from unet_jax.config import check_range
from unet_jax.data.class_weights import RULES, find_rule
from unet_jax.errors import UserError
from unet_jax.losses.example import Example
from unet_jax.traced import Number, Switch, is_on

MOST_WEIGHT = 1e6  # of a class or a term; sums over an image's pixels are then far from overflow
MOST_GAMMA = 100.0
MOST_SIGMA = 1000.0  # pixels
LEAST_LOSS = 1e-30  # of a pixel, whose logarithm and its derivative are finite


def cross_entropy(
    example: Example,
    *,
    class_weights: tuple[Number, ...] = (),
    label_smoothing: Switch = 0.0,
    top_k: Switch = 0.0,
    border_weight: Switch = 0.0,
    border_sigma: float = 5.0,
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
        top_k: Share of the batch's elements, pixels or pixels and channels, that count: of the N
            with a weight above 0 the floor(top_k N) with the greatest cross-entropy, one at least,
            and all that are equal to the last of them; 0.0 for all N. nnU-Net's TopK loss has 0.1
            (Isensee et al., 2021), but counts ignored pixels in N.
        border_weight: w_0, by which pixels between two objects count more: the weight of pixel i is
            w_i (w_c + w_0 exp(-(d_1 + d_2)^2 / (2 sigma^2))) with w_c of its class and the map of
            `data.maps.Border` (Ronneberger et al., 2015, eq. 2, where w_0 is 10); 0.0 for none.
        border_sigma: sigma of that map, in pixels of what the network sees.

    Returns:
        Scalar, 0 if all weights are 0.
    """
    task, label = example.task, example.label
    weight = weigh_cross_entropy(example, class_weights=class_weights, border_weight=border_weight)
    losses = task.cross_entropy(example.logits, label, label_smoothing)
    if is_on(top_k):
        weight = weight * is_among_greatest(losses, weight > 0, top_k)
    return weighted_mean(losses, weight)


def weigh_cross_entropy(
    example: Example,
    *,
    class_weights: tuple[Number, ...] = (),
    border_weight: Switch = 0.0,
    **_: Any,
) -> jax.Array:
    """Returns the weight of every element, by whose sum `cross_entropy` divides.

    Args:
        example: The batch.
        class_weights: See `cross_entropy`.
        border_weight: See `cross_entropy`.
        **_: Its other arguments.
    """
    task, label, weight = example.task, example.label, example.weight
    own = task.weigh(label, weight, class_weights)
    if not is_on(border_weight):
        return own
    return own + border_weight * task.weigh(label, weight * example.extras["border"])


def weighted_mean(losses: jax.Array, weight: jax.Array) -> jax.Array:
    """Returns sum w l / sum w of elements, 0 where all weights are."""
    # No sum of weights is too small to divide by, so that the scale of class weights says nothing.
    return jnp.sum(weight * losses) / jnp.maximum(jnp.sum(weight), jnp.finfo(weight.dtype).tiny)


def is_among_greatest(losses: jax.Array, counts: jax.Array, share: Number) -> jax.Array:
    """Finds the elements with the greatest losses.

    Args:
        losses: Of all elements.
        counts: Bool of the same shape, N times True.
        share: Of the N that is looked for.

    Returns:
        Bool of the same shape; see `cross_entropy`. Of elements that do not count it means nothing.
    """
    losses = jax.lax.stop_gradient(losses)
    ranked = jnp.sort(jnp.where(counts, losses, -jnp.inf).ravel(), descending=True)
    number = jnp.floor(share * jnp.sum(counts)).astype(jnp.int32)
    return losses >= ranked[jnp.maximum(number, 1) - 1]


def binary_cross_entropy(example: Example) -> jax.Array:
    """Weighted mean over pixels i and channels k of the cross-entropy of a yes and a no.

    -sum w_i (y_ik log p_ik + (1 - y_ik) log(1 - p_ik)) / (K sum w_i): every class is asked for on
    its own, with the probability that the task gives it, also where a pixel has one class. Where
    channels are independent it is `cross_entropy`.

    Args:
        example: The batch.

    Returns:
        Scalar, 0 if all weights are 0.
    """
    logits, label, weight, task, _ = example
    odds, target = task.log_odds(logits), task.target(label)
    losses = jax.nn.softplus((1 - 2 * target) * odds)  # -log of the probability of what is true
    return weighted_mean(losses, jnp.broadcast_to(weight[..., None], losses.shape))


def focal(example: Example, *, gamma: Number = 2.0, alpha: tuple[Number, ...] = ()) -> jax.Array:
    """Weighted mean of -alpha_t (1 - p_t)^gamma log p_t (Lin et al., 2017, eq. 5).

    p_t is the probability of what is true: of the pixel's class, or where channels are independent,
    of the channel's yes or no. The paper has gamma = 2 and alpha = 0.25.

    Args:
        example: The batch.
        gamma: How fast what is classified well stops counting, 0 or more; with 0 and no alpha it is
            `cross_entropy`.
        alpha: K factors alpha_k of the loss, not of the divisor; empty for 1 each. alpha_t is that
            of the pixel's class; where channels are independent, alpha_k where channel k is on and
            1 - alpha_k where it is not. Where a pixel has one class, a config may name a rule, see
            `cross_entropy`, whose weights are divided by their sum: of two classes "balanced" gives
            each the other's share of the pixels, the inverse frequency of the paper's section 3.1.

    Returns:
        Scalar, 0 if all weights are 0.
    """
    logits, label, weight, task, _ = example
    entropy = task.cross_entropy(logits, label)  # -log p_t, from which 1 - p_t has all its digits
    missing = -jnp.expm1(-jnp.maximum(entropy, LEAST_LOSS))
    # By logarithms, whose derivative is finite also where gamma is below 1 and p_t is 1.
    losses = jnp.exp(gamma * jnp.log(missing)) * entropy
    if alpha:
        factors = task.weigh(label, jnp.ones_like(weight), alpha)
        if task.decides == "masks":
            factors = jnp.where(task.truth(label), factors, 1 - factors)
        losses = factors * losses
    return weighted_mean(losses, task.weigh(label, weight))


def divide_by_sum(weights: tuple[float, ...]) -> tuple[float, ...]:
    """Makes `alpha` of `focal` of the weights that a rule finds."""
    total = sum(weights) or 1.0  # where nothing is labelled
    return tuple(weight / total for weight in weights)


def check_cross_entropy(values: Mapping[str, Any], num_classes: int) -> None:
    """Checks the arguments of `cross_entropy`.

    Args:
        values: By name; class weights may be a rule that finds them in the data.
        num_classes: K.

    Raises:
        UserError: There is not a weight per class, or a number is out of range.
    """
    key = "config.loss.cross_entropy"
    check_class_weights(f"{key}.class_weights", values["class_weights"], num_classes)
    if not 0 <= values["label_smoothing"] < 1:
        raise UserError(f"{key}.label_smoothing={values['label_smoothing']} must be in [0, 1).")
    if not 0 <= values["top_k"] <= 1:
        raise UserError(
            f"{key}.top_k={values['top_k']} must be the share of the pixels that count, from 0 to "
            "1; 0.0 is for all."
        )
    check_range(f"{key}.border_weight", values["border_weight"], 0, MOST_WEIGHT)
    check_range(f"{key}.border_sigma", values["border_sigma"], 0.1, MOST_SIGMA)


def check_class_weights(key: str, class_weights: tuple[Any, ...], num_classes: int) -> None:
    """Checks factors by class, or the rule that finds them.

    Args:
        key: Their full config key.
        class_weights: The factors, or the name of a rule alone.
        num_classes: K.

    Raises:
        UserError: They are neither, or not one per class.
    """
    if find_rule(class_weights):
        return
    _check_count(key, class_weights, num_classes, "equal weights")
    are_weights = all(isinstance(w, int | float) and 0 <= w <= MOST_WEIGHT for w in class_weights)
    if not are_weights or (class_weights and not any(class_weights)):
        raise UserError(
            f"{key}={class_weights} must be numbers from 0 to {MOST_WEIGHT:g}, one or more of them "
            f"above 0, or one of {', '.join(map(repr, RULES))}."
        )


def check_focal(values: Mapping[str, Any], num_classes: int) -> None:
    """Checks the arguments of `focal`, by name.

    Raises:
        UserError: There is not a factor per class, or a number is out of range.
    """
    key, alpha = "config.loss.focal", values["alpha"]
    check_range(f"{key}.gamma", values["gamma"], 0, MOST_GAMMA)
    if find_rule(alpha):
        return
    _check_count(f"{key}.alpha", alpha, num_classes, "1 each")
    if not all(isinstance(a, int | float) and 0 <= a <= 1 for a in alpha):
        raise UserError(
            f"{key}.alpha={alpha} must be numbers from 0 to 1, or one of "
            f"{', '.join(map(repr, RULES))}."
        )


def _check_count(key: str, values: tuple[Any, ...], num_classes: int, otherwise: str) -> None:
    if values and len(values) != num_classes:
        raise UserError(
            f"{key}={values} has {len(values)} values for {num_classes} classes; give one per "
            f"class, or () for {otherwise}."
        )
