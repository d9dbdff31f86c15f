"""Tables of objects and classes, against SciPy, scikit-image and shapely."""

import csv
import math

import numpy as np
import pytest
import shapely
from scipy import ndimage
from skimage.measure import regionprops
from support.odd_masks import odd_labels

from unet_jax.predict.outputs import OUTPUTS
from unet_jax.predict.outputs.base import Predicted
from unet_jax.predict.outputs.contours import trace

LABELS = odd_labels()
NAMES = ("background", "disk", "ring")


def tables(folder, found, class_names=NAMES):
    """Writes the tables of some images; returns the rows of both."""
    one = OUTPUTS["csv"](class_names)
    for image in found:
        one.add(image, ())
    files = [folder / name for name in one.common]
    one.close(files)
    read = []
    for file in files:
        with file.open(newline="") as stream:
            read.append([*csv.DictReader(stream)])
    return read


def predicted(label, name="a", spacing=(1.0, 1.0)):
    image = np.zeros((*label.shape[: len(spacing)], 1), np.uint8)
    return Predicted(name, f"{name}.tif", image, label, spacing)


@pytest.mark.parametrize("name", LABELS)
def test_objects_of_an_image(tmp_path, name):
    label, (dy, dx) = LABELS[name], (0.5, 3.0)
    objects, classes = tables(tmp_path, [predicted(label, spacing=(dy, dx))])
    rows = iter(objects)
    for k in (1, 2):
        numbers, count = ndimage.label(label == k)
        contours = trace(numbers)
        for true, rings in zip(regionprops(numbers), contours, strict=True):
            row = next(rows)
            assert (row["image"], row["class_id"], row["class"]) == ("a.tif", str(k), NAMES[k])
            assert int(row["object"]) == true.label
            number = {
                key: float(value) for key, value in row.items() if key not in ("image", "class")
            }
            assert number["pixels"] == true.area
            box = [number[key] for key in ("y_first", "x_first", "y_last", "x_last")]
            assert np.add(box, [0, 0, 1, 1]).tolist() == [*true.bbox]
            y, x = np.add(true.centroid, 0.5)
            polygon = shapely.Polygon(rings[0], rings[1:])
            scaled = shapely.Polygon(rings[0] * [dx, dy], [ring * [dx, dy] for ring in rings[1:]])
            expected = {
                "y_px": y,
                "x_px": x,
                "perimeter_px": polygon.length,
                "diameter_px": true.equivalent_diameter_area,
                "area": scaled.area,
                "y": y * dy,
                "x": x * dx,
                "perimeter": scaled.length,
                "diameter": 2 * math.sqrt(scaled.area / math.pi),
            }
            assert {key: number[key] for key in expected} == pytest.approx(expected, rel=1e-9)
        own = classes[k]
        assert (int(own["pixels"]), int(own["objects"])) == ((label == k).sum(), count)
        assert float(own["share"]) == pytest.approx((label == k).mean(), rel=1e-9)
        assert float(own["area"]) == pytest.approx((label == k).sum() * dy * dx, rel=1e-9)
    assert next(rows, None) is None
    assert [row["class"] for row in classes] == [*NAMES]
    assert classes[0]["objects"] == ""


def test_objects_of_a_volume(tmp_path):
    label = np.zeros((4, 5, 6), np.uint8)
    label[1:3, 1:4, 2:4] = 1
    objects, classes = tables(tmp_path, [predicted(label, spacing=(2.0, 1.0, 0.5))])
    (row,) = objects
    box = [row[f"{axis}_{end}"] for axis in "zyx" for end in ("first", "last")]
    assert box == ["1", "2", "1", "3", "2", "3"]
    assert [row[axis] for axis in ("z_px", "y_px", "x_px", "z", "y", "x")] == [
        *("2", "2.5", "3", "4", "2.5", "1.5")
    ]
    # 2 x 3 x 2 pixels, and so 4 x 3 x 1 in the file's unit.
    assert (row["pixels"], row["volume"]) == ("12", "12")
    assert (row["surface_px"], row["surface"]) == ("32", "38")
    assert float(row["diameter"]) == pytest.approx((6 * 12 / math.pi) ** (1 / 3))
    assert classes[1]["volume"] == "12"


def test_classes_that_overlap_and_names_with_commas(tmp_path):
    label = np.array([[[1, 1], [0, 1]]], np.uint8)
    objects, classes = tables(tmp_path, [predicted(label)], ('a, "b"', "ring"))
    assert [(row["class"], row["pixels"]) for row in objects] == [('a, "b"', "1"), ("ring", "2")]
    assert [row["objects"] for row in classes] == ["1", "1"]


def test_a_table_without_objects_has_its_head(tmp_path):
    assert tables(tmp_path, [predicted(LABELS["empty"])])[0] == []
    head = (tmp_path / "objects.csv").read_text()
    assert head.startswith("image,class_id,class,object,pixels,y_first,y_last,x_first,x_last,y_px")
