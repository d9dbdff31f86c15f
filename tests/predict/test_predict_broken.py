"""Prediction among broken images, odd outputs, full disks and what killed predictions left."""

import errno
import os
import re
import threading

import numpy as np
import pytest
from PIL import Image
from support.predicting import broken_pixels, draw, make_run, predict, tree

from unet_jax.errors import MissingResultsError, UserError
from unet_jax.predict import inputs
from unet_jax.predict import run as prediction
from unet_jax.process import whole


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.getbasetemp() / "predicting")


def text(file):
    file.write_text("no image")


def nothing(file):
    file.write_bytes(b"")


def dead_link(file):
    file.symlink_to("nowhere.png")


def cut(file):
    draw(file)
    os.truncate(file, 20)


def frames(file):
    images = [Image.fromarray(np.full((4, 4), i, np.uint8)) for i in (1, 2)]
    images[0].save(file, save_all=True, append_images=images[1:])


def sixteen_bits(file):
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(file)


BROKEN = {
    "text.png": (text, "it is none of PNG, JPEG, "),
    "nothing.jpg": (nothing, "it is none of PNG, JPEG, "),
    "link.png": (dead_link, "cannot be read: No such file or directory"),
    "cut.png": (cut, "cannot be read as an image ("),
    "pipe.png": (os.mkfifo, "is a FIFO and no regular file"),
    "zero.png": (lambda file: file.symlink_to("/dev/zero"), "is a character device and no regular"),
    "pixels.png": (broken_pixels, "the checksum of its part b'IDAT' at byte"),
    "frames.gif": (frames, "holds 2 frames or pages"),
    "sixteen.png": (sixteen_bits, "has 2 axes, 1 channels of uint16, and what the model"),
}
BY_HEADER = ["text.png", "nothing.jpg", "link.png", "cut.png", "pipe.png", "zero.png"]


def test_all_but_the_broken_images_are_predicted(run, tmp_path, monkeypatch, capsys):
    photos, good = tmp_path / "photos", [tmp_path / "photos" / f"{name}.png" for name in "aqz"]
    draw(*good)
    predict(run, [photos], tmp_path / "alone")
    said_before = []
    restore = prediction.restore

    def restore_after(*args):
        said_before.append(capsys.readouterr().out)
        return restore(*args)

    monkeypatch.setattr(prediction, "restore", restore_after)
    for name, (make, _) in BROKEN.items():
        make(photos / name)
    capsys.readouterr()
    with pytest.raises(
        MissingResultsError, match=r"^9 of 12 images .* were not predicted"
    ) as caught:
        predict(run, [photos], tmp_path / "out")
    assert caught.value.exit_code == 5
    assert {file.name: data for file, data in tree(tmp_path / "out").items()} == {
        file.name: data for file, data in tree(tmp_path / "alone").items()
    }
    (line,) = said_before[0].splitlines()
    assert line.startswith("6 of 12 images cannot be read and are left out: ")
    assert all(str(photos / name) in line for name in BY_HEADER)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("3 masks ")
    listed = {line.split()[0]: line for line in lines[1:]}
    assert listed.keys() == {str(photos / name) for name in BROKEN}
    assert not [n for n, (_, says) in BROKEN.items() if says not in listed[str(photos / n)]]
    assert "BytesIO" not in str(listed)


def test_where_no_image_can_be_read_no_model_is_loaded(run, tmp_path, monkeypatch):
    monkeypatch.setattr(prediction, "restore", None)
    for name in BY_HEADER:
        BROKEN[name][0](tmp_path / name)
    with pytest.raises(UserError, match=r"none of the 6 images can be read"):
        predict(run, [tmp_path], tmp_path / "out")
    with pytest.raises(UserError, match=rf"^{tmp_path}/cut.png cannot be read as an image"):
        predict(run, [tmp_path / "cut.png"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("change", ["removed", "another size"])
def test_an_image_that_changes_after_its_header_was_read(
    run, tmp_path, monkeypatch, capsys, change
):
    draw(tmp_path / "photos" / "a.png", tmp_path / "photos" / "b.png")
    file, real = tmp_path / "photos" / "b.png", inputs.read_image
    lock = threading.Lock()  # images are read by several threads

    def read(path, *args):
        with lock:
            if path == file and path.exists():
                path.unlink() if change == "removed" else draw(path, size=(21, 40))
            return real(path, *args)

    monkeypatch.setattr(inputs, "read_image", read)
    with pytest.raises(MissingResultsError, match="1 of 2"):
        predict(run, [tmp_path / "photos"], tmp_path / "out")
    assert sorted(os.listdir(tmp_path / "out")) == ["a.png", "a_overlay.png"]
    assert f"{file} " in capsys.readouterr().out.splitlines()[-1]


def a_file(tmp_path):
    (tmp_path / "out").write_text("")
    return tmp_path / "out", "is no folder"


def in_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    return tmp_path / "file" / "a" / "b", "file is no folder"


def not_writable(tmp_path):
    return "/proc/out", "/proc: "


def long_name(tmp_path):
    return tmp_path / ("n" * 256) / "a", "is longer than 255 bytes"


def long_path(tmp_path):
    return tmp_path / "/".join(["n" * 200] * 21), "its path is longer than 4096 bytes"


def null_byte(tmp_path):
    return f"{tmp_path}/a\0b", "has a character that no path has"


def circle(tmp_path):
    (tmp_path / "out").symlink_to("out")
    return tmp_path / "out", "is no folder"


@pytest.mark.parametrize(
    "make", [a_file, in_a_file, not_writable, long_name, long_path, null_byte, circle]
)
def test_an_output_that_is_none_is_told_before_anything_is_read(run, tmp_path, monkeypatch, make):
    draw(tmp_path / "photos" / "s" / "a.png")
    output, says = make(tmp_path)
    before = tree(tmp_path)
    for module, name in (
        (prediction, "restore"),
        (inputs, "read_header"),
        (inputs, "list_images"),
    ):
        monkeypatch.setattr(module, name, None)
    with pytest.raises(UserError, match=re.escape(says)) as caught:
        predict(run, [tmp_path / "photos"], output, replace=True)
    assert "--output" in str(caught.value)
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("name", "says"),
    [
        *((name, "does not exist") for name in ("n" * 300, "/".join(["n" * 200] * 30), "a\0b")),
        *(("none.png", "does not exist"), ("text.md", "is neither a folder nor a .png")),
        ("pipe.png", "is a FIFO and neither a folder nor a .png"),
    ],
)
def test_an_input_that_is_none(run, tmp_path, name, says):
    (tmp_path / "text.md").touch()
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(UserError, match=rf"^--input=.* {says}"):
        predict(run, [tmp_path / name], tmp_path / "out")


@pytest.mark.parametrize(("code", "says"), [(errno.ENOSPC, "the disk is full"), (errno.EIO, "")])
def test_a_full_disk_is_said_in_the_words_of_a_prediction(run, tmp_path, monkeypatch, code, says):
    draw(*(tmp_path / "photos" / f"{name}.png" for name in "abc"))
    replace, left = os.replace, 3

    def fill(*args):
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(code, os.strerror(code))
        replace(*args)

    monkeypatch.setattr(os, "replace", fill)
    with pytest.raises(UserError, match=f"{says}.*{os.strerror(code)}") as caught:
        predict(run, [tmp_path / "photos"], tmp_path / "out")
    said = str(caught.value)
    assert f"1 of 3 images have their results in {tmp_path}/out" in said
    assert "--replace" in said
    assert "--output" in said
    assert "checkpoint" not in said
    # What is there is whole, and nothing else is.
    files = sorted(os.listdir(tmp_path / "out"))
    assert files == ["a.png", "a_overlay.png", "b.png"]
    for file in files:
        Image.open(tmp_path / "out" / file).load()


def test_the_next_prediction_removes_what_nobody_holds(run, tmp_path):
    draw(tmp_path / "photos" / "s" / "a.png")
    folder = tmp_path / "out" / "s"
    folder.mkdir(parents=True)
    left, held = (folder / f".unet_jax_{digit * 16}.tmp" for digit in "01")
    others = [folder / name for name in (".unet_jax_mine.tmp", "a.tmp", ".7.8.tmp")]
    for file in (left, held, *others):
        file.write_bytes(b"half")
    with held.open("rb") as stream:
        whole._hold(stream.fileno())
        predict(run, [tmp_path / "photos"], tmp_path / "out")
        there = set(folder.iterdir())
        assert there == {held, *others, folder / "a.png", folder / "a_overlay.png"}
    predict(run, [tmp_path / "photos"], tmp_path / "out", replace=True)
    assert there - set(folder.iterdir()) == {held}
