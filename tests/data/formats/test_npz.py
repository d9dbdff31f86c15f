import io
import zipfile

import numpy as np
import pytest

from unet_jax.data.formats.npz import Npz
from unet_jax.errors import UserError


def numbers(shape, dtype="uint16"):
    values = np.random.default_rng(0).integers(0, 120, shape)
    return (values / 256 if np.dtype(dtype).kind == "f" else values).astype(dtype)


def stored(save=np.savez_compressed, **arrays):
    file = io.BytesIO()
    save(file, **arrays)
    file.seek(0)
    return file


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "uint32", "float32", ">i4"])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (257, 3), (37, 51), (3, 5, 9)])
def test_an_image_is_as_it_was_saved(size, dtype, save):
    axes = len(size)
    for channels in range(1, 8):
        image = numbers((*size, channels), dtype)
        file = stored(save, anything=image)
        header = Npz().header(file, "x", axes)
        assert (*header.shape, header.channels) == image.shape
        file.seek(0)
        found = Npz().read(file, "x", axes)
        np.testing.assert_array_equal(found, image)
        assert found.dtype.name == header.dtype == image.dtype.name
        window = tuple(slice(n // 3, n // 3 + (n + 1) // 2) for n in size)
        file.seek(0)
        np.testing.assert_array_equal(Npz().read(file, "x", axes, window), image[window])


def test_of_several_arrays_the_name_tells(tmp_path):
    image, ids = numbers((5, 9, 3)), numbers((5, 9), "uint8")
    file = stored(other=ids, image=image, mask=ids)
    np.testing.assert_array_equal(Npz().read(file, "x", 2), image)
    file.seek(0)
    np.testing.assert_array_equal(Npz().read_mask(file, "x", np.s_[1:3, 2:8]).ids, ids[1:3, 2:8])
    file.seek(0)
    assert Npz().header(file, "x", None).shape == (5, 9)
    for read in (Npz().read, Npz().header):
        with pytest.raises(UserError, match=r"^a\.npz holds 2 arrays \(one, two\).* 'image'"):
            read(stored(one=image, two=image), "a.npz", 2)
    Npz().write_mask(tmp_path / "deep" / "a.npz", ids, 120)
    np.testing.assert_array_equal(np.load(tmp_path / "deep" / "a.npz")["mask"], ids)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_damage_is_found_wherever_pixels_would_be_others(save):
    image, rng = numbers((20, 30, 2)), np.random.default_rng(0)
    data, found = stored(save, image=image).getvalue(), 0
    for place in rng.integers(0, len(data), 200):
        damaged = bytearray(data)
        damaged[place] ^= 1 << rng.integers(8)
        try:
            read = Npz().read(io.BytesIO(bytes(damaged)), "a.npz", 2)
        except UserError as error:
            assert str(error).startswith("a.npz ")  # noqa: PT017
            found += 1
        else:
            np.testing.assert_array_equal(read, image)
    assert found > 120
    for length in range(0, len(data), 37):
        with pytest.raises(UserError, match=r"^a\.npz "):
            Npz().read(io.BytesIO(data[:length]), "a.npz", 2)


def test_what_is_no_archive_of_numbers_is_refused():
    empty = io.BytesIO()
    zipfile.ZipFile(empty, "w").close()
    locked = bytearray(stored(image=numbers((5, 9))).getvalue())
    locked[locked.rindex(b"PK\1\2") + 8] |= 1  # says that it is encrypted
    for data, says in (
        (b"text", "cannot be read as an npz file"),
        (empty.getvalue(), "holds 0 arrays"),
        (bytes(locked), "encrypted"),
        (stored(image=np.array([[None]])).getvalue(), "type object"),
    ):
        with pytest.raises(UserError, match=rf"^a\.npz .*{says}"):
            Npz().read(io.BytesIO(data), "a.npz", 2)


def test_a_tiny_file_that_claims_much_takes_no_memory():
    data = bytearray(stored(image=np.zeros((200, 200), np.uint8)).getvalue())
    entry = data.rindex(b"PK\1\2")  # of the directory
    data[entry + 24 : entry + 28] = (2**32 - 2).to_bytes(4, "little")  # bytes when decoded
    with pytest.raises(UserError, match=r"^a\.npz claims to hold 4294967294 values"):
        Npz().read(io.BytesIO(bytes(data)), "a.npz", 2)
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (100000, 100000), }"
    lie = b"\x93NUMPY\1\0" + (118).to_bytes(2, "little") + header.ljust(117) + b"\n" + bytes(10)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("image.npy", lie)
    with pytest.raises(UserError, match=r"^a\.npz is truncated"):
        Npz().read(file, "a.npz", 2)
