"""Sizes of the connected objects of every class in a mask."""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from unet_jax.data.base import IGNORE

SIDE, MOST = 256, 512  # pixels along an axis at most, about; objects of an image
CLASS, LONGEST, SHORTEST, AREA = range(4)  # columns of what is measured


def measure(
    masks: Sequence[np.ndarray], values: Mapping[int, int], *, by_class: bool
) -> np.ndarray:
    """Measures the objects of an image: parts of one class that touch by their sides.

    Args:
        masks: uint8 or uint16 [*n]; one for each class where classes overlap.
        values: Class id, or `IGNORE`, of every value of a mask; by class 0 or 1.
        by_class: Whether there is a mask for each class.

    Returns:
        int32 [n, 4]: the class of every object, the longest and the shortest side of the box around
        it in pixels of the mask, and its area; the largest `MOST`. Of large masks every so many
        pixels are looked at.
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
            rows[:, CLASS] = layer
        found.append(rows)
    rows = np.concatenate(found) * ([1] + [step] * 2 + [step ** masks[0].ndim])
    return rows[np.argsort(-rows[:, AREA], kind="stable")[:MOST]].astype(np.int32)


def _objects(label: np.ndarray, without: set[int]) -> np.ndarray:
    """Measures the largest parts of one value, of all values but some at once: int [n, 4].

    What is joined are runs, pixels of one value in a line along the last axis, of which there are
    far fewer than pixels.
    """
    begins = np.ones(label.shape, bool)
    np.not_equal(label[..., 1:], label[..., :-1], out=begins[..., 1:])
    starts = np.flatnonzero(begins)
    own, lengths = label.ravel()[starts], np.diff(starts, append=label.size)
    places = [*np.unravel_index(starts, label.shape)]
    part = _join(label, begins, len(starts))
    areas = np.bincount(part, lengths).astype(int)
    values = np.empty(len(areas), label.dtype)
    values[part] = own
    areas[np.isin(values, [*without])] = 0
    largest = np.argsort(-areas, kind="stable")[: min(MOST, np.count_nonzero(areas))]
    order = np.argsort(part, kind="stable")
    firsts = np.searchsorted(part[order], np.arange(len(areas)))
    sides = []
    for axis, place in enumerate(places):
        last = place + lengths - 1 if axis == label.ndim - 1 else place
        low = np.minimum.reduceat(place[order], firsts)
        sides.append((np.maximum.reduceat(last[order], firsts) - low + 1)[largest])
    longest, shortest = np.max(sides, axis=0), np.min(sides, axis=0)
    return np.stack([values[largest], longest, shortest, areas[largest]], axis=-1).astype(int)


def _join(label: np.ndarray, begins: np.ndarray, count: int) -> np.ndarray:
    """Numbers the parts that runs are of: int [count], in the order of their first pixels.

    Args:
        label: [*n].
        begins: Whether a run begins at a pixel, bool [*n].
        count: How many runs there are.
    """
    run = np.cumsum(begins.ravel(), dtype=np.int32).reshape(label.shape) - 1
    pairs = []
    for axis in range(label.ndim - 1):
        front, back = ([slice(None)] * label.ndim for _ in range(2))
        front[axis], back[axis] = slice(1, None), slice(None, -1)
        one, other = tuple(front), tuple(back)
        # Two runs that touch do so where one of them begins.
        touch = (label[one] == label[other]) & (begins[one] | begins[other])
        pairs.append((run[one][touch], run[other][touch]))
    ends = tuple(np.concatenate(side) for side in zip(*pairs, strict=True))
    joined = sparse.coo_array((np.ones(len(ends[0]), bool), ends), shape=(count, count))
    return csgraph.connected_components(joined, directed=False)[1]
