import unicodedata

import numpy as np
import pytest
from PIL import Image
from support.encoded import SHOWN, jpeg

from unet_jax.data.base import IGNORE
from unet_jax.data.folder import open_folder
from unet_jax.errors import UserError

NAMES = tuple(f"{group}/n{i:02}" for group in ("a", "b") for i in range(10))
CLASSES = ("sky", "sea")
MASK = np.array([[0, 1, 1], [1, 0, 200]], np.uint8)


def save(file, array):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(file)


def fill(root, names=NAMES, images="images", masks="masks", suffix="", mask=MASK):
    for number, name in enumerate(names):
        save(root / images / f"{name}.png", np.full((2, 3, 3), number, np.uint8))
        save(root / masks / f"{name}{suffix}.png", mask)
    return str(root)


def opened(path, val_fraction=0.2, split_seed=0, class_names=CLASSES, **given):
    return open_folder(path, val_fraction, split_seed, class_names=class_names, **given)


def ids(split):
    return [split.pairs.ids[index] for index in split.indices]


def test_images_go_with_their_masks(tmp_path):
    root = fill(tmp_path, mask=MASK % 200)
    dataset = opened(root)
    assert dataset.class_names == CLASSES
    assert dataset.views == ()
    assert sorted(dataset.splits) == ["train", "val"]
    for split in dataset.splits.values():
        assert len(split)
        for index in range(len(split)):
            sample = split.read(index)
            assert sample.id == ids(split)[index]
            np.testing.assert_array_equal(sample.image, NAMES.index(sample.id))
            assert sample.image.shape == (2, 3, 3)
            assert sample.label.dtype == np.uint8
            np.testing.assert_array_equal(sample.label, MASK % 200)


def test_other_folders_and_a_suffix_of_the_masks(tmp_path):
    root = fill(tmp_path, images="photos", masks="labels/v2", suffix="_mask", mask=MASK % 200)
    (tmp_path / "labels/v2/a/n00_old.png").write_text("not a mask, for it lacks the suffix")
    dataset = opened(root, images="photos", masks="labels/v2", mask_suffix="_mask")
    assert sorted(ids(dataset.splits["train"]) + ids(dataset.splits["val"])) == sorted(NAMES)
    files = dataset.splits["train"].pairs.files[3]
    assert [file.relative_to(tmp_path).as_posix() for file in files] == [
        "photos/a/n03.png",
        "labels/v2/a/n03_mask.png",
    ]


def test_shares(tmp_path):
    root = fill(tmp_path)
    dataset = opened(root, 0.25, test_fraction=0.2)
    sizes = {name: len(split) for name, split in dataset.splits.items()}
    assert sizes == {"test": 4, "val": 4, "train": 12}  # val: a quarter of what test has left
    together = [name for split in dataset.splits.values() for name in ids(split)]
    assert sorted(together) == sorted(NAMES)
    again, other = (opened(root, 0.25, seed, test_fraction=0.2) for seed in (0, 1))
    for name, split in dataset.splits.items():
        assert ids(split) == sorted(ids(split))
        assert ids(again.splits[name]) == ids(split)
        assert ids(other.splits[name]) != ids(split)


def test_lists_of_all_splits(tmp_path):
    root = fill(tmp_path)
    lists = {"train": ["b/n01", "a/n05", "a/n00"], "val": ["b/n02"], "test": ["a/n01", "a/n09"]}
    for name, names in lists.items():
        (tmp_path / f"{name}.txt").write_text("\n".join(names))
    splits = opened(root, test_fraction=0.5).splits
    assert {name: ids(split) for name, split in splits.items()} == lists


def write_lists(folder, encoding="utf-8", **lists):
    folder.mkdir(parents=True, exist_ok=True)
    for split, text in lists.items():
        (folder / f"{split}.txt").write_text(text, encoding=encoding)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_names_in_lists_are_whole_lines_with_or_without_suffix(tmp_path, encoding, newline):
    names = ["scan", "scan 01", "scan 02", "v1.2", "a b/c d", "#1", "x", "y"]
    root = fill(tmp_path, names)
    train = ["scan 01.png", "./a b/c d", "# no name", "v1.2.png", "#1"]
    write_lists(
        tmp_path, encoding, train=newline.join(train), val=newline.join(["scan 02", "x", ""])
    )
    splits = opened(root).splits
    assert ids(splits["train"]) == ["scan 01", "a b/c d", "v1.2", "#1"]
    assert ids(splits["val"]) == ["scan 02", "x"]
    for split in splits.values():
        for index, name in enumerate(ids(split)):
            np.testing.assert_array_equal(split.read(index).image, names.index(name))


@pytest.mark.parametrize("images", ["NFC", "NFD"])
@pytest.mark.parametrize("masks", ["NFC", "NFD"])
@pytest.mark.parametrize("listed", ["NFC", "NFD"])
def test_composed_and_decomposed_accents_are_one_name(tmp_path, images, masks, listed):
    names = ["Übung/é", "ñ", "c", "d"]
    for number, name in enumerate(names):
        image = unicodedata.normalize(images, f"images/{name}.png")
        save(tmp_path / image, np.full((2, 3, 3), number, np.uint8))
        save(tmp_path / unicodedata.normalize(masks, f"masks/{name}.png"), MASK % 200)
    write_lists(tmp_path, val=unicodedata.normalize(listed, "Übung/é.png\nñ\n"))
    splits = opened(str(tmp_path)).splits
    assert ids(splits["val"]) == ["Übung/é", "ñ"]
    assert splits["val"].read(0).image[0, 0, 0] == 0
    assert ids(splits["train"]) == ["c", "d"]


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ("a/n01\na/n01.png", r"'a/n01\.png' is in .*val\.txt and in .*val\.txt; leave it in one"),
        ("n01", r"names 'n01', but there is no such image; .* one name a line, .*suffix"),
        ("a/n01.jpg", r"names 'a/n01\.jpg', but there is no such image"),
        ("a/n01 1 2", r"names 'a/n01 1 2', but there is no such image"),
        ("../images/a/n01", r"names '\.\./images/a/n01', which leads out of the folder"),
        ("/a/n01", r"names '/a/n01', which leads out"),
    ],
)
def test_names_that_lists_may_not_hold(tmp_path, names, says):
    root = fill(tmp_path)
    write_lists(tmp_path, val=names)
    with pytest.raises(UserError, match=rf"^({tmp_path}/val\.txt )?{says}"):
        opened(root)


def test_a_name_that_may_mean_two_images(tmp_path):
    root = fill(tmp_path, ["a", "a.png", "b"])  # a.png and a.png.png
    write_lists(tmp_path, val="a.png\n")
    with pytest.raises(UserError, match=r"names 'a\.png', but there are two such images"):
        opened(root)
    write_lists(tmp_path, val="a.png.png\n")
    assert ids(opened(root).splits["val"]) == ["a.png"]


@pytest.mark.parametrize("place", ["below", "absolute", "home", "beside"])
def test_lists_may_lie_elsewhere(tmp_path, monkeypatch, place):
    root = fill(tmp_path / "data")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    folder, lists = {
        "below": (tmp_path / "data/folds/0", "folds/0"),
        "absolute": (tmp_path / "far", str(tmp_path / "far")),
        "home": (tmp_path / "home/mine", "~/mine"),
        "beside": (tmp_path / "near", "../near"),
    }[place]
    write_lists(folder, train="a/n01\nb/n02", val="a/n03")
    write_lists(tmp_path / "data", val="b/n09\n")  # then not asked
    splits = opened(root, lists=lists).splits
    assert {name: ids(split) for name, split in splits.items()} == {
        "train": ["a/n01", "b/n02"],
        "val": ["a/n03"],
    }
    (folder / "train.txt").unlink()
    (folder / "val.txt").unlink()
    says = rf"^config\.data\.folder\.lists='{lists}': .* holds no train\.txt, val\.txt, test\.txt"
    with pytest.raises(UserError, match=says):
        opened(root, lists=lists)


def test_the_layout_of_pets_is_an_ordinary_folder(tmp_path):
    for index in range(4):
        save(tmp_path / f"images/n{index}.jpg", np.zeros((2, 3, 3), np.uint8))
        save(tmp_path / f"annotations/trimaps/n{index}.png", np.full((2, 3), 2, np.uint8))
    with pytest.raises(
        UserError, match=r"holds Oxford-IIIT Pet; set config\.data\.source='pets'\.$"
    ):
        open_folder(str(tmp_path), 0.5, 0)
    given = {"masks": "annotations/trimaps", "label_map": ((2, 1),), "class_names": ("a", "b")}
    dataset = open_folder(str(tmp_path), 0.5, 0, **given)
    assert dataset.class_names == ("a", "b")
    np.testing.assert_array_equal(dataset.splits["train"].read(0).label, np.ones((2, 3)))


def test_what_no_split_has_is_said_once(tmp_path, capsys):
    root = fill(tmp_path, suffix="_m")
    save(tmp_path / "masks/a/n00_old.png", MASK)
    write_lists(tmp_path, train="a/n01\n", val="a/n02\n")
    for _ in range(2):
        splits = opened(root, mask_suffix="_m").splits
    assert capsys.readouterr().out.splitlines() == [
        f"{tmp_path}/masks: 1 without config.data.folder.mask_suffix='_m' passed over, such as "
        "n00_old.png",
        f"{tmp_path}/images: 18 in no list passed over, such as a/n00",
    ]
    assert splits["train"].used == {"a/n01", "a/n02"}


def test_other_kinds_of_files_are_pairs_too(tmp_path):
    for number, suffix in enumerate((".tif", ".bmp", ".gif", ".webp", ".png")):
        save_as(tmp_path / f"images/{number}{suffix}", np.full((2, 3, 3), 50 * number, np.uint8))
        save_as(tmp_path / f"masks/{number}{suffix}", MASK % 200)
    splits = opened(str(tmp_path)).splits
    samples = [split.read(index) for split in splits.values() for index in range(len(split))]
    assert len(samples) == 5
    for sample in samples:
        np.testing.assert_array_equal(sample.image, 50 * int(sample.id))
        np.testing.assert_array_equal(sample.label, MASK % 200)


def save_as(file, array):
    file.parent.mkdir(parents=True, exist_ok=True)
    options = {"lossless": True} if file.suffix == ".webp" else {}
    opened = Image.fromarray(array)
    if file.suffix == ".gif" and array.ndim == 2:  # Pillow writes other indices for grey ones
        opened.putpalette([0, 0, 0, 255, 255, 255])
    opened.save(file, **options)


@pytest.mark.parametrize("orientation", SHOWN)
@pytest.mark.parametrize("size", [(32, 32), (24, 40)])
def test_a_mask_drawn_on_what_viewers_show_lies_on_the_object(tmp_path, orientation, size):
    shown, mask = np.zeros((*size, 3), np.uint8), np.zeros(size, np.uint8)
    shown[:8, 8:16], mask[:8, 8:16] = 200, 1
    turns = [turn(shown) for turn in SHOWN.values()]
    (stored,) = [t for t in turns if np.array_equal(SHOWN[orientation](t), shown)][:1]
    for name in "ab":
        save(tmp_path / f"masks/{name}.png", mask)
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / f"images/{name}.jpg").write_bytes(jpeg(stored, orientation))
    split = opened(str(tmp_path), 0.5).splits["train"]
    sample = split.read(0)
    assert split.shape(0) == sample.image.shape[:2] == size
    np.testing.assert_allclose(sample.image[sample.label == 1], 200, atol=8)
    np.testing.assert_allclose(sample.image[sample.label == 0], 0, atol=8)


@pytest.mark.parametrize("masks", ["images", "./images", "images/", "link"])
def test_images_are_not_their_own_masks(tmp_path, masks):
    root = fill(tmp_path, masks="images")
    (tmp_path / "link").symlink_to("images")
    says = rf"^config\.data\.folder\.images='images' and .*masks='{masks}' are one folder"
    with pytest.raises(UserError, match=says):
        opened(root, masks=masks)


def test_images_that_no_list_names_are_for_training(tmp_path):
    root = fill(tmp_path)
    (tmp_path / "val.txt").write_text("b/n02\na/n03\n")
    (tmp_path / "test.txt").write_text("b/n04\n")
    splits = opened(root, test_fraction=0.5).splits
    listed = ["b/n02", "a/n03", "b/n04"]
    assert ids(splits["val"]) + ids(splits["test"]) == listed
    assert ids(splits["train"]) == [name for name in NAMES if name not in listed]


def test_the_share_comes_from_the_list_of_training(tmp_path):
    root = fill(tmp_path)
    names = ["b/n01", "b/n00", "a/n05", "a/n07", "a/n06"]
    (tmp_path / "train.txt").write_text("\n".join(names))
    splits = opened(root).splits
    assert sorted(splits) == ["train", "val"]
    assert len(splits["val"]) == 1
    assert sorted(ids(splits["train"]) + ids(splits["val"])) == sorted(names)
    assert ids(splits["train"]) == [n for n in names if n not in ids(splits["val"])]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"ignore_values": (200,)}, {0: 0, 1: 1, 200: IGNORE}),
        ({"label_map": ((0, 1), (1, 0), (200, 1))}, {0: 1, 1: 0, 200: 1}),
        ({"label_map": ((0, 1), (1, 0)), "ignore_values": (200,)}, {0: 1, 1: 0, 200: IGNORE}),
        ({"label_map": ((0, 1),), "ignore_values": (1, 200)}, {0: 1, 1: IGNORE, 200: IGNORE}),
    ],
)
def test_label_map_and_ignored_values(tmp_path, given, expected):
    split = opened(fill(tmp_path), **given).splits["train"]
    label = split.read(0).label
    for pixel in np.ndindex(MASK.shape):
        assert label[pixel] == expected[MASK[pixel]]
    assert split.label_map == expected


def test_a_value_that_no_map_names_is_not_taken_for_a_class(tmp_path):
    split = opened(fill(tmp_path)).splits["train"]
    assert split.label_map == {0: 0, 1: 1}  # so that the check of masks finds 200
    assert split.read(0).label[1, 2] == IGNORE


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"label_map": ((0, 2),)}, r"label_map has \(0, 2\).*class id 0 to 1"),
        ({"label_map": ((65536, 0),)}, r"label_map has \(65536, 0\).*mask value 0 to 65535"),
        ({"label_map": ((0, 0, 0),)}, r"label_map has \(0, 0, 0\)"),
        ({"label_map": (0, 1)}, "label_map has 0;"),
        ({"label_map": (("0", 1),)}, r"label_map has \('0', 1\)"),
        ({"label_map": ((1.0, 1),)}, r"label_map has \(1\.0, 1\)"),
        ({"label_map": ((0, True),)}, r"label_map has \(0, True\)"),
        (
            {"label_map": ((0, 0), (7, 1), (7, 0))},
            "label_map gives the mask value 7 to class 0 and it is in class 1 too",
        ),
        (
            {"label_map": ((0, 0), (7, 1), (7, 1))},
            "label_map gives the mask value 7 to class 1 and it is in class 1 too",
        ),
        (
            {"label_map": ((0, 0), (255, 1)), "ignore_values": (9, 255)},
            r"label_map gives the mask value 255 to class 1 and it is in config\.data\.folder\.ign",
        ),
        ({"ignore_values": (0.0,)}, r"ignore_values has 0\.0.*0 to 65535"),
        ({"ignore_values": (65536,)}, "ignore_values has 65536.*0 to 65535"),
        ({"ignore_values": ("a",)}, "ignore_values has 'a'.*0 to 65535"),
        ({"class_names": ("one",)}, r"class_names=\('one',\) must be 2 to 254 different"),
        ({"class_names": ("one", "one")}, "class_names=.* different"),
        ({"class_names": (1, 2)}, r"class_names=\(1, 2\)"),
        ({"class_names": tuple(map(str, range(255)))}, "class_names="),
        ({"test_fraction": 1.0}, r"test_fraction=1\.0 must be in \[0, 1\)"),
        ({"test_fraction": -0.1}, r"test_fraction=-0\.1"),
    ],
)
def test_values_that_do_not_fit(tmp_path, given, says):
    with pytest.raises(UserError, match=rf"config\.data\.folder\.{says}"):
        opened(fill(tmp_path), **given)


def test_254_classes_are_the_most(tmp_path):
    names = tuple(map(str, range(254)))
    assert opened(fill(tmp_path), class_names=names).class_names == names


def test_images_without_masks_are_counted(tmp_path):
    root = fill(tmp_path)
    for name in NAMES[3:5]:
        (tmp_path / "masks" / f"{name}.png").unlink()
    with pytest.raises(UserError, match=r"2 of 20 images have no mask.*a/n03\.png"):
        opened(root)


def test_masks_without_images_are_counted(tmp_path):
    root = fill(tmp_path)
    (tmp_path / "images" / f"{NAMES[3]}.png").unlink()
    with pytest.raises(UserError, match=r"1 of 20 masks have no image.*a/n03\.png"):
        opened(root)


def test_a_path_in_the_home_directory(tmp_path, monkeypatch):
    fill(tmp_path / "mine")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(opened("~/mine").splits["train"]) == 16


@pytest.mark.parametrize("path", ["", "nowhere"])
def test_a_missing_directory(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"config.data.path='{path}' is not a directory"):
        opened(path)
