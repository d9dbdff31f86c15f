"""Contours along the sides of pixels, against shapely and against the pixels themselves."""

import numpy as np
import pytest
import shapely
from scipy import ndimage
from support.odd_masks import odd_labels

from unet_jax.metrics.regions import components
from unet_jax.predict.outputs.contours import join_rings, trace

LABELS = odd_labels()
CENTRES = 0.5


def inside(rings, shape):
    """Returns which centres of pixels lie inside rings by the even-odd rule, side by side."""
    y, x = np.indices(shape) + CENTRES
    found = np.zeros(shape, bool)
    for ring in rings:
        for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
            if y0 != y1:
                at = x0 + (y - y0) * (x1 - x0) / (y1 - y0)
                found ^= (min(y0, y1) < y) & (y < max(y0, y1)) & (x < at)
    return found


@pytest.mark.parametrize("name", LABELS)
def test_contours_are_valid_polygons_that_are_the_objects(name):
    label, drawn = LABELS[name], np.zeros_like(LABELS[name])
    for k in (1, 2):
        numbers = components(label == k, "sides")
        found = trace(numbers)
        assert len(found) == ndimage.label(label == k)[1]
        for number, rings in enumerate(found, start=1):
            own = numbers == number
            polygon = shapely.Polygon(rings[0], rings[1:])
            assert polygon.is_valid, shapely.is_valid_reason(polygon)
            assert polygon.area == own.sum()
            assert all(shapely.LinearRing(ring).is_simple for ring in rings)
            assert shapely.LinearRing(rings[0]).is_ccw
            assert not any(shapely.LinearRing(ring).is_ccw for ring in rings[1:])
            # Holes are parts of what is not the object, joined by their sides.
            outside = np.pad(~own, 1, constant_values=True)
            assert len(rings) == ndimage.label(outside)[1]
            y, x = np.indices(label.shape) + CENTRES
            assert np.array_equal(shapely.contains_xy(polygon, x, y), own)
            drawn[own] = k
            for ring in rings:  # corners alone: each turns
                before, after = np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0)
                assert ((before == ring).any(axis=1) & (ring == after).any(axis=1)).all()
                assert ((before != after).all(axis=1)).all()
    assert np.array_equal(drawn, label)


@pytest.mark.parametrize("name", LABELS)
def test_joined_rings_are_one_line_of_the_same_inside(name):
    label = LABELS[name]
    for k in (1, 2):
        numbers = components(label == k, "sides")
        for number, rings in enumerate(trace(numbers), start=1):
            line = join_rings(rings)
            assert np.array_equal(inside([line], label.shape), numbers == number)
            # Twice each hole's first corner and the corner that it is joined to.
            assert len(line) == sum(map(len, rings)) + 2 * (len(rings) - 1)


def test_numbers_of_objects_are_those_of_the_list():
    numbers = np.array([[2, 2, 0, 1], [0, 0, 0, 1]])
    first, second = trace(numbers)
    assert [ring.tolist() for ring in first] == [[[3, 0], [4, 0], [4, 2], [3, 2]]]
    assert [ring.tolist() for ring in second] == [[[0, 0], [2, 0], [2, 1], [0, 1]]]
