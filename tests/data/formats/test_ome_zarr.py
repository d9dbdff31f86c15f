import io
import itertools
import json
import os
import zlib

import numpy as np
import pytest
from etils import epath
from support.encoded import CODECS, write_array, write_image

from unet_jax.data.files import FilePairs, read_header, read_image
from unet_jax.data.formats.ome_zarr import OmeZarr
from unet_jax.errors import UserError
from unet_jax.predict.inputs import find_images

NO_FILE = io.BytesIO()
ENCODINGS = [(version, name) for version, names in CODECS.items() for name in names]


def numbers(shape, dtype="uint16"):
    values = np.random.default_rng(0).integers(0, 120, shape)
    return (values / 256 if np.dtype(dtype).kind == "f" else values).astype(dtype)


def windows(size):
    rng = np.random.default_rng(1)
    for _ in range(2):
        starts = [int(rng.integers(n)) for n in size]
        ends = [int(rng.integers(s, n)) + 1 for s, n in zip(starts, size, strict=True)]
        yield tuple(map(slice, starts, ends))


def check(folder, expected, axes=2):
    header = OmeZarr().header(NO_FILE, str(folder), axes)
    image = OmeZarr().read(NO_FILE, str(folder), axes)
    assert image.dtype == expected.dtype
    np.testing.assert_array_equal(image, expected)
    assert (*header.shape, header.channels, header.dtype) == (*expected.shape, expected.dtype.name)
    for window in windows(header.shape):
        part = OmeZarr().read(NO_FILE, str(folder), axes, window)
        np.testing.assert_array_equal(part, expected[window])


@pytest.mark.parametrize(("version", "codec"), ENCODINGS)
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (257, 3), (37, 51)])
def test_an_image_is_as_it_was_saved(tmp_path, size, version, codec):
    types = itertools.cycle(["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32"])
    for channels, dtype in zip(range(1, 8), types, strict=False):
        image = numbers((*size, channels), dtype)
        folder = tmp_path / f"{channels}.zarr"
        write_image(folder, np.moveaxis(image, -1, 0), "cyx", version, codec)
        check(folder, image)


@pytest.mark.parametrize("version", [2, 3])
def test_an_array_alone_is_an_image_too(tmp_path, version):
    image = numbers((37, 51, 3))
    write_array(tmp_path / "a.zarr", image, version)
    check(tmp_path / "a.zarr", image)
    write_array(tmp_path / "b.zarr", image[..., 0], version)
    check(tmp_path / "b.zarr", image[..., :1])
    volume = numbers((3, 20, 17, 2))
    write_array(tmp_path / "c.zarr", volume, version)
    check(tmp_path / "c.zarr", volume, axes=3)


def test_named_axes_of_an_array_tell_its_channels(tmp_path):
    image = numbers((37, 51, 3))
    named = {"dimension_names": ["channel", "y", "x"]}
    write_array(tmp_path / "a.zarr", np.moveaxis(image, -1, 0), 3, **named)
    check(tmp_path / "a.zarr", image)


@pytest.mark.parametrize("version", [2, 3])
def test_axes_of_length_1_do_not_count_and_pixels_have_sides(tmp_path, version):
    image = numbers((37, 51, 4))
    array = np.moveaxis(image, -1, 0)[None, :, None]
    scale = [1, 1, 2.0, 0.5, 0.25]
    write_image(tmp_path / "a.zarr", array, "tczyx", version, scale=scale)
    check(tmp_path / "a.zarr", image)
    header = OmeZarr().header(NO_FILE, str(tmp_path / "a.zarr"), 2)
    assert header.spacing == (0.5, 0.25)
    check(tmp_path / "a.zarr", image[None], axes=3)
    volume = numbers((5, 20, 17, 2))
    write_image(tmp_path / "b.zarr", np.moveaxis(volume, -1, 0), "czyx", version)
    check(tmp_path / "b.zarr", volume, axes=3)
    with pytest.raises(UserError, match=r"b\.zarr .* 2 x 5 x 20 x 17, axes CZYX; expected 2 axes"):
        OmeZarr().read(NO_FILE, str(tmp_path / "b.zarr"), 2)


def test_pixels_are_those_of_chunks_written_by_hand(tmp_path):
    """Chunks as the format describes them, without tensorstore."""
    image, folder = numbers((5, 6), "uint16"), tmp_path / "a.zarr"
    folder.mkdir()
    metadata = {
        "zarr_format": 2,
        "shape": [5, 6],
        "chunks": [3, 4],
        "dtype": ">u2",
        "order": "C",
        "fill_value": 7,
        "compressor": {"id": "zlib", "level": 1},
        "filters": None,
    }
    (folder / ".zarray").write_text(json.dumps(metadata))
    padded = np.zeros((6, 8), ">u2")
    padded[:5, :6] = image
    for y, x in [(0, 0), (0, 1), (1, 0)]:
        part = padded[3 * y : 3 * y + 3, 4 * x : 4 * x + 4]
        (folder / f"{y}.{x}").write_bytes(zlib.compress(part.tobytes()))
    image[3:, 4:] = 7  # the chunk that is not there
    check(folder, image[..., None])


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("dtype", ["uint8", "int32", "bool"])
def test_a_mask_of_any_integers_holds_ids(tmp_path, dtype, version):
    ids = (numbers((37, 51), "uint8") % (2 if dtype == "bool" else 200)).astype(dtype)
    write_image(tmp_path / "a.zarr", ids[None], "cyx", version)
    found = OmeZarr().read_mask(NO_FILE, str(tmp_path / "a.zarr"))
    assert found.ids.dtype == np.uint8
    np.testing.assert_array_equal(found.ids, ids)
    for window in windows(ids.shape):
        part = OmeZarr().read_mask(NO_FILE, str(tmp_path / "a.zarr"), window).ids
        np.testing.assert_array_equal(part, ids[window])
    write_image(tmp_path / "b.zarr", numbers((2, 5, 9)), "cyx", version)
    with pytest.raises(UserError, match=r"b\.zarr is a mask of 2 channels"):
        OmeZarr().read_mask(NO_FILE, str(tmp_path / "b.zarr"))


@pytest.mark.parametrize("codec", ["crc32c", "shards"])
def test_damage_is_always_found_where_there_are_checksums(tmp_path, codec):
    image, rng = numbers((37, 51, 2)), np.random.default_rng(0)
    write_array(tmp_path / "a.zarr", np.moveaxis(image, -1, 0), 3, codec)
    chunks = sorted(file for file in (tmp_path / "a.zarr/c").rglob("*") if file.is_file())
    for _ in range(60):
        chunk = chunks[rng.integers(len(chunks))]
        good = chunk.read_bytes()
        data = bytearray(good)
        data[rng.integers(len(data))] ^= 1 << rng.integers(8)
        chunk.write_bytes(bytes(data))
        with pytest.raises(UserError, match=r"a\.zarr cannot be read as a Zarr folder"):
            OmeZarr().read(NO_FILE, str(tmp_path / "a.zarr"), 3)
        chunk.write_bytes(good)


@pytest.mark.parametrize("version", [2, 3])
def test_damaged_metadata_are_one_line(tmp_path, version):
    write_image(tmp_path / "a.zarr", numbers((2, 9, 7)), "cyx", version)
    rng, errors = np.random.default_rng(0), 0
    for file in [
        f for f in (tmp_path / "a.zarr").rglob("*") if f.suffix == ".json" or ".z" in f.name
    ]:
        good = file.read_bytes()
        for _ in range(60):
            data = bytearray(good)
            data[rng.integers(len(data))] = rng.integers(256)
            file.write_bytes(bytes(data))
            try:
                OmeZarr().read(NO_FILE, str(tmp_path / "a.zarr"), 2)
            except UserError as error:
                assert str(error).startswith(str(tmp_path / "a.zarr"))  # noqa: PT017
                assert "\n" not in str(error)  # noqa: PT017
                errors += 1
        file.write_bytes(good)
    assert errors > 60


def test_what_is_no_image_is_refused_in_one_line(tmp_path):
    def refused(name, says):
        with pytest.raises(UserError, match=says):
            OmeZarr().read(NO_FILE, str(tmp_path / name), 2)

    refused("none.zarr", r"none\.zarr is missing")
    (tmp_path / "file.zarr").write_text("text")
    refused("file.zarr", "file.zarr is no folder")
    (tmp_path / "empty.zarr").mkdir()
    refused("empty.zarr", "is no Zarr array, and does not tell")
    write_image(tmp_path / "out.zarr", numbers((2, 9, 7)), "cyx")
    attributes = tmp_path / "out.zarr/.zattrs"
    attributes.write_text(attributes.read_text().replace('"path": "0"', '"path": "../b"'))
    refused("out.zarr", r"names '\.\./b', which leads out of it")
    write_array(tmp_path / "fifo.zarr", numbers((9, 7)))
    (tmp_path / "fifo.zarr/0.0").unlink()
    os.mkfifo(tmp_path / "fifo.zarr/0.0")
    refused("fifo.zarr", "0.0 is a FIFO and no regular file")
    write_array(tmp_path / "link.zarr", numbers((9, 7)))
    (tmp_path / "link.zarr/x").symlink_to(tmp_path)
    refused("link.zarr", "x is a link to a folder")
    write_array(tmp_path / "complex.zarr", numbers((9, 7), "complex64"))
    refused("complex.zarr", "type complex64; allowed are")


def test_a_tiny_folder_that_claims_much_takes_no_memory(tmp_path):
    write_array(tmp_path / "a.zarr", numbers((9, 7)))
    file = tmp_path / "a.zarr/.zarray"
    metadata = json.loads(file.read_text())
    file.write_text(json.dumps({**metadata, "shape": [100_000, 100_000]}))
    with pytest.raises(UserError, match=r"a\.zarr claims to hold 100000x100000 values"):
        OmeZarr().read(NO_FILE, str(tmp_path / "a.zarr"), 2)
    window = np.s_[0:9, 0:7]  # which takes little
    part = OmeZarr().read(NO_FILE, str(tmp_path / "a.zarr"), 2, window)
    np.testing.assert_array_equal(part[..., 0], numbers((9, 7)))


def test_folders_are_read_and_told_apart_as_files_are(tmp_path):
    image, ids = numbers((37, 51, 3)), numbers((37, 51), "uint8")
    write_array(tmp_path / "images/a.zarr", image)
    write_array(tmp_path / "masks/a.zarr", ids)
    files = tmp_path / "images/a.zarr", tmp_path / "masks/a.zarr"
    pairs = FilePairs(["a"], [files])
    assert read_header(files[0], axes=2)[:3] == ((37, 51), 3, "uint16")
    np.testing.assert_array_equal(read_image(files[0], 2), image)
    encoded = pairs.read(0)
    np.testing.assert_array_equal(encoded.decode_image(2), image)
    np.testing.assert_array_equal(encoded.decode_masks()[0].ids, ids)
    stamp, contents = pairs.stamp(0), encoded.contents()
    os.utime(files[0] / "0.0.0")
    assert pairs.stamp(0) != stamp
    assert pairs.read(0).contents() == contents
    (files[1] / "0.0").write_bytes(bytes((files[1] / "0.0").stat().st_size))
    assert pairs.read(0).contents()[0] == contents[0]
    assert pairs.read(0).contents()[1] != contents[1]


def test_a_folder_in_a_store_is_refused_in_one_line():
    file = epath.Path("gs://bucket/images/a.zarr")
    pairs = FilePairs(["a"], [(file, file)])
    for read in (lambda: read_header(file), lambda: pairs.read(0), lambda: read_image(file, 2)):
        with pytest.raises(
            UserError, match=r"^gs://bucket/images/a\.zarr is an image that is a fo"
        ):
            read()


def test_a_folder_may_be_named_as_an_input(tmp_path):
    write_array(tmp_path / "a.zarr", numbers((5, 9)))
    write_array(tmp_path / "b/c.zarr", numbers((5, 9)))
    found = find_images([str(tmp_path / "a.zarr"), str(tmp_path / "b")], tmp_path / "out")
    assert found == {"a": tmp_path / "a.zarr", "c": tmp_path / "b/c.zarr"}
