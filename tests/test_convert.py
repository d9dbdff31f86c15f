"""Configs of older versions: what they did is what the converted ones do."""

import copy
import json

import pytest
from ml_collections import ConfigDict
from support.paths import ROOT

from unet_jax.compare import differences, identity, other_identity, other_results
from unet_jax.config import check_sections, load
from unet_jax.convert import RENAMED, convert
from unet_jax.defaults import DEFAULTS, PARTS, to_config
from unet_jax.errors import BrokenFileError, UserError
from unet_jax.page import load_page

# What the pages had before losses were terms and augmentation steps, as config.json has it.
OLD_AUGMENT = {
    "flip_lr": True,
    "flip_ud": False,
    "zoom": [1.0, 1.0],
    "aspect": 1.0,
    "brightness": 0.0,
    "contrast": 0.0,
    "saturation": 0.0,
    "hue": 0.0,
}
OLD_LOSS = {
    "name": "cross_entropy+dice",
    "class_weights": [],
    "label_smoothing": 0.0,
    "dice_weight": 1.0,
}
PETS = {
    "zoom": [0.9, 1.4],
    "aspect": 1.2,
    "brightness": 0.2,
    "contrast": 0.3,
    "saturation": 0.3,
    "hue": 0.03,
}
PAPER = {"flip_ud": True, "brightness": 0.2, "contrast": 0.2}
CASES = {
    "tiny.py": ({}, {}),
    "shapes.py": ({"flip_ud": True}, {}),
    "oxford_pets.py:cpu": (PETS, {}),
    "paper.py": (PAPER, {"name": "cross_entropy"}),
}


def old_config(page, augment, loss):
    config = load_page(f"{ROOT}/configs/{page}").to_dict()
    old = json.loads(json.dumps(config))
    return old | {"augment": OLD_AUGMENT | augment, "loss": OLD_LOSS | loss}


@pytest.fixture
def read(tmp_path):
    def read(values):
        (tmp_path / "config.json").write_text(json.dumps(values))
        return load(tmp_path / "config.json")

    return read


@pytest.mark.parametrize("page", CASES)
def test_the_config_of_an_old_run_is_that_of_its_page(read, page):
    new = load_page(f"{ROOT}/configs/{page}")
    old = read(old_config(page, *CASES[page]))
    if page == "paper.py":  # which has its loss and a step since then
        new.augment = to_config({k: v for k, v in new.augment.items() if k != "elastic"})
        assert new.loss.cross_entropy.border_weight == 10
        new.loss.cross_entropy.update(class_weights=(), border_weight=0.0)
    assert old.to_dict() == new.to_dict()
    assert list(old.augment) == list(new.augment)
    assert differences(old, new) == []
    check_sections(old)


def test_old_values_are_told_from_new_ones(read):
    new = load_page(f"{ROOT}/configs/tiny.py")
    loss = {"dice_weight": 0.25, "class_weights": [1.0] * 6, "label_smoothing": 0.1}
    old = read(old_config("tiny.py", {"zoom": [0.8, 1.2]}, loss))
    assert other_results(old, new) == [
        "config.augment.zoom.aspect: 1.0 -> '(absent)'",
        "config.augment.zoom.probability: 1.0 -> '(absent)'",
        "config.augment.zoom.scale: (0.8, 1.2) -> '(absent)'",
        f"config.loss.cross_entropy.class_weights: {(1.0,) * 6} -> ()",
        "config.loss.cross_entropy.label_smoothing: 0.1 -> 0.0",
        "config.loss.dice.weight: 0.25 -> 1.0",
    ]


def test_the_mark_of_an_old_checkpoint_is_that_of_its_run():
    new = load_page(f"{ROOT}/configs/tiny.py")
    mark = json.loads(json.dumps(identity(new)))
    mark = {key: x for key, x in mark.items() if not key.startswith(("loss.", "augment."))}
    mark |= {f"augment.{key}": value for key, value in OLD_AUGMENT.items()}
    mark |= {f"loss.{key}": value for key, value in OLD_LOSS.items()}
    assert other_identity(mark, new) == []
    mark["loss.dice_weight"] = 0.5
    assert other_identity(mark, new) == ["config.loss.dice.weight: 0.5 -> 1.0"]


def test_keys_of_both_times_are_not_lost(read):
    old = old_config("tiny.py", {}, {})
    old["loss"]["nonsense"] = 1
    assert read(old).loss.nonsense == 1  # which the check of the loss names
    del old["loss"]["name"], old["loss"]["dice_weight"], old["loss"]["nonsense"]
    assert list(read(old).loss) == ["cross_entropy"]  # what the older version did without a name


@pytest.mark.parametrize(("names", "source"), [((), "pets"), (("a", "b"), "folder")])
def test_a_folder_without_class_names_was_that_of_the_pets(read, names, source):
    old = old_config("oxford_pets.py:cpu", PETS, {})
    old["data"] |= {"source": "folder", "path": "pets"}
    old["data"]["folder"]["class_names"] = names
    assert read(old).data.source == "folder"  # of this version, whose layouts have names
    del old["data"]["folder"]["layout"]
    assert read(old).data.source == source
    if not names:
        del old["data"]["folder"]  # as in a page that did not name it
        assert read(old).data.source == source


def test_the_number_of_images_in_figures_has_another_name(read):
    old = old_config("tiny.py", {}, {})
    old["eval"] = {"batch_size": 8, "pictures": 3}
    found = read(old).eval
    assert (found.batch_size, found.shown) == (8, 3)
    assert list(found) == list(DEFAULTS["eval"])


def test_what_is_new_is_left_alone():
    new = load_page(f"{ROOT}/configs/oxford_pets.py").to_dict()
    assert convert(copy.deepcopy(new)) == new
    assert list(convert(new)["augment"]) == ["flip", "zoom", "colour"]


def test_a_loss_of_no_version_is_one_line(read):
    with pytest.raises(BrokenFileError, match=r"config\.json is not .*name='mse' is of no version"):
        read(old_config("tiny.py", {}, {"name": "mse"}))


@pytest.mark.parametrize("key", RENAMED)
def test_pages_with_old_keys_learn_the_new_name(key):
    section, _, name = key.partition(".")
    old = {"augment": OLD_AUGMENT, "loss": OLD_LOSS, "eval": {"pictures": 6}}[section]
    config = ConfigDict(DEFAULTS)
    with config.unlocked():
        config[section] = {name: old[name]}
    with pytest.raises(UserError) as error:
        check_sections(config)
    assert str(error.value).startswith(f"config.{key} has another name now: config.{section}.")
    *_, part, leaf = RENAMED[key].split(",")[-1].split(".")
    known = PARTS.get(section, DEFAULTS)
    assert leaf in known[part]
