"""Sizes of the connected objects of every class in a mask."""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import ndimage

from unet_jax.data.base import IGNORE

SIDE, MOST = 256, 512  # pixels along an axis at most, about; objects of an image
COLUMNS = ("class", "longest side", "shortest side", "area")


def measure(
    masks: Sequence[np.ndarray], values: Mapping[int, int], *, by_class: bool
) -> np.ndarray:
    """Measures the objects of an image: parts of one class that touch by their sides.

    Args:
        masks: uint8 or uint16 [*n]; one for each class where classes overlap.
        values: Class id, or `IGNORE`, of every value of a mask; by class 0 or 1.
        by_class: Whether there is a mask for each class.

    Returns:
        int32 [n, 4], the `COLUMNS` of every object: its class, the sides of the box around it in
        pixels of the mask, and its area; the largest `MOST`. Of large masks every so many pixels
        are looked at.
    """
    step = max(1, -(-max(masks[0].shape) // SIDE))
    few = [mask[(slice(None, None, step),) * mask.ndim] for mask in masks]
    table = np.full(max(max(int(one.max()) for one in few), *values) + 1, IGNORE, np.uint8)
    for value, own in values.items():
        table[value] = own
    found = [_objects(table[ids]) for ids in few]
    if by_class:
        for layer, rows in enumerate(found):
            found[layer] = rows[rows[:, 0] == 1]
            found[layer][:, 0] = layer
    rows = np.concatenate(found) * ([1] + [step] * 2 + [step ** masks[0].ndim])
    rows = rows[rows[:, 0] != IGNORE]
    return rows[np.argsort(-rows[:, -1], kind="stable")[:MOST]].astype(np.int32)


def _objects(label: np.ndarray) -> np.ndarray:
    """Measures the parts of one value, of all values at once: int [n, 4]."""
    # Between the pixels of a grid of twice the size, what joins two of one value is set.
    joined = np.zeros([2 * n - 1 for n in label.shape], bool)
    joined[(slice(None, None, 2),) * label.ndim] = True
    for axis in range(label.ndim):
        front, back = ([slice(None)] * label.ndim for _ in range(2))
        front[axis], back[axis] = slice(1, None), slice(None, -1)
        between = [slice(None, None, 2)] * label.ndim
        between[axis] = slice(1, None, 2)
        joined[tuple(between)] = label[tuple(front)] == label[tuple(back)]
    parts, count = ndimage.label(joined)
    own = parts[(slice(None, None, 2),) * label.ndim].ravel()
    rows = np.empty((count, len(COLUMNS)), int)
    rows[own - 1, 0] = label.ravel()
    sides = [
        [(part.stop + 1 - part.start) // 2 for part in box] for box in ndimage.find_objects(parts)
    ]
    rows[:, 1], rows[:, 2] = np.max(sides, axis=1), np.min(sides, axis=1)
    rows[:, 3] = np.bincount(own, minlength=count + 1)[1:]
    return rows
