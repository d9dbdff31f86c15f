import ast
import inspect
import json

import numpy as np
import pytest
from scipy import ndimage
from support import planted_images as images
from support import planted_masks as masks
from support import planting
from support.planted_images import the_same_in_both_splits
from support.planted_masks import moved_masks, values_0_and_255
from support.planting import change, make

from unet_jax.data.check import check
from unet_jax.data.pipeline import train_batches
from unet_jax.data.sides import find_sides
from unet_jax.data.sources import open_data
from unet_jax.doctor.faults import FAULTS, find, splits
from unet_jax.doctor.survey import survey
from unet_jax.errors import UserError
from unet_jax.training import train_and_evaluate

CASES = masks.CASES | images.CASES


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("UNET_JAX_CACHE", str(tmp_path / "cache"))


def paste(config, mend):
    """Sets the values that the lines of a mend name, as a page would."""
    for line in mend.split("\n"):
        key, _, value = line.removeprefix("config.").partition("=")
        *path, name = key.split(".")
        section = config
        for part in path:
            section = section[part]
        assert name in section, key
        section[name] = ast.literal_eval(value)


def first_batch(config):
    """Opens the data of a config, checks both splits as training does, and reads a batch."""
    dataset, loading = open_data(**config.data)
    for split in ("train", "val"):
        source = dataset.splits[split]
        check(source, split, len(dataset.class_names), loading.value_range or None)
    options = {"batch_size": 4, "seed": 0, "start": 0, "stop": 1}
    [batch] = train_batches(dataset.splits["train"], loading, **options)
    return batch, dataset


@pytest.mark.parametrize("plant", CASES, ids=lambda plant: plant.__name__)
def test_a_planted_fault_is_named_and_its_mend_works(tmp_path, plant):
    config = plant(tmp_path / "data", True)
    found = find(survey(config))
    assert {one.fault for one in found} == {CASES[plant]}, found
    assert all(one.says and one.mend for one in found)
    if not all(one.is_config() for one in found):
        return
    for one in found:
        paste(config, one.mend)
    batch, dataset = first_batch(config)
    assert batch["image"].shape[:3] == (4, *config.data.image_size)
    assert batch["weight"].any()
    assert batch["label"][batch["weight"] > 0].max() < len(dataset.class_names)
    assert find(survey(config)) == []


@pytest.mark.parametrize("plant", CASES, ids=lambda plant: plant.__name__)
def test_nothing_is_found_without_it(tmp_path, plant):
    config = plant(tmp_path / "data", False)
    assert find(survey(config)) == []
    first_batch(config)


def test_every_fault_is_planted_at_least_once():
    assert {*CASES.values()} == FAULTS.keys() - {"opening"}
    assert len(CASES) >= 30
    assert all(len(inspect.getsource(plant).splitlines()) <= 20 for plant in CASES)


def test_a_folder_with_many_faults_trains_once_every_mend_is_pasted(tmp_path):
    root = tmp_path / "data"
    values_0_and_255(root, True)
    change(root / "images", lambda image: image // 16)
    change(root / "masks", lambda mask: mask[:-8], {4})
    (root / "images" / "03.png").write_bytes(b"")
    (root / "masks" / "09.png").unlink()
    config = make(root)
    config.mesh.data = 1
    with pytest.raises(UserError):
        train_and_evaluate(config, tmp_path / "run")
    found = find(survey(config))
    assert [one.fault for one in found] == ["pairs", "unreadable", "sizes", "values", "value_range"]
    left_out = set()
    for one in found:
        paste(config, one.mend)
        left_out |= {*config.data.folder.exclude}
        config.data.folder.exclude = tuple(sorted(left_out))
    assert find(survey(config)) == []
    config.eval.figures = False
    train_and_evaluate(config, tmp_path / "run")
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert 0 <= results["val"]["mIoU"] <= 1


@pytest.mark.parametrize(
    ("held", "lines"),
    [
        ((0, 1, 2), ["class_names=('class_0', 'class_1', 'class_2')"]),
        ((3, 7), ["class_names=('background', 'object')", "label_map=((3, 0), (7, 1))"]),
        (
            (0, 1, 2, 255),
            ["class_names=('class_0', 'class_1', 'class_2')", "ignore_values=(255,)"],
        ),
        (
            (10, 20, 255),
            [
                "class_names=('class_0', 'class_1', 'class_2')",
                "label_map=((10, 0), (20, 1), (255, 2))",
            ],
        ),
        (
            (*range(0, 256, 5), *(0, 255) * 99),  # soft edges
            [
                "class_names=('background', 'object')",
                "label_map=((0, 0), (255, 1))",
                "nearest=True",
            ],
        ),
    ],
)
def test_classes_that_nothing_names_are_numbered(tmp_path, held, lines):
    planting.draw(tmp_path, label=lambda seed, mask: planting.stripes(mask.shape, held))
    config = make(tmp_path, folder={"class_names": ()})
    [finding, *_] = find(survey(config))
    assert (finding.fault, finding.level) == ("unnamed", "error")
    assert finding.mend.split("\n") == [f"config.data.folder.{line}" for line in lines]
    paste(config, finding.mend)
    first_batch(config)


def test_the_mend_of_pets_opened_as_a_folder_is_their_source(tmp_path):
    for kind in ("images", "annotations/trimaps"):
        (tmp_path / kind).mkdir(parents=True)
    config = make(tmp_path, folder={"class_names": ()})
    [finding, *_] = find(survey(config))
    assert (finding.fault, finding.mend) == ("opening", "config.data.source='pets'")


def test_masks_that_are_moved_are_told_by_how_much(tmp_path):
    config = moved_masks(tmp_path, True)  # by 4 rows down and 3 columns to the left
    [finding] = find(survey(config))
    assert "moved by about +4 pixels down and -3 to the right" in finding.says


def test_copies_are_taken_out_of_the_training_split(tmp_path):
    config = the_same_in_both_splits(tmp_path, True)  # 02 of val is 10 of train
    [finding] = find(survey(config))
    assert finding.mend == "config.data.folder.exclude=('10',)"
    assert (finding.level, finding.files) == ("error", (str(tmp_path / "images" / "10.png"),))
    change(tmp_path / "masks", lambda mask: 1 - mask, {10})
    assert "the masks of 1 of them differ" in find(survey(config))[0].says


@pytest.mark.parametrize(
    ("plant", "mend"),
    [
        (
            masks.classes_without_names,
            "config.data.folder.class_names=('background', 'object')\n"
            "config.data.folder.label_map=((0, 0), (255, 1))",
        ),
        (values_0_and_255, "config.data.folder.label_map=((0, 0), (255, 1))"),
        (masks.values_from_1, "config.data.folder.label_map=((1, 0), (2, 1))"),
        (masks.void, "config.data.folder.ignore_values=(255,)"),
        (masks.a_stray_value, "config.data.folder.ignore_values=(37,)"),
        (
            masks.one_more_class,
            "config.data.folder.class_names=('back', 'disk', 'class_2')",
        ),
        (
            masks.soft_edges,
            "config.data.folder.label_map=((0, 0), (255, 1))\nconfig.data.folder.nearest=True",
        ),
        (
            masks.masks_in_colours,
            "config.data.folder.label_map=(((0, 0, 0), 0), ((200, 0, 0), 1))",
        ),
        (
            masks.one_palette_differs,
            "config.data.folder.label_map=(((0, 0, 0), 0), ((200, 0, 0), 1))",
        ),
        (images.twelve_bits, "config.data.value_range=(0, 4095)"),
        (images.four_bits, "config.data.value_range=(0, 15)"),
        (images.floats_to_255, "config.data.value_range=(0, 255)"),
        (
            images.videos,
            "config.data.split.group_pattern='^(.*?)[^A-Za-z0-9]*\\\\d+[^/\\\\d]*$'",
        ),
        (images.stacks_in_folds, "config.data.split.group_pattern='^(.*)/\\\\d+$'"),
        (
            images.more_folds_than_stacks,
            "config.data.split.group_pattern='^(.*)/\\\\d+$'\n"
            "config.data.folds=3\nconfig.data.fold=2",
        ),
        (images.parts_larger_than_images, "config.data.image_size=(48, 64)"),
        (images.squeezed_images, "config.data.image_size=(40, 52)"),
        (masks.tiny_objects, "config.model.features=(4, 8)"),
    ],
)
def test_mends_are_what_a_person_would_write(tmp_path, plant, mend):
    [finding] = find(survey(plant(tmp_path, True)))
    assert finding.mend == mend


def test_a_video_in_two_splits_is_kept_whole_and_no_fault_in_one(tmp_path):
    config = images.frames_that_follow(tmp_path, True)
    near, groups = find(survey(config))
    assert (near.fault, groups.fault, near.mend) == ("near", "groups", groups.mend)
    paste(config, near.mend)
    seen = survey(config)
    assert find(seen) == []
    films = [{look.id[:5] for look in looks} for looks in seen.looks.values()]
    assert films[0].isdisjoint(films[1])
    assert splits.near_pairs(seen.looks["train"])
    assert find(survey(images.frames_that_follow(tmp_path / "twin", False))) == []


def test_borders_that_are_bands_are_as_good_moved_either_way(tmp_path):
    def banded(seed, mask):
        inner = ndimage.binary_erosion(mask, iterations=4)
        outer = ndimage.binary_dilation(mask, iterations=4)
        return np.uint8(inner) + 2 * np.uint8(outer & ~inner)

    planting.draw(tmp_path, count=30, size=(96, 96), radius=24, label=banded)
    folder = {"class_names": ("back", "disk", "border")}
    assert find(survey(make(tmp_path, image_size=(96, 96), folder=folder))) == []


@pytest.mark.parametrize(
    ("prefix", "one", "other", "is_fault"),
    [("", 2, 10, True), ("film_", 2, 10, True), ("film_", 10, 12, False), ("", 10, 12, True)],
)
def test_what_is_nearly_the_same_in_one_split(tmp_path, prefix, one, other, is_fault):
    planting.draw(tmp_path)
    planting.copy(tmp_path, f"{one:02}", f"{other:02}", quality=60)
    for kind in ("images", "masks"):
        for file in sorted((tmp_path / kind).iterdir()):
            file.rename(file.with_name(f"{prefix}{file.name}"))
    (tmp_path / "val.txt").write_text("".join(f"{prefix}{n:02}\n" for n in (3, 4, 5)))
    found = find(survey(make(tmp_path)))
    assert [one.fault for one in found] == ["near"] * is_fault
    if is_fault:
        assert found[0].mend == f"config.data.folder.exclude=('{prefix}{other:02}',)"


@pytest.mark.parametrize(
    ("names", "pairs"),
    [
        (("back", "left_lung", "right_lung"), [("left_lung", "right_lung")]),
        (("Lung (R)", "Lung (L)"), [("Lung (L)", "Lung (R)")]),
        (("lh-cortex", "rh-cortex", "lh-white"), [("lh-cortex", "rh-cortex")]),
        (("RightHippocampus", "LeftHippocampus"), [("LeftHippocampus", "RightHippocampus")]),
        (("kidney_l_2", "kidney_r_2", "kidney_r_1"), [("kidney_l_2", "kidney_r_2")]),
        (("leftover", "rightover", "left lane", "right turn", "lr", "rr"), []),
    ],
)
def test_classes_that_are_a_left_and_a_right(names, pairs):
    assert find_sides(names) == pairs
