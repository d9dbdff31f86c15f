"""Folders of images of other kinds than RGB of 8 bits."""

import numpy as np
import pytest
import tifffile
from PIL import Image
from support.encoded import write_array, write_image

from unet_jax.data.base import IGNORE
from unet_jax.data.check import check as check_split
from unet_jax.data.folder import open_folder
from unet_jax.data.sample import make_spec
from unet_jax.errors import UserError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("UNET_JAX_CACHE", str(tmp_path / "cache"))


def save(file, array):
    file.parent.mkdir(parents=True, exist_ok=True)
    writers = {".npy": np.save, ".npz": np.savez, ".tif": save_tiff, ".zarr": write_array}
    writers.get(file.suffix, lambda path, values: Image.fromarray(values).save(path))(file, array)


def save_tiff(file, array):
    channels = {"planarconfig": "contig"} if array.shape[-1] == 5 else {}
    tifffile.imwrite(file, array, photometric="minisblack", tile=(16, 16), **channels)


def noise(shape, dtype, seed=0):
    values = np.random.default_rng(seed).random(shape)
    return (values if dtype == "float32" else values * 250).astype(dtype)


def opened(root, **given):
    return open_folder(str(root), 0.5, 0, class_names=("a", "b"), **given).splits["train"]


@pytest.mark.parametrize(
    ("shape", "channels", "dtype", "suffix"),
    [
        ((7, 9), 1, "uint16", ".png"),
        ((7, 9), 1, "float32", ".npy"),
        ((7, 9), 5, "uint8", ".npy"),
        ((4, 7, 9), 1, "int16", ".npy"),
        ((4, 7, 9), 2, "float32", ".npy"),
        ((7, 9), 5, "uint16", ".tif"),
        ((4, 7, 9), 1, "uint16", ".tif"),
        ((7, 9), 3, "int32", ".npz"),
        ((7, 9), 4, "uint16", ".zarr"),
        ((4, 7, 9), 1, "float32", ".zarr"),
    ],
)
def test_a_folder_of_one_kind(tmp_path, shape, channels, dtype, suffix):
    images, masks = {}, {}
    for seed, name in enumerate("abc"):
        image = noise((*shape, channels) if channels > 1 else shape, dtype, seed)
        images[name] = image.reshape(*shape, channels)
        masks[name] = noise(shape, "uint8", seed + 10) % 3
        save(tmp_path / "images" / f"{name}{suffix}", image)
        kept = suffix if suffix != ".npy" else {2: ".png", 3: ".npy"}[len(shape)]
        save(tmp_path / "masks" / f"{name}{kept}", masks[name])
    split = opened(tmp_path, ignore_values=(2,))
    check_split(split, "train")
    assert split.spec == make_spec(len(shape), channels, dtype)
    for index, name in enumerate(split.ids):
        sample = split.read(index)
        assert split.shape(index) == sample.label.shape == shape
        assert sample.image.dtype == dtype
        np.testing.assert_array_equal(sample.image, images[name])
        expected = np.where(masks[name] == 2, IGNORE, masks[name])
        np.testing.assert_array_equal(sample.label, expected)
        window = tuple(slice(1, n - 1) for n in shape)
        part = split.read(index, window)
        np.testing.assert_array_equal(part.image, images[name][window])
        np.testing.assert_array_equal(part.label, expected[window])


def test_the_spacing_of_ome_zarr_comes_with_its_mask(tmp_path):
    for name in "ab":
        file = tmp_path / "images" / f"{name}.zarr"
        write_image(file, noise((4, 7, 9), "uint16"), "zyx", scale=[3.0, 0.5, 0.25])
        save(tmp_path / "masks" / f"{name}.npy", noise((4, 7, 9), "uint8") % 2)
    assert opened(tmp_path).read(0).spacing == (3.0, 0.5, 0.25)


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (noise((7, 9), "uint8"), "2 axes, 1 channels of uint8, and"),
        (noise((7, 9, 4), "uint16"), "2 axes, 4 channels of uint16, and"),
        (noise((7, 9), "float32"), "2 axes, 1 channels of float32, and"),
    ],
)
def test_a_folder_of_two_kinds_is_one_line(tmp_path, other, says):
    for name in "abcd":
        image = other if name == "d" else noise((7, 9), "uint16")
        save(tmp_path / "images" / f"{name}.npy", image)
        save(tmp_path / "masks" / f"{name}.png", noise((7, 9), "uint8") % 2)
    for name, listed in {"train": "a\nd\nb", "val": "c"}.items():
        (tmp_path / f"{name}.txt").write_text(listed)
    with pytest.raises(UserError) as error:
        check_split(opened(tmp_path), "train")
    text = str(error.value)
    assert f"d.npy has {says} 2 of the 3 images of the train split have 2 axes, 1 channels" in text
    assert "\n" not in text


def test_the_odd_file_is_named_where_it_is_the_first(tmp_path):
    for name in "abcd":
        size = (7, 9) if name == "a" else (7, 9, 3)
        save(tmp_path / "images" / f"{name}.npy", noise(size, "uint8"))
        save(tmp_path / "masks" / f"{name}.png", noise((7, 9), "uint8") % 2)
    for name, listed in {"train": "a\nb\nc", "val": "d"}.items():
        (tmp_path / f"{name}.txt").write_text(listed)
    with pytest.raises(
        UserError, match=r"a\.npy has 2 axes, 1 channels of uint8, and 2 of the 3 im"
    ):
        check_split(opened(tmp_path), "train")


def test_a_volume_and_its_mask_have_one_size(tmp_path):
    for name in "ab":
        save(tmp_path / "images" / f"{name}.npy", noise((4, 7, 9), "uint16"))
        save(tmp_path / "masks" / f"{name}.npy", noise((5, 7, 9), "uint8") % 2)
    with pytest.raises(UserError, match=r"npy is 4x7x9 \(depth x height x width\) but .* is 5x7x9"):
        check_split(opened(tmp_path), "train")
