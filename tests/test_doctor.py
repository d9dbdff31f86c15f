import os
import threading

import numpy as np
import pytest
from PIL import Image

from unet_jax.data import doctor
from unet_jax.data.base import PairSource
from unet_jax.data.files import FilePairs
from unet_jax.data.synthetic import open_synthetic
from unet_jax.errors import UserError

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
    doctor.check(PairSource(pairs, indices, label_map), "train")
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
        assert sorted(pairs.was_read)[:4] == [0, 2, 3, 3]
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


def test_drawn_pictures_are_not_checked(tmp_path, monkeypatch):
    monkeypatch.setenv("UNET_JAX_CACHE", str(tmp_path / "cache"))
    split = open_synthetic(train=1).splits["train"]
    monkeypatch.setattr(type(split), "__getitem__", lambda *_: pytest.fail("drawn"))
    doctor.check(split, "train")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("which", [0, 1])
def test_a_damaged_file_is_named(pairs, which):
    file = pairs.files[2][which]
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(UserError, match=rf"{file} cannot be read as a picture"):
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
    assert "config.data.folder.label_map=((3, CLASS), ...)" in message
    assert "config.data.folder.ignore_values=(3,)" in message
    assert "99" not in message


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
