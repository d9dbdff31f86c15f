import math

import numpy as np
import pytest

from unet_jax.data import synthetic
from unet_jax.data.synthetic import CLASS_NAMES, draw, open_synthetic
from unet_jax.errors import UserError

ARGUMENTS = {"size": 24, "shapes": 3}


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_an_image_is_a_pure_function_of_seed_and_index():
    first = draw(0, 5, **ARGUMENTS)
    draw(0, 6, **ARGUMENTS)
    assert same(draw(0, 5, **ARGUMENTS), first)
    for seed, index in ((0, 6), (1, 5), (5, 0)):
        other = draw(seed, index, **ARGUMENTS)
        assert not np.array_equal(other[0], first[0])
        assert not np.array_equal(other[1], first[1])


def test_a_source_gives_the_same_in_any_order():
    forth, back = (open_synthetic(train=6, size=16).splits["train"] for _ in range(2))
    backwards = [back.read(i) for i in reversed(range(6))][::-1]
    for index in range(6):
        for one in (forth.read(index), forth.read(np.int64(index))):
            assert one.id == backwards[index].id
            assert np.array_equal(one.image, backwards[index].image)
            assert np.array_equal(one.label, backwards[index].label)


def test_no_image_is_in_two_splits_or_in_another_data_set():
    images, ids = set(), set()
    for seed in range(3):
        dataset = open_synthetic(train=20, val=20, test=20, size=8, seed=seed)
        assert [*dataset.splits] == ["train", "val", "test"]
        for split in dataset.splits.values():
            assert len(split) == 20
            for index in range(20):
                images.add(split.read(index).image.tobytes())
                ids.add((seed, split.read(index).id))
    assert len(images) == len(ids) == 3 * 3 * 20


def test_shapes_and_types():
    image, label = draw(0, 0, **ARGUMENTS)
    assert (image.shape, image.dtype) == ((24, 24, 3), np.uint8)
    assert (label.shape, label.dtype) == ((24, 24), np.uint8)


def test_every_class_occurs():
    found = np.zeros(len(CLASS_NAMES), int)
    for index in range(40):
        label = draw(0, index, size=32, shapes=4)[1]
        assert label.max() < len(CLASS_NAMES)
        found += np.bincount(label.ravel(), minlength=len(CLASS_NAMES)) > 0
    assert (found >= 5).all()


def test_without_shapes_all_is_background():
    assert not draw(0, 0, size=16, shapes=0)[1].any()


@pytest.mark.parametrize("index", range(8))
def test_the_label_is_exactly_what_was_painted(monkeypatch, index):
    """Paints each layer in one colour, far enough from the others to be told through the noise."""
    colours = [np.array([k >> 2 & 1, k >> 1 & 1, k & 1], float) for k in range(8)]
    used = iter(colours)
    monkeypatch.setattr(
        synthetic, "_texture", lambda x, *_: np.broadcast_to(next(used), (*x.shape, 3))
    )
    image, label = draw(0, index, size=32, shapes=7)
    layer = (image > 127) @ np.array([4, 2, 1])
    np.testing.assert_array_equal(label == 0, layer == 0)
    for k in range(1, 8):
        assert len(np.unique(label[layer == k])) <= 1
    assert len(np.unique(layer)) > 4


@pytest.mark.parametrize("index", range(4))
def test_a_label_by_class_knows_what_is_covered(monkeypatch, index):
    inside, texture = synthetic._inside, synthetic._texture
    tried, placed = [], []
    monkeypatch.setattr(
        synthetic, "_inside", lambda *args: tried.append((args[0], inside(*args))) or tried[-1][1]
    )
    # A shape that is placed gets a texture; before all, the background does.
    monkeypatch.setattr(
        synthetic, "_texture", lambda *args: placed.extend(tried[-1:]) or texture(*args)
    )
    image, layers = draw(0, index, size=32, shapes=7, by_class=True)
    assert (layers.shape, layers.dtype) == ((32, 32, 5), np.uint8)
    expected = np.zeros((32, 32, 5), bool)
    for kind, shape in placed:
        expected[..., CLASS_NAMES.index(kind) - 1] |= shape
    np.testing.assert_array_equal(layers, expected)
    assert layers.sum(axis=-1).max() > 1
    seen, label = draw(0, index, size=32, shapes=7)
    np.testing.assert_array_equal(image, seen)
    np.testing.assert_array_equal(label == 0, layers.sum(axis=-1) == 0)


def test_a_source_by_class():
    dataset = open_synthetic(train=2, size=16, by_class=True)
    assert dataset.by_class
    assert dataset.class_names == CLASS_NAMES[1:]
    window = (slice(2, 7), slice(0, 16))
    part, all_of_it = (dataset.splits["train"].read(1, w) for w in (window, None))
    np.testing.assert_array_equal(part.label, all_of_it.label[2:7])
    assert all_of_it.label.shape == (16, 16, 5)
    with pytest.raises(UserError, match=r"by_class=True must be False for volumes"):
        open_synthetic(by_class=True, axes=3)


def is_inside(kind, x, y):
    """Tells shape by shape, for one point, what `_inside` tells for arrays."""
    radius = math.sqrt(x * x + y * y)
    if kind == "triangle":  # equilateral, inscribed radius 0.6, one corner to the left
        return x < 0.6 and abs(y) < (x + 1.2) / math.sqrt(3)
    return {
        "disk": radius < 0.9,
        "square": abs(x) < 0.8 and abs(y) < 0.8,
        "ring": 0.5 < radius < 1,
        "cross": (abs(x) < 0.33 and abs(y) < 1) or (abs(y) < 0.33 and abs(x) < 1),
    }[kind]


@pytest.mark.parametrize("kind", CLASS_NAMES[1:])
def test_each_shape_is_what_its_name_says(kind):
    y, x = np.mgrid[-1.31:1.31:40j, -1.31:1.31:40j]
    inside = synthetic._inside(kind, x, y)
    expected = [is_inside(kind, *point) for point in zip(x.ravel(), y.ravel(), strict=True)]
    np.testing.assert_array_equal(inside.ravel(), expected)


@pytest.mark.parametrize("key", ["train", "val", "test", "size", "shapes", "seed"])
def test_numbers_out_of_range(key):
    with pytest.raises(UserError, match=rf"config\.data\.synthetic\.{key}=-1 must be [01] or more"):
        open_synthetic(**{key: -1})
    if key in ("train", "val", "test", "size"):
        with pytest.raises(UserError, match=f"{key}=0"):
            open_synthetic(**{key: 0})
    else:
        open_synthetic(**{key: 0})
