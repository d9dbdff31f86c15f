import os

import pytest

from unet_jax.data.files import FilePairs, list_pictures, read_list
from unet_jax.errors import UserError


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_ids_are_paths_without_suffix_in_order(tmp_path):
    names = ["b.jpg", "a.JPEG", "c.v1.2.PNG", "deep/er/a.png", "Z.png"]
    other = ["notes.txt", "a.mat", ".hidden.png", "._b.jpg", ".cache/d.png", "deep/.x/e.jpg", "png"]
    touch(tmp_path, *names, *other)
    found = list_pictures(tmp_path, "key")
    assert list(found) == ["Z", "a", "b", "c.v1.2", "deep/er/a"]
    assert sorted(found.values()) == sorted(tmp_path / name for name in names)
    assert all(file.with_suffix("") == tmp_path / name for name, file in found.items())


@pytest.mark.parametrize("path", ["nowhere", "file.png"])
def test_a_missing_folder_names_itself_and_the_key(tmp_path, path):
    touch(tmp_path, "file.png")
    with pytest.raises(UserError, match=rf"{tmp_path}/{path} is not a folder.*change some\.key"):
        list_pictures(tmp_path / path, "some.key")


def test_two_files_of_one_name(tmp_path):
    touch(tmp_path, "x/a.jpg", "x/a.png", "b.png", "c/b.png")
    with pytest.raises(UserError, match=r"x/a\.jpg and .*x/a\.png have the same name; rename"):
        list_pictures(tmp_path, "key")


def test_a_list_is_the_first_words_in_its_order(tmp_path):
    file = tmp_path / "list.txt"
    file.write_text("# name class\nb_1 1 2 3\n\n  a_1\t7\r\n#c_1 1\nd/e_1\n   \n")
    assert read_list(file) == ["b_1", "a_1", "d/e_1"]


def test_an_empty_list(tmp_path):
    (tmp_path / "list.txt").write_text("")
    assert read_list(tmp_path / "list.txt") == []


def test_names_listed_twice_are_counted(tmp_path):
    (tmp_path / "list.txt").write_text("c\nb\na\nb 2\nc\nb\n")
    with pytest.raises(UserError, match=r"list\.txt names b more than once \(2 such names\)"):
        read_list(tmp_path / "list.txt")


def test_lists_that_cannot_be_read(tmp_path):
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    for name in ("binary.txt", "missing.txt", "."):
        with pytest.raises(UserError, match="cannot be read as a list"):
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
    names = f"{tmp_path}/b.jpg", f"{tmp_path}/b.png"
    assert pairs.read(1) == (b"image b", b"mask b", *names)


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
