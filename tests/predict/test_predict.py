"""Prediction: what it writes, and that it never writes over an input or an earlier result."""

import os
import unicodedata
from pathlib import Path

import pytest
from PIL import Image
from support.predicting import broken_pixels, draw, make_run, predict, tree
from support.processes import finish, start

from unet_jax.data.sources import read_patterns
from unet_jax.errors import UserError

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "é") for form in ("NFC", "NFD"))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.getbasetemp() / "predicting")


def refuse(run, folder, inputs, output, *says, **flags):
    """Checks that a prediction ends with one line that says so, and leaves the folder as it was."""
    before, error = tree(folder), None
    try:
        predict(run, inputs, output, **flags)
    except UserError as raised:
        error = str(raised)
    assert tree(folder) == before
    assert error is not None
    assert not [piece for piece in says if str(piece) not in error], error
    assert "\n" not in error


def spellings(tmp_path):
    """Returns outputs in which photos/a.png, the input, is a file to be written."""
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    (tmp_path / "relative_link").symlink_to("photos")
    (tmp_path / "link_to_link").symlink_to("link")
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "up").symlink_to(tmp_path / "photos" / "folder")
    for name in ("file_link", "hard_link", "chain"):
        (tmp_path / name).mkdir()
    (tmp_path / "file_link" / "a.png").symlink_to(tmp_path / "photos" / "a.png")
    (tmp_path / "hard_link" / "a.png").hardlink_to(tmp_path / "photos" / "a.png")
    (tmp_path / "chain" / "a.png").symlink_to("../file_link/a.png")
    return {
        "absolute": tmp_path / "photos",
        "relative": "photos",
        "with a slash": "photos/",
        "with dots": "./photos/.",
        "up and down": "photos/folder/..",
        "up from a link": "deep/up/..",
        "up from what is not there": "missing/../photos",
        "home": "~/photos",
        "linked": "link",
        "linked relatively": "relative_link/",
        "linked twice": tmp_path / "link_to_link",
        "a linked file": "file_link",
        "a file linked hard": "hard_link",
        "a file linked twice": "chain",
    }


@pytest.mark.parametrize("replace", [{}, {"replace": True}], ids=["plain", "replace"])
@pytest.mark.parametrize("inputs", ["photos", "link", "photos/a.png", "link_to_link/./a.png"])
def test_no_spelling_of_the_output_writes_over_an_input(
    run, tmp_path, monkeypatch, inputs, replace
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "photos" / "folder").mkdir(parents=True)
    draw(tmp_path / "photos" / "a.png")
    for output in spellings(tmp_path).values():
        refuse(run, tmp_path, [inputs], output, "over the input", "a.png", "--output", **replace)


def test_an_input_below_a_linked_folder_of_the_output(run, tmp_path):
    draw(tmp_path / "photos" / "sub" / "a_overlay.png", tmp_path / "more" / "sub" / "a.jpg")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sub").symlink_to(tmp_path / "photos" / "sub")
    inputs = [tmp_path / "more", tmp_path / "photos" / "sub" / "a_overlay.png"]
    says = ("out/sub/a_overlay.png", "over the input", "photos/sub/a_overlay.png", "1 of 4")
    refuse(run, tmp_path, inputs, tmp_path / "out", *says, replace=True)


def test_a_linked_input_in_the_output(run, tmp_path):
    draw(tmp_path / "kept.png")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").symlink_to(tmp_path / "kept.png")
    photos = tmp_path / "photos"
    refuse(run, tmp_path, [photos], photos, "over the input", "a.png", replace=True)


def test_an_input_on_a_file_system_that_ignores_case(run, tmp_path, monkeypatch):
    draw(tmp_path / "A.PNG")
    stat = Path.stat

    def stat_ignoring_case(path, **kwargs):
        if path.parent == tmp_path:
            entries = {name.casefold(): name for name in os.listdir(tmp_path)}
            path = tmp_path / entries.get(path.name.casefold(), path.name)
        return stat(path, **kwargs)

    monkeypatch.setattr(Path, "stat", stat_ignoring_case)
    says = (f"{tmp_path}/A.png", "over the input", "A.PNG")
    refuse(run, tmp_path, [tmp_path / "A.PNG"], tmp_path, *says, replace=True)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["a.jpg", "a_overlay.jpg"], ["a.jpg", "a_overlay.jpg", "one name", "out/a_overlay.png"]),
        (["a.jpg", "a.png"], ["a.jpg", "a.png"]),
        (["a.jpg", "A.jpg"], ["a.jpg", "A.jpg", "case"]),
        (["s/a.jpg", "S/a.jpg"], ["s/a.jpg", "S/a.jpg", "case"]),
        ([f"{COMPOSED}.png", f"{DECOMPOSED}.png"], [f"{COMPOSED}.png", f"{DECOMPOSED}.png"]),
        ([f"{COMPOSED.upper()}.png", f"{DECOMPOSED}_OVERLAY.png", f"{DECOMPOSED}.jpg"], ["one"]),
        (["a.jpg", "a.png/b.jpg"], ["out/a.png", "photos/a.jpg", "photos/a.png/b.jpg", "folder"]),
        (["a.jpg", "a_overlay.PNG/s/b.jpg"], ["out/a_overlay.png", "s/b.jpg", "folder"]),
    ],
)
def test_two_results_of_one_name(run, tmp_path, names, says):
    draw(*(tmp_path / "photos" / name for name in names))
    refuse(run, tmp_path, [tmp_path / "photos"], tmp_path / "out", *says)


def test_two_inputs_of_one_name(run, tmp_path):
    first, second = tmp_path / "x" / "a.jpg", tmp_path / "y" / "a.png"
    draw(first, second)
    for pair in ([first, second], [first, tmp_path / "y"], [first, first]):
        refuse(run, tmp_path, pair, tmp_path / "out", first, pair[1])


def test_two_folders_of_the_output_that_are_one(run, tmp_path):
    draw(tmp_path / "photos" / "s" / "a.jpg", tmp_path / "photos" / "t" / "a.jpg")
    (tmp_path / "out" / "s").mkdir(parents=True)
    (tmp_path / "out" / "t").symlink_to("s")
    says = ("photos/s/a.jpg", "photos/t/a.jpg", "one name")
    refuse(run, tmp_path, [tmp_path / "photos"], tmp_path / "out", *says)


def sizes(folder):
    """Returns the sizes of the images below a folder by name, all of which can be decoded."""
    found = {}
    for file in folder.rglob("*"):
        if file.is_file():
            with Image.open(file) as image:
                found[file.relative_to(folder).as_posix()] = image.size
                image.load()
    return found


def test_results_are_replaced_with_the_flag_alone(run, tmp_path, capsys):
    photos, out = tmp_path / "photos", tmp_path / "out"
    draw(photos / "a.jpg", photos / "s" / "b.png")
    before = tree(photos)
    predict(run, [photos], out)
    assert tree(photos) == before
    names = ("a.png", "a_overlay.png", "s/b.png", "s/b_overlay.png")
    assert sizes(out) == dict.fromkeys(names, (13, 9))
    first = tree(out)

    for file in ("a.png", "a_overlay.png"):
        (out / file).unlink()
    (out / "s" / "b.png").write_bytes(b"another file")
    (out / "other.png").write_bytes(b"of the user")
    says = ("2 of the 4", f"{out}/s/b.png", "--replace", "--output")
    refuse(run, tmp_path, [photos], out, *says)
    # What a link leads to stays; the link itself is a result that is replaced.
    (tmp_path / "kept.png").write_bytes(b"kept")
    (out / "a.png").symlink_to(tmp_path / "kept.png")
    (out / "a_overlay.png").symlink_to(tmp_path / "nowhere.png")
    refuse(run, tmp_path, [photos], out, "4 of the 4", f"{out}/a.png", "--replace")
    capsys.readouterr()
    predict(run, [photos], out, replace=True)
    assert tree(out) == first | {out / "other.png": ("file", b"of the user")}
    assert (tmp_path / "kept.png").read_bytes() == b"kept"
    assert not (tmp_path / "nowhere.png").exists()
    assert tree(photos) == before
    assert "left out" not in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["folder", "link to a folder", "pipe"])
def test_what_is_no_file_is_never_replaced(run, tmp_path, kind):
    draw(tmp_path / "a.jpg")
    place = tmp_path / "out" / "a_overlay.png"
    place.parent.mkdir()
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "folder":
        place.mkdir()
    else:
        place.symlink_to(tmp_path)
    error = pytest.raises(UserError, match=rf"{place} is no file and is not replaced")
    with error:
        predict(run, [tmp_path / "a.jpg"], tmp_path / "out", replace=True)
    assert sorted(os.listdir(tmp_path / "out")) == ["a_overlay.png"]


@pytest.mark.parametrize("output", ["photos/out", "link/out", "out_link", "photos/x/../out"])
def test_an_output_in_an_input_is_left_out(run, tmp_path, monkeypatch, capsys, output):
    monkeypatch.chdir(tmp_path)
    draw(*(tmp_path / "photos" / name for name in ("a.jpg", "out.jpg", "sub/out/c.jpg")))
    (tmp_path / "photos" / "out").mkdir()
    (tmp_path / "link").symlink_to("photos")
    (tmp_path / "out_link").symlink_to("photos/out")
    predict(run, ["photos"], output)
    assert "left out" not in capsys.readouterr().out
    out = tmp_path / "photos" / "out"
    names = [f"{name}{end}" for name in ("a", "out", "sub/out/c") for end in ("", "_overlay")]
    assert sizes(out).keys() == {f"{name}.png" for name in names}
    first = tree(tmp_path)
    predict(run, ["photos"], output, replace=True)
    assert tree(tmp_path) == first
    said = "photos/out, the folder of the results, is left out of --input=photos; images in it: 6"
    assert said in capsys.readouterr().out.splitlines()


def test_an_input_that_holds_results_alone(run, tmp_path, capsys):
    draw(tmp_path / "photos" / "out" / "a.png")
    refuse(run, tmp_path, [tmp_path / "photos"], tmp_path / "photos" / "out", "holds no")
    assert "left out" in capsys.readouterr().out


def test_results_beside_the_images(run, tmp_path):
    draw(tmp_path / "a.jpg")
    before = tree(tmp_path)
    predict(run, [tmp_path / "a.jpg"], tmp_path)
    after = tree(tmp_path)
    assert {file.name for file in after.keys() - before.keys()} == {"a.png", "a_overlay.png"}
    assert before.items() <= after.items()


def a_file(tmp_path):
    (tmp_path / "out").write_text("")
    return "out"


def below_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    return "file/out"


def file_for_a_folder(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "s").write_text("")
    return "out"


def dead_link(tmp_path):
    (tmp_path / "out").symlink_to("nowhere")
    return "out"


def system_folder(tmp_path):
    return "/proc/out"


def bucket(tmp_path):
    return "gs://bucket/out"


def nothing(tmp_path):
    return ""


@pytest.mark.parametrize(
    "make", [a_file, below_a_file, file_for_a_folder, dead_link, system_folder, bucket, nothing]
)
def test_an_output_that_cannot_be_written(run, tmp_path, monkeypatch, make):
    monkeypatch.chdir(tmp_path)
    draw(tmp_path / "photos" / "s" / "a.jpg")
    output = make(tmp_path)
    refuse(run, tmp_path, ["photos"], output, f"--output={output}", replace=True)


def test_names_as_long_as_they_can_be(run, tmp_path):
    longest = "n" * (255 - len("_overlay.png"))
    draw(tmp_path / "photos" / f"{longest}.jpg")
    predict(run, [tmp_path / "photos"], tmp_path / "out")
    assert set(sizes(tmp_path / "out")) == {f"{longest}.png", f"{longest}_overlay.png"}
    draw(tmp_path / "photos" / f"{longest}n.jpg")
    says = (f"{longest}n_overlay.png", "255 bytes", "rename")
    refuse(run, tmp_path, [tmp_path / "photos"], tmp_path / "new", *says)


@pytest.mark.parametrize("text", ["", "gs://bucket/photos", "~no_such_user_here/photos"])
def test_inputs_that_are_no_local_path(run, tmp_path, monkeypatch, text):
    draw(tmp_path / "a.jpg")
    monkeypatch.chdir(tmp_path)
    refuse(run, tmp_path, [text], tmp_path / "out", f"--input={text}")


def test_all_is_told_before_the_model_is_looked_for(tmp_path):
    draw(tmp_path / "a.png")
    refuse(tmp_path / "no run", tmp_path, [tmp_path], tmp_path, "over the input", "a.png")


def test_of_two_processes_the_first_writes_and_both_refuse_alike(run, tmp_path):
    draw(tmp_path / "photos" / "a.jpg", tmp_path / "photos" / "b.png")
    broken_pixels(tmp_path / "photos" / "c.png")  # the second process decodes it, and alone
    (tmp_path / "photos" / "d.png").write_bytes(b"no image")
    flags = ["--mode=predict", "--checkpoint=latest", f"--input={tmp_path}/photos"]
    flags.append(f"--output={tmp_path}/photos/out")
    done = finish(start(run, 2, flags))
    assert [code for code, *_ in done] == [5, 5], done
    for _, _, error in done:
        assert "error: 2 of 4 images could not be read and were not predicted" in error
    for name in ("c", "d"):
        assert f"photos/{name}.png cannot be read" in done[0][1]
    names = ("a.png", "a_overlay.png", "b.png", "b_overlay.png")
    assert sizes(tmp_path / "photos" / "out") == dict.fromkeys(names, (13, 9))
    before = tree(tmp_path)
    done = finish(start(run, 2, flags))
    assert [code for code, *_ in done] == [2, 2], done
    for _, _, error in done:
        assert f"holds 4 of the 8 files to be written, the first is {tmp_path}/photos/out" in error
    assert tree(tmp_path) == before


@pytest.mark.parametrize("value", [None, "images", ("a", "b")])
def test_a_folder_that_is_no_section_is_one_line(value):
    with pytest.raises(UserError, match=r"^config\.data\.folder=.* must be a section of keys"):
        read_patterns({"folder": value})
    with pytest.raises(UserError, match=r"^config\.data\.folder\.images=3 must be text"):
        read_patterns({"folder": {"images": 3}})
