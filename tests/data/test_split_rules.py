"""Groups, strata and folds of a config, from files, records and drawn images."""

import itertools

import numpy as np
import pytest
from PIL import Image
from support import pets_set
from support.split_folders import CLASSES, ids, opened, save

from unet_jax.data import splits as rules_of
from unet_jax.data.sources import open_data
from unet_jax.errors import UserError


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("UNET_JAX_CACHE", str(tmp_path / "cache"))


PATIENTS = [f"p{p:02}/scan{s}/s{i}" for p in range(9) for s in range(2) for i in range(p % 3 + 1)]
GROUPINGS = {
    "folders": ({"group_folders": 1}, lambda name: name.split("/")[0]),
    "two folders": ({"group_folders": 2}, lambda name: "/".join(name.split("/")[:2])),
    "pattern": ({"group_pattern": r"^p(\d+)/"}, lambda name: name[:3]),
    "all that is found": ({"group_pattern": r"p\d+/scan\d"}, lambda name: name[:9]),
    "two parts": ({"group_pattern": r"^(p\d+)/.*(\d)$"}, lambda name: name[:3] + name[-1]),
}


@pytest.mark.parametrize("way", GROUPINGS)
@pytest.mark.parametrize("folds", [0, 3])
def test_groups_stay_whole_in_all_splits(tmp_path, way, folds):
    split, group_of = GROUPINGS[way]
    root = save(tmp_path, PATIENTS)
    groups, val = {group_of(name) for name in PATIENTS}, []
    tests = set()
    for fold in range(folds or 1):
        dataset = opened(root, split, {"test_fraction": 0.2}, fold=fold, folds=folds)
        found = ids(dataset)
        assert sorted(itertools.chain(*found.values())) == sorted(PATIENTS)
        for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
            assert not {*map(group_of, found[one])} & {*map(group_of, found[other])}
        val += found["val"]
        tests.add(tuple(found["test"]))
        assert f", {len(groups)} groups by {next(iter(split))}=" in dataset.split_by
    (test,) = tests
    assert abs(len(test) - 0.2 * len(PATIENTS)) <= 1
    if folds:
        assert sorted([*val, *test]) == sorted(PATIENTS)


@pytest.mark.parametrize("count", [6, 7, 30])
@pytest.mark.parametrize("folds", [2, 5])
def test_every_image_is_in_one_fold_and_the_test_stays(tmp_path, count, folds):
    names = [f"n{i}" for i in range(count)]
    root = save(tmp_path, names)
    found = [opened(root, fold=k, folds=folds, folder={"test_fraction": 0.1}) for k in range(folds)]
    parts = [ids(dataset) for dataset in found]
    assert len({tuple(part.get("test", ())) for part in parts}) == 1
    val = [name for part in parts for name in part["val"]]
    assert sorted([*val, *parts[0].get("test", ())]) == sorted(names)
    assert max(len(p["val"]) for p in parts) - min(len(p["val"]) for p in parts) <= 1
    for fold, (dataset, part) in enumerate(zip(found, parts, strict=True)):
        assert sorted(part["train"] + part["val"]) == sorted(val)
        assert f"val fold {fold} of {folds}, seed 0" in dataset.split_by


@pytest.mark.parametrize("train", [False, True])
def test_a_test_list_stays_and_folds_are_of_the_others(tmp_path, train):
    root = save(tmp_path, "abcdefgh")
    (tmp_path / "test.txt").write_text("h\nc\n")
    (tmp_path / "val.txt").write_text("a\n")
    if train:
        (tmp_path / "train.txt").write_text("e\nb\nd\n")
    others = "abde" if train else "abdefg"
    parts = [ids(opened(root, fold=k, folds=3)) for k in range(3)]
    for part in parts:
        assert part["test"] == ["h", "c"]
        assert sorted(part["train"] + part["val"]) == [*others]
    assert sorted(name for part in parts for name in part["val"]) == [*others]
    assert opened(root, folds=3).split_by == "test as given, val fold 0 of 3, seed 0"
    assert opened(root).split_by == "val as given, test as given, seed 0"


LAYOUTS = {
    "images/train": ({}, "images/{split}/{name}.png", "masks/{split}/{name}.png"),
    "train/images": ({}, "{split}/images/{name}.png", "{split}/masks/{name}.png"),
    "a pattern": (
        {"images": "x/{a}/{split}_{b}.png", "masks": "y/{a}/{split}_{b}.png"},
        "x/{folder}/{split}_{file}.png",
        "y/{folder}/{split}_{file}.png",
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_patient_in_two_folders_of_splits_is_one_group(tmp_path, layout):
    folder, *paths = LAYOUTS[layout]
    for patient in range(6):
        for split in ("train", "val") if patient else ("test",):
            name = f"p{patient}/s{patient % 2}"
            parts = dict(zip(("folder", "file"), name.split("/"), strict=True))
            for path in paths:
                file = tmp_path / path.format(split=split, name=name, **parts)
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.zeros((3, 5), np.uint8)).save(file)
    for split in ({"group_folders": 1}, {"group_pattern": r"(?:^|/)(p\d)/"}):
        val = []
        for fold in range(5):
            found = ids(opened(tmp_path, split, folder, fold=fold, folds=5))
            assert [name.count("p0") for name in found["test"]] == [1]
            assert len(found["val"]) == 2
            assert len({name[name.index("p") :][:2] for name in found["val"]}) == 1
            val += found["val"]
        assert len({*val}) == 10
        with pytest.raises(UserError, match=r"^the group 'p1' .* has images in .* the lists or fo"):
            opened(tmp_path, split, folder)


def test_classes_where_pixels_count(tmp_path):
    names = [f"n{i}" for i in range(12)]
    save(tmp_path, names, lambda i: (0, 1 + (i % 3 == 0), 0))
    for i, name in enumerate(names):  # class 2 is where nothing counts, but in two images
        field = np.full((3, 5), 255, np.uint8)
        if i % 6:
            field[np.resize([0, 1, 0], (3, 5)) == 1] = 0
        file = tmp_path / "fields" / f"{name}.png"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(field).save(file)
    patterns = {kind: f"{kind}/{{name}}.png" for kind in ("images", "masks")}
    folder = {**patterns, "weight": "fields/{name}.png"}
    for fold in range(2):
        dataset = opened(tmp_path, {"stratify_classes": True}, folder, fold=fold, folds=2)
        labels = [dataset.splits["val"].read(i).label for i in range(6)]
        assert sum(2 in label for label in labels) == 1


@pytest.mark.parametrize("by_class", [False, True])
@pytest.mark.parametrize("folds", [0, 5])
def test_the_classes_of_images_have_their_share(tmp_path, by_class, folds):
    names = [f"n{i:02}" for i in range(40)]
    held = [(0, 2) if i % 8 == 3 else (0, 1) if i % 3 else (0,) for i in range(40)]
    root = tmp_path
    if by_class:
        for k, name in enumerate(CLASSES):
            save(root, [f"{n}_{name}" for n in names], lambda i, k=k: [9 * (k in held[i])])
        save(root, names)
        for n in names:
            (root / f"masks/{n}.png").unlink()
            for name in CLASSES:
                (root / f"images/{n}_{name}.png").unlink()
    else:
        save(root, names, lambda i: [*held[i], 200])
    more = {"by_class": by_class} | ({} if by_class else {"ignore_values": (200,)})
    for fold in range(folds or 1):
        given = {"val_fraction": 0.2, "fold": fold, "folds": folds}
        dataset = opened(root, {"stratify_classes": True}, more, **given)
        val = ids(dataset)["val"]
        assert len(val) == 8
        for kind in set(held):
            wanted = held.count(kind) / 5
            assert abs(sum(held[names.index(name)] == kind for name in val) - wanted) < 1
        assert sum(2 in held[names.index(name)] for name in val) == 1  # of 5


def test_masks_are_read_once_for_their_classes(tmp_path, monkeypatch):
    root = save(tmp_path, "abcdefgh", lambda i: (i % 3,))
    split = {"stratify_classes": True}
    found = ids(opened(root, split, val_fraction=0.4))
    monkeypatch.setattr(rules_of, "follow", lambda *_: 1 / 0)
    assert ids(opened(root, split, val_fraction=0.4)) == found
    save(tmp_path, "a", lambda i: (2, 1, 0))
    with pytest.raises(ZeroDivisionError):
        opened(root, split, val_fraction=0.4)


def test_groups_with_strata(tmp_path):
    names = [f"{'xy'[p % 4 == 0]}{p:02}_{i}" for p in range(40) for i in range(1 + p % 2)]
    root = save(tmp_path, names, lambda i: (0, 1 + (names[i][0] == "y")))
    split = {"group_pattern": r"^(\w\d+)_", "stratify_classes": True}
    for fold in range(4):
        found = ids(opened(root, split, fold=fold, folds=4))
        assert not {name[:3] for name in found["val"]} & {name[:3] for name in found["train"]}
        assert abs(len(found["val"]) - len(names) / 4) <= 2
        count = sum(name[0] == "y" for name in names)
        assert abs(sum(name[0] == "y" for name in found["val"]) - count / 4) <= 1


REFUSED = {
    "no match": (
        {"split": {"group_pattern": r"^p(\d+)_"}},
        r"split\.group_pattern='\^p\(\\\\d\+\)_': 2 of 6 .* names, the first is 'q'",
    ),
    "an empty match": ({"split": {"group_pattern": "x*"}}, "6 of 6 images .* first is 'p1_a'"),
    "no folders": ({"split": {"group_folders": 1}}, "group_folders=1: 6 of 6 images lie in fewer"),
    "no expression": ({"split": {"group_pattern": "("}}, r"group_pattern='\(' is no regular expr"),
    "two groupings": (
        {"split": {"group_pattern": "a", "group_folders": 1}},
        r"split\.group_pattern and config\.data\.split\.group_folders are set; one of them",
    ),
    "no table": ({"split": {"group_column": "p"}}, r"group_column='p' is a column of a table; set"),
    "a table for nothing": ({"split": {"table": "t.csv"}}, r"table='t\.csv' has no effect without"),
    "a name for nothing": ({"split": {"name_column": "x"}}, "name_column='x' has no effect"),
    "a negative depth": ({"split": {"group_folders": -1}}, "group_folders=-1 must be 0 or more"),
    "an unknown key": ({"split": {"groups": "x"}}, r"split\.groups is not a config key; allowed"),
    "one fold": ({"folds": 1}, r"folds=1 must be 2 or more"),
    "many folds": ({"folds": 7}, r"folds=7 is more than the 6 images outside the test split"),
    "a fold too far": ({"fold": 3, "folds": 3}, r"fold=3 must be 0 to 2 with"),
    "a fold of none": ({"fold": 1}, r"fold=1 has no effect without config\.data\.folds"),
    "more folds than groups": (
        {"folds": 4, "split": {"group_pattern": "^."}},
        r"folds=4 is more than the 2 groups by config\.data\.split\.group_pattern='\^\.'",
    ),
    "one group": (
        {"split": {"group_pattern": "p"}, "val_fraction": 0.3, "names": ["p1", "p2"]},
        r"val_fraction=0\.3 cannot be split off 2 images that are 1 group by",
    ),
    "two groups for three splits": (
        {"split": {"group_pattern": "^."}, "folder": {"test_fraction": 0.2}},
        r"val_fraction=0\.1 cannot be split off \d images that are 1 group",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_split_ends_in_one_line(tmp_path, what):
    given, says = REFUSED[what]
    names = given.get("names", ["p1_a", "p1_b", "p2_a", "p3_a", "q", "q2"])
    given = {key: value for key, value in given.items() if key != "names"}
    with pytest.raises(UserError, match=rf"^config\.data\..*{says}") as caught:
        opened(save(tmp_path, names), **given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("folds", [0, 2])
def test_one_image(tmp_path, folds):
    says = "folds=2 is more than the 1 images" if folds else "the val split of .* is empty"
    with pytest.raises(UserError, match=says):
        opened(save(tmp_path, "a"), folds=folds)


def test_a_list_that_divides_a_group_is_refused(tmp_path):
    root = save(tmp_path, ["p1_a", "p1_b", "p2_a", "p3_a"])
    (tmp_path / "test.txt").write_text("p1_b\n")
    split = {"group_pattern": "^(p.)_"}
    says = r"^the group 'p1' by config.data.split.group_pattern=.* such as 'p1_. and 'p1_.'; a"
    with pytest.raises(UserError, match=says.replace("p1_. and", "p1_.' and")):
        opened(root, split)
    (tmp_path / "test.txt").write_text("p1_b\np1_a\n")
    assert ids(opened(root, split))["test"] == ["p1_b", "p1_a"]


def make_pets(root, counts=(5, 8, 3)):
    names = [
        f"{b}_{i}" for b, n in zip(("Cat", "a_dog", "pug"), counts, strict=True) for i in range(n)
    ]
    for name in [*names, "pug_99"]:
        for kind, array in (
            (f"images/{name}.jpg", np.zeros((4, 4, 3), np.uint8)),
            (f"annotations/trimaps/{name}.png", np.ones((4, 4), np.uint8)),
        ):
            (root / kind).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(root / kind)
    for split, part in (("trainval", names), ("test", ["pug_99"])):
        lines = "".join(f"{name} 1 1 1\n" for name in part)
        (root / "annotations" / f"{split}.txt").write_text(lines)
    return names


def test_pets_by_breed(tmp_path):
    names = make_pets(tmp_path)
    given = {"source": "pets", "path": str(tmp_path)}
    default, _ = open_data(**given)
    assert default.split_by == "official test, val 0.1, strata by breed, seed 0"
    val = []
    for fold in range(3):  # each has its share of each breed
        dataset, _ = open_data(**given, fold=fold, folds=3)
        assert dataset.split_by == f"official test, val fold {fold} of 3, strata by breed, seed 0"
        found = ids(dataset)
        assert found["test"] == ["pug_99"]
        for breed, count in (("Cat", 5), ("a_dog", 8), ("pug", 3)):
            part = [name for name in found["val"] if name.rsplit("_", 1)[0] == breed]
            assert abs(len(part) - count / 3) < 1
        val += found["val"]
    assert sorted(val) == sorted(names)
    split = {"group_pattern": r"^(.*)_\d+$"}
    found = ids(open_data(**given, split=split, val_fraction=0.3)[0])  # 5 of 16: the cats
    assert found["val"] == [f"Cat_{i}" for i in range(5)]


def test_records_of_pets(tmp_path):
    pets_set.prepare(tmp_path / "tfds")
    given = {"source": "tfds", "path": str(tmp_path / "tfds"), "tfds": {"verify_checksums": False}}
    val = []
    for fold in range(2):
        found = ids(open_data(**given, fold=fold, folds=2, split={"stratify_classes": True})[0])
        assert len(found["val"]) == len(found["train"]) == 2
        val += found["val"]
    assert len({*val}) == 4
    assert not {*val} & {*found["test"]}


def test_folds_of_drawn_images():
    small = {"train": 7, "val": 3, "test": 2, "size": 8}
    plain, val = open_data(synthetic=small)[0], []
    images = {
        x: plain.splits[s].read(i).image
        for s in plain.splits
        for i, x in enumerate(plain.splits[s].ids)
    }
    for fold in range(3):
        dataset, _ = open_data(synthetic=small, fold=fold, folds=3)
        assert dataset.split_by == f"val fold {fold} of 3, seed 0"
        found = ids(dataset)
        assert found["test"] == ["test_00000", "test_00001"]
        assert sorted(found["train"] + found["val"]) == sorted(
            [*plain.splits["train"].ids, *plain.splits["val"].ids]
        )
        for source in dataset.splits.values():
            for index, name in enumerate(source.ids):
                sample = source.read(index)
                assert sample.id == name
                np.testing.assert_array_equal(sample.image, images[name])
        val += found["val"]
    assert len(val) == len({*val}) == 10
    assert open_data(synthetic=small, folds=3, split_seed=1)[0].splits["val"].ids != val[:4]
    with pytest.raises(
        UserError, match=r"^config\.data\.split\.group_pattern='_\(\.\)' is for .*'synth"
    ):
        open_data(synthetic=small, split={"group_pattern": "_(.)"}, folds=2)
