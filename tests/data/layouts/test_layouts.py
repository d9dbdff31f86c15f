"""Miniatures of downloads: each is recognised, and gives the labels that a loop works out."""

import itertools
import shutil

import numpy as np
import pytest
from support import miniatures
from support.miniatures import save
from support.opening import opened

from unet_jax.data.base import IGNORE
from unet_jax.data.folder import open_folder
from unet_jax.data.layouts import LAYOUTS
from unet_jax.data.layouts.cityscapes import LABEL_IDS
from unet_jax.errors import UserError

NAMES = ("background", "object")
DRIVE = {
    "class_names": ("background", "vessel"),
    "label_map": (((0, 0, 0), 0), ((255, 255, 255), 1)),
    "images": "{split}/images/{name}_{split}.tif",
    "masks": "{split}/1st_manual/{name}_manual1.gif",
    "weight": "{split}/mask/{name}_{split}_mask.gif",
}


def ids(dataset):
    return {name: list(split.ids) for name, split in dataset.splits.items()}


def assert_labels(dataset, masks, table):
    """Compares every label with what a loop over its mask's pixels looks up."""
    read = 0
    for split in dataset.splits.values():
        for index, name in enumerate(split.ids):
            sample, mask = split.read(index), masks[name]
            assert sample.label.shape == mask.shape == sample.image.shape[:2] == split.shape(index)
            for y in range(mask.shape[0]):
                for x in range(mask.shape[1]):
                    assert sample.label[y, x] == table(int(mask[y, x])), (name, y, x)
            read += 1
    return read


def test_camvid(root, capsys):
    masks = miniatures.camvid(root)
    dataset = opened(root)
    assert [len(split) for split in dataset.splits.values()] == [2, 1, 1]
    assert ids(dataset)["test"] == ["test/0006R0_f00003"]
    assert dataset.class_names[:3] == ("sky", "building", "pole")
    assert assert_labels(dataset, masks, lambda v: IGNORE if v == 11 else v) == 4
    said = f"{root}: read as config.data.folder.layout='camvid' (train/NAME.png, "
    assert capsys.readouterr().out.replace("\n", " ").startswith(said)


def test_trainannot_of_others_is_no_camvid(root):
    miniatures.camvid(root)
    for file in root.rglob("0006R0_*"):
        file.rename(file.with_name(file.name.replace("0006R0_", "mine")))
    assert opened(root, class_names=tuple("abcdefghijkl")).class_names[0] == "a"


def test_fields_of_view(root):
    masks = miniatures.drive(root)
    dataset = opened(root, **DRIVE)
    assert {name: len(names) for name, names in ids(dataset).items()} == {
        "train": 1,
        "val": 1,
        "test": 2,
    }
    assert assert_labels(dataset, masks, {0: 0, 255: 1, -1: IGNORE}.get) == 4
    split = dataset.splits["test"]
    part = split.read(0, (slice(0, 2), slice(1, 3)))
    np.testing.assert_array_equal(part.label, split.read(0).label[0:2, 1:3])


def test_values_outside_the_field_of_view_do_not_matter(root):
    for name in "ab":
        save(root / f"images/{name}.png", np.zeros((1, 3, 3)))
        save(root / f"masks/{name}.png", [[0, 1, 9]])
        save(root / f"view/{name}.png", [[255, 255, 0]])
    given = {"images": "images/{name}.png", "masks": "masks/{name}.png"}
    dataset = opened(root, class_names=NAMES, weight="view/{name}.png", **given)
    assert dataset.splits["train"].read(0).label.tolist() == [[0, 1, IGNORE]]
    with pytest.raises(UserError, match=r"no class: 9"):
        opened(root, class_names=NAMES, **given)


def test_one_weight_for_all_images(root):
    masks = {}
    for number in range(4):
        image, masks[str(number)] = np.zeros((3, 5, 3)), np.eye(3, 5, dtype=np.uint8)
        save(root / f"a/{number}_x.png", image)
        save(root / f"b/{number}.png", masks[str(number)])
    view = np.zeros((3, 5, 3))
    view[1:, :4] = (9, 9, 0)  # a colour that is not black
    save(root / "view.png", view)
    given = {"images": "a/{name}_x.png", "masks": "b/{name}.*", "weight": "view.png"}
    dataset = opened(root, class_names=NAMES, **given)
    for name, mask in masks.items():
        masks[name] = np.where(view[..., 0] == 9, mask.astype(int), -1)
    assert assert_labels(dataset, masks, {0: 0, 1: 1, -1: IGNORE}.get) == 4
    save(root / "view.png", np.arange(15).reshape(3, 5))
    with pytest.raises(UserError, match=r"view\.png holds more than black.*without soft edges"):
        opened(root, class_names=NAMES, **given)
    save(root / "view.png", np.zeros((3, 4)))
    with pytest.raises(
        UserError, match=r"view\.png is 3x4 but the mask .*b/.\.png is 3x5; .*weight"
    ):
        opened(root, class_names=NAMES, **given)
    save(root / "view.png", np.zeros((3, 5)))
    with pytest.raises(
        UserError, match=r"no pixel .* counts.* or black in config.data.folder.weig"
    ):
        opened(root, class_names=NAMES, **given)


@pytest.mark.parametrize("inner", [True, False])
@pytest.mark.parametrize(
    ("images", "folder"), [("images", "masks"), ("Image", "label"), ("imgs", "GT")]
)
def test_split_folders(root, inner, images, folder):
    masks = miniatures.split_folders(root, inner, images, folder)
    dataset = opened(root, class_names=NAMES)
    assert ids(dataset) == {"train": ["train/0", "train/1"], "val": ["valid/2"], "test": ["test/3"]}
    assert assert_labels(dataset, masks, lambda v: v) == 4


def test_a_test_split_without_masks_is_passed_over(root, capsys):
    miniatures.split_folders(root, True, "images", "masks")
    shutil.rmtree(root / "test/masks")
    assert list(opened(root, class_names=NAMES).splits) == ["train", "val"]
    assert "1 images without a folder of masks passed over" in capsys.readouterr().out.replace(
        "\n", " "
    )


def test_lists_count_more_than_folders_of_splits(root):
    miniatures.split_folders(root, False, "images", "masks")
    (root / "val.txt").write_text("train/1\n")
    assert ids(opened(root, class_names=NAMES)) == {
        "val": ["train/1"],
        "train": ["test/3", "train/0", "valid/2"],
    }


def test_voc(root):
    masks = miniatures.voc(root / "VOCdevkit" / "VOC2012")
    dataset = opened(root)
    assert ids(dataset) == {"train": ["2007_1", "2007_3"], "val": ["2007_2"]}
    assert len(dataset.class_names) == 21
    assert assert_labels(dataset, masks, lambda v: v) == 3  # 255 is ignored
    (root / "VOCdevkit/VOC2012/SegmentationClass/2007_3.png").unlink()
    with pytest.raises(
        UserError, match=r"train\.txt names '2007_3' \(1 such names\), which has no"
    ):
        opened(root)


@pytest.mark.parametrize("kind", ["labelIds", "labelTrainIds"])
def test_cityscapes(root, kind):
    masks = miniatures.cityscapes(root, kind)
    dataset = opened(root)
    assert ids(dataset) == {
        "train": ["train/aachen/aachen_000000_000010", "train/ulm/ulm_000000_000011"],
        "val": ["val/munster/munster_000000_000012"],
    }
    # Number and name of some classes as cityscapesScripts' labels.py has them.
    for value, name in {
        7: "road",
        17: "pole",
        19: "traffic light",
        24: "person",
        33: "bicycle",
    }.items():
        assert dataset.class_names[LABEL_IDS.index(value)] == name
    classes = (
        {v: k for k, v in enumerate(LABEL_IDS)} if kind == "labelIds" else {k: k for k in range(19)}
    )
    assert assert_labels(dataset, masks, lambda v: classes.get(v, IGNORE)) == 3


def test_ade20k(root):
    masks = miniatures.ade20k(root / "ADEChallengeData2016")
    dataset = opened(root)
    assert {name: len(names) for name, names in ids(dataset).items()} == {"train": 2, "val": 1}
    assert len(dataset.class_names) == 150
    assert dataset.class_names[149] == "name 150"
    assert assert_labels(dataset, masks, lambda v: v - 1 if v else IGNORE) == 3


def test_a_file_for_each_object(root):
    masks = miniatures.objects(root)
    dataset = opened(root)
    assert dataset.class_names == ("background", "object")
    assert assert_labels(dataset, masks, lambda v: int(v > 0)) == 4
    save(root / "id0/masks/9.png", np.zeros((3, 3)))
    with pytest.raises(UserError, match=r"9\.png is 3x3 but .*id0/masks/1\.png.* is 5x7; all must"):
        opened(root)
    (root / "id0/masks/9.png").unlink()
    shutil.rmtree(root / "id2/masks")
    with pytest.raises(UserError, match=r"id2 holds 1 images in images/ and 0 masks in masks/"):
        opened(root)


def test_names_and_maps_of_the_user_count_more(root):
    masks = miniatures.camvid(root)
    names = tuple("abcdefghijk")
    dataset = opened(root, layout="camvid", class_names=names, ignore_values=(0,))
    assert dataset.class_names == names
    assert assert_labels(dataset, masks, lambda v: IGNORE if v in (0, 11) else v) == 4
    merged = {"class_names": ("sky", "else"), "label_map": ((0, 0), ("1-11", 1))}
    dataset = opened(root, **merged)
    assert assert_labels(dataset, masks, lambda v: int(v > 0)) == 4
    with pytest.raises(UserError, match=r"has 2 names, and the masks of this layout 11 classes"):
        opened(root, class_names=NAMES)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (
            {"layout": "vocc"},
            r"^config\.data\.folder\.layout='vocc' is not known; allowed are camv",
        ),
        ({"layout": "voc"}, r"is not laid out as config\.data\.folder\.layout='voc' says \(JPEGIm"),
        ({"images": "x{name}", "layout": "voc"}, r"both say where files lie; leave one"),
        (
            {"weight": "mask/{name}.png"},
            r"^config\.data\.folder\.weight=.* needs patterns for image",
        ),
        (
            {"images": "../{name}.png"},
            r"^config\.data\.folder\.images='\.\./{name}\.png' is no patt",
        ),
        ({"images": "/x/{name}.png"}, r"is no pattern; it must be a path below config\.data\.path"),
        ({"images": "{name.png"}, r"is no pattern"),
        ({"images": ""}, r"^config\.data\.folder\.images='' is no pattern"),
        ({"images": "{na me}.png"}, r"has the placeholder {na me}; its name must be of letters"),
        (
            {"images": "no/{split}{name}.png"},
            r"images='no/{split}{name}\.png' matches no file",
        ),
        (
            {"masks": "{x}.png"},
            r"masks='{x}\.png' has the placeholder {x}, which .*images=.* has not",
        ),
        ({"masks": "fov.*"}, r"masks='fov\.\*' must have a placeholder of .*such as {name}"),
        (
            {"masks": "{split}/*/*.gif"},
            r"matches .*01_man.* and .*02_man.* with the same placeh",
        ),
        (
            {"masks": "{split}/1st_manual/2{name}_manual1.gif"},
            r"2 images have no mask|2 of 2 masks",
        ),
        (
            {"weight": "{split}/mask/{name}_training_mask.gif"},
            r"01_test\.tif has no file of config",
        ),
        ({"images": "{split}/mask/{name}_{split}_mask.txt"}, r"matches no file below"),
        (
            {"images": "{split}/{name}"},
            r"matches .*, which is not read; images are read from \.png",
        ),
        ({"by_class": True}, r"by_class=True cannot be had here: patterns pair an image with one"),
    ],
)
def test_what_does_not_fit_is_one_line(root, given, says):
    miniatures.drive(root)
    if "layout" in given or not given.get("weight", "{split}").startswith("{split}"):
        given = {"class_names": NAMES, **given}
    else:
        given = DRIVE | ({"label_map": ()} if "by_class" in given else {}) | given
    with pytest.raises(UserError, match=says) as error:
        opened(root, **given)
    assert "\n" not in str(error.value)


def test_patterns_match_hidden_files_and_other_cases_as_they_should(root, capsys):
    for number, suffix in enumerate((".png", ".PNG", ".Png", ".png")):
        save(root / f"a/n{number}{suffix}", np.zeros((2, 3, 3)))
        save(root / f"a/n{number}_m.png", np.zeros((2, 3)))
    save(root / "a/._n0_m.png", np.zeros((2, 3)))
    (root / "a/notes.txt").write_text("x")
    given = {"images": "a/n{name}.png", "masks": "a/n{name}_m.png", "class_names": NAMES}
    with pytest.raises(
        UserError, match=r"4 images have no mask .*a/n0_m\.png; add it, name it in .*, or change"
    ):
        opened(root, **given)  # a mask is an image too by this pattern
    (root / "b").mkdir()
    for file in [*root.glob("a/n?_m.png")]:
        file.rename(root / "b" / file.name)
    dataset = opened(root, **given | {"masks": "b/n{name}_m.png"})
    assert sorted(itertools.chain(*ids(dataset).values())) == ["0", "1", "2", "3"]
    assert "a/notes.txt" in capsys.readouterr().out.replace("\n", "")


def test_a_run_that_goes_on_leaves_out_what_is_incomplete(root):
    miniatures.drive(root)
    (root / "training/1st_manual/21_manual1.gif").unlink()
    kept = {"train": ["training/21", "training/22"], "val": ["test/01"]}
    dataset = open_folder(str(root), 0.5, 0, **DRIVE, kept=kept)
    assert ids(dataset) == {"train": ["training/22"], "val": ["test/01"]}


def test_every_layout_has_a_miniature():
    here = {"camvid", "voc", "cityscapes", "ade20k", "objects", "split_folders", "folders"}
    here |= {"stacks"}  # in test_parts.py
    assert set(LAYOUTS) == here | {"coco", "yolo", "labelme"}  # in test_drawn.py


def test_stamps_are_the_same_in_every_process(root):
    miniatures.objects(root)
    pairs = open_folder(str(root), 0.34, 0).splits["train"].pairs
    assert pairs.stamp(0).endswith(" read_objects")
