"""Every format at odd sizes: what its library wrote is read bit for bit, whole and by windows."""

import io

import numpy as np
import pytest
import tifffile
from PIL import Image
from support.encoded import png, write_array

from unet_jax.data.formats import find_format

SIZES = [(1, 1), (1, 7), (9, 1), (13, 6), (37, 51)]
PALETTE = np.random.default_rng(1).integers(0, 256, (256, 3), np.uint8)


def noise(shape, dtype="uint8", values=256):
    rng = np.random.default_rng(0)
    return (
        rng.random(shape) * 100 - 50 if dtype == "float32" else rng.integers(0, values, shape)
    ).astype(dtype)


def by_pillow(kind, mode, **options):
    """Makes a writer of files of 8 bits, and what they are read as: RGB without transparency."""
    depth = {"1": 1, "L": 1, "P": 1, "LA": 2, "RGB": 3, "RGBA": 4}[mode]

    def write(file, size):
        stored = noise((*size, depth) if depth > 1 else size, values=2 if mode == "1" else 256)
        opened = Image.fromarray(stored.astype(bool) if mode == "1" else stored)
        if mode == "P":
            opened.putpalette(PALETTE.tobytes())
        opened.save(file, kind, **options)
        if mode == "P":
            return PALETTE[stored]
        if depth > 2:
            return stored[..., :3]
        grey = stored[..., 0] if depth == 2 else stored * (255 if mode == "1" else 1)
        return np.stack([grey] * 3, axis=-1)

    return write


def shallow_png(bits):
    def write(file, size):
        stored = noise(size, values=2**bits)
        file.write_bytes(png(stored, bits))
        return np.stack([stored * (255 // (2**bits - 1))] * 3, axis=-1)

    return write


def arrays(save, dtype, channels):
    """Makes a writer of files that keep their channels and their type."""

    def write(file, size):
        stored = noise((*size, channels), dtype)
        save(file, stored if channels > 1 else stored[..., 0])
        return stored

    return write


def save_tiff(file, array):
    several = {"planarconfig": "contig"} if array.ndim == 3 else {}
    tifffile.imwrite(file, array, photometric="minisblack", metadata=None, **several)


def deep_png(file, array):
    depth = array.shape[-1] if array.ndim == 3 else 1
    file.write_bytes(png(array, 16, {1: 0, 2: 4, 3: 2, 4: 6}[depth]))


MODES = "1", "L", "LA", "P", "RGB", "RGBA"
KEPT = {"tif": save_tiff, "npy": np.save, "npz": np.savez, "zarr": write_array}
FILES = {
    **{
        f"png {mode}": ("x.png", by_pillow("PNG", mode))
        for mode in ("1", "L", "LA", "P", "RGB", "RGBA")
    },
    **{f"png {bits} bits": ("x.png", shallow_png(bits)) for bits in (1, 2, 4)},
    **{f"png 16 bits, {c}": ("x.png", arrays(deep_png, "uint16", c)) for c in (1, 2, 3, 4)},
    **{f"bmp {mode}": ("x.bmp", by_pillow("BMP", mode)) for mode in ("1", "L", "P", "RGB", "RGBA")},
    **{f"gif {mode}": ("x.gif", by_pillow("GIF", mode)) for mode in ("L", "P")},
    **{
        f"webp {mode}": ("x.webp", by_pillow("WEBP", mode, lossless=True, exact=True))
        for mode in ("L", "RGB", "RGBA")
    },
    **{
        f"{suffix} {dtype} {c}": (f"x.{suffix}", arrays(save, dtype, c))
        for suffix, save in {
            "tif": save_tiff,
            "npy": np.save,
            "npz": np.savez,
            "zarr": write_array,
        }.items()
        for dtype in ("uint16", "float32")
        for c in range(1, 8)
    },
}


def read(file, name, window=None):
    stream = io.BytesIO(b"" if file.is_dir() else file.read_bytes())
    return find_format(name).read(stream, str(file), 2, window)


@pytest.mark.parametrize("kind", FILES)
def test_a_file_is_read_as_it_was_written(tmp_path, kind):
    name, write = FILES[kind]
    for size in SIZES:
        file = tmp_path / "x".join(map(str, size)) / name
        file.parent.mkdir()
        expected = write(file, size)
        image = read(file, name)
        assert image.dtype == expected.dtype
        np.testing.assert_array_equal(image, expected)
        stream = io.BytesIO(b"" if file.is_dir() else file.read_bytes())
        header = find_format(name).header(stream, str(file), 2)
        assert (header.shape, header.channels) == (size, expected.shape[-1])
        assert header.dtype == expected.dtype
        height, width = size
        for window in (np.s_[0:height, 0:width], np.s_[height // 2 : height, width // 3 : width]):
            np.testing.assert_array_equal(read(file, name, window), expected[window])
