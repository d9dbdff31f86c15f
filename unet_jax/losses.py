"""Losses over pixels, each with a weight per pixel."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import optax

from unet_jax.config import choose
from unet_jax.errors import UserError
from unet_jax.traced import is_on, is_traced

Loss = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


def cross_entropy(
    logits: jax.Array,
    label: jax.Array,
    weight: jax.Array,
    *,
    class_weights: tuple[float, ...] = (),
    label_smoothing: float = 0.0,
) -> jax.Array:
    """Weighted mean of the pixels' cross-entropy, -sum w log p / sum w.

    Args:
        logits: float32 [..., K].
        label: int [...], in 0..K-1 everywhere; pixels to ignore have weight 0.
        weight: float32 [...], >= 0.
        class_weights: K factors by which a pixel of each class counts more or less, in the sum and
            in the divisor; empty for 1 each.
        label_smoothing: In [0, 1): the target is (1 - a) one-hot + a / K (Szegedy et al., 2016).

    Returns:
        Scalar, 0 if all weights are 0.
    """
    num_classes = logits.shape[-1]
    if class_weights:
        weight = weight * jnp.asarray(class_weights)[label]
    if is_on(label_smoothing):
        target = optax.smooth_labels(jax.nn.one_hot(label, num_classes), label_smoothing)
        pixel_loss = optax.softmax_cross_entropy(logits, target)
    else:
        pixel_loss = optax.softmax_cross_entropy_with_integer_labels(logits, label)
    return jnp.sum(weight * pixel_loss) / jnp.maximum(jnp.sum(weight), 1e-6)


def soft_dice(logits: jax.Array, label: jax.Array, weight: jax.Array) -> jax.Array:
    """One minus the mean soft Dice coefficient of the classes in the batch.

    Dice_k = 2 sum w p_k y_k / (sum w p_k + sum w y_k) (Milletari et al., 2016, without squares;
    Drozdzal et al., 2016), with sums over the pixels of the whole batch. Classes without a pixel in
    the batch are left out of the mean. Written here since optax.dice_loss takes no pixel weights.

    Args:
        logits: float32 [..., K].
        label: int [...], in 0..K-1.
        weight: float32 [...], >= 0.

    Returns:
        Scalar in [0, 1]; 0 if all weights are 0.
    """
    probability = jax.nn.softmax(logits) * weight[..., None]
    truth = jax.nn.one_hot(label, logits.shape[-1]) * weight[..., None]
    pixels = tuple(range(label.ndim))
    overlap = jnp.sum(jax.nn.softmax(logits) * truth, axis=pixels)
    truth_size = jnp.sum(truth, axis=pixels)
    total = jnp.sum(probability, axis=pixels) + truth_size
    dice = 2 * overlap / jnp.maximum(total, 1e-6)
    present = (truth_size > 0).astype(jnp.float32)
    return jnp.sum(present * (1 - dice)) / jnp.maximum(jnp.sum(present), 1.0)


def crop_label(
    label: jax.Array, weight: jax.Array, size: Sequence[int]
) -> tuple[jax.Array, jax.Array]:
    """Cuts out the middle that valid convolutions have logits for.

    Args:
        label: int [B, *n].
        weight: float32 [B, *n].
        size: At most n.

    Returns:
        Both as [B, *size].
    """
    starts = [(n - m) // 2 for n, m in zip(label.shape[1:], size, strict=True)]
    inside = (slice(None), *(slice(a, a + m) for a, m in zip(starts, size, strict=True)))
    return label[inside], weight[inside]


def supervise(
    loss: Loss,
    heads: Sequence[jax.Array],
    label: jax.Array,
    weight: jax.Array,
    *,
    multiple: int = 1,
) -> jax.Array:
    """Averages the loss over the heads of deep supervision, finer ones counting more.

    A head at 1 / s of the resolution has weight 1 / s, as in nnU-Net (Isensee et al., 2021), and
    reads every s-th pixel of the label.

    Args:
        loss: Of `make_loss`.
        heads: float32 [B, *n, K]; the first at full resolution, or with less than it where
            convolutions are valid.
        label: int [B, *N].
        weight: float32 [B, *N].
        multiple: What the model rounds N up to a multiple of, which is s times each other head's n.

    Returns:
        Scalar.
    """
    first, *others = heads
    total, share = loss(first, *crop_label(label, weight, first.shape[1:-1])), 1.0
    for logits in others:
        sizes = [-(-n // multiple) * multiple for n in label.shape[1:]]
        strides = [n // m for n, m in zip(sizes, logits.shape[1:-1], strict=True)]
        # What was rounded up has weight 0.
        ends = [(0, m - n) for n, m in zip(label.shape[1:], sizes, strict=True)]
        every = (slice(None), *(slice(s // 2, None, s) for s in strides))
        own_label = jnp.pad(label, ((0, 0), *ends))[every]
        own_weight = jnp.pad(weight, ((0, 0), *ends))[every]
        total += loss(logits, own_label, own_weight) / strides[-1]
        share += 1 / strides[-1]
    return total / share


def make_loss(
    name: str = "cross_entropy",
    class_weights: tuple[float, ...] = (),
    label_smoothing: float = 0.0,
    dice_weight: float = 1.0,
    *,
    num_classes: int,
) -> Loss:
    """Makes the training loss of a config.

    Args:
        name: "cross_entropy", or "cross_entropy+dice" for its sum with `dice_weight` x soft Dice.
        class_weights: See `cross_entropy`.
        label_smoothing: See `cross_entropy`.
        dice_weight: Factor of the soft Dice loss.
        num_classes: K.

    Returns:
        loss(logits [B, H, W, K], label [B, H, W], weight [B, H, W]) -> scalar.

    Raises:
        UserError: The name is unknown, or the values do not fit.
    """
    if class_weights and len(class_weights) != num_classes:
        raise UserError(
            f"config.loss.class_weights={class_weights} has {len(class_weights)} values for "
            f"{num_classes} classes; give one per class, or () for equal weights."
        )
    are_numbers = all(isinstance(w, int | float) and w >= 0 for w in class_weights)
    if not is_traced(class_weights) and not are_numbers:
        raise UserError(f"config.loss.class_weights={class_weights} must be numbers, 0 or more.")
    if not is_traced(label_smoothing) and not 0 <= label_smoothing < 1:
        raise UserError(f"config.loss.label_smoothing={label_smoothing} must be in [0, 1).")

    def pixelwise(logits: jax.Array, label: jax.Array, weight: jax.Array) -> jax.Array:
        smoothing = label_smoothing
        return cross_entropy(
            logits, label, weight, class_weights=class_weights, label_smoothing=smoothing
        )

    def with_dice(logits: jax.Array, label: jax.Array, weight: jax.Array) -> jax.Array:
        overlap = soft_dice(logits, label, weight)
        return pixelwise(logits, label, weight) + dice_weight * overlap

    return choose(
        {"cross_entropy": pixelwise, "cross_entropy+dice": with_dice}, "config.loss.name", name
    )
