"""The loss of all heads of a network with deep supervision."""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

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
        extras: Of the same pixels; see `Example`.
    """

    logits: jax.Array
    label: jax.Array
    weight: jax.Array
    stride: int
    extras: Mapping[str, jax.Array] = MappingProxyType({})


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
    inside = _middle(weight.shape[1:], size)
    return label[inside], weight[inside]


def _middle(whole: Sequence[int], size: Sequence[int]) -> tuple[slice, ...]:
    """Returns the index of the pixels in the middle of those of a batch."""
    starts = [(n - m) // 2 for n, m in zip(whole, size, strict=True)]
    return (slice(None), *(slice(a, a + m) for a, m in zip(starts, size, strict=True)))


def split_heads(
    heads: Sequence[jax.Array],
    label: jax.Array,
    weight: jax.Array,
    multiple: int,
    extras: Mapping[str, jax.Array] = MappingProxyType({}),
) -> Iterator[Head]:
    """Brings the label to the size of every head.

    Args:
        heads: float32 [B, *n, K]; the first at full resolution, or with less than it where
            convolutions are valid.
        label: int [B, *N], or [B, *N, K] by class.
        weight: float32 [B, *N].
        multiple: What the model rounds N up to a multiple of, which is s times each other head's n.
        extras: float32 [B, *N], or [B, *N, channels]; see `Example`.

    Yields:
        What each head is trained on: those after the first read every s-th pixel of the label.
    """
    first, *others = heads
    whole, size = weight.shape[1:], first.shape[1:-1]
    inner = {name: extra[_middle(whole, size)] for name, extra in extras.items()}
    yield Head(first, *crop_label(label, weight, size), 1, inner)
    for logits in others:
        sizes = [-(-n // multiple) * multiple for n in whole]
        strides = [n // m for n, m in zip(sizes, logits.shape[1:-1], strict=True)]
        # What was rounded up has weight 0.
        ends = [(0, 0), *((0, m - n) for n, m in zip(whole, sizes, strict=True))]
        every = (slice(None), *(slice(s // 2, None, s) for s in strides))

        def coarser(array: jax.Array, ends: Any = ends, every: Any = every) -> jax.Array:
            return jnp.pad(array, [*ends, *[(0, 0)] * (array.ndim - len(ends))])[every]

        own = {name: coarser(extra) for name, extra in extras.items()}
        yield Head(logits, coarser(label), coarser(weight), strides[-1], own)


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
    total, share = loss(first.logits, first.label, first.weight, first.extras), 1.0
    for head in heads:
        total += loss(head.logits, head.label, head.weight, head.extras) / head.stride
        share += 1 / head.stride
    return total / share


def supervise_apart(loss: Loss, heads: Sequence[Head]) -> tuple[list[jax.Array], list[jax.Array]]:
    """Computes what each part of each head adds to the loss of `supervise`, and how it weighs.

    Args:
        loss: The loss of one head.
        heads: The heads, from `split_heads`.

    Returns:
        Scalars, one per head and part of the loss, whose sum is `supervise`; and the weight of the
        batch in each, see `Part`.
    """
    share = sum(1 / head.stride for head in heads)
    examples = [loss.example(h.logits, h.label, h.weight, h.extras) for h in heads]
    losses = [
        part.mean(example) / head.stride / share
        for head, example in zip(heads, examples, strict=True)
        for part in loss.parts
    ]
    return losses, [part.batch_weight(example) for example in examples for part in loss.parts]
