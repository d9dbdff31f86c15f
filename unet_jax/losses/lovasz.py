"""Losses whose values at 0 and 1 are one minus the intersection over union of classes."""

import jax
import jax.numpy as jnp

from unet_jax.losses.example import Example
from unet_jax.losses.overlap import mean_present
from unet_jax.traced import Number


def lovasz(example: Example, *, class_weights: tuple[Number, ...] = ()) -> jax.Array:
    """Mean Lovasz extension of the Jaccard loss of the channels in the batch.

    Lovasz-Softmax where a pixel has one class (Berman et al., 2018, eq. 11 and 12): the errors of
    channel k are ``abs(y_k - p_k)``, and likewise where channels are independent. The Jaccard loss
    is that of all pixels of the batch, each as large as its weight. Channels without a pixel in the
    batch are left out of the mean.

    Args:
        example: The batch.
        class_weights: Of the mean over channels; see `overlap.soft_dice`.

    Returns:
        Scalar in [0, 1]; 0 if all weights are 0.
    """
    logits, label, weight, task, _ = example
    target = task.target(label)
    errors = jnp.abs(target - task.probability(logits))
    return _mean_extension(errors, target, weight, class_weights)


def lovasz_hinge(example: Example, *, class_weights: tuple[Number, ...] = ()) -> jax.Array:
    """As `lovasz`, of the hinge errors max(0, 1 - f_k (2 y_k - 1)) (Berman et al., 2018, eq. 7).

    f_k are the log odds of channel k: its logits where channels are independent, elsewhere those of
    the class against all others together, for two classes the difference of their logits.

    Args:
        example: The batch.
        class_weights: Of the mean over channels; see `overlap.soft_dice`.

    Returns:
        Scalar, 0 or more; 0 if all weights are 0.
    """
    logits, label, weight, task, _ = example
    target = task.target(label)
    margins = (2 * target - 1) * task.log_odds(logits)
    return _mean_extension(jax.nn.relu(1 - margins), target, weight, class_weights)


def _mean_extension(
    errors: jax.Array, target: jax.Array, weight: jax.Array, class_weights: tuple[Number, ...]
) -> jax.Array:
    """Returns the mean of `_extend` over the channels that are in the batch.

    Args:
        errors: float32 [..., K], 0 or more.
        target: float32 [..., K], 0 or 1.
        weight: float32 [...].
        class_weights: Of the mean; see `overlap.mean_present`.
    """
    channels = errors.shape[-1]
    flat = weight.ravel()
    truth = target.reshape(-1, channels) * flat[:, None]
    extend = jax.vmap(_extend, in_axes=(1, 1, None))
    losses = extend(errors.reshape(-1, channels), truth, flat)
    return mean_present(losses, jnp.sum(truth, axis=0), class_weights)


def _extend(errors: jax.Array, truth: jax.Array, weight: jax.Array) -> jax.Array:
    """Returns the Lovasz extension of one channel's Jaccard loss at some errors.

    sum_i e_i (J_i - J_{i-1}), where J_i is the Jaccard loss, 1 - I_i / U_i, if the i pixels of the
    greatest errors are wrong: those of the channel among them are missing in the intersection, and
    the others are more in the union.

    Args:
        errors: float32 [N].
        truth: float32 [N], the weight of the pixels in the channel, 0 elsewhere.
        weight: float32 [N].
    """
    # Ignored pixels come last, where they add nothing to any sum before.
    ranks = jax.lax.stop_gradient(jnp.where(weight > 0, errors, -1))
    order = jnp.argsort(ranks, descending=True)
    missing, other = truth[order], (weight - truth)[order]
    size = jnp.sum(truth)
    intersection = jnp.maximum(size - jnp.cumsum(missing), 0)  # by rounding it may be below
    union = size + jnp.cumsum(other)
    # J_i - J_{i-1} in closed form: of the difference few digits would be left among many pixels.
    union = jnp.where(size > 0, union, 1)
    steps = missing / union + other * intersection / (union * (union - other))
    steps = jnp.zeros_like(steps).at[order].set(steps, unique_indices=True)
    return jnp.sum(errors * jnp.where(size > 0, steps, 0))
