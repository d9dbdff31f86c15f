"""What objects measure, and their runs of pixels, against SciPy, scikit-image and pycocotools."""

import numpy as np
import pytest
from pycocotools import mask as coco
from scipy import ndimage
from skimage.measure import regionprops
from support.odd_masks import odd_labels

from unet_jax.data.layouts.polygons import draw_runs, read_runs, write_runs
from unet_jax.metrics.regions import components
from unet_jax.predict.outputs.base import Predicted
from unet_jax.predict.outputs.objects import find_objects, measure, object_runs

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
LABELS = odd_labels()
NAMES = ("background", "disk", "ring")


def predicted(label, axes=2, **more):
    image = np.zeros((*label.shape[:axes], 3), np.uint8)
    return Predicted("a", "a.png", image, label, (1.0,) * axes)._replace(**more)


def numbers_of(label):
    return [numbers for _, numbers in find_objects(predicted(label), NAMES)]


@pytest.mark.parametrize("name", LABELS)
def test_measures_are_those_of_scikit_image(name):
    for numbers in numbers_of(LABELS[name]):
        found, true = measure(numbers), regionprops(numbers)
        assert found.pixels.tolist() == [one.area for one in true]
        boxes = np.concatenate([found.low, found.high], axis=1)
        assert boxes.tolist() == [[*one.bbox] for one in true]
        centres = [np.add(one.centroid, 0.5) for one in true]
        np.testing.assert_allclose(found.centre, centres, rtol=1e-12)


def test_measures_of_a_volume():
    numbers = components(np.random.default_rng(0).random((5, 4, 7)) < 0.4, "sides")
    found, true = measure(numbers), regionprops(numbers)
    assert found.pixels.tolist() == [one.area for one in true]
    assert np.concatenate([found.low, found.high], axis=1).tolist() == [[*o.bbox] for o in true]
    np.testing.assert_allclose(found.centre, [np.add(one.centroid, 0.5) for one in true])
    for number in range(1, len(true) + 1):
        own = np.pad(numbers == number, 1)
        faces = [(own != np.roll(own, 1, axis)).sum() for axis in range(3)]
        assert found.faces[number - 1].tolist() == faces


def test_nothing_measures_nothing():
    found = measure(np.zeros((3, 4), np.int32))
    assert [len(values) for values in found] == [0] * 5
    assert not [*object_runs(np.zeros((3, 4), np.int32))]


def test_classes_that_have_objects():
    label = np.array([[0, 1, 2]], np.uint8)
    assert [k for k, _ in find_objects(predicted(label), NAMES)] == [1, 2]
    assert [k for k, _ in find_objects(predicted(label), ("pet", "Background", "rim"))] == [0, 2]
    assert [k for k, _ in find_objects(predicted(label), ("road", "sky", "car"))] == [0, 1, 2]
    both = np.stack([label == 1, label > 0], axis=-1).astype(np.uint8)
    found = {k: n.tolist() for k, n in find_objects(predicted(both), ("disk", "ring"))}
    assert found == {0: [[0, 1, 0]], 1: [[0, 1, 1]]}


@pytest.mark.parametrize("name", LABELS)
def test_runs_are_those_of_pycocotools(name):
    for numbers in numbers_of(LABELS[name]):
        for number, counts in enumerate(object_runs(numbers), start=1):
            own = numbers == number
            true = coco.encode(np.asfortranarray(own.astype(np.uint8)))
            text = write_runs(counts)
            assert text.encode() == true["counts"]
            assert read_runs(text, "") == counts
            size = [*own.shape]
            as_list = coco.frPyObjects({"size": size, "counts": counts}, *size)
            for one in (as_list, {"size": size, "counts": text}):
                assert np.array_equal(coco.decode(one), own)
            assert np.array_equal(draw_runs(counts, own.shape, ""), own)


def test_long_runs():
    counts = [5, 70_000, 3, 1_000_000, 2**24, 1, 2**24 - 1]
    true = coco.frPyObjects({"size": [1, sum(counts)], "counts": counts}, 1, sum(counts))
    assert write_runs(counts).encode() == true["counts"]


def test_objects_touch_by_their_sides():
    label = np.eye(3, dtype=np.uint8)
    (numbers,) = numbers_of(label)
    assert numbers.max() == ndimage.label(label)[1] == 3
