import errno
import os
from pathlib import Path

import pytest
from support.pets_set import PREPARED, prepare

from unet_jax.data import storage
from unet_jax.data.files import FilePairs, read_header, read_list
from unet_jax.data.retry import TRIES, again
from unet_jax.data.sets.tfds_pets import open_pets
from unet_jax.errors import UserError
from unet_jax.process import regular


@pytest.fixture(autouse=True)
def waits(monkeypatch):
    """Lists the waits instead of waiting."""
    slept = []
    monkeypatch.setattr("time.sleep", slept.append)
    return slept


class Failing:
    """Fails some times, then returns "read"."""

    def __init__(self, times, error):
        self.left, self.error, self.calls = times, error, 0

    def __call__(self):
        self.calls += 1
        self.left -= 1
        if self.left >= 0:
            raise self.error
        return "read"


STALE = OSError(errno.ESTALE, "Stale file handle", "the/path")


def test_what_works_is_called_once_and_logs_nothing(caplog, waits):
    read = Failing(0, STALE)
    assert again(read, "x") == "read"
    assert (read.calls, waits, caplog.records) == (1, [], [])


@pytest.mark.parametrize("times", range(1, TRIES))
def test_waits_grow_and_one_line_is_logged(times, caplog, waits):
    assert again(Failing(times, STALE), "some/file") == "read"
    assert waits == pytest.approx([1 / 3, 2 / 3, 4 / 3, 8 / 3][:times])
    (record,) = caplog.records
    assert record.getMessage() == f"some/file was read at try {times + 1}, after: Stale file handle"


def test_an_end_with_name_number_of_tries_and_last_reason(caplog, waits):
    read = Failing(99, STALE)
    with pytest.raises(UserError) as error:
        again(read, "some/file")
    assert str(error.value) == "some/file cannot be read, tried 5 times: Stale file handle."
    assert (read.calls, sum(waits)) == (5, pytest.approx(5))
    assert not caplog.records


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(),
        IsADirectoryError(),
        NotADirectoryError(),
        PermissionError(),
        UserError(),
        RuntimeError(),
    ],
    ids=repr,
)
def test_what_cannot_get_better_comes_through_at_once(error, waits):
    read = Failing(99, error)
    with pytest.raises(type(error)):
        again(read, "x")
    assert (read.calls, waits) == (1, [])


def test_other_kinds_where_they_are_named():
    assert again(Failing(2, RuntimeError()), "x", (OSError, RuntimeError)) == "read"


@pytest.fixture
def pairs(tmp_path):
    files = tmp_path / "a.jpg", tmp_path / "a.png"
    for file in files:
        file.write_bytes(b"data of " + file.suffix.encode())
    return FilePairs(["a"], [files])


def fail(monkeypatch, method, file, times):
    """Makes a method of `Path` fail for one file; returns the failing function."""
    real, failing = getattr(Path, method), Failing(times, STALE)

    def patched(path, *args, **kwargs):
        if path == file:
            failing()
        return real(path, *args, **kwargs)

    monkeypatch.setattr(Path, method, patched)
    return failing


def fail_to_open(monkeypatch, file, times):
    """Makes opening one file fail; returns the failing function."""
    real, failing = regular.open_regular, Failing(times, STALE)

    def patched(path, *args):
        if path == file:
            failing()
        return real(path, *args)

    monkeypatch.setattr(storage, "open_regular", patched)
    return failing


@pytest.mark.parametrize("which", [0, 1])
def test_local_files_are_read_again(pairs, which, monkeypatch, caplog):
    file = pairs.files[0][which]
    fail_to_open(monkeypatch, file, 2)
    assert pairs.read(0)[:2] == (b"data of .jpg", (b"data of .png",))
    assert len(caplog.records) == 1
    failing = fail_to_open(monkeypatch, file, 99)
    with pytest.raises(UserError, match=rf"^{file} cannot be read, tried 5 times: Stale file"):
        pairs.read(0)
    assert failing.calls == 5


@pytest.mark.parametrize("which", [0, 1])
def test_stamps_are_taken_again(pairs, which, monkeypatch):
    before = pairs.stamp(0)
    fail(monkeypatch, "stat", pairs.files[0][which], 2)
    assert pairs.stamp(0) == before


def test_lists_are_read_again(tmp_path, monkeypatch):
    file = tmp_path / "list.txt"
    file.write_text("a\nb\n")
    fail_to_open(monkeypatch, file, 2)
    assert read_list(file) == ["a", "b"]


def test_a_folder_in_place_of_a_file_fails_at_once(tmp_path, waits):
    for ask in (storage.read_bytes, read_header):
        with pytest.raises(UserError, match=rf"^{tmp_path} is a directory and no regular file"):
            ask(tmp_path)
    assert waits == []


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pets")
    prepare(folder)
    return folder


@pytest.fixture
def record_file(prepared):
    """Returns the test split's file; puts it back after the test."""
    (file,) = (prepared / PREPARED).glob("*test.array_record*")
    good = file.read_bytes()
    yield file
    if file.is_dir():
        file.rmdir()
    file.write_bytes(good)


def test_records_are_read_again_once_their_file_can_be_opened(
    prepared, record_file, monkeypatch, caplog
):
    records, good = open_pets(str(prepared))["test"], record_file.read_bytes()
    expected = [records[i] for i in range(len(records))]
    records._source._source = records._source._open()  # nothing is open yet
    record_file.write_bytes(good[:100])
    slept = []

    def mend(seconds):
        slept.append(seconds)
        if len(slept) == 2:
            record_file.write_bytes(good)

    monkeypatch.setattr("time.sleep", mend)
    assert [records[i] for i in range(len(records))] == expected
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert line.startswith(f"record 0 of test in {prepared / PREPARED} was read at try 3, after: ")


def test_records_that_stay_damaged_are_named(prepared, record_file, waits):
    records = open_pets(str(prepared))["test"]
    records._source._source = records._source._open()
    record_file.write_bytes(record_file.read_bytes()[:100])
    says = rf"^record 1 of test in {prepared / PREPARED} cannot be read, tried 5 times: ArrayRecord"
    with pytest.raises(UserError, match=says):
        records[1]
    assert len(waits) == 4


@pytest.mark.parametrize("problem", ["missing", "folder", "forbidden"])
def test_record_files_that_cannot_get_better_fail_at_once(
    prepared, record_file, problem, waits, monkeypatch
):
    records = open_pets(str(prepared))["test"]
    records._source._source = records._source._open()
    if problem == "forbidden":
        record_file.write_bytes(b"")  # root may read all, so that the right is taken from open()
        real = open

        def refuse(path, *args, **kwargs):
            if os.fspath(path) == str(record_file):
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return real(path, *args, **kwargs)

        monkeypatch.setattr("builtins.open", refuse)
    else:
        record_file.unlink()
    if problem == "folder":
        record_file.mkdir()
    says = {"missing": "is missing", "folder": "Is a directory", "forbidden": "Permission denied"}
    with pytest.raises(UserError, match=f"{record_file} .*{says[problem]}"):
        records[0]
    assert waits == []
