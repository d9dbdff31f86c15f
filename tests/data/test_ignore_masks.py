import re

import numpy as np
import pytest
from PIL import Image

from unet_jax.data.base import IGNORE
from unet_jax.data.folder import open_folder
from unet_jax.errors import UserError

NAMES = ("ground", "disk", "ring")


def write(root):
    rng = np.random.default_rng(3)
    labels = {}
    for name, size in {"a": (7, 11), "sub/b": (1, 40), "c": (33, 5), "d": (4, 4)}.items():
        for kind in ("images", "masks"):
            (root / kind / name).parent.mkdir(parents=True, exist_ok=True)
        labels[name] = rng.integers(0, 3, size, np.uint8)
        Image.fromarray(labels[name]).save(root / "masks" / f"{name}.png")
        Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(
            root / "images" / f"{name}.png"
        )
    return labels


def ignore(folder, name, counts):
    file = folder / f"{name}.png"
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((counts * 255).astype(np.uint8)).save(file)


def test_black_pixels_of_the_file_of_an_id_are_ignored(tmp_path):
    labels = write(tmp_path / "data")
    rng = np.random.default_rng(4)
    counts = {name: rng.random(label.shape) < 0.7 for name, label in labels.items()}
    for name in ("a", "sub/b", "c"):  # not d
        ignore(tmp_path / "ignored", name, counts[name])
    dataset = open_folder(
        str(tmp_path / "data"), 0.3, 0, class_names=NAMES, ignore_masks=str(tmp_path / "ignored")
    )
    seen = set()
    for source in dataset.splits.values():
        for index, name in enumerate(source.ids):
            expected = labels[name].copy()
            if name != "d":
                expected[~counts[name]] = IGNORE
            np.testing.assert_array_equal(source.read(index).label, expected)
            window = (slice(0, 1), slice(1, 4))
            np.testing.assert_array_equal(source.read(index, window).label, expected[window])
            seen.add(name)
    assert seen == set(labels)


def test_with_a_pattern_of_weights_a_pixel_counts_where_both_say_so(tmp_path):
    labels = write(tmp_path)
    view, own = np.zeros((7, 11), bool), np.zeros((7, 11), bool)
    view[2:], own[:, 3:] = True, True
    ignore(tmp_path / "view", "a", view)
    ignore(tmp_path / "ignored", "a", own)
    for name in ("c", "d"):
        ignore(tmp_path / "view", name, np.ones(labels[name].shape))
    patterns = {"images": "images/{name}.png", "masks": "masks/{name}.png"}
    dataset = open_folder(
        *(str(tmp_path), 0.4, 0),
        **(patterns | {"weight": "view/{name}.png", "ignore_masks": "ignored"}),
        class_names=NAMES,
    )
    (label,) = (
        source.read(index).label
        for source in dataset.splits.values()
        for index, name in enumerate(source.ids)
        if name == "a"
    )
    np.testing.assert_array_equal(label, np.where(view & own, labels["a"], IGNORE))


def test_what_does_not_fit_is_one_line(tmp_path):
    write(tmp_path)
    ignore(tmp_path / "others", "z", np.ones((7, 11)))
    ignore(tmp_path / "small", "a", np.ones((7, 10)))
    given = (str(tmp_path), 0.3, 0)
    line = r"^config\.data\.folder\.ignore_masks='others' holds no file for any image.*'z'.*'a'"
    with pytest.raises(UserError, match=line):
        open_folder(*given, class_names=NAMES, ignore_masks="others")
    with pytest.raises(UserError, match=re.escape("none is not a folder")):
        open_folder(*given, class_names=NAMES, ignore_masks="none")
    dataset = open_folder(*given, class_names=NAMES, ignore_masks="small")
    (source,) = (source for source in dataset.splits.values() if "a" in source.ids)
    with pytest.raises(UserError, match=r"small/a\.png is 7x10 but the mask.*ignore_masks"):
        source.read(source.ids.index("a"))
