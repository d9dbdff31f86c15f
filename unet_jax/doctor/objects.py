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
    found: list[tuple[int, int, int, int]] = []
    table = np.full(max(max(int(one.max()) for one in few), *values) + 1, IGNORE, np.uint8)
    for value, own in values.items():
        table[value] = own
    for layer, ids in enumerate(few):
        label = table[ids]
        for own in np.unique(label):
            if own == IGNORE or (by_class and own == 0):
                continue
            found += _objects(label == own, layer if by_class else int(own), step)
    found.sort(key=lambda one: -one[-1])
    return np.array(found[:MOST], np.int32).reshape(-1, len(COLUMNS))


def _objects(is_of_class: np.ndarray, own: int, step: int) -> list[tuple[int, int, int, int]]:
    parts, count = ndimage.label(is_of_class)
    areas = np.bincount(parts.ravel(), minlength=count + 1)[1:] * step**is_of_class.ndim
    boxes = ndimage.find_objects(parts)
    sides = [[(part.stop - part.start) * step for part in box] for box in boxes]
    return [(own, max(s), min(s), int(area)) for s, area in zip(sides, areas, strict=True)]
