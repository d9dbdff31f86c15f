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
    found = []
    for layer, ids in enumerate(few):
        rows = _objects(table[ids], {0, IGNORE} if by_class else {IGNORE})
        if by_class:
            rows[:, 0] = layer
        found.append(rows)
    rows = np.concatenate(found) * ([1] + [step] * 2 + [step ** masks[0].ndim])
    return rows[np.argsort(-rows[:, -1], kind="stable")[:MOST]].astype(np.int32)


def _objects(label: np.ndarray, without: set[int]) -> np.ndarray:
    """Measures the largest parts of one value, of all values but some at once: int [n, 4]."""
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
    parts = parts[(slice(None, None, 2),) * label.ndim]
    own = np.empty(count + 1, int)
    own[parts.ravel()] = label.ravel()
    areas = np.bincount(parts.ravel(), minlength=count + 1)
    areas[np.isin(own, [*without])] = areas[0] = 0
    largest = np.argsort(-areas, kind="stable")[: min(MOST, np.count_nonzero(areas))]
    numbers = np.zeros(count + 1, int)
    numbers[largest] = np.arange(1, len(largest) + 1)
    boxes = ndimage.find_objects(numbers[parts])
    sides = np.array([[part.stop - part.start for part in box] for box in boxes], int)
    sides = sides.reshape(len(boxes), label.ndim)
    longest, shortest = sides.max(axis=1, initial=0), sides.min(axis=1, initial=label.size)
    return np.stack([own[largest], longest, shortest, areas[largest]], axis=-1)
