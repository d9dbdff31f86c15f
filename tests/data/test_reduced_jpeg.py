"""JPEG files decoded at a reduced scale: pixels as Pillow gives them, and no label changes."""

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from support.encoded import by_pillow, exif
from support.predicting import CONFIG, make_run

from unet_jax.compare import may_differ
from unet_jax.data import cache
from unet_jax.data.formats import pillow
from unet_jax.data.formats.pillow import decode_image, decode_reduced
from unet_jax.data.images import image_batches
from unet_jax.data.pipeline import train_batches
from unet_jax.data.resize import resize_image
from unet_jax.data.sample import reduced
from unet_jax.data.sources import Loading, make_loading, open_data
from unet_jax.errors import UserError
from unet_jax.models.unet import UNet
from unet_jax.predict.fits import make_fit
from unet_jax.predict.inputs import open_images
from unet_jax.predict.run import predict_run
from unet_jax.report.images import Part
from unet_jax.studies.pack.train import Remembered

SIZES = ((31, 47), (9, 5), (64, 20), (133, 211), (1, 1), (48, 48), (32, 24), (65, 500), (300, 19))
TARGETS = ((16, 24), (1, 1), (7, 3), (32, 32), (33, 5))
SIZE = (12, 18)
ON = Loading(SIZE, "resize", 2, reduced_jpeg=True)
OFF = ON._replace(reduced_jpeg=False)


def smooth(size, seed=0):
    """An image uint8 [H, W, 3] of waves, much as photographs are."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    phase = np.random.default_rng(seed).uniform(0, 6, 3)
    waves = np.sin(rows[..., None] / 17 + phase) + np.cos(columns[..., None] / 23 + 2 * phase)
    return np.rint(127 + 60 * waves).astype(np.uint8)


def by_draft(data, size):
    """What Pillow alone makes of a JPEG whose scale it chooses; None where it takes the whole."""
    opened = Image.open(io.BytesIO(data))
    whole, swaps = opened.size, opened.getexif().get(274, 1) > 4
    wanted = size if swaps else size[::-1]
    _, box = opened.draft(None, wanted)
    if opened.size == whole:
        return None
    opened.load()
    assert opened.size[0] >= wanted[0]
    assert opened.size[1] >= wanted[1]
    small = opened.convert("RGB").resize(wanted, Image.Resampling.BILINEAR, box)
    small.info["exif"] = opened.info.get("exif", b"")
    return np.asarray(ImageOps.exif_transpose(small))


@pytest.mark.parametrize("size", TARGETS)
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_pixels_are_those_of_pillows_draft(size, options):
    for shape in SIZES:
        data = by_pillow(smooth(shape), "JPEG", **options)
        found, expected = decode_reduced(data, "x.jpg", size), by_draft(data, size)
        assert (found is None) == (expected is None) == (min(np.floor_divide(shape, size)) < 2)
        if found is not None:
            assert found.shape == (*size, 3)
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_they_lie_as_viewers_show_them(orientation):
    for shape in SIZES:
        data = by_pillow(smooth(shape), "JPEG", exif=b"Exif\0\0" + exif(orientation))
        found, expected = decode_reduced(data, "x.jpg", SIZE), by_draft(data, SIZE)
        assert (found is None) == (expected is None)
        if found is not None:
            np.testing.assert_array_equal(found, expected)
            whole = resize_image(decode_image(data, "x.jpg"), SIZE)
            assert np.abs(found.astype(int) - whole).mean() < 3


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_grey_and_inks_become_colours(mode):
    opened = Image.fromarray(smooth((133, 211))).convert(mode)
    data = by_pillow(opened, "JPEG")
    found = decode_reduced(data, "x.jpg", SIZE)
    np.testing.assert_array_equal(found, by_draft(data, SIZE))
    if mode == "L":
        assert (found == found[..., :1]).all()


def test_the_image_behind_another_does_not_count():
    pages = {"save_all": True, "append_images": [Image.fromarray(smooth((40, 40), 1))]}
    data = by_pillow(smooth((133, 211)), "MPO", **pages)
    first = by_pillow(smooth((133, 211)), "JPEG")
    np.testing.assert_array_equal(decode_reduced(data, "x.jpg", SIZE), by_draft(first, SIZE))


def test_the_end_of_an_image_stays_where_it_was():
    """A ramp whose length is one more than a multiple of 8 would be squeezed at its end."""
    ramp = np.linspace(0, 255, 8 * 16 + 1)
    image = np.broadcast_to(np.rint(ramp)[None, :, None], (130, ramp.size, 3)).astype(np.uint8)
    data = by_pillow(image, "JPEG", quality=100)
    found = decode_reduced(data, "x.jpg", (16, 16)).astype(int)
    edges = np.linspace(0, 255, 17)
    centres = (edges[1:] + edges[:-1]) / 2  # of each of 16 equal parts of the ramp
    assert np.abs(found - centres[None, :, None]).max() < 3


def save(folder, index, size, kind, **options):
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    mask = np.random.default_rng(index).choice([0, 1, 255], size).astype(np.uint8)
    Image.fromarray(smooth(size, index)).save(folder / "images" / f"n{index}.{kind}", **options)
    Image.fromarray(mask).save(folder / "masks" / f"n{index}.png")


@pytest.fixture
def data(tmp_path):
    for index, size in enumerate(SIZES):
        save(tmp_path / "data", index, size, "jpg")
    (tmp_path / "data" / "val.txt").write_text("n0\nn3\n")
    return tmp_path / "data"


def open_splits(data):
    keys = {"class_names": ("a", "b"), "ignore_values": (255,)}
    return open_data(source="folder", path=str(data), folder=keys)[0].splits


def batches(source, loading):
    order = {"batch_size": 3, "seed": 1, "start": 0, "stop": 5}
    return list(train_batches(source, loading, **order))


def same(found, expected, names=("image", "label", "weight")):
    for one, other in zip(found, expected, strict=True):
        if any(one[name].tobytes() != other[name].tobytes() for name in names):
            return False
    return True


def truth(file):
    """What a network reads of a file."""
    encoded = Path(file).read_bytes()
    small = by_draft(encoded, SIZE) if encoded[:2] == b"\xff\xd8" else None
    return resize_image(decode_image(encoded, "x"), SIZE) if small is None else small


def test_training_sees_such_images_and_the_same_labels(data, tmp_path):
    train = open_splits(data)["train"]
    expected, found = batches(train, OFF), batches(train, ON)
    assert same(found, expected, ("label", "weight"))
    assert not same(found, expected, ("image",))
    known = {truth(file).tobytes() for file in (data / "images").iterdir()}
    assert {image.tobytes() for batch in found for image in batch["image"]} <= known
    kept = ON._replace(cache=1)
    assert same(batches(*cache.keep(train, kept)), found)
    in_file = kept._replace(cache_dir=str(tmp_path / "cache"))
    for _ in range(2):
        assert same(batches(*cache.keep(train, in_file)), found)
        assert same(batches(*cache.keep(train, in_file._replace(reduced_jpeg=False))), expected)
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_values_are_normalised_once(data):
    train = open_splits(data)["train"]
    section = {"kind": "z_score", "of": "image"}
    for loading in (ON, make_loading(SIZE, reduced_jpeg=True, normalise=section)):
        found, remembered = batches(train, loading), Remembered(train, loading)
        assert same(batches(remembered, remembered.loading), found)
        assert same(batches(*cache.keep(train, loading._replace(cache=1))), found)


def test_other_files_and_windows_are_as_without(tmp_path):
    for index, size in enumerate(SIZES):
        save(tmp_path, index, size, ("png", "bmp")[index % 2])
    train = open_splits(tmp_path)["train"]
    assert same(batches(train, ON), batches(train, OFF))
    save(tmp_path / "jpg", 3, SIZES[3], "jpg")
    save(tmp_path / "jpg", 4, SIZES[4], "jpg")
    (tmp_path / "jpg" / "val.txt").write_text("n4\n")
    source = open_splits(tmp_path / "jpg")["train"]
    window = slice(3, 90), slice(100, 205)
    np.testing.assert_array_equal(
        reduced(source, SIZE).read(0, window).image, source.read(0).image[window]
    )
    assert reduced(source, SIZE).read(0).image.shape == (*SIZE, 3)
    assert reduced(source, SIZE).shape(0) == reduced(source, SIZE).read(0).label.shape == SIZES[3]
    assert source.read(0).image.shape == (*SIZES[3], 3)
    assert reduced(source, None) is source


def test_sources_that_cannot_reduce_are_read_as_they_are():
    source = open_data(source="synthetic", synthetic={"train": 4, "size": 40})[0].splits["train"]
    assert reduced(source, SIZE) is source
    assert same(batches(source, ON), batches(source, OFF))


def rows(source, loading, *, with_labels):
    """Returns all rows of the batches, by index."""
    fit = make_fit(loading, UNet(2, (4, 8)))
    given = {"with_labels": with_labels, "batch_size": 4, "workers": 2}
    found = {}
    for batch in image_batches(source, fit, **given, reduced_size=loading.reduced_size):
        for row, index in enumerate(batch["index"]):
            found[index] = {
                **{name: batch[name][row] for name in ("image", "size", "label") if name in batch},
                "sizes": batch["sizes"][row],
                "sample": batch["samples"][index].image if not with_labels else None,
                "canvas": batch["canvas"],
            }
    return [found[index] for index in range(len(source))]


def test_evaluation_and_prediction_see_the_same_at_the_sizes_of_the_files(data):
    val = open_splits(data)["val"]
    files = {name: data / "images" / f"{name}.jpg" for name in val.ids}
    images, _ = open_images(files, ON)
    remembered = Remembered(val)
    sources = {"val": val, "report": Part(val, range(2), ("a", "b"), None), "pack": remembered}
    before = rows(val, OFF, with_labels=True)
    for name, source in sources.items():
        for row, old in zip(rows(source, ON, with_labels=True), before, strict=True):
            assert row["canvas"] == old["canvas"]
            assert row["sizes"] == old["sizes"] == tuple(row["size"])
            np.testing.assert_array_equal(row["label"], old["label"], err_msg=name)
        for row, file in zip(rows(source, ON, with_labels=True), files.values(), strict=True):
            np.testing.assert_array_equal(row["image"], truth(file), err_msg=name)
    assert remembered.reduced(SIZE) is remembered.reduced(SIZE)  # decoded once
    for row, file in zip(rows(images, ON, with_labels=False), files.values(), strict=True):
        np.testing.assert_array_equal(row["image"], truth(file))
        whole = decode_image(file.read_bytes(), "x")
        np.testing.assert_array_equal(row["sample"], whole)  # which overlays show
        assert row["sizes"] == tuple(row["size"]) == whole.shape[:2]


def size_of(file):
    with Image.open(file) as opened:
        return opened.size[::-1]


def test_masks_and_overlays_are_written_at_the_sizes_of_the_files(
    tmp_path, tmp_path_factory, monkeypatch
):
    seen = []
    monkeypatch.setattr(
        pillow, "decode_reduced", lambda *args: seen.append(args[1:]) or decode_reduced(*args)
    )
    run = tmp_path / "run"
    shutil.copytree(make_run(tmp_path_factory.getbasetemp() / "predicting"), run)
    config = CONFIG.copy_and_resolve_references()
    config.data.reduced_jpeg = True
    text = (run / "config.json").read_text()
    assert '"reduced_jpeg": false' in text
    (run / "config.json").write_text(text.replace('"reduced_jpeg": false', '"reduced_jpeg": true'))
    sizes = [(133, 211), (500, 65), (9, 5)]
    for index, size in enumerate(sizes):
        save(tmp_path, index, size, "jpg")
    turned = by_pillow(smooth((65, 500), 1), "JPEG", exif=b"Exif\0\0" + exif(6))
    (tmp_path / "images" / "n1.jpg").write_bytes(turned)
    inputs, output = [str(tmp_path / "images")], tmp_path / "out"
    predict_run(config, run, inputs=inputs, output=str(output), checkpoint="latest")
    wanted = tuple(CONFIG.data.image_size)
    assert sorted(seen) == [(f"{tmp_path}/images/n{index}.jpg", wanted) for index in range(3)]
    for index, size in enumerate(sizes):
        assert size_of(output / f"n{index}.png") == size_of(output / f"n{index}_overlay.png")
        assert size_of(output / f"n{index}.png") == size


def test_a_file_that_is_cut_off_is_an_error(tmp_path):
    data = by_pillow(smooth((133, 211)), "JPEG")
    for length in (len(data) // 2, 40):
        with pytest.raises(UserError, match=r"^x\.jpg cannot be read as an image"):
            decode_reduced(data[:length], "x.jpg", SIZE)


def test_key():
    assert not may_differ("data.reduced_jpeg")
    assert make_loading().reduced_size is None
    assert make_loading((5, 7), reduced_jpeg=True).reduced_size == (5, 7)
    with pytest.raises(UserError, match=r"^config\.data\.reduced_jpeg=True must be False, or True"):
        make_loading(fit="crop", reduced_jpeg=True)
