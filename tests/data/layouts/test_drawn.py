"""Labels drawn from COCO, YOLO and LabelMe annotations, against loops over the pixels' centres."""

import functools
import json
import re

import numpy as np
import pytest
from support import miniatures, opening
from support.miniatures import save

from unet_jax.data.base import IGNORE
from unet_jax.data.layouts.polygons import draw_polygon, draw_runs, read_runs
from unet_jax.errors import UserError

opened = functools.partial(opening.opened, val_fraction=0.5)
SHAPE = (9, 13)
RECTANGLE = [2, 1, 11, 1, 11, 8, 2, 8]
# A frame 9x7 with a hole 5x3 as pycocotools 2.0.11 encodes it.
FRAME = {"size": [9, 13], "counts": "c07200K10O010O010O010O010O500a0"}
TRIANGLE = [0.5, 0.5, 12.7, 4.2, 3.1, 8.6]


def is_inside(x, y, points):
    """Counts the edges that a ray to the left crosses, one edge at a time."""
    inside = False
    for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True):
        if (y0 <= y) != (y1 <= y):
            low, high = ((x0, y0), (x1, y1)) if y0 < y1 else ((x1, y1), (x0, y0))
            crossing = low[0] + (y - low[1]) * ((high[0] - low[0]) / (high[1] - low[1]))
            inside ^= crossing <= x
    return inside


def by_loop(numbers, shape=SHAPE):
    points = [*zip(numbers[::2], numbers[1::2], strict=True)]
    rows = [[is_inside(x + 0.5, y + 0.5, points) for x in range(shape[1])] for y in range(shape[0])]
    return np.array(rows, bool).reshape(shape)


def frame():
    expected = np.zeros(SHAPE, bool)
    expected[1:8, 2:11] = True
    expected[3:6, 4:9] = False
    return expected


def labels(dataset):
    return {
        name: split.read(index).label
        for split in dataset.splits.values()
        for index, name in enumerate(split.ids)
    }


@pytest.mark.parametrize("shape", [(1, 1), (9, 13), (31, 8)])
@pytest.mark.parametrize("step", [0.5, 0.01])
def test_polygons_hold_the_pixels_whose_centres_they_hold(shape, step):
    rng = np.random.default_rng(shape[0])
    for corners in (3, 4, 7, 12):  # most of them cross themselves and leave the image
        points = np.round(rng.uniform(-4, 14, (corners, 2)) / step) * step
        drawn = draw_polygon(points, shape)
        assert drawn.dtype == bool
        np.testing.assert_array_equal(drawn, by_loop(points.ravel().tolist(), shape))


def test_polygons_that_share_edges_part_the_image():
    rng = np.random.default_rng(0)
    middle = np.round(rng.uniform((1, 1), (12, 8), (20, 2)) * 2) / 2
    corners = np.array([(0, 0), (13, 0), (13, 9), (0, 9)], float)
    for point in middle:
        sides = zip(corners, np.roll(corners, -1, axis=0), strict=True)
        counts = sum(draw_polygon(np.array([a, b, point]), SHAPE).astype(int) for a, b in sides)
        np.testing.assert_array_equal(counts, 1)


def test_the_border_of_a_polygon():
    square = draw_polygon(np.array([(1.5, 1.5), (4.5, 1.5), (4.5, 3.5), (1.5, 3.5)]), (5, 6))
    expected = np.zeros((5, 6), bool)
    expected[1:3, 1:4] = True  # centres on the left and upper edges, not on the others
    np.testing.assert_array_equal(square, expected)


def test_runs_as_pycocotools_writes_them():
    np.testing.assert_array_equal(draw_runs(read_runs(FRAME["counts"], "x"), SHAPE, "x"), frame())
    text = "".join(map(str, frame().T.ravel().astype(int)))
    counts = [len(run) for run in re.findall("0+|1+", text)]
    assert read_runs(FRAME["counts"], "x") == counts
    long = np.random.default_rng(5).random((7, 300)) < 0.02  # numbers of two letters, negative ones
    text = (
        "U1180`00:0n10]M0H0a1030[N0a00<0VO0L0]1000l10oN0dN0J0E040e10WO0lN0l00V30^L0W10H0eN01060Y3"
        "0TL0`10K0`10jM0B0b00[O0R10lN0<0g00H0L0[O070^30XL0>1GON0g00E0M"
    )
    np.testing.assert_array_equal(draw_runs(read_runs(text, "x"), (7, 300), "x"), long)


def test_coco(root):
    plain = [19, 7, 2, 7, 2, 7, 73]  # not compressed: rows 1 to 7 of columns 2, 3 and 4
    kinds = {
        "parts": [(7, [TRIANGLE, [8, 0, 13, 0, 13, 3, 8, 3]])],
        "hole": [(3, FRAME)],
        "runs": [(3, {"size": [9, 13], "counts": plain})],
        "over": [(7, [[4, 3, 8, 3, 8, 6, 4, 6]]), (3, [RECTANGLE])],  # the smaller one is on top
        "none": [],
    }
    miniatures.coco(root, kinds)
    dataset = opened(root)
    assert dataset.class_names == ("background", "cat", "dog")
    assert [len(split) for split in dataset.splits.values()] == [5, 5]
    found = labels(dataset)
    runs = np.zeros(SHAPE, np.uint8)
    for column in range(3):
        runs[1:8, 2 + column] = 1
    over = np.where(by_loop(RECTANGLE), 1, 0)
    over[by_loop([4, 3, 8, 3, 8, 6, 4, 6])] = 2
    parts = by_loop(TRIANGLE) | by_loop([8, 0, 13, 0, 13, 3, 8, 3])
    expected = {"parts": 2 * parts, "hole": frame(), "runs": runs, "over": over, "none": 0 * runs}
    for name, label in expected.items():
        for split in ("train", "val"):
            np.testing.assert_array_equal(found[f"{split}/{name}"], label, name)
    source = dataset.splits["train"]
    window = (slice(2, 7), slice(3, 12))
    np.testing.assert_array_equal(source.read(3, window).label, over[window])
    merged = opened(root, class_names=("none", "pet"), label_map=((0, 0), ("1-2", 1)))
    np.testing.assert_array_equal(labels(merged)["train/over"], over > 0)


def test_coco_in_folders_of_splits(root):
    miniatures.coco(root, {"a": [(3, FRAME)], "b": []})
    for split in ("train", "val"):
        (root / f"annotations/instances_{split}2017.json").rename(
            root / f"{split}2017/_annotations.coco.json"
        )
        (root / f"{split}2017").rename(root / split)
    (root / "annotations").rmdir()
    np.testing.assert_array_equal(labels(opened(root))["train/a"], frame())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: c["categories"].clear(), r"has 0 categories; they must be 1 to 253, of differ"),
        (lambda c: c["annotations"][0].pop("segmentation"), r"annotation 0 has no segmentation of"),
        (
            lambda c: c["annotations"][0].update(segmentation=[]),
            r"annotation 0 has no segmentation",
        ),
        (
            lambda c: c["annotations"][0].update(segmentation=[[1, 2, 3, 4]]),
            r"annotation 0 has a poly",
        ),
        (
            lambda c: c["annotations"][0].update(segmentation=[[1, 2, 3, 4, 5, None]]),
            "0 has a polygon",
        ),
        (
            lambda c: c["annotations"][0]["segmentation"].update(counts="P"),
            r"0 has runs of 0 pixels",
        ),
        (
            lambda c: c["annotations"][0]["segmentation"].update(counts="\x01"),
            r"runs that are none of",
        ),
        (
            lambda c: c["annotations"][0]["segmentation"].update(counts=[5, -5]),
            r"runs of other pixels",
        ),
        (lambda c: c["annotations"][0]["segmentation"].update(size=[13, 9]), r"image's size, 9x13"),
        (
            lambda c: c["annotations"][0].update(category_id=4),
            r"is of category 4, which is none of \[",
        ),
        (lambda c: c["annotations"][0].update(image_id=9), r"annotations of the image 9, which it"),
        (
            lambda c: c["images"][0].update(width=14),
            r"gives an image 9x14 .* that has 9x13 as viewers",
        ),
        (
            lambda c: c["images"][0].update(file_name="../a.png"),
            r"names '\.\./a\.png'; it must be a pa",
        ),
        (
            lambda c: c["images"][0].update(file_name="z.png"),
            r"names 'z\.png', which is not in .*; put",
        ),
        (lambda c: c["images"][1].update(file_name="a.jpg"), r"names 'a\.jpg', which is not in"),
        (lambda c: c.pop("images"), r"lacks 'images', which must be a list"),
        (
            lambda c: c["categories"][0].update(name="bird"),
            r"has other categories than the file before",
        ),
    ],
)
def test_coco_that_is_none_is_one_line(root, change, says):
    miniatures.coco(root, {"a": [(3, FRAME)], "b": []})
    file = root / "annotations/instances_val2017.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match=says) as error:
        opened(root)
    assert str(error.value).startswith(str(file))
    assert "\n" not in str(error.value)


def pairs_of(numbers):
    return [*zip(numbers[::2], numbers[1::2], strict=True)]


def test_yolo(root, capsys):
    kinds = {
        "a": [(1, [(4, 3), (8, 3), (8, 6), (4, 6)]), (0, pairs_of(RECTANGLE))],
        "b": [(1, pairs_of(TRIANGLE))],
        "c": [],
    }
    miniatures.yolo(root, kinds)
    dataset = opened(root)
    assert dataset.class_names == ("background", "cat", "dog")
    found = labels(dataset)
    over = np.where(by_loop(RECTANGLE), 1, 0)
    over[by_loop([4, 3, 8, 3, 8, 6, 4, 6])] = 2
    expected = {"a": over, "b": 2 * by_loop(TRIANGLE), "c": np.zeros(SHAPE)}
    for name, label in expected.items():
        np.testing.assert_array_equal(found[f"train/{name}"], label, name)
    said = capsys.readouterr().out.replace("\n", " ")
    assert "1 of 3 images have no labels: all is background" in said


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("0 0.5 0.5 0.2 0.2", r"labels/train/a\.txt, line 2, is a box and no polygon"),
        ("2 0 0 1 0 1 1", r"line 2, begins with '2'; it must be a class, 0 to 1, as the names"),
        ("x 0 0 1 0 1 1", r"line 2, begins with 'x'"),
        ("0 0 0 1 0 1 x", r"line 2, has a polygon that is none"),
        ("0 0 0 1 0 1 1 1", r"line 2, has a polygon that is none"),
        ("0 0 0 1 0 1 inf", r"line 2, has a polygon that is none"),
        ("0", r"line 2, has a polygon that is none"),
    ],
)
def test_yolo_that_is_none_is_one_line(root, line, says):
    miniatures.yolo(root, {"a": [(1, pairs_of(TRIANGLE))], "b": []})
    file = root / "labels/train/a.txt"
    file.write_text(f"{file.read_text()}\n{line}\n")
    with pytest.raises(UserError, match=says) as error:
        opened(root)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["names: 3", "names: {1: a}", "- a", "names: [", "names: []"])
def test_yolo_without_names(root, text):
    miniatures.yolo(root, {"a": [(1, pairs_of(TRIANGLE))], "b": []})
    (root / "data.yaml").write_text(text)
    with pytest.raises(UserError, match=r"data\.yaml (must have names|cannot be read)") as error:
        opened(root)
    assert "\n" not in str(error.value)


LABELME = {
    "a": [("cat", pairs_of(RECTANGLE)), ("dog", [(4, 3), (8, 3), (8, 6), (4, 6)])],
    "b": [("dog", [(4, 3), (8, 3), (8, 6), (4, 6)]), ("cat", pairs_of(RECTANGLE))],
    "c": [("cat", pairs_of(TRIANGLE)), ("__ignore__", [(0, 0), (5, 0), (5, 9), (0, 9)])],
}
NAMES = ("background", "cat", "dog")


def test_labelme(root):
    miniatures.labelme(root, LABELME)
    found = labels(opened(root, class_names=NAMES))
    rectangle, small = by_loop(RECTANGLE), by_loop([4, 3, 8, 3, 8, 6, 4, 6])
    a = np.where(small, 2, rectangle)
    c = np.where(np.arange(13) < 5, IGNORE, by_loop(TRIANGLE))
    for name, label in {"a": a, "b": rectangle, "c": c}.items():  # later ones cover earlier ones
        np.testing.assert_array_equal(found[name], label, name)
    with pytest.raises(
        UserError, match=r"class_names=\('background', 'cat', 'dog'\): the first is"
    ):
        opened(root)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda c: c["shapes"][0].update(label="cow"),
            r"the shape 0 has the label 'cow', which is",
        ),
        (
            lambda c: c["shapes"][0].update(shape_type="circle"),
            r"is a circle; allowed are polygon, re",
        ),
        (
            lambda c: c["shapes"][0].update(points=[[1, 2]]),
            r"the shape 0 has a polygon that is none",
        ),
        (
            lambda c: c["shapes"][0].update(points=5),
            r"the shape 0 lacks 'points', which must be a li",
        ),
        (lambda c: c.update(imageHeight=8), r"is of an image 8x13 .* that has 9x13 as viewers"),
        (lambda c: c.update(shapes=None), r"lacks 'shapes', which must be a list"),
    ],
)
def test_labelme_that_is_none_is_one_line(root, change, says):
    miniatures.labelme(root, LABELME)
    content = json.loads((root / "b.json").read_text())
    change(content)
    (root / "b.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=says) as error:
        opened(root, class_names=NAMES)
    assert str(error.value).startswith(f"{root}/b.json")


def test_an_image_without_a_labelme_file_is_an_error(root):
    miniatures.labelme(root, LABELME)
    save(root / "z.png", np.zeros((9, 13, 3)))
    with pytest.raises(
        UserError, match=r"1 of 4 images have no LabelMe file, .*z\.png; add z\.json"
    ):
        opened(root, class_names=NAMES)


def test_a_rectangle_of_labelme_has_two_corners(root):
    miniatures.labelme(root, LABELME | {"d": [("cat", [[2, 1], [11, 8]])]})
    content = json.loads((root / "d.json").read_text())
    content["shapes"][0]["shape_type"] = "rectangle"
    (root / "d.json").write_text(json.dumps(content))
    found = labels(opened(root, class_names=NAMES))
    np.testing.assert_array_equal(found["d"], by_loop(RECTANGLE))


@pytest.mark.parametrize(
    "given", [{"nearest": True, "label_map": ((0, 0), (1, 1))}, {"by_class": True}]
)
def test_masks_of_files_alone_are_read_otherwise(root, given):
    miniatures.coco(root, {"a": [(3, FRAME)]})
    with pytest.raises(
        UserError, match=r"are for masks in files, and COCO's labels are drawn from"
    ):
        opened(root, class_names=("a", "b"), **given)
