import ast
import os
import re
import threading

import numpy as np
import pytest
from PIL import Image
from support.encoded import SHOWN, indexed, jpeg

from unet_jax.data.base import IGNORE, PairSource
from unet_jax.data.check import check as check_split
from unet_jax.data.files import FilePairs
from unet_jax.data.folder import open_folder
from unet_jax.data.sample import RGB, Sample
from unet_jax.data.synthetic import open_synthetic
from unet_jax.errors import UserError
from unet_jax.runs import splits

NAMES = tuple("abcdef")
LABEL_MAP = {0: 0, 1: 1}


class Counted(FilePairs):
    """Remembers which pairs were read."""

    def __init__(self, *args):
        super().__init__(*args)
        self.was_read = []

    def read(self, index):
        self.was_read.append(index)
        return super().read(index)


def save(file, array):
    Image.fromarray(array).save(file)


@pytest.fixture
def pairs(tmp_path, monkeypatch):
    monkeypatch.setenv("UNET_JAX_CACHE", str(tmp_path / "cache"))
    files = [(tmp_path / f"{name}.jpg", tmp_path / f"{name}.png") for name in NAMES]
    for image, mask in files:
        save(image, np.zeros((4, 6, 3), np.uint8))
        save(mask, np.eye(4, 6, dtype=np.uint8))
    return Counted(NAMES, files)


def check(pairs, indices=(0, 2, 3, 5), label_map=LABEL_MAP):
    """Returns which pairs the check read."""
    pairs.was_read.clear()
    check_split(PairSource(pairs, indices, label_map), "train")
    return sorted(pairs.was_read)


def test_what_passed_is_not_read_again(pairs):
    assert check(pairs) == [0, 2, 3, 5]
    assert check(pairs) == []
    assert check(pairs, [0, 2, 3]) == [0, 2, 3]  # another split
    assert check(pairs, label_map={0: 1, 1: 0}) == [0, 2, 3, 5]


@pytest.mark.parametrize("which", [0, 1])
def test_a_changed_file_is_read_again(pairs, which):
    check(pairs)
    file = pairs.files[3][which]
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))
    assert check(pairs) == [0, 2, 3, 5]
    assert check(pairs) == []
    os.utime(pairs.files[1][which], ns=(0, 0))  # of no pair that counts
    assert check(pairs) == []


def test_what_failed_is_not_remembered(pairs):
    file = pairs.files[3][1]
    good = file.read_bytes()
    stat = file.stat()
    save(file, np.full((4, 6), 9, np.uint8))
    for _ in range(2):
        with pytest.raises(UserError):
            check(pairs)
        assert sorted(pairs.was_read) == [0, 2, 3, 5]
    file.write_bytes(good)
    os.utime(file, ns=(0, stat.st_mtime_ns))
    assert check(pairs) == [0, 2, 3, 5]


def test_pairs_are_decoded_at_the_same_time(pairs, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    together = threading.Barrier(4)
    read = pairs.read

    def wait(index):
        together.wait(timeout=20)
        return read(index)

    monkeypatch.setattr(pairs, "read", wait)
    assert check(pairs) == [0, 2, 3, 5]


def test_drawn_images_are_not_checked(tmp_path, monkeypatch):
    monkeypatch.setenv("UNET_JAX_CACHE", str(tmp_path / "cache"))
    split = open_synthetic(train=1).splits["train"]
    monkeypatch.setattr(type(split), "read", lambda *_: pytest.fail("drawn"))
    check_split(split, "train")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("which", [0, 1])
def test_a_damaged_file_is_named(pairs, which):
    file = pairs.files[2][which]
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(UserError, match=rf"{file} cannot be read as an image"):
        check(pairs)
    assert check(pairs, [0, 3, 5]) == [0, 3, 5]


def test_sizes_that_differ(pairs):
    save(pairs.files[2][1], np.zeros((6, 4), np.uint8))
    with pytest.raises(UserError, match=r"c\.jpg is 4x6 .*mask .*c\.png is 6x4; .* one size"):
        check(pairs)


def test_values_that_are_no_class(pairs):
    for index, value in ((2, 7), (3, 7), (5, 3), (1, 99)):
        save(pairs.files[index][1], np.array([[0] * 5 + [value]] * 4, np.uint8))
    with pytest.raises(UserError) as error:
        check(pairs, (5, 0, 2, 3))
    message = str(error.value)
    assert "masks of the train split hold values that are no class: 3, 7;" in message
    assert f"the first such file is {pairs.files[5][1]}." in message
    assert "Allowed are [0, 1];" in message
    assert "(value in how many files): 0 in 4, 1 in 1, 3 in 1, 7 in 2." in message
    assert "config.data.folder.label_map=((0, 0), (1, 1), (3, 1), (7, 1)) where that" in message
    assert "config.data.folder.ignore_values=(3, 7)." in message
    assert "99" not in message.replace(str(pairs.files[5][1]), "")  # its folder may be pytest-99
    assert " Add the classes that are missing to config.data.folder.class_names. Or give" in message


def test_as_many_values_as_classes_are_mapped(pairs):
    for index in (0, 1, 2, 3):
        save(pairs.files[index][1], np.array([[0] * 5 + [200]] * 4, np.uint8))
    with pytest.raises(UserError, match=r"0 in 3, 200 in 3\. Give every value its class, such as "):
        check(pairs, (0, 2, 3))


@pytest.mark.parametrize(
    ("values", "given", "label_map"),
    [
        ((0, 255), {}, ((0, 0), (255, 1))),
        ((255,), {}, ((255, 0),)),
        ((1, 2), {}, ((1, 1), (2, 0))),
        ((0, 1, 255), {}, ((0, 0), (1, 1), (255, 1))),
        ((0, 100, 255), {"ignore_values": (255,)}, ((0, 0), (100, 1))),
        ((0, 1), {"label_map": ((0, 0), (255, 1))}, ((0, 0), (1, 1), (255, 1))),
        ((3, 4, 5), {"class_names": ("x", "y", "z")}, ((3, 0), (4, 1), (5, 2))),
        (tuple(range(0, 240, 10)), {}, None),
    ],
)
def test_both_cures_work_as_they_are_written(tmp_path, monkeypatch, values, given, label_map):
    monkeypatch.setenv("UNET_JAX_CACHE", str(tmp_path / "cache"))
    given = {"class_names": ("x", "y"), **given}
    for name in "abcd":
        for kind in ("images", "masks"):
            (tmp_path / kind).mkdir(exist_ok=True)
            save(tmp_path / kind / f"{name}.png", np.resize(np.array(values, np.uint8), (4, 6)))

    def checked(**cure):
        split = open_folder(str(tmp_path), 0.25, 0, **{**given, **cure}).splits["train"]
        check_split(split, "train")
        return split.read(0).label

    with pytest.raises(UserError) as error:
        checked()
    written = re.findall(r"config\.data\.folder\.(\w+)=(\(.*?\)) ?(?:where|\.$)", str(error.value))
    cures = {key: ast.literal_eval(text) for key, text in written}
    assert set(cures) == {"label_map", "ignore_values"}
    assert label_map in (None, cures["label_map"])
    label = checked(label_map=cures["label_map"])
    ignored = given.get("ignore_values", ())
    classes = {**dict(cures["label_map"]), **dict.fromkeys(ignored, IGNORE)}
    np.testing.assert_array_equal(label.ravel()[:3], [classes[v] for v in np.resize(values, 3)])
    if set(values) - set(cures["ignore_values"]):
        checked(ignore_values=cures["ignore_values"])
    else:  # then nothing would be left to learn from
        with pytest.raises(UserError, match="no pixel of the train split"):
            checked(ignore_values=cures["ignore_values"])


def test_other_trimaps_of_pets_get_no_advice_on_a_label_map(pairs):
    source = PairSource(pairs, (0, 1), {1: 0, 2: 1, 3: 2}, "Take the original ones.")
    with pytest.raises(UserError, match=r"no class: 0; .*found are .*\. Take the original ones\.$"):
        check_split(source, "train")


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_training_split_of_ignored_pixels_is_an_error(pairs, split):
    source = PairSource(pairs, (0, 1), {0: IGNORE, 1: IGNORE})
    if split != "train":
        check_split(source, split)
        check_split(source, split)
    with pytest.raises(UserError, match=r"no pixel of the train split's 2 masks .*0 in 2, 1 in 2"):
        check_split(source, "train")
    check_split(PairSource(pairs, (0, 1), {0: IGNORE, 1: 0}), "train")


@pytest.mark.parametrize("orientation", SHOWN)
def test_sizes_are_those_that_viewers_show(pairs, orientation):
    stored = np.zeros((4, 6, 3), np.uint8)
    pairs.files[2][0].write_bytes(jpeg(stored, orientation))
    if orientation < 5:
        assert check(pairs) == [0, 2, 3, 5]
        return
    with pytest.raises(UserError, match=r"c\.jpg is 6x4 .*turned by its EXIF .*c\.png is 4x6"):
        check(pairs)
    save(pairs.files[2][1], np.eye(6, 4, dtype=np.uint8))
    assert check(pairs) == [0, 2, 3, 5]


RED, GREEN, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 0)


def paint(file, palette, ids=(0, 1)):
    indexed(np.resize(np.array(ids, np.uint8), (4, 6)), palette).save(file)


def checked_splits(pairs, **splits):
    """Checks splits; returns the pairs that were read."""
    pairs.was_read.clear()
    for split, indices in splits.items():
        check_split(PairSource(pairs, indices, LABEL_MAP), split)
    return sorted(pairs.was_read)


DIFFER = r"palettes differ: index 1 is the colour \({}\) in one and \({}\) in the other"


def test_palettes_that_differ_within_a_split(pairs):
    for index in (0, 1, 2, 3):
        paint(pairs.files[index][1], (BLACK, RED, GREEN if index % 2 else RED))  # 2 is not used
    assert check(pairs, (0, 1, 2, 3)) == [0, 1, 2, 3]
    paint(pairs.files[3][1], (BLACK, GREEN))
    assert check(pairs, (0, 1, 2)) == [0, 1, 2]
    for _ in range(2):
        with pytest.raises(UserError) as error:
            check(pairs, (0, 1, 2, 3))
        assert re.search(DIFFER.format("255, 0, 0", "0, 255, 0"), str(error.value))
        assert f"{pairs.files[0][1]} and {pairs.files[3][1]} are masks" in str(error.value)
    paint(pairs.files[3][1], (BLACK, GREEN), ids=(0,))  # the pixels of both must use it
    assert check(pairs, (0, 1, 2, 3)) == [0, 1, 2, 3]


@pytest.mark.parametrize("trimmed", [(RED,), (RED, GREEN), (RED, GREEN, *[BLACK] * 254)])
def test_unused_entries_may_be_trimmed_and_padded(pairs, trimmed):
    paint(pairs.files[0][1], (RED, GREEN))
    paint(pairs.files[1][1], trimmed, ids=(0,))
    assert check(pairs, (0, 1, 2)) == [0, 1, 2]  # 2 is a grey mask of ids


def test_a_cache_that_cannot_be_written_only_costs_time(pairs, tmp_path):
    (tmp_path / "cache").write_text("no folder")
    source = PairSource(pairs, (0, 1), LABEL_MAP)
    for _ in range(2):
        assert check(pairs, (0, 1)) == [0, 1]
        assert len(splits.fingerprints(source, "train")) == 2


def test_palettes_that_differ_between_splits(pairs):
    for index in range(6):
        paint(pairs.files[index][1], (BLACK, GREEN if index in (2, 3) else RED))
    assert checked_splits(pairs, train=(0, 1)) == [0, 1]
    for _ in range(2):  # train has passed, and is not opened again
        with pytest.raises(UserError, match=DIFFER.format("255, 0, 0", "0, 255, 0")):
            checked_splits(pairs, val=(2, 3))
        assert pairs.was_read == [2, 3]
    assert checked_splits(pairs, test=(4, 5)) == [4, 5]
    assert checked_splits(pairs, train=(0, 1), test=(4, 5)) == []


@pytest.mark.parametrize("mended", ["train", "val"])
def test_palettes_that_were_mended_pass(pairs, mended):
    for index, colour in enumerate((RED, RED, GREEN, GREEN)):
        paint(pairs.files[index][1], (BLACK, colour))
    splits = {"train": (0, 1), "val": (2, 3)}
    with pytest.raises(UserError, match="palettes differ"):
        checked_splits(pairs, **splits)
    for index in splits[mended]:
        paint(pairs.files[index][1], (BLACK, GREEN if mended == "train" else RED), ids=(0, 1, 1))
    expected = [0, 1, 2, 3] if mended == "train" else [2, 3]  # val has not passed yet
    assert checked_splits(pairs, **splits) == expected


def test_a_split_that_passed_is_compared_with_one_that_changed(pairs):
    for index in range(4):
        paint(pairs.files[index][1], (BLACK, RED))
    splits = {"train": (0, 1), "val": (2, 3)}
    assert checked_splits(pairs, **splits) == [0, 1, 2, 3]
    for index in (0, 1):
        paint(pairs.files[index][1], (BLACK, GREEN), ids=(0, 1, 1))
    with pytest.raises(UserError, match=DIFFER.format("255, 0, 0", "0, 255, 0")):
        checked_splits(pairs, **splits)


@pytest.mark.parametrize("is_there", [True, False])
def test_a_file_that_is_no_longer_in_the_data_does_not_count(pairs, is_there):
    paint(pairs.files[0][1], (BLACK, RED))
    paint(pairs.files[1][1], (BLACK, GREEN))
    checked_splits(pairs, train=(0,))
    if is_there:  # but in no split
        check_split(PairSource(pairs, (1,), LABEL_MAP, used={"b", "c"}), "val")
    else:
        rest = FilePairs(pairs.ids[1:], pairs.files[1:])
        check_split(PairSource(rest, (0,), LABEL_MAP), "val")


def test_many_values_are_cut_short(pairs):
    save(pairs.files[0][1], np.arange(24, dtype=np.uint8).reshape(4, 6) * 10)
    with pytest.raises(UserError) as error:
        check(pairs)
    message = str(error.value)
    wrong, found = message.split("; the first such file")
    assert "190, 200, ..." in wrong
    assert "210" not in wrong
    assert "180 in 1, ..." in found
    assert "190 in 1" not in found


def test_nothing_is_left_on_the_console(pairs, capsys):
    check(pairs)
    shown = capsys.readouterr()
    assert (shown.out.strip(), shown.err) == ("", "")


class Arrays:
    """A source that is not of pairs, as a user may write one."""

    spec = RGB

    def __init__(self, *labels, image=(4, 6, 3), size=(4, 6)):
        self.labels, self.image, self._size = labels, image, size
        self.ids = [f"n{index}" for index in range(len(labels))]

    def __len__(self):
        return len(self.labels)

    def read(self, index, window=None):
        image = np.zeros(self.image, np.uint8)
        return Sample(image, self.labels[index], self.ids[index], (1.0, 1.0))

    def shape(self, index):
        return self._size


FILLED = np.full((4, 6), IGNORE, np.uint8)
GOOD, HIGH = np.eye(4, 6, dtype=np.uint8), np.eye(4, 6, dtype=np.uint8) * 2


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (Arrays(GOOD, HIGH), r"n1 of the val split .* values \[2\]; .* from 0 to 1, and 255"),
        (Arrays(GOOD, GOOD.T), r"n1 of the val split .* image \(4, 6, 3\), a label \(6, 4\)"),
        (Arrays(GOOD, image=(4, 5, 3)), r"n0 .* image \(4, 5, 3\), a label \(4, 6\)"),
        (Arrays(GOOD, size=(6, 4)), r"n0 .* and the shape \(6, 4\)"),
        (Arrays(GOOD, image=(4, 6, 1)), r"n0 .* 1 channels of uint8, .* source has .* 3 channels"),
    ],
)
def test_sources_of_other_kinds_are_checked_too(source, says):
    with pytest.raises(UserError, match=says):
        check_split(source, "val", 2)


def test_other_sources_need_a_pixel_to_learn_from():
    check_split(Arrays(FILLED, GOOD), "train", 2)
    check_split(Arrays(FILLED, FILLED), "val", 2)
    with pytest.raises(UserError, match=r"^no pixel of the train split's 2 labels counts"):
        check_split(Arrays(FILLED, FILLED), "train", 2)
