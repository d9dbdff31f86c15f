import io
from pathlib import Path

import numpy as np
import pytest
from etils import epath
from PIL import Image
from support.bucket import Bucket, make_bucket, use
from support.encoded import chunk, exif

from unet_jax.data import storage
from unet_jax.data.files import FilePairs, list_images, read_header, read_list
from unet_jax.data.folder import open_folder
from unet_jax.data.retry import TRIES
from unet_jax.data.sets import pets
from unet_jax.data.sets.pets import open_pets
from unet_jax.errors import UserError

CLASSES = ("sky", "sea")
ROOT = "gs://images/mine"
NAMES = [f"{group}/n{i}" for group in "ab" for i in range(5)]


@pytest.fixture(autouse=True)
def waits(monkeypatch):
    """Lists the waits instead of waiting."""
    slept = []
    monkeypatch.setattr("time.sleep", slept.append)
    return slept


@pytest.fixture
def bucket(monkeypatch):
    return make_bucket(monkeypatch)


def png(array):
    data = io.BytesIO()
    Image.fromarray(array).save(data, "PNG")
    return data.getvalue()


def contents():
    """Files of the folder by path: each mask tells which image it belongs to."""
    files = {}
    for number, name in enumerate(NAMES):
        mask = np.zeros((3, 4 + number), np.uint8)
        mask[0, number % 4] = 1
        files[f"images/{name}.png"] = png(np.full((3, 4 + number, 3), number, np.uint8))
        files[f"masks/{name}.png"] = png(mask)
    files["val.txt"] = b"# names\nb/n1\na/n2\n"
    for other in ("images/notes.txt", "images/.hidden.png", "images/.x/a.png", "masks/deep/a.md"):
        files[other] = b"not an image"
    return files


@pytest.fixture
def filled(bucket, tmp_path):
    """Fills the bucket, and a local folder with the same; returns both."""
    for name, data in contents().items():
        bucket.put_bytes(f"images/mine/{name}", data)
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    return bucket, tmp_path


def test_a_remote_folder_gives_the_same_as_a_local_one(filled):
    remote, local = (open_folder(str(r), 0.2, 0, class_names=CLASSES) for r in (ROOT, filled[1]))
    assert remote.splits["val"].indices == local.splits["val"].indices
    for name, split in local.splits.items():
        assert len(remote.splits[name]) == len(split)
        for index in range(len(split)):
            one, other = split.read(index), remote.splits[name].read(index)
            assert one.id == other.id
            np.testing.assert_array_equal(one.image, other.image)
            np.testing.assert_array_equal(one.label, other.label)
            assert remote.splits[name].shape(index) == split.shape(index) == one.label.shape


def test_images_are_listed_without_a_question_for_each(filled):
    found = list_images(epath.Path(ROOT) / "images", "key")
    assert list(found) == NAMES
    assert str(found["a/n0"]) == f"{ROOT}/images/a/n0.png"
    assert not [key for key in filled[0].asked if key.endswith(".png")]


def test_the_official_layout_of_pets(bucket):
    mask = png(np.ones((2, 3), np.uint8))
    for split, names in (("trainval", "ab"), ("test", "c")):
        lines = "".join(f"{name}_{i} 1 1 1\n" for name in names for i in range(4))
        bucket.put_bytes(f"p/annotations/{split}.txt", lines.encode())
        for name in lines.split()[::4]:
            bucket.put_bytes(f"p/images/{name}.jpg", png(np.zeros((2, 3, 3), np.uint8)))
            bucket.put_bytes(f"p/annotations/trimaps/{name}.png", mask)
    splits = open_pets("gs://p", 0.25, 0).splits
    assert {name: len(split) for name, split in splits.items()} == {"train": 6, "val": 2, "test": 4}
    np.testing.assert_array_equal(splits["test"].read(3).label, 0)
    assert not bucket.asked["info p/images/a_0.jpg"]  # listed, not asked for one by one
    bucket.store.pop("/p/annotations/trimaps/b_2.png")
    with pytest.raises(UserError, match=r"^1 files that gs://p/annotations/trainval\.txt .*b_2\.p"):
        open_pets("gs://p", 0.25, 0)


@pytest.mark.parametrize(
    ("failing", "name"),
    [("open", "masks/a/n1.png"), ("ls", "images/b"), ("info", "images/b"), ("info", "val.txt")],
)
def test_two_failures_are_tried_again(filled, failing, name, caplog, waits):
    bucket, path = filled[0], f"images/mine/{name}"
    bucket.failures[f"{failing} {path}"] = 2
    split = open_folder(ROOT, 0.2, 0, class_names=CLASSES).splits["train"]
    assert len(split) == len(NAMES) - 2  # what failed to answer is not missing
    assert split.read(1).id == "a/n1"
    assert len(waits) == 2
    (line,) = [record.getMessage() for record in caplog.records]
    assert line == f"gs://{path} was read at try 3, after: reset by peer"


def test_any_kind_of_error_of_a_store_is_tried_again(filled, monkeypatch):
    monkeypatch.setattr(Bucket, "error", RuntimeError("HTTP 503"))
    filled[0].failures["open images/mine/val.txt"] = 2
    assert read_list(epath.Path(ROOT) / "val.txt") == ["b/n1", "a/n2"]


@pytest.mark.parametrize(
    "ask",
    [storage.read_bytes, storage.stamp, read_header, read_list, storage.entries, storage.is_folder],
)
def test_what_fails_always_is_an_error_that_names_the_file(filled, ask, waits):
    file = "images/mine/val.txt"
    for what in ("open", "info", "ls"):
        filled[0].failures[f"{what} {file}"] = 99
    says = rf"^gs://{file} cannot be read, tried {TRIES} times: reset by peer\.$"
    with pytest.raises(UserError, match=says):
        ask(epath.Path(f"gs://{file}"))
    assert len(waits) == TRIES - 1


def test_a_file_that_vanished_fails_at_once(filled, waits):
    bucket = filled[0]
    split = open_folder(ROOT, 0.2, 0, class_names=CLASSES).splits["train"]
    bucket.store.pop("/images/mine/masks/a/n1.png")
    for ask in (split.read, split.shape, lambda i: split.pairs.stamp(split.indices[i])):
        with pytest.raises(UserError, match=f"^{ROOT}/masks/a/n1.png cannot be read: No such file"):
            ask(1)
    assert waits == []


@pytest.mark.parametrize("has_times", [True, False])
def test_a_stamp_changes_with_size_or_time(bucket, has_times):
    file, name = epath.Path("gs://x/a.png"), "x/a.png"
    bucket.put_bytes(name, b"abc")
    if has_times:
        bucket.times[name] = 1e9
    pairs = FilePairs(["a"], [(file, file)])
    before = pairs.stamp(0)
    assert pairs.stamp(0) == before
    if has_times:
        bucket.times[name] += 1
    else:  # then the store tells a time in a way of its own
        bucket.put_bytes(name, b"abd")
    touched = pairs.stamp(0)
    bucket.put_bytes(name, b"abcd")
    assert len({before, touched, pairs.stamp(0)}) == 3


def test_a_stamp_without_any_time_is_the_size(bucket, monkeypatch):
    def modified(*_):
        raise NotImplementedError

    monkeypatch.setattr(Bucket, "modified", modified)
    bucket.put_bytes("x/a.png", b"abc")
    assert storage.stamp(epath.Path("gs://x/a.png")).split() == ["gs://x/a.png", "3"]


@pytest.mark.parametrize("path", ["gs://images/nowhere", "gs://images/mine/val.txt"])
def test_a_missing_remote_folder(filled, path):
    del filled
    with pytest.raises(UserError, match=rf"config\.data\.path='{path}' is not a directory"):
        open_folder(path, 0.2, 0, class_names=CLASSES)


def test_a_missing_package_is_named_with_what_installs_it(monkeypatch, waits):
    use(monkeypatch, None)
    says = rf"^{ROOT} .*Please install no_such_package, .*pip install 'unet-jax\[gcs\]'\.$"
    with pytest.raises(UserError, match=says):
        open_folder(ROOT, 0.2, 0, class_names=CLASSES)
    assert waits == []


def test_other_stores_are_an_error():
    says = r"^config\.data\.path='http://x/y' cannot .* local paths .* gs:// or s3://"
    with pytest.raises(UserError, match=says):
        open_folder("http://x/y", 0.2, 0, class_names=CLASSES)


def test_tfds_takes_local_paths_alone(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"config\.data\.path='gs://x' is not a local path"):
        pets.open_tfds("gs://x", 0.1, 0)
    assert not list(tmp_path.iterdir())


def test_local_paths_stay_paths_of_pathlib(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert storage.as_path("~/mine", "key") == tmp_path / "mine"
    assert isinstance(storage.as_path("mine", "key"), Path)


def test_the_size_of_a_large_remote_image_is_one_question(bucket):
    noise = np.random.default_rng(0).integers(0, 256, (300, 401), np.uint8)
    behind = png(noise)
    data = behind[:-12] + chunk(b"eXIf", exif(6)) + behind[-12:]
    assert len(data) > 1 << 16
    bucket.put_bytes("x/a.png", data)
    assert read_header(epath.Path("gs://x/a.png")).shape == (401, 300)
    assert bucket.asked["open x/a.png"] == 1


def test_hidden_and_other_images_are_told_by_their_names(bucket):
    for name in ("a.png", ".x/b.png", ".c.png"):
        bucket.put_bytes(f"x/{name}", b"any")
    assert list(list_images(epath.Path("gs://x"), "key")) == ["a"]
    bucket.put_bytes("x/scan.nii.gz", b"any")
    with pytest.raises(
        UserError, match=r"^1 files in gs://x .*\(1 \.nii\.gz\), .*gs://x/scan\.nii"
    ):
        list_images(epath.Path("gs://x"), "key")
    assert {key for key in bucket.asked if key != "info x"} == {"ls x"}


def test_remote_lists_elsewhere(filled):
    bucket, local = filled
    bucket.put_bytes("lists/val.txt", b"b/n0.png\r\n")
    (local / "lists").mkdir()
    (local / "lists/val.txt").write_text("b/n0.png\n")
    for lists in ("gs://lists", str(local / "lists")):
        splits = open_folder(ROOT, 0.2, 0, class_names=CLASSES, lists=lists).splits
        assert splits["val"].pairs.ids[splits["val"].indices[0]] == "b/n0"
        assert len(splits["train"]) == len(NAMES) - 1


def test_remote_images_are_not_their_own_masks(filled):
    del filled
    with pytest.raises(UserError, match="are one folder"):
        open_folder(ROOT, 0.2, 0, class_names=CLASSES, masks="images")
