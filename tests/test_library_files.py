"""The library: files, several images, probabilities, and masks that are streamed."""

import numpy as np
import pytest
import tifffile
from PIL import Image
from support.predicting import CONFIG, begin_run, broken_pixels, draw, make_run
from support.tiled import Plain

import unet_jax
from unet_jax.predict import large

NAMES = ["c.png", "a.png", "b.jpg"]
SIZES = [(9, 13), (57, 31), (9, 13)]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    return unet_jax.load(make_run(tmp_path_factory.getbasetemp() / "predicting"), "latest")


@pytest.fixture(scope="module")
def tiled(tmp_path_factory):
    """A run whose images of more than 500 pixels go in tiles of 32 x 32."""
    config = CONFIG.copy_and_resolve_references()
    config.data.fit, config.eval = "crop", {"tiles": {"whole": 500, "size": (32,)}}
    folder = tmp_path_factory.mktemp("library") / "tiled"
    return unet_jax.load(begin_run(folder, config), "latest")


@pytest.fixture
def files(tmp_path):
    found = [tmp_path / "images" / name for name in NAMES]
    for file, size in zip(found, SIZES, strict=True):
        draw(file, size=size)
    return found


def plain(run, image):
    """Returns the logits of an image by a plain call of the network, padded by hand."""
    tiling = run._step.tiling
    is_large = tiling.is_large(image.shape[:-1])
    lengths = tiling.choose(run._variables, CONFIG.eval.batch_size).lengths
    least = lengths if is_large else (32, 32)
    return Plain(run._step._model, run._variables)(image, least)


def untied(logits, label):
    """Tells whether a label is that of the largest logit, but for ties by rounding."""
    chosen = np.take_along_axis(logits, label[..., None].astype(int), axis=-1)[..., 0]
    return np.all(chosen >= logits.max(axis=-1) - 1e-5)


def test_a_file_is_its_pixels(loaded, files):
    for file in files[:2]:  # PNG files, which hold the very pixels
        expected = loaded.predict(np.asarray(Image.open(file)))
        np.testing.assert_array_equal(loaded.predict(file), expected)
        np.testing.assert_array_equal(loaded.predict(str(file)), expected)


@pytest.mark.parametrize("given", [list, tuple, iter])
def test_several_images_are_predicted_in_their_order(loaded, files, given):
    images = [*files, np.asarray(Image.open(files[0]))]
    several = loaded.predict(given(images))
    for image, mask in zip(images, several, strict=True):
        np.testing.assert_array_equal(mask, loaded.predict(image))


def test_several_images_are_read_batch_by_batch(loaded, files):
    opened = []

    def images():
        for number in range(100):
            opened.append(number)
            yield files[0]

    next(loaded.predict(images()))
    assert len(opened) == CONFIG.eval.batch_size


def test_no_images_have_no_masks(loaded):
    assert list(loaded.predict(iter([]))) == []


def test_probabilities_are_the_softmax_of_the_network(tiled):
    for size in (9, 13), (1, 30):
        image = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
        mask, probability = tiled.predict(image, probabilities=True)
        logits = plain(tiled, image).astype(np.float64)
        expected = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
        assert probability.dtype == np.float32
        np.testing.assert_allclose(probability, expected, atol=1e-6)
        np.testing.assert_array_equal(mask, tiled.predict(image))
    many = tiled.predict([image, image], probabilities=True)
    assert [one.probability.shape for one in many] == [(1, 30, len(tiled.class_names))] * 2


@pytest.mark.parametrize("size", [(67, 91), (9, 13), (1, 701)])
def test_a_streamed_mask_is_that_of_the_plain_network(tiled, tmp_path, size):
    image = np.random.default_rng(2).integers(0, 256, (*size, 3), dtype=np.uint8)
    file = tmp_path / "image.tif"
    tifffile.imwrite(file, image, tile=(16, 16))
    memory = np.memmap(tmp_path / "mask.raw", np.uint8, "w+", shape=size)
    tiled.stream(file, memory)
    assert untied(plain(tiled, image), memory)
    assert len(np.unique(memory)) > 1
    np.testing.assert_array_equal(tiled.predict(file), memory)
    for suffix, read in {
        ".npy": np.load,
        ".tif": tifffile.imread,
        ".png": lambda file: np.asarray(Image.open(file)),
    }.items():
        tiled.stream(file, tmp_path / f"mask{suffix}")
        np.testing.assert_array_equal(read(tmp_path / f"mask{suffix}"), memory)
    assert not list(tmp_path.glob(".unet_jax*"))


def test_no_more_than_a_part_is_written_at_once(tiled, tmp_path):
    file, windows = tmp_path / "image.npy", []
    np.save(file, np.zeros((96, 64, 3), np.uint8))

    class Mask:
        def __setitem__(self, window, part):
            windows.append((window, part.shape))

    tiled.stream(file, Mask())
    count = np.zeros((96, 64), int)
    for window, shape in windows:
        count[window] += 1
        assert shape == tuple(part.stop - part.start for part in window)
        assert max(shape) <= 32 + tiled._step.tiling.halo  # one at the border keeps its halo
    assert np.all(count == 1)


def test_a_call_that_was_stopped_goes_on(tiled, tmp_path, monkeypatch):
    file, mask, read = tmp_path / "image.npy", tmp_path / "mask.npy", []
    image = np.random.default_rng(3).integers(0, 256, (67, 91, 3), dtype=np.uint8)
    np.save(file, image)

    def stop(*given):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(large, "_write", stop)
        with pytest.raises(KeyboardInterrupt):
            tiled.stream(file, mask)
    assert not mask.exists()
    add = large.Store.put
    monkeypatch.setattr(large.Store, "put", lambda *given: (read.append(1), add(*given)))
    tiled.stream(file, mask)
    assert not read
    np.testing.assert_array_equal(np.load(mask), tiled.predict(image))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image.npy", "mask.npy"]


@pytest.mark.parametrize(
    ("image", "options", "says"),
    [
        ("no.png", {}, "no.png"),
        ("", {}, "is a folder; expected an image, or several as a list"),
        ("grey.npy", {}, "grey.npy"),
        ("a.png", {"value_range": (0, 1)}, "value_range=(0, 1) is of arrays, and "),
    ],
)
def test_a_file_that_is_no_image_is_one_line(loaded, tmp_path, image, options, says):
    draw(tmp_path / "a.png")
    np.save(tmp_path / "grey.npy", np.zeros((8, 9, 1), np.uint16))
    with pytest.raises(unet_jax.UserError) as error:
        loaded.predict(tmp_path / image, **options)
    assert says in str(error.value)
    with pytest.raises(unet_jax.UserError) as error:
        list(loaded.predict([tmp_path / "a.png", tmp_path / image], **options))
    assert says in str(error.value)


def test_damaged_pixels_are_one_line(loaded, tiled, tmp_path):
    broken_pixels(tmp_path / "a.png")
    for run in loaded, tiled:
        with pytest.raises(unet_jax.UserError, match=r"a\.png"):
            run.predict(tmp_path / "a.png")
        with pytest.raises(unet_jax.UserError, match=r"a\.png"):
            run.stream(tmp_path / "a.png", tmp_path / "mask.png")
    assert not (tmp_path / "mask.png").exists()


@pytest.mark.parametrize("size", [(9, 13), (67, 91)])
@pytest.mark.parametrize(
    ("mask", "says"),
    [
        ("mask.jpg", "must end in one of .png, .tif, .npy, .zarr"),
        ("no/mask.png", "is not there"),
        ("a.png", "is there already; remove it, or give another"),
        (np.zeros((13, 9), np.uint8), "of the shape (13, 9); expected a file, or what takes"),
        (None, "mask is NoneType; expected a file, or what takes mask[window] = part, of the sh"),
    ],
)
def test_a_mask_that_does_not_fit_is_one_line(tiled, tmp_path, size, mask, says):
    draw(tmp_path / "a.png", size=size)
    before = (tmp_path / "a.png").read_bytes()
    with pytest.raises(unet_jax.UserError) as error:
        tiled.stream(tmp_path / "a.png", tmp_path / mask if isinstance(mask, str) else mask)
    assert says in str(error.value)
    assert (tmp_path / "a.png").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
