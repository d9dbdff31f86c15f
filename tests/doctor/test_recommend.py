"""Values that fit made-up data sets, worked out by hand."""

import numpy as np
import pytest

from unet_jax.data.sample import make_spec
from unet_jax.data.sources import Loading
from unet_jax.defaults import page
from unet_jax.doctor.finding import Finding
from unet_jax.doctor.look import Look
from unet_jax.doctor.recommend import as_values, recommend
from unet_jax.doctor.survey import Survey
from unet_jax.sharding import check_batch_size, make_shardings

RGB = make_spec(2, 3, "uint8")
COLOUR = {"brightness": 0.2, "contrast": 0.2, "saturation": 0.2, "hue": 0.02}


def made_up(shapes, side=None, val=10, spec=RGB, split_by="val 0.1, seed 0", **sections):
    """A survey of images of some shapes, each with an object of some side."""
    data = {"source": "folder", "path": "x", "image_size": (256, 256)}
    data |= {"folder": {"class_names": ("a", "b")}} | sections.pop("data", {})
    config = page(data=data, **sections)

    def look(number, shape):
        rows = [] if side is None else [(1, side, side, side * side)]
        means = np.zeros(spec.channels, np.float32)
        found = np.array(rows, np.int32).reshape(-1, 4)
        return Look(f"{number}", shape=shape, spec=spec, means=means, objects=found)

    looks = tuple(look(number, shape) for number, shape in enumerate(shapes))
    loading = Loading(config.data.image_size, config.data.fit, 1)
    splits = {"train": looks, "val": (looks * val)[:val]}
    classes = {0: 0, 1: 1}
    names = ("a", "b")
    return Survey(splits, names, classes, False, spec, loading, 16, 5, config, (), split_by)


def values(survey, findings=()):
    found = recommend(survey, findings)
    assert len({one.key for one in found}) == len(found)
    assert all(one.why.endswith(".") and not one.why[0].islower() for one in found), found
    return as_values(found)


@pytest.mark.parametrize(
    ("shapes", "side", "size", "fit", "crops"),
    [
        ([(100, 130)] * 40, 40, (96, 128), "resize", None),  # no larger than they are
        ([(512, 512)] * 40, 40, (256, 256), "resize", None),  # 40 become 20, of 16
        ([(512, 512)] * 40, 20, (256, 256), "crop", 4),  # 20 would become 10
        ([(300, 1200)] * 40, 200, (128, 512), "resize", None),  # 600 by 4 is 2^16 pixels
        ([(300, 300), (900, 900)] * 20, 200, (256, 256), "crop", 5),  # median 600 x 600
        ([(300, 600), (600, 300)] * 20, 200, (256, 256), "crop", 3),  # median 450 x 450
        ([(2000, 100)] * 40, 5, (256, 96), "crop", 8),
        ([(5, 7)] * 40, None, (16, 16), "resize", None),
    ],
)
def test_size_and_fit(shapes, side, size, fit, crops):
    found = values(made_up(shapes, side))
    assert found["data.image_size"] == size
    assert found["data.fit"] == fit
    assert found.get("data.crops") == crops


@pytest.mark.parametrize(
    ("count", "size", "batch"),
    [(400, 256, 32), (40, 256, 8), (7, 256, 1), (1, 256, 1), (100, 256, 16)],
)
def test_an_epoch_has_four_steps(count, size, batch):
    found = values(made_up([(size, size)] * count))
    assert found["train.batch_size"] == found["eval.batch_size"] == batch


def test_a_batch_holds_no_more_pixels_than_that_of_the_config():
    survey = made_up([(64, 64, 64)] * 400, spec=make_spec(3, 1, "int16"), train={"batch_size": 16})
    found = values(survey)
    assert found["data.image_size"] == (64, 64, 64)
    assert found["train.batch_size"] == 4  # 16 * 256^2 / 64^3
    assert found["model.dimensions"] == 3


def test_grey_images_have_no_hue():
    grey = make_spec(2, 1, "uint16")
    found = values(made_up([(64, 64)] * 40, spec=grey, augment={"colour": COLOUR}))
    assert {k: v for k, v in found.items() if "augment" in k} == {
        "augment.colour.saturation": 0.0,
        "augment.colour.hue": 0.0,
    }
    found = values(made_up([(64, 64)] * 40, augment={"colour": COLOUR}))
    assert not any("augment" in key for key in found)


def test_few_images_are_not_validation_enough():
    assert values(made_up([(64, 64)] * 20, val=2))["data.val_fraction"] == 0.25
    assert "data.val_fraction" not in values(made_up([(64, 64)] * 20, val=8))
    assert "data.val_fraction" not in values(made_up([(64, 64)] * 20, val=2, split_by="as given"))


def test_mends_are_among_the_values_and_exclusions_are_joined():
    mends = [
        "config.data.folder.exclude=('old', '3')\nconfig.data.value_range=(0, 4095)",
        "config.data.folder.exclude=('old', '5')",
        "config.data.value_range=(0, 1)",
        "config.data.image_size=(1, 1)",
        "Look at them.",
    ]
    findings = [Finding("x", "error", (), "something is wrong", mend) for mend in mends]
    found = values(made_up([(64, 64)] * 40), findings)
    assert found["data.folder.exclude"] == ("old", "3", "5")
    assert found["data.value_range"] == (0, 4095)
    assert found["data.image_size"] == (64, 64)


def test_fewer_levels_are_moot_where_images_are_cut_instead():
    mend = "config.model.features=(64, 128)"
    finding = [Finding("small_objects", "warning", (), "they are small", mend)]
    assert "model.features" not in values(made_up([(512, 512)] * 40, 20), finding)
    assert "model.features" in values(made_up([(256, 256)] * 40, 10), finding)


def test_valid_convolutions_keep_their_size():
    valid = made_up([(64, 64)] * 40, model={"padding": "valid"})
    assert "data.image_size" not in values(valid)


def test_nothing_is_recommended_of_nothing():
    empty = made_up([])._replace(looks={}, spec=None, class_names=())
    assert values(empty) == {}


def test_odd_images_stay_and_copies_go():
    def warn(fault, name):
        mend = f"config.data.folder.exclude=('old', {name!r})"
        return Finding(fault, "warning", (), "something is odd", mend)

    survey = made_up([(64, 64)] * 40)
    assert "data.folder.exclude" not in values(survey, [warn("one_class", "3")])
    found = values(survey, [warn("one_class", "3"), warn("near", "5")])
    assert found["data.folder.exclude"] == ("old", "5")


@pytest.mark.parametrize(
    ("images", "devices", "batch", "evaluated"),
    [(12, 8, 8, 8), (400, 8, 32, 32), (400, 3, 30, 30), (400, 6, 30, 30), (2, 2, 2, 2)],
)
def test_devices_divide_the_batches(images, devices, batch, evaluated):
    survey = made_up([(256, 256)] * images)
    found = {one.key: one.value for one in recommend(survey, (), devices)}
    assert (found["train.batch_size"], found["eval.batch_size"]) == (batch, evaluated)
    for key in ("train.batch_size", "eval.batch_size"):
        check_batch_size(key, found[key], make_shardings(data=devices))


def test_a_batch_for_evaluation_that_devices_do_not_divide():
    survey = made_up([(256, 256)] * 400, eval={"batch_size": 20})
    found = {one.key: one.value for one in recommend(survey, (), 8)}
    assert (found["train.batch_size"], found["eval.batch_size"]) == (32, 16)
