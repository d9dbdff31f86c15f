"""Steps that hide parts of images or take parts of others, against NumPy."""

import jax
import numpy as np
import pytest
from support.tasks import exclusive

from unet_jax.augment.kinds import Given
from unet_jax.augment.make import check_augment, make_augment
from unet_jax.augment.scale import GREY
from unet_jax.data.sample import RGB
from unet_jax.errors import UserError

UNIT = (0.0, 1.0)


def batch(size=(17, 12), count=5, labels=()):
    rng = np.random.default_rng(0)
    image = rng.random((count, *size, 2)).astype(np.float32)
    label = rng.integers(0, 2 if labels else 5, (count, *size, *labels)).astype(np.uint8)
    weight = (rng.random((count, *size)) < 0.8).astype(np.uint8)
    return image, label, weight


def augment(section, arrays, *extras, seed=0):
    found = jax.jit(make_augment(section, UNIT))(*arrays, jax.random.key(seed), *extras)
    return [np.asarray(x) for x in found]


def assert_is_box(mask, low, high):
    """Tells that a mask is one box whose share of an image is in a range, up to a pixel a side."""
    where = np.argwhere(mask)
    sides = where.max(0) - where.min(0) + 1 if len(where) else np.zeros(mask.ndim, int)
    assert np.prod(sides) == mask.sum()
    assert np.prod(np.maximum(sides - 1, 0) / mask.shape) <= high
    assert np.prod((sides + 1) / mask.shape) >= low


@pytest.mark.parametrize("size", [(17, 12), (1, 9), (5, 6, 7)])
def test_cutout_hides_a_box_and_leaves_the_label(size):
    arrays = batch(size, 40)
    image, label, weight = augment({"cutout": {"share": (0.1, 0.4)}}, arrays)
    np.testing.assert_array_equal(label, arrays[1])
    np.testing.assert_array_equal(weight, arrays[2])
    hidden = (image == GREY).all(axis=-1)
    for row in range(40):
        assert_is_box(hidden[row], 0.1, 0.4)
        np.testing.assert_allclose(image[row][~hidden[row]], arrays[0][row][~hidden[row]])
    assert len({row.tobytes() for row in hidden}) > 1


def test_several_boxes_are_hidden():
    arrays = batch((40, 40), 3)
    image, *_ = augment({"cutout": {"share": (0.02, 0.02), "count": 8}}, arrays)
    shares = (image == GREY).all(axis=-1).mean(axis=(1, 2))
    assert (shares > 0.06).all()
    assert (shares < 0.2).all()


@pytest.mark.parametrize("labels", [(), (3,)])
def test_cutmix_takes_a_box_of_the_image_before(labels):
    arrays = batch(labels=labels)
    border = arrays[0][..., 0] + 1
    found = augment({"cutmix": {"share": (0.2, 0.9)}}, arrays, border)
    given = [*arrays, border]
    for row in range(5):
        taken = found[0][row, ..., 0] != arrays[0][row, ..., 0]
        assert_is_box(taken, 0.2, 0.9)
        for x, y in zip(found, given, strict=True):
            np.testing.assert_allclose(x[row][taken], y[row - 1][taken], rtol=1e-6)
            np.testing.assert_allclose(x[row][~taken], y[row][~taken], rtol=1e-6)


@pytest.mark.parametrize("labels", [(), (3,)])
def test_copy_paste_takes_the_pixels_of_rare_classes_that_count(labels):
    arrays = batch(labels=labels)
    found = augment({"copy_paste": {"classes": (0, 2)}}, arrays)
    for row in range(5):
        theirs, counts = arrays[1][row - 1], arrays[2][row - 1] > 0
        of_these = theirs[..., [0, 2]].any(-1) if labels else (theirs == 0) | (theirs == 2)
        taken = of_these & counts
        for x, y in zip(found, arrays, strict=True):
            np.testing.assert_allclose(x[row][taken], y[row - 1][taken], rtol=1e-6)
            np.testing.assert_allclose(x[row][~taken], y[row][~taken], rtol=1e-6)


def test_what_is_taken_was_augmented_and_by_chance():
    arrays = batch(count=60)
    steps = {"rotation": {"degrees": 60.0}, "noise": {"sigma": 0.1}}
    plain = augment(steps, arrays, seed=3)
    mixed = augment(steps | {"copy_paste": {"classes": (3,), "probability": 0.4}}, arrays, seed=3)
    took = 0
    for row in range(60):
        taken = (plain[1][row - 1] == 3) & (plain[2][row - 1] > 0)
        if np.allclose(mixed[0][row], plain[0][row], atol=1e-6):
            continue
        took += 1
        for x, y in zip(mixed, plain, strict=True):
            np.testing.assert_allclose(x[row][taken], y[row - 1][taken], atol=1e-6)
            np.testing.assert_allclose(x[row][~taken], y[row][~taken], atol=1e-6)
    assert 14 < took < 36


@pytest.mark.parametrize(
    ("section", "given", "says"),
    [
        ({"cutmix": {"share": (0.1, 0.5)}}, Given(RGB, batch_size=1), r"cutmix takes .*size=1; r"),
        ({"copy_paste": {"classes": (1,)}}, Given(RGB, batch_size=1), r"copy_paste takes parts"),
        ({"cutmix": {"share": (0.5, 0.1)}}, Given(RGB), r"share=\(0.5, 0.1\) must be \(smallest"),
        ({"cutout": {"share": (0.0, 1.1)}}, Given(RGB), r"cutout\.share=\(0.0, 1.1\) must be"),
        ({"cutout": {"count": 0}}, Given(RGB), r"cutout\.count=0 must be from 1 to 64"),
        (
            {"copy_paste": {"classes": (1, 3)}},
            Given(RGB, task=exclusive(3)),
            r"copy_paste\.classes=\(1, 3\) must be different class ids: 0 .*, 1 .*, 2 ",
        ),
        ({"copy_paste": {"classes": (1, 1)}}, Given(RGB), r"=\(1, 1\) must .* ids: 0 to 254"),
        ({"copy_paste": {"classes": (True,)}}, Given(RGB), r"=\(True,\) must be different"),
    ],
)
def test_values_of_steps_that_mix_that_do_not_fit(section, given, says):
    with pytest.raises(UserError, match=rf"^config\.augment\..*{says}"):
        check_augment(section, given)


def test_steps_that_are_off_may_have_batches_of_one():
    check_augment({"cutmix": {}, "copy_paste": {}}, Given(RGB, batch_size=1))
