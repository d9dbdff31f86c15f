import numpy as np
import pytest
from PIL import Image

from unet_jax.data.exclude import Exclusion, UnpairedError
from unet_jax.data.folder import open_folder
from unet_jax.errors import UserError


def save(root, *names, kinds=("images", "masks")):
    for name in names:
        for kind in kinds:
            file = root / kind / f"{name}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.zeros((4, 4), np.uint8)).save(file)


def ids(root, *exclude, **section):
    dataset = open_folder(str(root), 0.3, 0, class_names=("a", "b"), exclude=exclude, **section)
    return sorted(name for source in dataset.splits.values() for name in source.ids)


@pytest.mark.parametrize(
    ("exclude", "left"),
    [
        (("1",), "2 3 p/1 p/2 q/1"),  # an id is matched as a whole
        (("p/1",), "1 2 3 p/2 q/1"),
        (("p/*",), "1 2 3 q/1"),
        (("?/1",), "1 2 3 p/2"),
        (("1.png",), "2 3 p/2"),  # the end of a path
        (("images/1.png",), "2 3 p/1 p/2 q/1"),
        (("masks/2.png", "q/1"), "1 3 p/1 p/2"),
        (("p/*.png", "[13]"), "2 q/1"),
        (("1.png", "masks/p/2.png"), "2 3"),
        (("?",), "p/1 p/2 q/1"),  # no pattern reaches over a slash
    ],
)
def test_ids_and_ends_of_paths_are_left_out(tmp_path, capsys, exclude, left):
    save(tmp_path, "1", "2", "3", "p/1", "p/2", "q/1")
    assert ids(tmp_path, *exclude) == left.split()
    count = 6 - len(left.split())
    said = capsys.readouterr().out.replace("\n", "")
    assert f"{tmp_path}: {count} left out by config.data.folder.exclude, such as" in said


def test_a_name_with_letters_of_patterns_can_be_written(tmp_path):
    save(tmp_path, "[1]", "1", "2", "3")
    assert ids(tmp_path, "[[]1]") == ["1", "2", "3"]


def test_a_pattern_that_matches_nothing_is_an_error(tmp_path):
    save(tmp_path, "1", "2", "3")
    with pytest.raises(UserError, match=r"has 'images/4\.png', which is the id of no image"):
        ids(tmp_path, "1", "images/4.png")


@pytest.mark.parametrize("wrong", ["", "/", 3, None])
def test_what_is_no_pattern_is_an_error(wrong):
    with pytest.raises(UserError, match=r"config\.data\.folder\.exclude has .*must be the id"):
        Exclusion(("a", wrong))


def test_files_without_a_partner(tmp_path):
    save(tmp_path, "1", "2", "3")
    save(tmp_path, "lone", kinds=["images"])
    save(tmp_path, "other", kinds=["masks"])
    with pytest.raises(UnpairedError, match="1 of 4 images have no mask") as caught:
        ids(tmp_path)
    assert caught.value.files == (str(tmp_path / "images" / "lone.png"),)
    with pytest.raises(UnpairedError, match="1 of 4 masks have no image") as caught:
        ids(tmp_path, "lone")
    assert caught.value.files == (str(tmp_path / "masks" / "other.png"),)
    assert ids(tmp_path, "lone", "masks/other.png") == ["1", "2", "3"]


def test_one_of_two_files_of_one_name(tmp_path):
    save(tmp_path, "1", "2", "3")
    Image.new("RGB", (4, 4)).save(tmp_path / "images" / "2.jpg")
    with pytest.raises(UserError, match="have the same name"):
        ids(tmp_path)
    assert ids(tmp_path, "images/2.jpg") == ["1", "2", "3"]
    assert ids(tmp_path, "images/2.png") == ["1", "2", "3"]


def test_lists_may_name_what_is_left_out(tmp_path):
    save(tmp_path, "1", "2", "3", "4")
    save(tmp_path, "lone", kinds=["images"])
    (tmp_path / "train.txt").write_text("1\nlone\n2\n")
    (tmp_path / "val.txt").write_text("3.png\n4.png\n")
    assert ids(tmp_path, "3", "lone") == ["1", "2", "4"]
    (tmp_path / "val.txt").write_text("3.png\nnobody\n4.png\nnone.png\n")
    with pytest.raises(
        UnpairedError, match=r"names 'nobody', .* no such image.*\(2 such"
    ) as caught:
        ids(tmp_path, "lone")
    assert caught.value.files == ("nobody", "none.png")
    assert ids(tmp_path, "lone", *caught.value.files) == ["1", "2", "3", "4"]


def test_masks_by_class(tmp_path):
    for name in ("1", "2", "3"):
        save(tmp_path, name, kinds=["images"])
        save(tmp_path, f"{name}_a", f"{name}_b", kinds=["masks"])
    save(tmp_path, "4", kinds=["images"])
    save(tmp_path, "4_a", "5_b", kinds=["masks"])
    with pytest.raises(UnpairedError, match="1 of the 8 masks of 4 images are missing") as caught:
        ids(tmp_path, by_class=True)
    assert caught.value.files == (str(tmp_path / "images" / "4.png"),)
    assert ids(tmp_path, "4", "5_b", by_class=True) == ["1", "2", "3"]


def test_patterns_of_files(tmp_path):
    save(tmp_path, "1", "2", "3")
    save(tmp_path, "lone", kinds=["images"])
    save(tmp_path, "other", kinds=["masks"])
    given = {"images": "images/{name}.png", "masks": "masks/{name}.png"}
    with pytest.raises(UnpairedError, match="1 images have no mask"):
        ids(tmp_path, **given)
    with pytest.raises(UnpairedError, match="1 of 4 masks have no image"):
        ids(tmp_path, "lone", **given)
    assert ids(tmp_path, "lone", "other.png", "2", **given) == ["1", "3"]


def test_folders_of_splits(tmp_path):
    for split in ("train", "val"):
        save(tmp_path / split, "1", "2", "3")
    save(tmp_path / "val", "lone", kinds=["images"])
    assert ids(tmp_path, "train/1", "val/lone", "val/masks/3.png") == [
        *("train/2", "train/3", "val/1", "val/2")
    ]
