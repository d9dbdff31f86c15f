"""Files of objects, read again by other programs: the mask comes back."""

import io
import json
import zipfile

import numpy as np
import pytest
import roifile
import shapely
import yaml
from PIL import Image
from pycocotools import mask as runs
from pycocotools.coco import COCO
from support.odd_masks import odd_labels

from unet_jax.data.layouts.coco import draw_segmentation
from unet_jax.data.layouts.yolo import draw_lines
from unet_jax.figures import palette
from unet_jax.predict.outputs import OUTPUTS
from unet_jax.predict.outputs.base import Predicted
from unet_jax.predict.outputs.imagej import encode

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
LABELS = odd_labels()
NAMES = ("background", "disk", "ring/rim")


def predicted(label, name="a", axes=2, **more):
    image = np.zeros((*label.shape[:axes], 3), np.uint8)
    return Predicted(name, f"{name}.jpg", image, label, (1.0,) * axes)._replace(**more)


def write(folder, output, found, class_names=NAMES):
    """Writes one output of some images; returns what it says."""
    one = OUTPUTS[output](class_names)
    for image in found:
        by_class = class_names if image.is_by_class else ()
        one.add(image, [folder / name for name in one.files(image.name, ".png", by_class)])
    return one.close([folder / name for name in one.common])


def contains(polygon, shape):
    y, x = np.indices(shape) + 0.5
    return shapely.contains_xy(polygon, x, y)


@pytest.mark.parametrize("name", LABELS)
def test_geojson_drawn_by_shapely_is_the_mask(tmp_path, name):
    label = LABELS[name]
    write(tmp_path, "geojson", [predicted(label)])
    found = json.loads((tmp_path / "a.geojson").read_text())
    assert found["type"] == "FeatureCollection"
    drawn = np.zeros_like(label)
    for one in found["features"]:
        polygon = shapely.from_geojson(json.dumps(one["geometry"]))
        assert one["geometry"]["type"] == "Polygon"
        assert polygon.is_valid
        kind = one["properties"]["classification"]
        assert one["properties"]["objectType"] == "annotation"
        k = NAMES.index(kind["name"])
        assert kind["color"] == palette(3)[k].tolist()
        own = contains(polygon, label.shape)
        assert not drawn[own].any()
        drawn[own] = k
    assert np.array_equal(drawn, label)


def test_geojson_of_classes_that_overlap(tmp_path):
    label = (np.random.default_rng(0).random((9, 14, 2)) < 0.5).astype(np.uint8)
    write(tmp_path, "geojson", [predicted(label)], ("disk", "ring"))
    drawn = np.zeros_like(label)
    for one in json.loads((tmp_path / "a.geojson").read_text())["features"]:
        polygon = shapely.from_geojson(json.dumps(one["geometry"]))
        k = ("disk", "ring").index(one["properties"]["classification"]["name"])
        drawn[..., k] += contains(polygon, label.shape[:2]).astype(np.uint8)
    assert np.array_equal(drawn, label)


def test_coco_decoded_by_pycocotools_is_the_mask(tmp_path, capsys):
    found = [predicted(label, name) for name, label in LABELS.items()]
    write(tmp_path, "coco", found)
    read = COCO(tmp_path / "coco.json")
    assert {k: one["name"] for k, one in read.cats.items()} == {1: "disk", 2: "ring/rim"}
    assert [one["file_name"] for one in read.imgs.values()] == sorted(f"{n}.jpg" for n in LABELS)
    for image in read.imgs.values():
        label = LABELS[image["file_name"].removesuffix(".jpg")]
        assert (image["height"], image["width"]) == label.shape
        drawn, again = np.zeros_like(label), np.zeros_like(label)
        for one in read.imgToAnns[image["id"]]:
            own = read.annToMask(one)
            assert not drawn[own > 0].any()
            drawn[own > 0] = again[draw_segmentation(one["segmentation"], label.shape, "")] = one[
                "category_id"
            ]
            assert one["area"] == own.sum()
            assert one["bbox"] == runs.toBbox(read.annToRLE(one)).tolist()
            assert one["iscrowd"] == 0
        assert np.array_equal(drawn, label)
        assert np.array_equal(again, label)
    capsys.readouterr()


def test_coco_does_not_depend_on_the_order_of_images(tmp_path):
    found = [predicted(LABELS[name], name) for name in ("nested", "diagonals")]
    for folder, order in (("x", found), ("y", found[::-1])):
        write(tmp_path / folder, "coco", order)
        write(tmp_path / folder, "csv", order)
    for name in ("coco.json", "objects.csv", "classes.csv"):
        assert (tmp_path / "x" / name).read_bytes() == (tmp_path / "y" / name).read_bytes()


@pytest.mark.parametrize("name", LABELS)
def test_yolo_drawn_by_the_reader_is_the_mask(tmp_path, name):
    label = LABELS[name]
    said = write(tmp_path, "yolo", [predicted(label, "s/a")])
    data = (tmp_path / "labels" / "s" / "a.txt").read_bytes()
    assert np.array_equal(draw_lines(data, "a.txt", label.shape, len(NAMES)), label)
    page = yaml.safe_load((tmp_path / "data.yaml").read_text())
    assert page["names"] == {0: "disk", 1: "ring/rim"}
    assert len(said) <= 1
    numbers = np.array(data.split(), float)
    assert numbers.size == 0 or 0 <= numbers.min() <= numbers.max() <= len(NAMES)


def test_yolo_counts_and_names_objects_with_holes(tmp_path):
    found = [predicted(LABELS[n], n) for n in ("full", "nested", "a hole at a corner")]
    (line,) = write(tmp_path, "yolo", found)
    assert line.startswith("yolo: objects with holes: 4, in nested, a hole at a corner; the format")


def test_shares_of_a_long_side_are_less_than_half_a_pixel_off():
    # Centres of pixels are half a pixel from any corner.
    width = 1_000_003
    corners = np.random.default_rng(0).integers(0, width, 1000)
    back = np.array([float(f"{x / width:.8g}") for x in corners]) * width
    assert np.abs(back - corners).max() < 0.01


@pytest.mark.parametrize("name", LABELS)
def test_imagej_read_by_roifile_is_the_mask(tmp_path, name):
    label = LABELS[name]
    said = write(tmp_path, "imagej", [predicted(label)])
    drawn, with_holes = np.zeros_like(label), 0
    with zipfile.ZipFile(tmp_path / "a_rois.zip") as archive:
        assert archive.testzip() is None
        for number, file in enumerate(archive.namelist(), start=1):
            roi = roifile.ImagejRoi.frombytes(archive.read(file))
            assert roi.name == f"{number:05}-{NAMES[roi.group]}"
            assert file == f"{number:05}-{NAMES[roi.group].replace('/', '_')}.roi"
            assert [*roi.stroke_color] == [255, *palette(3)[roi.group]]
            own = np.zeros(label.shape, bool)
            rings = roi.coordinates(multi=True)
            for ring in rings:
                own ^= contains(shapely.Polygon(ring), label.shape)
            is_simple = roi.roitype == roifile.ROI_TYPE.TRACED
            assert is_simple == (len(rings) == 1)
            with_holes += not is_simple
            y, x = np.nonzero(own)
            box = y.min(), x.min(), y.max() + 1, x.max() + 1
            assert (roi.top, roi.left, roi.bottom, roi.right) == box
            assert not drawn[own].any()
            drawn[own] = roi.group
    assert np.array_equal(drawn, label)
    line = f"imagej: objects with holes: {with_holes}, in a; they are composite regions, and exact"
    assert said == ([line] if with_holes else [])


def test_imagej_of_large_images():
    ring = np.array([[40_000, 7], [90_001, 7], [90_001, 99_999], [40_000, 99_999]])
    roi = roifile.ImagejRoi.frombytes(encode([ring], "x", 1, palette(1)[0]))
    assert roi.roitype == roifile.ROI_TYPE.RECT
    assert roi.coordinates(multi=True)[0][:4].tolist() == ring.tolist()


def test_images_of_ids_and_colours(tmp_path):
    label = LABELS["random of three"]
    for output in ("ids", "colours", "mask"):
        write(tmp_path, output, [predicted(label)])
    with Image.open(tmp_path / "a_ids.png") as ids, Image.open(tmp_path / "a.png") as mask:
        assert (ids.mode, mask.mode) == ("L", "P")
        assert np.array_equal(np.asarray(ids), label)
        assert np.array_equal(np.asarray(mask), label)
        colours = np.asarray(mask.convert("RGB"))
    with Image.open(tmp_path / "a_colours.png") as drawn:
        assert np.array_equal(np.asarray(drawn), colours)
    both = np.array([[[0, 0], [1, 0], [1, 1]]], np.uint8)
    for output in ("ids", "colours"):
        write(tmp_path, output, [predicted(both, "b")], ("disk", "ring"))
    with Image.open(tmp_path / "b_colours.png") as drawn:
        first, second = palette(2).astype(float)
        mean = np.rint((first + second) / 2)
        assert np.asarray(drawn)[0].tolist() == [[0, 0, 0], first.tolist(), mean.tolist()]
    with Image.open(tmp_path / "b_ring_ids.png") as ids:
        assert np.asarray(ids).tolist() == [[0, 0, 1]]


def test_probabilities(tmp_path):
    probability = np.random.default_rng(0).random((4, 5, 3), np.float32)
    found = predicted(LABELS["one pixel"])
    write(tmp_path, "probability", [found._replace(maps={"probability": probability})])
    read = np.load(io.BytesIO((tmp_path / "a_probability.npy").read_bytes()))
    assert read.dtype == np.float32
    assert np.array_equal(read, probability)
