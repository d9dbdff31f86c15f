"""Folders with a mask for every class of an image."""

import unicodedata

import numpy as np
import pytest
from PIL import Image

from unet_jax.data.base import IGNORE
from unet_jax.data.check import check as check_split
from unet_jax.data.folder import open_folder
from unet_jax.errors import UserError
from unet_jax.runs import splits

CLASSES = ("disk", "ring", "é x")
IMAGES = {"a": (5, 7), "sub/b": (1, 3), "c": (4, 4)}
VALUES = (0, 1, 128, 255)  # all but 0 are on


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("UNET_JAX_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    for name, size in IMAGES.items():
        save(tmp_path / "data/images" / f"{name}.png", rng.integers(0, 256, (*size, 3), np.uint8))
        for class_name in CLASSES:
            mask = rng.choice(np.array(VALUES, np.uint8), size)
            save(tmp_path / "data/masks" / f"{name}_{class_name}.png", mask)
    return tmp_path / "data"


def save(file, array):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(file)


def read(file):
    with Image.open(file) as image:
        return np.asarray(image)


def opened(root, class_names=CLASSES, **given):
    given = {"by_class": True, "class_names": class_names, **given}
    return open_folder(str(root), 0.4, 0, **given)


def samples(dataset):
    found = {}
    for split in dataset.splits.values():
        for index in range(len(split)):
            sample = split.read(index)
            assert split.shape(index) == sample.label.shape[:2]
            found[sample.id] = sample
    return found


def test_every_value_but_0_is_on(root):
    dataset = opened(root)
    assert dataset.by_class
    assert dataset.class_names == CLASSES
    found = samples(dataset)
    assert set(found) == set(IMAGES)
    for name, size in IMAGES.items():
        label = found[name].label
        assert (label.dtype, label.shape) == (np.uint8, (*size, 3))
        for k, class_name in enumerate(CLASSES):
            mask = read(root / "masks" / f"{name}_{class_name}.png")
            np.testing.assert_array_equal(label[..., k], mask > 0)
        np.testing.assert_array_equal(found[name].image, read(root / "images" / f"{name}.png"))
    split = dataset.splits["train"]
    part = split.read(0, (slice(0, 1), slice(1, 3)))
    np.testing.assert_array_equal(part.label, split.read(0).label[:1, 1:3])


def test_values_to_ignore_and_a_suffix(root):
    for file in list((root / "masks").rglob("*.png")):
        file.rename(file.with_name(f"{file.stem}_gt.png"))
    found = samples(opened(root, ignore_values=(128,), mask_suffix="_gt"))
    mask = read(root / "masks" / "a_ring_gt.png")
    expected = np.where(mask == 128, IGNORE, mask > 0)
    np.testing.assert_array_equal(found["a"].label[..., 1], expected)


def test_names_of_one_spelling_are_one(root):
    (root / "masks" / "a_é x.png").rename(
        root / "masks" / unicodedata.normalize("NFD", "a_é x.png")
    )
    assert set(samples(opened(root))) == set(IMAGES)


def test_one_class_is_enough(root):
    for class_name in CLASSES[1:]:
        for name in IMAGES:
            (root / "masks" / f"{name}_{class_name}.png").unlink()
    assert samples(opened(root, ("disk",)))["a"].label.shape == (5, 7, 1)


@pytest.mark.parametrize(
    ("change", "given", "says"),
    [
        (
            lambda masks: (masks / "sub" / "b_ring.png").unlink(),
            {},
            r"^1 of the 9 masks of 3 images are missing, the first is that of class 'ring' of .*"
            r"images/sub/b\.png: add sub/b_ring\.png to the masks, with 0 everywhere where",
        ),
        (
            lambda masks: (masks / "a_ring.png").rename(masks / "a_rings.png"),
            {},
            r"^1 of the 9 masks .* class 'ring' of .*images/a\.png: add a_ring\.png",
        ),
        (
            lambda masks: save(masks / "a_cross.png", np.zeros((5, 7), np.uint8)),
            {},
            r"^1 of 10 masks are of no image or of no class, the first is .*a_cross\.png; with con",
        ),
        (None, {"label_map": ((0, 0),)}, r"label_map=\(\(0, 0\),\) has no effect with"),
        (None, {"class_names": ("disk", "a/b")}, r"class_names has 'a/b', which cannot be a part"),
        (None, {"class_names": ("disk", "")}, r"class_names has '', which cannot be"),
        (None, {"class_names": ()}, r"class_names=\(\) must be 1 to 254 different names"),
        (None, {"ignore_values": (65536,)}, "ignore_values has 65536"),
    ],
)
def test_what_does_not_fit(root, change, given, says):
    if change:
        change(root / "masks")
    with pytest.raises(UserError, match=says) as error:
        opened(root, **given)
    assert "\n" not in str(error.value)


def test_a_mask_of_two_images(tmp_path):
    for name in ("a", "a_b"):
        save(tmp_path / "images" / f"{name}.png", np.zeros((2, 2, 3), np.uint8))
    for name in ("a_c", "a_b_c", "a_b_b_c"):
        save(tmp_path / "masks" / f"{name}.png", np.zeros((2, 2), np.uint8))
    says = r"a_b_c\.png would be the mask of class 'b_c' of a and of class 'c' of a_b; rename one"
    with pytest.raises(UserError, match=says):
        opened(tmp_path, ("c", "b_c"))


def test_the_check_reads_every_mask(root):
    dataset = opened(root)
    for name, split in dataset.splits.items():
        check_split(split, name)
    # Each class has a colour of its own: nothing is compared.
    for class_name in CLASSES:
        image = Image.fromarray(np.ones((5, 7), np.uint8))
        image.putpalette(bytes([0, 0, 0, len(class_name), 7, 7]))
        image.save(root / "masks" / f"a_{class_name}.png")
    for name, split in dataset.splits.items():
        check_split(split, name)
    save(root / "masks" / "a_ring.png", np.zeros((5, 6), np.uint8))
    [(name, split)] = [(n, s) for n, s in dataset.splits.items() if "a" in s.ids]
    with pytest.raises(UserError, match=r"a\.png is 5x7 .* but its mask .*a_ring\.png is 5x6"):
        check_split(split, name)
    with pytest.raises(UserError, match="no pixel of the train split's 6 masks counts"):
        check_split(opened(root.parent / "data", ignore_values=VALUES).splits["train"], "train")


def test_a_change_of_any_mask_is_a_change(root):
    def prints():
        source = opened(root).splits["train"]
        return dict(zip(source.ids, splits.fingerprints(source, "train"), strict=True))

    before = prints()
    name = next(iter(before))
    for class_name in CLASSES:
        save(root / "masks" / f"{name}_{class_name}.png", np.full(IMAGES[name], 9, np.uint8))
        after = prints()
        assert after[name] != before[name]
        assert {**after, name: ""} == {**before, name: ""}
        before = after
