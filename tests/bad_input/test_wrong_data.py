"""Data that do not fit."""

import json

import numpy as np
import pytest
from PIL import Image
from support.spoilt import NAMES, save_mask, truncated

FOLDER = (
    "--config=configs/folder.py",
    "--config.model.features=(4,8)",
    "--config.data.image_size=(32,)",
    "--config.train.duration=2",
    "--config.train.eval_every=2",
    "--config.train.checkpoint_every=2",
    "--config.train.batch_size=4",
    "--config.eval.batch_size=4",
    "--config.data.workers=2",
    "--config.mesh.data=1",
)


def no_images(data):
    for file in (data / "images").iterdir():
        file.unlink()
    (data / "images").rmdir()


def no_masks(data):
    (data / "masks").rename(data / "labels")


def other_size(data):
    save_mask(data, "pic_3", np.zeros((40, 47)))


def rgb_mask(data):
    Image.new("RGB", (48, 40)).save(data / "masks" / "pic_3.png")


def deep_image(data):
    (data / "images" / "pic_3.jpg").unlink()
    Image.fromarray(np.zeros((40, 48), np.uint16)).save(data / "images" / "pic_3.png")


def text_file(data):
    (data / "masks" / "pic_3.png").write_text("no image")


def dead_link(data):
    (data / "masks" / "pic_3.png").unlink()
    (data / "masks" / "pic_3.png").symlink_to(data / "nowhere.png")


def without_mask(data):
    (data / "masks" / "pic_3.png").unlink()


def without_image(data):
    (data / "images" / "pic_3.jpg").unlink()


def empty_list(data):
    (data / "val.txt").write_text("# none yet\n")


def one_image(data):
    for name in NAMES[1:]:
        (data / "images" / f"{name}.jpg").unlink()
        (data / "masks" / f"{name}.png").unlink()


def unknown_name(data):
    (data / "train.txt").write_text("pic_1\npic_99\n")


def in_two_lists(data):
    (data / "train.txt").write_text("pic_1\npic_2\n")
    (data / "val.txt").write_text("pic_2\npic_3\n")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda data: data.rename(data.with_name("moved")), ["config.data.path=", "images/"]),
        (no_images, ["data/images", "config.data.path", "config.data.folder.images"]),
        (no_masks, ["data/masks", "config.data.path", "config.data.folder.masks"]),
        (without_mask, ["images/pic_3.jpg", "1 of 8", "mask", "config.data.folder.mask_suffix"]),
        (without_image, ["masks/pic_3.png", "1 of 8", "image", "remove"]),
        (other_size, ["images/pic_3.jpg", "40x48", "masks/pic_3.png", "40x47", "one size"]),
        (rgb_mask, ["masks/pic_3.png", "'RGB'", "one 8-bit", "Convert"]),
        (deep_image, ["pic_3", "1 channels of uint16", "3 channels of uint8", "Convert"]),
        (truncated, ["images/pic_3.jpg", "is truncated", "replace"]),
        (text_file, ["masks/pic_3.png", "cannot be read", "replace"]),
        (dead_link, ["masks/pic_3.png", "No such file"]),
        (empty_list, ["val split", "empty", "data'", "list"]),
        (one_image, ["val split", "empty", "config.data.val_fraction=0.1"]),
        (unknown_name, ["train.txt", "'pic_99'", "without suffix"]),
        (in_two_lists, ["train.txt", "val.txt", "'pic_2'", "leave it in one"]),
    ],
)
def test_data(refuse, inside, images, spoil, says):
    spoil(images)
    refuse(*FOLDER, f"--config.data.path={images}", says=says, command=inside)


def test_mask_values_that_are_no_class_and_the_cures(refuse, command, images, folder):
    values = np.zeros((40, 48))
    values[:20], values[:5] = 1, 7
    for name in NAMES[:6]:
        save_mask(images, name, values)
    values[:5] = 200
    for name in NAMES[6:]:
        save_mask(images, name, values)
    (images / "val.txt").write_text("pic_5\npic_7\n")
    flags = [*FOLDER, f"--config.data.path={images}"]
    counts = "0 in 6, 1 in 6, 7 in 5, 200 in 1"
    label_map = "config.data.folder.label_map=((0, 0), (1, 1), (7, 1), (200, 1))"
    ignore = "config.data.folder.ignore_values=(7, 200)"
    says = ["no class: 7, 200", "masks/pic_0.png", "[0, 1]", counts, label_map, ignore]
    refuse(*flags, says=says)

    result = command(*flags, f"--{label_map}", f"--workdir={folder / 'run'}")
    assert result.returncode == 0, result.stderr
    assert not result.stderr
    assert json.loads((folder / "run" / "results.json").read_text())["train"]["step"] == 2
