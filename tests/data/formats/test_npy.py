import io
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from unet_jax.data.formats.npy import Npy
from unet_jax.errors import UserError


def stored(array):
    file = io.BytesIO()
    np.save(file, array)
    file.seek(0)
    return file


def numbers(shape, dtype="uint16"):
    values = np.random.default_rng(0).integers(0, 200, shape)
    return (values / 256 if np.dtype(dtype).kind == "f" else values).astype(dtype)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "float32", ">u2"])
@pytest.mark.parametrize("shape", [(5, 9), (5, 9, 1), (5, 9, 7), (3, 5, 9), (3, 5, 9, 2)])
def test_an_image_is_as_it_was_saved(shape, dtype):
    array = numbers(shape, dtype)
    axes = 3 if shape[0] == 3 else 2
    image = Npy().read(stored(array), "x", axes)
    has_channels = len(shape) > axes
    np.testing.assert_array_equal(image, array if has_channels else array[..., None])
    assert image.dtype == np.dtype(dtype).newbyteorder("=")
    header = Npy().header(stored(array), "x", axes)
    assert (*header.shape, header.channels) == image.shape
    assert header.dtype == image.dtype.name


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_window_is_that_part_of_the_whole(order):
    array = np.asarray(numbers((7, 6, 5, 2)), order=order)
    window = np.s_[2:5, 1:6, 0:4]
    np.testing.assert_array_equal(Npy().read(stored(array), "x", 3, window), array[window])
    mask = np.asarray(numbers((7, 6, 5), "uint8"), order=order)
    np.testing.assert_array_equal(Npy().read_mask(stored(mask), "x", window).ids, mask[window])


def test_a_window_reads_no_more_than_its_rows():
    file = stored(numbers((1000, 50)))
    read, counted = file.read, []
    file.read = lambda n=-1: counted.append(n) or read(n)
    Npy().read(file, "x", 2, np.s_[990:992, 3:5])
    assert sum(counted) < 2 * 50 * 2 + 200


def test_larger_floats_become_float32():
    array = numbers((4, 6), "float64")
    image = Npy().read(stored(array), "x", 2)
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image[..., 0], array.astype(np.float32))


@pytest.mark.parametrize("dtype", ["uint8", "int64", "bool"])
def test_a_mask_is_class_ids_and_is_written_so(tmp_path, dtype):
    ids = (numbers((3, 5, 9), "uint8") % 2).astype(dtype)
    mask = Npy().read_mask(stored(ids), "x")
    assert mask.ids.dtype == np.uint8
    np.testing.assert_array_equal(mask.ids, ids)
    Npy().write_mask(tmp_path / "deep" / "a.npy", mask.ids, 2)
    np.testing.assert_array_equal(np.load(tmp_path / "deep" / "a.npy"), mask.ids)


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (numbers((4, 6), "int64"), "holds values of type int64; allowed are uint8, .* Convert it"),
        (numbers((4,)), r"shape \(4,\); expected an image of 2 axes, \[H, W\] or \[H, W, C\]"),
        (numbers((2, 3, 4, 5)), r"shape \(2, 3, 4, 5\); expected an image of 2 axes"),
        (np.zeros((0, 4)), r"shape \(0, 4\) .* numbers, one or more"),
        (np.array(3), r"shape \(\) .* numbers, one or more"),
        (np.array([[None]]), "type object"),
        (np.array([[0.0, np.nan]]), "NaN or infinite"),
    ],
)
def test_what_is_no_image_is_refused(array, says):
    with pytest.raises(UserError, match=f"^a/b.npy .*{says}"):
        Npy().read(stored(array), "a/b.npy", 2)


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.zeros((4, 6)), "is a mask of type float64; it must hold class ids"),
        (np.full((4, 6), -1), "values from -1 to -1; none may be negative"),
    ],
)
def test_what_is_no_mask_is_refused(array, says):
    with pytest.raises(UserError, match=f"^a/b.npy .*{says}"):
        Npy().read_mask(stored(array), "a/b.npy")


def test_damage_is_a_user_error_that_names_the_file():
    whole = stored(numbers((5, 9))).getvalue()
    rng, count = np.random.default_rng(0), 0
    for length in range(len(whole)):
        with pytest.raises(UserError, match=r"^some/file\.npy "):
            Npy().read(io.BytesIO(whole[:length]), "some/file.npy", 2)
    for _ in range(500):
        data = bytearray(whole)
        data[rng.integers(128)] = rng.integers(256)
        try:
            Npy().read(io.BytesIO(bytes(data)), "some/file.npy", 2)
        except UserError as error:
            assert str(error).startswith("some/file.npy ")  # noqa: PT017
            count += 1
    assert count > 100


def test_headers_are_parsed_one_at_a_time_and_again_after_a_system_error(monkeypatch):
    buffer, real = io.BytesIO(), np.lib.format.read_array_header_1_0
    np.save(buffer, np.arange(12, dtype=np.uint8).reshape(3, 4))
    at_once, most, calls = [0], [0], [0]

    def parse(file):
        at_once[0] += 1
        most[0] = max(most[0], at_once[0])
        calls[0] += 1
        found = real(file)
        time.sleep(0.002)  # in which the other threads would come
        at_once[0] -= 1
        if calls[0] % 5 == 1:
            raise SystemError("AST constructor recursion depth mismatch (before=78, after=66)")
        return found

    monkeypatch.setattr(np.lib.format, "read_array_header_1_0", parse)
    with ThreadPoolExecutor(8) as pool:
        masks = list(
            pool.map(lambda _: Npy().read_mask(io.BytesIO(buffer.getvalue()), "a.npy"), range(24))
        )
    assert all((mask.ids == np.arange(12).reshape(3, 4)).all() for mask in masks)
    assert most == [1]
