"""Training crops that are put on pixels of chosen classes, however rare they are."""

import fractions
import functools
from collections.abc import Sequence

import numpy as np

from unet_jax.data.class_weights import count_images
from unet_jax.data.sample import Source
from unet_jax.errors import UserError
from unet_jax.task import BACKGROUND, IGNORE

KEY = "config.data.foreground"
_FINEST = 10**6  # a share is a fraction of no larger denominator


def is_on(position: int, share: float) -> bool:
    """Tells whether the crop at a position of the training order is put on a chosen class.

    Such crops are spread evenly: of the first n there are floor(n share), whatever a batch is.

    Args:
        position: Of the crop, from 0, over all batches.
        share: In [0, 1], of which six decimals count.

    Returns:
        Whether it is.
    """
    over, under = _ratio(share)
    return (position + 1) * over // under > position * over // under


@functools.lru_cache(maxsize=8)
def _ratio(share: float) -> tuple[int, int]:
    return fractions.Fraction(share).limit_denominator(_FINEST).as_integer_ratio()


def choose_classes(
    named: Sequence[int], class_names: Sequence[str], *, by_class: bool
) -> tuple[int, ...]:
    """Returns the classes that crops are put on.

    Args:
        named: Ids of those that a config names; none for all but the background, which labels by
            class have not.
        class_names: K names.
        by_class: Whether a label has an axis of classes.

    Returns:
        Ids in 0..K-1.

    Raises:
        UserError: An id is no class's.
    """
    if not all(k < len(class_names) for k in named):
        listed = ", ".join(f"{k} {name}" for k, name in enumerate(class_names))
        raise UserError(f"{KEY}_classes={tuple(named)} must be class ids: {listed}.")
    first = 0 if by_class else BACKGROUND + 1
    return tuple(named) or tuple(range(first, len(class_names)))


def pick_pixel(
    label: np.ndarray, axes: int, classes: Sequence[int], rng: np.random.Generator
) -> tuple[int, ...] | None:
    """Picks a pixel: uniform over the chosen classes that a label holds, then over its pixels.

    So does nnU-Net (Isensee et al., 2021), which puts a third of its patches on such a pixel. No
    list of pixels is made: beside the label there is a byte for each of its pixels at a time.

    Args:
        label: uint8 [*n] or [*n, K], with `IGNORE`; pixels that are ignored are never picked.
        axes: Of pixels.
        classes: Ids; see `choose_classes`.
        rng: Asked only where there is such a pixel.

    Returns:
        The place of the pixel; None where the label holds none of the classes.
    """

    def of_class(k: int) -> np.ndarray:
        if label.ndim == axes:
            return label == k
        return (label[..., k] == 1) & (label != IGNORE).all(axis=-1)

    held = [k for k in classes if of_class(k).any()]
    if not held:
        return None
    is_there = of_class(held[int(rng.integers(len(held)))]).reshape(label.shape[0], -1)
    ends = is_there.sum(axis=1).cumsum()
    number = int(rng.integers(ends[-1]))
    row = int(np.searchsorted(ends, number, side="right"))
    before = int(ends[row - 1]) if row else 0
    inside = int(np.flatnonzero(is_there[row])[number - before])
    return row, *map(int, np.unravel_index(inside, label.shape[1:axes]))


def reach(source: Source, classes: Sequence[int], num_classes: int, share: float) -> float:
    """Returns the share of crops that are put on a chosen class, since not every image has one.

    Args:
        source: The training split; see `class_weights.count_images`.
        classes: See `choose_classes`.
        num_classes: K.
        share: Of the crops for which that is tried.

    Returns:
        The share of all crops, on average.

    Raises:
        UserError: No image has one.
    """
    has_one = count_images(source, num_classes)[:, list(classes)].any(axis=1)
    if not has_one.any():
        raise UserError(
            f"{KEY}={share}: no image of the training split has a pixel of the classes "
            f"{tuple(classes)}; name others in {KEY}_classes, or set {KEY}=0."
        )
    return share * float(has_one.mean())
