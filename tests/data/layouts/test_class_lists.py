"""class_dict.csv and labelmap.txt: classes and colours that lie beside the masks."""

import functools

import pytest
from support import miniatures, opening

from unet_jax.data.base import IGNORE
from unet_jax.errors import UserError

opened = functools.partial(opening.opened, mask_suffix="_L")
LISTS = ["class_dict.csv", "labelmap.txt"]


@pytest.mark.parametrize("listing", LISTS)
def test_a_list_names_the_classes_and_their_colours(root, listing, capsys):
    masks = miniatures.camvid_by_colour(root, listing)
    dataset = opened(root)
    assert dataset.class_names == ("Sky", "Car, parked")
    means = {0: 0, 1: IGNORE, 2: 1}  # Void counts nowhere
    read = 0
    for split in dataset.splits.values():
        for index, name in enumerate(split.ids):
            label, mask = split.read(index).label, masks[name]
            for y in range(mask.shape[0]):
                for x in range(mask.shape[1]):
                    assert label[y, x] == means[int(mask[y, x])]
            read += 1
    assert read == 4
    said = " ".join(capsys.readouterr().out.split())
    assert f"{listing}: 2 classes by colour, Void ignored; config.data.folder.class_names" in said


def test_what_the_config_says_counts_more(root, capsys):
    miniatures.camvid_by_colour(root)
    colours = tuple((rgb, k) for k, rgb in enumerate(miniatures.COLOURS.values()))
    dataset = opened(root, class_names=("a", "b", "c"), label_map=colours)
    assert dataset.class_names == ("a", "b", "c")
    assert {*dataset.splits["train"].read(0).label.flat} <= {0, 1, 2}
    assert "class_dict" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("listing", "text", "says"),
    [
        ("class_dict.csv", "class,r,g,b\nx,1,2,3\n", "has the columns class, r, g, b; a list of"),
        ("class_dict.csv", "", "has the columns "),
        (
            "class_dict.csv",
            "name,r,g,b\nx,1,2,3\n\ny,1,2\n",
            "line 4 must have a name",
        ),
        ("class_dict.csv", "name,r,g,b\nx,1,2,256\n", "line 2 must have"),
        ("class_dict.csv", "name,r,g,b\nx,1,2,-3\n", "line 2 must have"),
        ("class_dict.csv", "name,r,g,b\n,1,2,3\n", "line 2 must have"),
        ("class_dict.csv", "name,r,g,b\nx,1,2,3\ny,1,2,3\n", "line 3 has the name or the colour"),
        ("labelmap.txt", "# label:color\nx:1,2,3::\nx:1,2,4::\n", "line 3 has the name or the"),
        ("labelmap.txt", "x\n", "line 1 must have"),
        ("labelmap.txt", "x:1,2,3,4::\n", "line 1 must have"),
    ],
)
def test_what_is_no_list_is_one_line(root, listing, text, says):
    miniatures.camvid_by_colour(root, listing)
    (root / listing).write_text(text)
    with pytest.raises(UserError, match=rf"{listing}.* {says}") as error:
        opened(root)
    assert "\n" not in str(error.value)


def test_columns_may_come_in_any_order_and_case(root):
    miniatures.camvid_by_colour(root)
    text = "R, G, B, Name\n128,128,128,sky\n0,0,0,UNLABELED\n64,0,128,car\n"
    (root / "class_dict.csv").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert opened(root).class_names == ("sky", "car")
