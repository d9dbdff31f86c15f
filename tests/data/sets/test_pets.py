import numpy as np
import pytest
from PIL import Image

from unet_jax.data.sets import pets
from unet_jax.errors import UserError
from unet_jax.metrics.views import View, view_confusion

BREEDS = {"Abyssinian": 20, "german_shorthaired": 30, "yorkshire_terrier": 10}
TRIMAP = np.array([[1, 2, 3], [3, 3, 1]], np.uint8)


@pytest.fixture
def root(tmp_path):
    """Makes the official layout with 60 + 6 images, whose lists are not in order."""
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    (tmp_path / "annotations" / "trimaps").mkdir(parents=True)
    # As in the original, numbers sort differently as texts: _2 comes after _10.
    names = [f"{breed}_{i}" for breed, count in BREEDS.items() for i in range(count + 2)]
    test = [name for name in names if name.endswith(("_0", "_1"))]
    for name in names:
        pixels = rng.integers(0, 256, (2, 3, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{name}.jpg")
        Image.fromarray(TRIMAP).save(tmp_path / "annotations" / "trimaps" / f"{name}.png")
    (tmp_path / "annotations" / "trimaps" / "._Abyssinian_0.png").write_text("of macOS")
    (tmp_path / "images" / "Abyssinian_100.mat").write_text("as in the original")
    (tmp_path / "images" / "unlisted_1.jpg").write_text("no list names it")
    trainval = [name for name in names if name not in test]
    for split, members in (("trainval", trainval), ("test", test)):
        lines = [f"{name} 1 1 1\n" for name in rng.permutation(members)]
        (tmp_path / "annotations" / f"{split}.txt").write_text("#Image CLASS-ID\n" + "".join(lines))
    return tmp_path


def ids(split):
    return [split.pairs.ids[index] for index in split.indices]


def breed(name):
    return name.rsplit("_", 1)[0]


def test_splits_are_the_official_lists_in_order_of_names(root):
    dataset = pets.open_pets(str(root), 0.1, 0)
    train, val, test = (ids(dataset.splits[name]) for name in ("train", "val", "test"))
    assert test == sorted(f"{name}_{i}" for name in BREEDS for i in (0, 1))
    everything = sorted(f"{name}_{i}" for name in BREEDS for i in range(2, BREEDS[name] + 2))
    assert sorted(train + val) == everything
    assert train == sorted(train)
    assert val == sorted(val)


def test_val_has_the_same_share_of_every_breed(root):
    val = ids(pets.open_pets(str(root), 0.1, 0).splits["val"])
    counts = {name: sum(breed(member) == name for member in val) for name in BREEDS}
    assert counts == {"Abyssinian": 2, "german_shorthaired": 3, "yorkshire_terrier": 1}


def test_val_depends_on_the_seed_alone(root):
    val = ids(pets.open_pets(str(root), 0.1, 0).splits["val"])
    assert ids(pets.open_pets(str(root), 0.1, 1).splits["val"]) != val
    file = root / "annotations" / "trainval.txt"
    file.write_text("\n".join(sorted(file.read_text().splitlines())))
    assert ids(pets.open_pets(str(root), 0.1, 0).splits["val"]) == val


def test_trimaps_become_pet_background_and_border(root):
    dataset = pets.open_pets(str(root), 0.1, 0)
    assert dataset.class_names == ("pet", "background", "border")
    for split in dataset.splits.values():
        sample = split.read(len(split) - 1)
        assert sample.id == ids(split)[-1]
        np.testing.assert_array_equal(sample.label, TRIMAP - 1)
        assert split.label_map == {1: 0, 2: 1, 3: 2}
        expected = Image.open(root / "images" / f"{sample.id}.jpg")
        np.testing.assert_array_equal(sample.image, np.asarray(expected))


@pytest.mark.parametrize("file", ["images/{}.jpg", "annotations/trimaps/{}.png"])
def test_missing_files_are_counted(root, file):
    for name in ("Abyssinian_3", "german_shorthaired_7"):
        (root / file.format(name)).unlink()
    with pytest.raises(UserError, match=r"^2 files that .*/annotations/trainval\.txt names"):
        pets.open_pets(str(root), 0.1, 0)


@pytest.mark.parametrize("path", ["", "elsewhere"])
def test_a_directory_without_the_archives_is_named(root, path):
    says = rf"^config\.data\.path='{path}' holds no annotations/trimaps/; .*source='folder'\.$"
    with pytest.raises(UserError, match=says):
        pets.open_pets(path, 0.1, 0)


def test_a_missing_list_is_named(root):
    (root / "annotations" / "test.txt").unlink()
    with pytest.raises(UserError, match=r"annotations/test\.txt cannot be read"):
        pets.open_pets(str(root), 0.1, 0)


class Records(list):
    """Stands for the records of the prepared data set."""

    @property
    def names(self):
        return tuple(record["name"] for record in self)


def test_records_give_the_same_examples_as_files(root, monkeypatch):
    from unet_jax.data.sets import tfds_pets

    def open_pets(path, *, verify_checksums):
        assert (path, verify_checksums) == ("somewhere", False)
        records = {}
        for split in ("trainval", "test"):
            lines = (root / "annotations" / f"{split}.txt").read_text().splitlines()
            names = sorted((line.split()[0] for line in lines[1:]), key=lambda n: n[::-1])
            records[split] = Records(
                {
                    "name": name,
                    "image": (root / "images" / f"{name}.jpg").read_bytes(),
                    "mask": (root / "annotations" / "trimaps" / f"{name}.png").read_bytes(),
                }
                for name in names
            )
        return records

    monkeypatch.setattr(tfds_pets, "open_pets", open_pets)
    files = pets.open_pets(str(root), 0.1, 0)
    records = pets.open_tfds("somewhere", 0.1, 0, verify_checksums=False)
    assert (records.class_names, records.views) == (files.class_names, files.views)
    for name, split in files.splits.items():
        assert ids(records.splits[name]) == ids(split)
        for index in range(len(split)):
            one, other = split.read(index), records.splits[name].read(index)
            assert one.id == other.id
            np.testing.assert_array_equal(one.image, other.image)
            np.testing.assert_array_equal(one.label, other.label)
        stamps = {records.splits[name].pairs.stamp(i) for i in records.splits[name].indices}
        assert len(stamps) == len(split)


@pytest.mark.parametrize("view", pets.VIEWS, ids=lambda view: view.name)
def test_views_count_the_border_as_pet_or_not_at_all(view: View):
    rng = np.random.default_rng(0)
    truth, prediction = rng.integers(0, 3, (2, 500))
    confusion, expected = np.zeros((3, 3), np.int64), np.zeros((2, 2), np.int64)
    for t, p in zip(truth, prediction, strict=True):
        confusion[t, p] += 1
        pet = {0: True, 1: False, 2: True}
        if view.name == "border_ignored" and t == 2:
            continue
        expected[0 if pet[t] else 1, 0 if pet[p] else 1] += 1
    np.testing.assert_array_equal(view_confusion(confusion, view), expected)
    assert view.class_names == ("pet", "background")
