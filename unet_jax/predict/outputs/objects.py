"""Objects of a label: connected pixels of one class, what they measure, and their runs."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from unet_jax.metrics.regions import components, object_classes
from unet_jax.predict.outputs.base import Predicted

CONNECTIVITY = "sides"
"""Pixels that touch at a corner alone are of two objects, so that every contour is simple."""


class Found(NamedTuple):
    """The objects of one class in an image.

    Attributes:
        index: Of the class.
        numbers: int32 [*n], the number of a pixel's object from 1 on, in the order of their first
            pixels; 0 outside.
    """

    index: int
    numbers: np.ndarray


def find_objects(found: Predicted, class_names: Sequence[str]) -> Iterator[Found]:
    """Yields the objects of each class that an image has, but of the background."""
    for k in object_classes(class_names):
        mask = found.label[..., k] > 0 if found.is_by_class else found.label == k
        if mask.any():
            yield Found(k, components(mask, CONNECTIVITY))


class Measures(NamedTuple):
    """What the objects of a class measure, an entry for each.

    Attributes:
        pixels: [m], one or more.
        low: [m, axes], the first row, column, ... of the box around it.
        high: [m, axes], one more than the last.
        centre: float64 [m, axes], the mean place of its pixels; the middle of the first pixel of an
            image is (0.5, 0.5).
        faces: [m, axes], sides of pixels across each axis between it and what is not it; also those
            on the border of the image.
    """

    pixels: np.ndarray
    low: np.ndarray
    high: np.ndarray
    centre: np.ndarray
    faces: np.ndarray


def measure(numbers: np.ndarray) -> Measures:
    """Measures objects.

    Args:
        numbers: Integers [*n]: 0, or the number of an object, 1 to m without a gap.

    Returns:
        What they measure, in pixels.
    """
    places = np.nonzero(numbers)
    own = numbers[places] - 1
    pixels = np.bincount(own)
    count, axes = len(pixels), numbers.ndim
    low, high, centre = (np.empty((count, axes)) for _ in range(3))
    faces = np.empty((count, axes), np.int64)
    order = np.argsort(own, kind="stable")
    firsts = np.cumsum(pixels) - pixels
    for axis, place in enumerate(places):
        if count:
            low[:, axis] = np.minimum.reduceat(place[order], firsts)
            high[:, axis] = np.maximum.reduceat(place[order], firsts) + 1
        centre[:, axis] = np.bincount(own, place + 0.5) / pixels
        faces[:, axis] = _faces(numbers, axis, count)
    return Measures(pixels, low.astype(np.int64), high.astype(np.int64), centre, faces)


def _faces(numbers: np.ndarray, axis: int, count: int) -> np.ndarray:
    lines = np.moveaxis(numbers, axis, 0)
    differ = lines[1:] != lines[:-1]
    sides = lines[1:][differ], lines[:-1][differ], lines[0].ravel(), lines[-1].ravel()
    return np.sum([np.bincount(side, minlength=count + 1) for side in sides], axis=0)[1:]


def object_runs(numbers: np.ndarray) -> Iterator[list[int]]:
    """Yields the runs of pixels outside and inside each object by turns, column by column.

    Args:
        numbers: Integers [H, W]: 0, or the number of an object, 1 to m without a gap.

    Yields:
        For each object the lengths of its runs, the first one of pixels outside and may be 0; their
        sum is H W.
    """
    flat = numbers.T.ravel()
    starts = np.flatnonzero(np.diff(flat, prepend=-1))
    lengths, own = np.diff(starts, append=flat.size), flat[starts]
    inside = np.flatnonzero(own)
    order = inside[np.argsort(own[inside], kind="stable")]
    ends = np.cumsum(np.bincount(own[inside])[1:])
    for runs in np.split(order, ends[:-1]) if len(ends) else ():
        bounds = np.stack([starts[runs], starts[runs] + lengths[runs]], axis=1).ravel()
        counts = np.diff(bounds, prepend=0, append=flat.size).tolist()
        yield counts if counts[-1] else counts[:-1]
