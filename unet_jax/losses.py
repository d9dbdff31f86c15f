"""Losses over pixels, each with a weight per pixel."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from unet_jax.config import choose
from unet_jax.errors import UserError
from unet_jax.traced import is_on, is_traced

MOST_WEIGHT = 1e6  # of a class or of Dice; sums over an image's pixels are then far from overflow


@dataclasses.dataclass(frozen=True)
class Loss:
    """A training loss of one head; see `make_loss`.

    Attributes:
        mean: (logits [B, *n, K], label [B, *n], weight [B, *n]) -> scalar.
        class_weights: See `cross_entropy`.
    """

    mean: Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
    class_weights: tuple[float, ...] = ()

    def __call__(self, logits: jax.Array, label: jax.Array, weight: jax.Array) -> jax.Array:
        """Computes the loss of a batch."""
        return self.mean(logits, label, weight)

    def batch_weight(self, label: jax.Array, weight: jax.Array) -> jax.Array:
        """Returns the mean of a batch's pixel weights, which its cross-entropy was divided by.

        Not their sum, so that gradients times it are of the size of gradients.
        """
        return jnp.mean(pixel_weights(label, weight, self.class_weights))


class Head(NamedTuple):
    """What one head is trained on; see `supervise`.

    Attributes:
        logits: float32 [B, *n, K].
        label: int [B, *n].
        weight: float32 [B, *n].
        stride: Pixels of the label, along an axis, that are one of the head.
    """

    logits: jax.Array
    label: jax.Array
    weight: jax.Array
    stride: int


def pixel_weights(
    label: jax.Array, weight: jax.Array, class_weights: tuple[float, ...]
) -> jax.Array:
    """Returns the weights of pixels, times those of their classes where there are any."""
    return weight * jnp.asarray(class_weights)[label] if class_weights else weight


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
    weight = pixel_weights(label, weight, class_weights)
    if is_on(label_smoothing):
        target = optax.smooth_labels(jax.nn.one_hot(label, num_classes), label_smoothing)
        pixel_loss = optax.softmax_cross_entropy(logits, target)
    else:
        pixel_loss = optax.softmax_cross_entropy_with_integer_labels(logits, label)
    # No sum of weights is too small to divide by, so that the scale of class weights says nothing.
    return jnp.sum(weight * pixel_loss) / jnp.maximum(jnp.sum(weight), jnp.finfo(weight.dtype).tiny)


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


def split_heads(
    heads: Sequence[jax.Array], label: jax.Array, weight: jax.Array, multiple: int
) -> Iterator[Head]:
    """Brings the label to the size of every head.

    Args:
        heads: float32 [B, *n, K]; the first at full resolution, or with less than it where
            convolutions are valid.
        label: int [B, *N].
        weight: float32 [B, *N].
        multiple: What the model rounds N up to a multiple of, which is s times each other head's n.

    Yields:
        What each head is trained on: those after the first read every s-th pixel of the label.
    """
    first, *others = heads
    yield Head(first, *crop_label(label, weight, first.shape[1:-1]), 1)
    for logits in others:
        sizes = [-(-n // multiple) * multiple for n in label.shape[1:]]
        strides = [n // m for n, m in zip(sizes, logits.shape[1:-1], strict=True)]
        # What was rounded up has weight 0.
        ends = [(0, m - n) for n, m in zip(label.shape[1:], sizes, strict=True)]
        every = (slice(None), *(slice(s // 2, None, s) for s in strides))
        own_label = jnp.pad(label, ((0, 0), *ends))[every]
        own_weight = jnp.pad(weight, ((0, 0), *ends))[every]
        yield Head(logits, own_label, own_weight, strides[-1])


def supervise(
    loss: Loss,
    heads: Sequence[jax.Array],
    label: jax.Array,
    weight: jax.Array,
    *,
    multiple: int = 1,
) -> jax.Array:
    """Averages the loss over the heads of deep supervision, finer ones counting more.

    A head at 1 / s of the resolution has weight 1 / s, as in nnU-Net (Isensee et al., 2021).

    Args:
        loss: Of `make_loss`.
        heads: See `split_heads`.
        label: int [B, *N].
        weight: float32 [B, *N].
        multiple: See `split_heads`.

    Returns:
        Scalar.
    """
    each = split_heads(heads, label, weight, multiple)
    first = next(each)
    total, share = loss(first.logits, first.label, first.weight), 1.0
    for head in each:
        total += loss(head.logits, head.label, head.weight) / head.stride
        share += 1 / head.stride
    return total / share


def supervise_apart(
    loss: Loss,
    heads: Sequence[jax.Array],
    label: jax.Array,
    weight: jax.Array,
    *,
    multiple: int = 1,
) -> tuple[list[jax.Array], list[jax.Array]]:
    """Computes what each head adds to the loss of `supervise`, and how much its batch weighs.

    Args:
        loss: Of `make_loss`.
        heads: See `split_heads`.
        label: int [B, *N].
        weight: float32 [B, *N].
        multiple: See `split_heads`.

    Returns:
        Scalars, one per head, whose sum is `supervise`; and `Loss.batch_weight` of each head.
    """
    each = list(split_heads(heads, label, weight, multiple))
    share = sum(1 / head.stride for head in each)
    losses = [loss(head.logits, head.label, head.weight) / head.stride / share for head in each]
    return losses, [loss.batch_weight(head.label, head.weight) for head in each]


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
        class_weights: See `cross_entropy`; one or more above 0.
        label_smoothing: See `cross_entropy`.
        dice_weight: Factor of the soft Dice loss, 0 or more.
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
    are_weights = is_traced(class_weights) or all(
        isinstance(w, int | float) and 0 <= w <= MOST_WEIGHT for w in class_weights
    )
    if not are_weights or (
        class_weights and not is_traced(class_weights) and not any(class_weights)
    ):
        raise UserError(
            f"config.loss.class_weights={class_weights} must be numbers from 0 to "
            f"{MOST_WEIGHT:g}, one or more of them above 0."
        )
    if not is_traced(label_smoothing) and not 0 <= label_smoothing < 1:
        raise UserError(f"config.loss.label_smoothing={label_smoothing} must be in [0, 1).")
    if not is_traced(dice_weight) and not 0 <= dice_weight <= MOST_WEIGHT:
        raise UserError(f"config.loss.dice_weight={dice_weight} must be from 0 to {MOST_WEIGHT:g}.")

    def pixelwise(logits: jax.Array, label: jax.Array, weight: jax.Array) -> jax.Array:
        smoothing = label_smoothing
        return cross_entropy(
            logits, label, weight, class_weights=class_weights, label_smoothing=smoothing
        )

    def with_dice(logits: jax.Array, label: jax.Array, weight: jax.Array) -> jax.Array:
        overlap = soft_dice(logits, label, weight)
        return pixelwise(logits, label, weight) + dice_weight * overlap

    names = {"cross_entropy": pixelwise, "cross_entropy+dice": with_dice}
    return Loss(choose(names, "config.loss.name", name), class_weights)
