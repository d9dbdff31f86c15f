import os
import unicodedata

import pytest

from unet_jax.data.base import Encoded
from unet_jax.data.files import SUFFIXES, UNREAD, FilePairs, list_images, read_list
from unet_jax.errors import UserError


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_ids_are_paths_without_suffix_in_order(tmp_path):
    names = ["b.jpg", "a.JPEG", "c.v1.2.PNG", "deep/er/a.png", "Z.png"]
    other = ["notes.txt", "a.mat", ".hidden.png", "._b.jpg", ".cache/d.png", "deep/.x/e.jpg", "png"]
    touch(tmp_path, *names, *other)
    found = list_images(tmp_path, "key")
    assert list(found) == ["Z", "a", "b", "c.v1.2", "deep/er/a"]
    assert sorted(found.values()) == sorted(tmp_path / name for name in names)
    assert all(file.with_suffix("") == tmp_path / name for name, file in found.items())


@pytest.mark.parametrize("path", ["nowhere", "file.png"])
def test_a_missing_folder_names_itself_and_the_key(tmp_path, path):
    touch(tmp_path, "file.png")
    with pytest.raises(UserError, match=rf"{tmp_path}/{path} is not a folder.*change some\.key"):
        list_images(tmp_path / path, "some.key")


def test_two_files_of_one_name(tmp_path):
    touch(tmp_path, "x/a.jpg", "x/a.png", "b.png", "c/b.png")
    with pytest.raises(UserError, match=r"x/a\.jpg and .*x/a\.png have the same name; rename"):
        list_images(tmp_path, "key")


def test_every_image_is_found_whatever_its_kind_and_case(tmp_path, capsys):
    names = [f"{suffix[1:]}{suffix}" for suffix in SUFFIXES] + ["BIG.TIF", "a/b.Gif"]
    touch(tmp_path, *names)
    assert {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"} <= set(SUFFIXES)
    assert len(list_images(tmp_path, "key")) == len(names)
    assert not capsys.readouterr().out


def test_what_is_passed_over_is_counted_and_named_in_one_line_once(tmp_path, capsys):
    other = [".x/a.png", ".b.png", "Thumbs.db", "deep/notes.txt", "deep/README", "z.TXT"]
    touch(tmp_path, "a.png", *other)
    for _ in range(3):
        list_images(tmp_path, "key")
    assert capsys.readouterr().out == (
        f"{tmp_path}: 1 .db, 2 .txt, 2 hidden, 1 without suffix passed over, such as .b.png\n"
    )


@pytest.mark.parametrize("suffix", [*sorted(UNREAD), ".HEIC"])
def test_images_of_a_kind_that_is_not_read_are_an_error(tmp_path, suffix):
    touch(tmp_path, "a.png", f"x/b{suffix}", f"x/c{suffix}", "z.dcm.txt")
    says = (
        rf"^2 files in {tmp_path} are .* not read \(2 {suffix.lower()}\), .*x/b{suffix}; .*\.webp"
    )
    with pytest.raises(UserError, match=says):
        list_images(tmp_path, "key")


def test_a_folder_that_is_an_image_is_one(tmp_path):
    touch(tmp_path, "a.png", "b.zarr/0/0", "b.zarr/c.png", "c.raw/d.png", "e.png/f.tif")
    found = list_images(tmp_path, "key")
    assert list(found) == ["a", "b", "c.raw/d", "e.png/f"]
    assert found["b"] == tmp_path / "b.zarr"
    (tmp_path / "b.zarr").rename(tmp_path / ".b.zarr")
    assert list(list_images(tmp_path, "key")) == ["a", "c.raw/d", "e.png/f"]


@pytest.mark.parametrize(
    ("names", "found"),
    [([], "no files"), (["a.txt", "b/c.TXT", "d.csv", ".e.png"], r"1 \.csv, 2 \.txt, 1 hidden")],
)
def test_where_no_image_is_left_the_error_says_what_is_there(tmp_path, names, found):
    touch(tmp_path, *names)
    with pytest.raises(
        UserError, match=rf"^{tmp_path} holds no images but {found};.*Change a\.key"
    ):
        list_images(tmp_path, "a.key")


def test_links_are_followed(tmp_path):
    touch(tmp_path, "far/q1.png", "far/deep/q2.png", "one/file.png", "here/p.png")
    here = tmp_path / "here"
    (here / "site").symlink_to(tmp_path / "far")
    (here / "again").symlink_to(tmp_path / "far")  # twice, and no circle
    (here / "r.png").symlink_to(tmp_path / "one/file.png")
    found = list_images(here, "key")
    assert list(found) == ["again/deep/q2", "again/q1", "p", "r", "site/deep/q2", "site/q1"]
    assert found["site/q1"] == here / "site/q1.png"
    (tmp_path / "link").symlink_to(here)
    assert list(list_images(tmp_path / "link", "key")) == list(found)


@pytest.mark.parametrize("target", [".", "..", "../..", "../../x", "../../x/y"])
def test_a_circle_of_links_is_named(tmp_path, target):
    touch(tmp_path, "a.png", "x/y/b.png")
    (tmp_path / "x/y/round").symlink_to(target)
    (tmp_path / "x/y/x").symlink_to(tmp_path / "x/y")
    with pytest.raises(UserError, match=r"x/y/.* is a link to a folder that it lies in; remove"):
        list_images(tmp_path, "key")


@pytest.mark.parametrize("target", ["nowhere", "site"])
def test_a_link_that_leads_nowhere_is_named(tmp_path, target):
    touch(tmp_path, "a.png")
    (tmp_path / "site").symlink_to(target)
    with pytest.raises(UserError, match=rf"^{tmp_path}/site is a link to {target}, .* nowhere"):
        list_images(tmp_path, "key")


def test_a_folder_can_be_left_out(tmp_path):
    touch(tmp_path, "a.png", "out/b.png", "c/out/d.png", "c/e.png", "out2/f.png")
    found = list_images(tmp_path, "key", lambda folder: folder == tmp_path / "out")
    assert list(found) == ["a", "c/e", "c/out/d", "out2/f"]


def test_ids_have_composed_accents_on_every_file_system(tmp_path):
    composed, apart = (unicodedata.normalize(form, "Übung/é") for form in ("NFC", "NFD"))
    touch(tmp_path, f"{apart}.png")
    found = list_images(tmp_path, "key")
    assert list(found) == [composed]
    assert found[composed].exists()
    touch(tmp_path, f"{composed}.png")
    with pytest.raises(UserError, match="have the same name"):
        list_images(tmp_path, "key")


def test_a_list_is_whole_lines_in_their_order(tmp_path):
    file = tmp_path / "list.txt"
    file.write_bytes(b"# name\nb 1  2\n\n  a_1\t7 \r\n#c_1 1\rd/e\xe2\x80\xa8f\x0cg\n   \n")
    assert read_list(file) == ["b 1  2", "a_1\t7", "d/e\u2028f\x0cg"]
    assert read_list(file, known={"#c_1 1"}) == ["b 1  2", "a_1\t7", "#c_1 1", "d/e\u2028f\x0cg"]
    assert read_list(file, first_word=True)[:2] == ["b", "a_1"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_lists_of_all_editors(tmp_path, encoding, form, newline):
    names = ["Übung 1", "é/b", "c"]
    text = unicodedata.normalize(form, newline.join(names))
    (tmp_path / "list.txt").write_bytes(text.encode(encoding))
    assert read_list(tmp_path / "list.txt") == [unicodedata.normalize("NFC", n) for n in names]


@pytest.mark.parametrize("name", ["../b", "a/../../b", "/etc/b", "a/..", ".."])
@pytest.mark.parametrize("first_word", [True, False])
def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path, name, first_word):
    (tmp_path / "list.txt").write_text(f"a\n{name}\n")
    with pytest.raises(
        UserError, match=rf"list\.txt names '{name}', which leads out of the folder"
    ):
        read_list(tmp_path / "list.txt", first_word=first_word)


def test_an_empty_list(tmp_path):
    (tmp_path / "list.txt").write_text("")
    assert read_list(tmp_path / "list.txt") == []


def test_names_listed_twice_are_counted(tmp_path):
    (tmp_path / "list.txt").write_text("c\nb\na\nb 2\nc\nb\n b\n")
    with pytest.raises(UserError, match=r"list\.txt names b more than once \(2 such names\)"):
        read_list(tmp_path / "list.txt")


def test_lists_that_cannot_be_read(tmp_path):
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    for name in ("binary.txt", "missing.txt", "."):
        says = r"cannot be read as a list|cannot be read: No such|is a directory"
        with pytest.raises(UserError, match=says):
            read_list(tmp_path / name)


@pytest.fixture
def pairs(tmp_path):
    files = [(tmp_path / f"{name}.jpg", tmp_path / f"{name}.png") for name in "ab"]
    for image, mask in files:
        image.write_bytes(b"image " + image.stem.encode())
        mask.write_bytes(b"mask " + mask.stem.encode())
    return FilePairs(["a", "b"], files)


def test_pairs_are_read_as_they_are(pairs, tmp_path):
    assert pairs.ids == ("a", "b")
    names = f"{tmp_path}/b.jpg", (f"{tmp_path}/b.png",)
    assert pairs.read(1) == Encoded(b"image b", (b"mask b",), *names)


@pytest.mark.parametrize("file", [0, 1])
def test_a_stamp_changes_with_size_or_time_of_either_file(pairs, file):
    before = pairs.stamp(0), pairs.stamp(1)
    path = pairs.files[0][file]
    assert (pairs.stamp(0), pairs.stamp(1)) == before
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    after_touch = pairs.stamp(0)
    path.write_bytes(b"longer than before")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert len({before[0], after_touch, pairs.stamp(0)}) == 3
    assert pairs.stamp(1) == before[1]


@pytest.mark.parametrize("file", [0, 1])
def test_a_file_that_vanished_is_named(pairs, file):
    path = pairs.files[1][file]
    path.unlink()
    for ask in (pairs.read, pairs.stamp):
        with pytest.raises(UserError, match=f"{path} cannot be read: No such file"):
            ask(1)
        ask(0)
