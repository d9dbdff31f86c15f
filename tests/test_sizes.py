import io

import numpy as np
import pytest
from pets_set import originals, prepare
from PIL import Image, ImageFile

from unet_jax.data import files, pets
from unet_jax.data.folder import open_folder
from unet_jax.data.images import read_size
from unet_jax.data.synthetic import open_synthetic
from unet_jax.errors import UserError

SIZES = [(3, 7), (7, 3), (1, 1), (40, 33)]


def save(file, array, **options):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(file, **options)


def folder(tmp_path):
    for number, size in enumerate(SIZES):
        save(tmp_path / "images" / f"{number}.jpg", np.zeros((*size, 3), np.uint8))
        save(tmp_path / "masks" / f"{number}.png", np.zeros(size, np.uint8))
    return open_folder(str(tmp_path), 0.25, 0, class_names=("x", "y"))


def official(tmp_path):
    for name, data in originals().items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    (tmp_path / "images/beagle_116.jpg").write_bytes(originals()["images/pug_7.jpg"])
    return open_folder(str(tmp_path), 0.25, 0)


def records(tmp_path):
    mask = io.BytesIO()
    Image.fromarray(np.ones((9, 80), np.uint8)).save(mask, "PNG")
    prepare(tmp_path, **{"annotations/trimaps/pug_7.png": mask.getvalue()})
    return pets.open_tfds(str(tmp_path), 0.25, 0)


def synthetic(tmp_path):
    del tmp_path
    return open_synthetic(train=2, val=1, test=1, size=11)


@pytest.mark.parametrize("dataset", [folder, official, records, synthetic])
def test_a_size_is_that_of_the_label_and_nothing_is_decoded(dataset, tmp_path, monkeypatch):
    splits = dataset(tmp_path).splits
    expected = {name: [s[i]["label"].shape for i in range(len(s))] for name, s in splits.items()}
    assert all(expected.values())
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda _: pytest.fail("decoded"))
    for name, split in splits.items():
        assert [split.size(np.int64(i)) for i in range(len(split))] == expected[name]


def test_the_size_is_the_masks_where_they_differ(tmp_path):
    train = folder(tmp_path).splits["train"]
    save(train.pairs.files[train.indices[0]][0], np.zeros((5, 6, 3), np.uint8))
    assert train.size(0) == train[0]["label"].shape != (5, 6)


def test_little_of_a_large_file_is_read(tmp_path, monkeypatch):
    noise = np.random.default_rng(0).integers(0, 256, (500, 600), np.uint8)
    save(tmp_path / "a.png", noise)
    assert (tmp_path / "a.png").stat().st_size > 200_000
    read, real = [], files.storage.read_bytes

    def count(*args):
        read.append(real(*args))
        return read[-1]

    monkeypatch.setattr(files.storage, "read_bytes", count)
    assert files.read_size(tmp_path / "a.png") == (500, 600)
    assert len(b"".join(read)) < 100_000


def test_a_header_longer_than_the_first_part(tmp_path):
    profile = bytes(200_000)
    save(tmp_path / "a.jpg", np.zeros((6, 5, 3), np.uint8), icc_profile=profile)
    assert files.read_size(tmp_path / "a.jpg") == (6, 5)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP"])
def test_a_part_of_a_picture_gives_its_size_or_an_error_that_names_it(kind):
    data = io.BytesIO()
    Image.fromarray(np.zeros((9, 14), np.uint8)).save(data, kind)
    whole, known = data.getvalue(), 0
    assert read_size(whole, "x") == (9, 14)
    for length in range(len(whole)):
        try:
            size = read_size(whole[:length], "some/file.x")
        except UserError as error:
            assert str(error).startswith("some/file.x cannot be read as a picture")  # noqa: PT017
        else:
            known += 1
            assert size == (9, 14)
    assert known


def test_no_picture(tmp_path):
    for data in (b"", b"text", bytes(100_000)):
        (tmp_path / "a.png").write_bytes(data)
        with pytest.raises(UserError, match=rf"^{tmp_path}/a\.png cannot be read as a picture"):
            files.read_size(tmp_path / "a.png")
