"""Files that would hang or never end are named and not read; a limit that a config key raises."""

import os
import signal
import socket
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unet_jax.compare import may_differ
from unet_jax.data import storage
from unet_jax.data.check import check as check_split
from unet_jax.data.files import list_images, read_header, read_list, say_once
from unet_jax.data.folder import open_folder
from unet_jax.data.sets.pets import open_pets
from unet_jax.data.sources import make_loading, open_data
from unet_jax.errors import UserError
from unet_jax.explain.windows import read_numbers
from unet_jax.process.regular import irregular_kind, open_regular
from unet_jax.runs import splits


class HungError(BaseException):
    """No `Exception`, which would be tried again."""


@pytest.fixture(autouse=True)
def within_seconds():
    """A read that hangs is an error and no hang of the tests."""

    def give_up(signum, frame):
        raise HungError

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def fifo(file):
    os.mkfifo(file)


def link_to_zeros(file):
    file.symlink_to("/dev/zero")


def directory(file):
    file.mkdir()


def listening(file):
    before = Path.cwd()
    os.chdir(file.parent)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(file.name)
    os.chdir(before)


def link_to_fifo(file):
    os.mkfifo(file.with_name("pipe"))
    file.symlink_to("pipe")


KINDS = {
    fifo: "FIFO",
    link_to_zeros: "character device",
    directory: "directory",
    listening: "socket",
    link_to_fifo: "FIFO",
}


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("read", [storage.read_bytes, read_header, read_list, open_regular])
def test_what_is_no_regular_file_is_named_and_not_read(tmp_path, make, read):
    file = tmp_path / "x.png"
    make(file)
    with pytest.raises(UserError, match=rf"^{file} is a {KINDS[make]} and no regular file"):
        read(file)
    assert irregular_kind(file) == KINDS[make]


def test_regular_files_are_read_through_links(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "b").symlink_to("a")
    assert storage.read_bytes(tmp_path / "b") == b"abc"
    assert irregular_kind(tmp_path / "b") == irregular_kind(tmp_path / "missing") == ""


def test_a_file_that_becomes_a_fifo_while_it_is_opened(tmp_path, monkeypatch):
    file = tmp_path / "x.png"
    file.write_bytes(b"")
    real = os.open

    def swapped(path, *args):
        file.unlink()
        os.mkfifo(file)
        return real(path, *args)

    monkeypatch.setattr(os, "open", swapped)
    with pytest.raises(UserError, match=rf"^{file} is a FIFO"):
        open_regular(file)


def pairs(folder, names="abcdef"):
    for name in names:
        for kind in ("images", "masks"):
            (folder / kind).mkdir(exist_ok=True)
            shape = (8, 8, 3) if kind == "images" else (8, 8)
            Image.fromarray(np.zeros(shape, np.uint8)).save(folder / kind / f"{name}.png")
    return folder


@contextmanager
def refused(*says):
    with pytest.raises(UserError) as caught:
        yield
    assert not [text for text in says if str(text) not in str(caught.value)], caught.value


@pytest.mark.parametrize("kind", ["images", "masks"])
@pytest.mark.parametrize("make", [fifo, link_to_zeros, listening])
def test_a_pair_that_is_no_file_ends_training_and_its_checks(tmp_path, monkeypatch, make, kind):
    monkeypatch.setenv("UNET_JAX_CACHE", str(tmp_path / "cache"))
    file = pairs(tmp_path) / kind / "b.png"
    file.unlink()
    make(file)
    dataset = open_folder(str(tmp_path), 0.2, 0, class_names=("x", "y"))
    (split,) = (name for name, source in dataset.splits.items() if "b" in source.ids)
    for check in (check_split, splits.fingerprints):
        with refused(file, KINDS[make]):
            check(dataset.splits[split], split)


@pytest.mark.parametrize("make", [fifo, directory, link_to_zeros])
def test_a_list_that_is_no_file_is_not_passed_over(tmp_path, make):
    make(pairs(tmp_path) / "val.txt")
    with refused(tmp_path / "val.txt", KINDS[make]):
        open_folder(str(tmp_path), 0.2, 0, class_names=("x", "y"))


def test_official_lists_and_images_that_are_no_files(tmp_path):
    trimaps = tmp_path / "annotations" / "trimaps"
    trimaps.mkdir(parents=True)
    (tmp_path / "images").mkdir()
    for name in ("trainval", "test"):
        (tmp_path / "annotations" / f"{name}.txt").write_text(f"{name}_1 1 1 1\n{name}_2 1 1 1\n")
        for number in (1, 2):
            fifo(tmp_path / "images" / f"{name}_{number}.jpg")
            fifo(trimaps / f"{name}_{number}.png")
    dataset = open_pets(str(tmp_path), 0.5, 0)
    with refused("trainval_", "is a FIFO"):
        splits.take(dataset)
    (tmp_path / "annotations" / "test.txt").unlink()
    fifo(tmp_path / "annotations" / "test.txt")
    with refused(tmp_path / "annotations" / "test.txt", "FIFO"):
        open_pets(str(tmp_path), 0.5, 0)


def test_what_is_passed_over_is_named_with_its_kind(tmp_path, capsys):
    say_once.cache_clear()
    folder = pairs(tmp_path) / "images"
    fifo(folder / "control")
    link_to_zeros(folder / "zero")
    (folder / "x.png").mkdir()
    (folder / "y.png").mkdir()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / "y.png" / "in.png")
    assert {*list_images(folder, "key")} == {*"abcdef", "y.png/in"}
    said = "1 FIFO, 1 character device, 1 directory passed over, such as control"
    assert said in capsys.readouterr().out


def test_numbers_to_explain_in_a_fifo(tmp_path):
    fifo(tmp_path / "x.csv")
    with refused(tmp_path / "x.csv", "FIFO"):
        read_numbers("input", str(tmp_path / "x.csv"))


def test_a_larger_file_needs_the_config_key(tmp_path):
    file = pairs(tmp_path) / "images" / "a.png"
    os.truncate(file, 3 * 2**20)  # what lies behind the image does not matter
    section = {"source": "folder", "path": str(tmp_path), "image_size": (8, 8)}
    section["folder"] = {"class_names": ("x", "y")}
    dataset, loading = open_data(**section, val_fraction=0.2, largest_file=2)
    assert loading.largest_file == 2
    (source,) = (source for source in dataset.splits.values() if "a" in source.ids)
    index = list(source.ids).index("a")
    with refused(file, "3.0 MiB", "config.data.largest_file=2 MiB", "raise it"):
        source.read(index)
    dataset, _ = open_data(**section, val_fraction=0.2, largest_file=3)
    (source,) = (source for source in dataset.splits.values() if "a" in source.ids)
    assert source.read(index).image.shape == (8, 8, 3)
    assert may_differ("data.largest_file")
    for value in (0, -1, 2**60):
        with refused(f"config.data.largest_file={value}"):
            make_loading(largest_file=value)


def test_a_hole_of_a_terabyte_is_refused_by_its_size(tmp_path):
    file = tmp_path / "x.png"
    file.touch()
    os.truncate(file, 2**40)
    for read in (storage.read_bytes, read_header):
        with refused(file, "1,048,576.0 MiB", "config.data.largest_file=1024 MiB"):
            read(file)
