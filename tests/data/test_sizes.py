import io

import numpy as np
import pytest
from PIL import Image, ImageFile
from support.encoded import SHOWN, by_pillow, chunk, exif, png, tiff
from support.pets_set import originals, prepare

from unet_jax.data import files, storage
from unet_jax.data.folder import open_folder
from unet_jax.data.formats.pillow import decode_image, read_header
from unet_jax.data.sets import pets
from unet_jax.data.sources import make_loading
from unet_jax.data.synthetic import open_synthetic
from unet_jax.errors import UserError
from unet_jax.predict.inputs import open_images

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
    return pets.open_pets(str(tmp_path), 0.25, 0)


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
    expected = {
        name: [s.read(i).truth().shape for i in range(len(s))] for name, s in splits.items()
    }
    assert all(expected.values())
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda _: pytest.fail("decoded"))
    for name, split in splits.items():
        assert [split.shape(np.int64(i)) for i in range(len(split))] == expected[name]


def test_the_size_is_the_masks_where_they_differ(tmp_path):
    train = folder(tmp_path).splits["train"]
    save(train.pairs.files[train.indices[0]][0], np.zeros((5, 6, 3), np.uint8))
    assert train.shape(0) == train.read(0).truth().shape != (5, 6)


class Counted(io.BytesIO):
    """Counts the bytes that are read."""

    count = 0

    def read(self, size=-1):
        data = super().read(size)
        Counted.count += len(data)
        return data


def noise(size):
    return np.random.default_rng(0).integers(0, 256, size, np.uint8)


@pytest.mark.parametrize("orientation", [1, 6])
def test_little_of_a_large_file_is_read(tmp_path, monkeypatch, orientation):
    # Its EXIF lies behind the pixels; a PNG writer may end a part of them every few KB.
    pixels = by_pillow(noise((500, 600)))
    data = pixels[:-12] + chunk(b"eXIf", exif(orientation)) + pixels[-12:]
    assert len(data) > 200_000
    monkeypatch.setattr(Counted, "count", 0)
    monkeypatch.setattr(storage, "open_regular", lambda *_: Counted(data))
    size = files.read_header(tmp_path / "a.png").shape
    assert size == ((500, 600) if orientation == 1 else (600, 500))
    assert 0 < Counted.count < 100_000


@pytest.mark.parametrize("kind", ["png", "webp", "jpg", "tif"])
@pytest.mark.parametrize("orientation", SHOWN)
def test_the_size_of_a_large_file_is_the_one_that_is_shown(tmp_path, kind, orientation):
    stored, block = noise((301, 402)), b"Exif\0\0" + exif(orientation)
    if kind == "png":  # before a long colour profile and all pixels
        data = by_pillow(stored, icc_profile=bytes(100_000))
        data = data[:33] + chunk(b"eXIf", exif(orientation)) + data[33:]
    elif kind == "webp":  # behind the pixels
        data = by_pillow(np.stack([stored] * 3, -1), "WEBP", lossless=True, exif=block)
        assert data.find(b"EXIF") > 1 << 16
    elif kind == "jpg":  # behind what is longer than the first part
        plain = by_pillow(stored, "JPEG")
        long = b"\xff\xec\xff\xff" + bytes(0xFFFD)
        block = b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block
        data = plain[:2] + 2 * long + block + plain[2:]
    else:
        data = tiff(stored, 8, extra=[(274, orientation)])
    assert len(data) > 1 << 16
    (tmp_path / f"a.{kind}").write_bytes(data)
    expected = SHOWN[orientation](stored).shape
    assert files.read_header(tmp_path / f"a.{kind}").shape == expected
    assert decode_image(data, "x").shape[:2] == expected


def test_the_size_of_a_pair_is_that_of_its_turned_mask(tmp_path):
    for name in "abcd":
        shown, stored = noise((3, 7)) % 2, noise((7, 3)) % 2
        save(tmp_path / "images" / f"{name}.png", np.stack([shown] * 3, -1))
        mask = tmp_path / "masks" / f"{name}.png"
        mask.parent.mkdir(exist_ok=True)
        mask.write_bytes(png(stored, before=chunk(b"eXIf", exif(8))))
    train = open_folder(str(tmp_path), 0.25, 0, class_names=("x", "y")).splits["train"]
    sample = train.read(0)
    assert train.shape(0) == sample.truth().shape == sample.image.shape[:2] == (3, 7)
    np.testing.assert_array_equal(sample.label, SHOWN[8](stored))


@pytest.mark.parametrize("orientation", SHOWN)
def test_images_to_predict_lie_as_viewers_show_them(tmp_path, orientation):
    stored = noise((3, 7, 3))
    (tmp_path / "a.png").write_bytes(png(stored, colour=2, after=chunk(b"eXIf", exif(orientation))))
    images, _ = open_images({"a": tmp_path / "a.png"}, make_loading())
    shown = SHOWN[orientation](stored)
    np.testing.assert_array_equal(images.read(0).image, shown)
    assert images.shape(0) == shown.shape[:2]


def test_a_header_longer_than_the_first_part(tmp_path):
    profile = bytes(200_000)
    save(tmp_path / "a.jpg", np.zeros((6, 5, 3), np.uint8), icc_profile=profile)
    assert files.read_header(tmp_path / "a.jpg").shape == (6, 5)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP"])
def test_a_part_of_an_image_gives_its_size_or_an_error_that_names_it(kind):
    data = io.BytesIO()
    Image.fromarray(np.zeros((9, 14), np.uint8)).save(data, kind)
    whole, known = data.getvalue(), 0
    assert read_header(whole, "x").shape == (9, 14)
    for length in range(len(whole)):
        try:
            size = read_header(whole[:length], "some/file.x").shape
        except UserError as error:
            assert str(error).startswith("some/file.x cannot be read as an image")  # noqa: PT017
        else:
            known += 1
            assert size == (9, 14)
    assert known


def test_no_image(tmp_path):
    for data in (b"", b"text", bytes(100_000)):
        (tmp_path / "a.png").write_bytes(data)
        with pytest.raises(UserError, match=rf"^{tmp_path}/a\.png cannot be read as an image"):
            files.read_header(tmp_path / "a.png")
