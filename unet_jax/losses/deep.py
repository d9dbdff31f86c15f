"""The loss of all heads of a network with deep supervision."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from unet_jax.losses.make import Loss


class Head(NamedTuple):
    """What one head is trained on; see `supervise`.

    Attributes:
        logits: float32 [B, *n, K].
        label: int [B, *n], or [B, *n, K] by class; see `Task`.
        weight: float32 [B, *n].
        stride: Pixels of the label, along an axis, that are one of the head.
    """

    logits: jax.Array
    label: jax.Array
    weight: jax.Array
    stride: int


def crop_label(
    label: jax.Array, weight: jax.Array, size: Sequence[int]
) -> tuple[jax.Array, jax.Array]:
    """Cuts out the middle that valid convolutions have logits for.

    Args:
        label: int [B, *n], or [B, *n, K] by class.
        weight: float32 [B, *n].
        size: At most n.

    Returns:
        Both, of those pixels alone.
    """
    starts = [(n - m) // 2 for n, m in zip(weight.shape[1:], size, strict=True)]
    inside = (slice(None), *(slice(a, a + m) for a, m in zip(starts, size, strict=True)))
    return label[inside], weight[inside]


def split_heads(
    heads: Sequence[jax.Array], label: jax.Array, weight: jax.Array, multiple: int
) -> Iterator[Head]:
    """Brings the label to the size of every head.

    Args:
        heads: float32 [B, *n, K]; the first at full resolution, or with less than it where
            convolutions are valid.
        label: int [B, *N], or [B, *N, K] by class.
        weight: float32 [B, *N].
        multiple: What the model rounds N up to a multiple of, which is s times each other head's n.

    Yields:
        What each head is trained on: those after the first read every s-th pixel of the label.
    """
    first, *others = heads
    whole, beside = weight.shape[1:], [(0, 0)] * (label.ndim - weight.ndim)
    yield Head(first, *crop_label(label, weight, first.shape[1:-1]), 1)
    for logits in others:
        sizes = [-(-n // multiple) * multiple for n in whole]
        strides = [n // m for n, m in zip(sizes, logits.shape[1:-1], strict=True)]
        # What was rounded up has weight 0.
        ends = [(0, 0), *((0, m - n) for n, m in zip(whole, sizes, strict=True))]
        every = (slice(None), *(slice(s // 2, None, s) for s in strides))
        own_label = jnp.pad(label, [*ends, *beside])[every]
        own_weight = jnp.pad(weight, ends)[every]
        yield Head(logits, own_label, own_weight, strides[-1])


def supervise(loss: Loss, heads: Iterator[Head]) -> jax.Array:
    """Averages the loss over the heads of deep supervision, finer ones counting more.

    A head at 1 / s of the resolution has weight 1 / s, as in nnU-Net (Isensee et al., 2021).

    Args:
        loss: The loss of one head.
        heads: The heads, from `split_heads`.

    Returns:
        Scalar.
    """
    first = next(heads)
    total, share = loss(first.logits, first.label, first.weight), 1.0
    for head in heads:
        total += loss(head.logits, head.label, head.weight) / head.stride
        share += 1 / head.stride
    return total / share


def supervise_apart(loss: Loss, heads: Sequence[Head]) -> tuple[list[jax.Array], list[jax.Array]]:
    """Computes what each head adds to the loss of `supervise`, and how much its batch weighs.

    Args:
        loss: The loss of one head.
        heads: The heads, from `split_heads`.

    Returns:
        Scalars, one per head, whose sum is `supervise`; and `Loss.batch_weight` of each head.
    """
    share = sum(1 / head.stride for head in heads)
    losses = [loss(head.logits, head.label, head.weight) / head.stride / share for head in heads]
    return losses, [loss.batch_weight(head.label, head.weight) for head in heads]
