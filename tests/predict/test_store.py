"""What is kept of a large image while it is predicted."""

import numpy as np
import pytest

from unet_jax.data.formats.base import Header
from unet_jax.errors import UserError
from unet_jax.predict import preview as previews
from unet_jax.predict.preview import Preview
from unet_jax.predict.store import Store, _runs, store_folder

SIZE, SMALL = (20, 31), (3, 4, 6)


def open_store(tmp_path, of=None):
    return Store(tmp_path / "out" / "store", {"of": 1} if of is None else of, SIZE, 2, SMALL)


def test_parts_stay_and_those_of_something_else_do_not(tmp_path):
    rng = np.random.default_rng(0)
    masks = rng.integers(0, 9, (2, *SIZE)).astype(np.uint8)
    small = rng.integers(0, 256, SMALL).astype(np.uint8)
    windows = {0: (slice(0, 7), slice(0, 31)), 3: (slice(7, 20), slice(5, 31))}
    with open_store(tmp_path) as store:
        assert store.done == set()
        for number, window in windows.items():
            store.put(number, window, [mask[window] for mask in masks])
        store.put_small((slice(1, 3), slice(0, 4)), small[1:3])
        with pytest.raises(UserError, match="is being written by another prediction"):
            open_store(tmp_path)
    journal = tmp_path / "out" / "store" / "journal"
    whole = journal.read_bytes()
    journal.write_bytes(whole + b"1")  # killed in the middle of a line, such as of 12
    with open_store(tmp_path) as store:
        assert store.done == {0, 3}
        store.put(2, (slice(7, 20), slice(0, 5)), [mask[7:, :5] for mask in masks])
        for number, mask in enumerate(masks):
            np.testing.assert_array_equal(store.read(number, (slice(0, 20), slice(0, 31))), mask)
            np.testing.assert_array_equal(
                store.read(number, (slice(6, 9), slice(3, 8))), mask[6:9, 3:8]
            )
        np.testing.assert_array_equal(store.read_small()[1:], small[1:])
        assert not store.read_small()[0].any()
    assert journal.read_bytes() == whole + b"2\n"
    with open_store(tmp_path, of={"of": 2}) as store:
        assert store.done == set()
        assert not store.read(0, (slice(0, 20), slice(0, 31))).any()
        store.finish()
    with open_store(tmp_path, of={"of": 2}) as store:
        assert store.is_finished
    assert {path.name for path in journal.parent.iterdir()} == {"journal", "done"}


def test_stores_of_images_have_hidden_folders_of_their_own(tmp_path):
    folders = {store_folder(tmp_path, name) for name in ("a", "b/a", "x" * 300)}
    assert len(folders) == 3
    assert all(folder.name.startswith(".") and len(folder.name) < 60 for folder in folders)


def test_whole_rows_are_one_piece():
    for shape, window, starts, length in (
        ((6, 5, 4), ((0, 6), (0, 5), (0, 4)), [0], 120),
        ((6, 5, 4), ((2, 4), (0, 5), (0, 4)), [40], 40),
        ((6, 5, 4), ((2, 4), (1, 3), (0, 4)), [44, 64], 8),
        ((6, 5, 4), ((1, 3), (1, 3), (1, 2)), [25, 29, 45, 49], 1),
        ((7,), ((2, 6),), [2], 4),
    ):
        parts = tuple(slice(*ends) for ends in window)
        assert _runs(shape, parts) == (starts, length)
        # The same bytes as NumPy finds there.
        places = np.arange(np.prod(shape)).reshape(shape)[parts].ravel()
        pieces = [range(start, start + length) for start in starts]
        np.testing.assert_array_equal(np.concatenate(pieces), places)


@pytest.mark.parametrize(
    ("shape", "channels", "dtype"), [((50, 37), 3, "uint8"), ((5, 40, 33), 1, "uint16")]
)
def test_a_small_image_is_every_so_many_pixels(shape, channels, dtype, monkeypatch):
    monkeypatch.setattr(previews, "MOST_SIDE", 16)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 200, (*shape, channels)).astype(dtype)
    preview = Preview(Header(shape, channels, dtype, (1.0,) * len(shape)))
    kept = np.zeros(preview.shape, np.uint8)
    for row in range(0, shape[-2], 7):
        for column in range(0, shape[-1], 5):
            for plane in range(0, shape[0], 2) if len(shape) == 3 else [None]:
                before = () if plane is None else (slice(plane, min(plane + 2, shape[0])),)
                rows = slice(row, min(row + 7, shape[-2]))
                window = (*before, rows, slice(column, min(column + 5, shape[-1])))
                if part := preview.part(window, image[window]):
                    kept[part[0]] = part[1]
    step = -(-max(shape[-2:]) // 16)
    middle = image[shape[0] // 2] if len(shape) == 3 else image
    np.testing.assert_array_equal(preview.image(kept), middle[::step, ::step])
    mask = image[..., 0].astype(np.uint8)
    flat = mask[shape[0] // 2] if len(shape) == 3 else mask
    found = preview.label(mask.__getitem__, shape[-1])
    np.testing.assert_array_equal(found, flat[::step, ::step])
