"""Losses that compare regions: how much of a class's pixels two segmentations share."""

import jax
import jax.numpy as jnp

from unet_jax.losses.example import Example


def soft_dice(example: Example) -> jax.Array:
    """One minus the mean soft Dice coefficient of the channels in the batch.

    Dice_k = 2 sum w p_k y_k / (sum w p_k + sum w y_k) (Milletari et al., 2016, without squares;
    Drozdzal et al., 2016), with sums over the pixels of the whole batch. Channels, which stand for
    classes or regions, without a pixel in the batch are left out of the mean. Written here since
    optax.dice_loss takes no pixel weights.

    Args:
        example: The batch.

    Returns:
        Scalar in [0, 1]; 0 if all weights are 0.
    """
    logits, label, weight, task = example
    probability = task.probability(logits) * weight[..., None]
    truth = task.target(label) * weight[..., None]
    pixels = tuple(range(weight.ndim))
    overlap = jnp.sum(task.probability(logits) * truth, axis=pixels)
    truth_size = jnp.sum(truth, axis=pixels)
    total = jnp.sum(probability, axis=pixels) + truth_size
    dice = 2 * overlap / jnp.maximum(total, 1e-6)
    present = (truth_size > 0).astype(jnp.float32)
    return jnp.sum(present * (1 - dice)) / jnp.maximum(jnp.sum(present), 1.0)
