"""Masks that are written window by window, by every format."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from unet_jax.data.files import reads_windows
from unet_jax.data.formats import find_format
from unet_jax.data.formats.base import bands
from unet_jax.data.parts import Part

SHAPES = [(1, 1), (5, 700), (1100, 37), (3, 5, 7), (2, 520, 1030)]


def ids(shape):
    return np.random.default_rng(0).integers(0, 5, shape).astype(np.uint8)


def read_back(file):
    form = find_format(file.name)
    with (file / ".zgroup" if form.is_folder else file).open("rb") as stream:
        return form.read_mask(stream, str(file)).ids


@pytest.mark.parametrize("suffix", [".png", ".tif", ".npy", ".npz", ".zarr"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_mask_is_what_was_read_window_by_window(suffix, shape, tmp_path):
    if suffix == ".png" and len(shape) > 2:
        pytest.skip("PNG holds no volumes")
    mask, file = ids(shape), tmp_path / "below" / f"mask{suffix}"
    form, largest = find_format(file.name), []

    def read(window):
        part = mask[window]
        largest.append(part.size)
        return part

    for _ in range(2):  # the second takes the place of the first
        form.write_windows(file, read, shape, 5)
        np.testing.assert_array_equal(read_back(file), mask)
    assert max(largest) <= max(2**24, 1024 * shape[-1])
    assert [path.name for path in file.parent.iterdir()] == [file.name]


@pytest.mark.parametrize("suffix", [".png", ".tif", ".npy", ".npz", ".zarr"])
def test_half_a_mask_is_none(suffix, tmp_path):
    mask, form = np.zeros((2000, 9000), np.uint8), find_format(f"a{suffix}")
    old = ids((3, 3))
    form.write_mask(tmp_path / f"a{suffix}", old, 5)
    left = [2]

    def read(window):
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        return mask[window]

    with pytest.raises(KeyboardInterrupt):
        form.write_windows(tmp_path / f"a{suffix}", read, mask.shape, 5)
    np.testing.assert_array_equal(read_back(tmp_path / f"a{suffix}"), old)
    assert [path.name for path in tmp_path.iterdir()] == [f"a{suffix}"]


def test_bands_are_a_mask_in_order():
    for shape in (*SHAPES, (3, 2, 7, 5)):
        mask = np.arange(np.prod(shape)).reshape(shape)
        for rows, most in ((1, 1), (4, 50), (512, 0)):
            flat = [mask[window].ravel() for window in bands(shape, rows, most)]
            np.testing.assert_array_equal(np.concatenate(flat), mask.ravel())


def test_which_images_are_read_in_windows(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3)).astype(np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png")
    Image.fromarray(image).save(tmp_path / "a.jpg")
    np.save(tmp_path / "a.npy", image)
    np.save(tmp_path / "turned.npy", np.asfortranarray(image))
    np.savez(tmp_path / "a.npz", image=image)
    tifffile.imwrite(tmp_path / "a.tif", image, tile=(16, 16), photometric="rgb")
    deep = image.astype(np.uint16)
    tifffile.imwrite(tmp_path / "deep.tif", deep, photometric="rgb", compression="zlib")
    found = {path.name: reads_windows(path, 2) for path in tmp_path.iterdir()}
    in_windows = {"a.npy", "a.tif", "deep.tif"}
    assert found == {path.name: path.name in in_windows for path in tmp_path.iterdir()}
    assert not reads_windows(Part((tmp_path / "a.tif",), 0), 2)
