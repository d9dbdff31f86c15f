import collections
import itertools

import numpy as np
import pytest
from support.sources import Sized

from unet_jax.data.base import IGNORE
from unet_jax.data.images import image_batches, round_up
from unet_jax.data.pipeline import train_batches
from unet_jax.data.resize import resize_image, resize_label
from unet_jax.data.sample import Sample, make_spec
from unet_jax.data.sources import Loading
from unet_jax.errors import UserError
from unet_jax.models.unet import UNet
from unet_jax.predict.fits import make_fit

RESIZE = Loading((4, 6), "resize", 2)
CROP = Loading((4, 6), "crop", 2)


class Kinds(Sized):
    """Images [*n, 2] of 16 bits whose pixels say where they come from, with L labels or one."""

    spec = make_spec(3, 2, "uint16")

    def __init__(self, sizes, labels):
        super().__init__(sizes)
        self.labels = labels

    def read(self, index):
        size = self.sizes[index]
        place = np.arange(np.prod(size)).reshape(size)
        image = np.stack([place, np.full(size, index)], axis=-1).astype(np.uint16)
        value = (place[..., None] * 7 + np.arange(self.labels or 1)) % 11
        label = np.where(value == 10, IGNORE, value % 2).astype(np.uint8)
        label = label if self.labels else label[..., 0]
        return Sample(image, label, str(index), (1.0,) * len(size))


class Images(Sized):
    """Images whose pixels say where they come from: row, column and index."""

    def read(self, index):
        rows, columns = np.mgrid[: self.sizes[index][0], : self.sizes[index][1]]
        image = np.stack([rows, columns, np.full_like(rows, index)], -1).astype(np.uint8)
        return Sample(image, label_at(rows, columns, index), str(index), (1.0, 1.0))


def label_at(row, column, index):
    """Gives 0 to 4, or IGNORE in every sixth pixel of a diagonal pattern."""
    value = (row + 2 * column + index) % 6
    return np.where(value == 5, IGNORE, value).astype(np.uint8)


def batches(source=None, loading=RESIZE, **given):
    given = {"batch_size": 4, "seed": 0, "start": 0, "stop": 6} | given
    return list(train_batches(source or Images([(4, 6)] * 10), loading, **given))


def assert_equal(ours, theirs):
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert one.keys() == other.keys()
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])


def order(*args, **kwargs):
    """Lists the indices of the images in the order of training."""
    return [int(i) for batch in batches(*args, **kwargs) for i in batch["image"][:, 0, 0, 2]]


def test_shapes_and_types():
    (batch,) = batches(stop=1)
    assert {k: (v.shape, v.dtype.name) for k, v in batch.items()} == {
        "image": ((4, 4, 6, 3), "uint8"),
        "label": ((4, 4, 6), "uint8"),
        "weight": ((4, 4, 6), "uint8"),
    }


@pytest.mark.parametrize("loading", [RESIZE, CROP])
def test_a_batch_is_the_same_wherever_the_run_began(loading):
    source = Images([(7, 9)] * 10)
    whole = batches(source, loading, stop=8)
    assert len(whole) == 8
    for start in range(8):
        assert_equal(batches(source, loading, start=start, stop=8), whole[start:])
    assert_equal(batches(source, loading, stop=5), whole[:5])
    assert batches(source, loading, start=8, stop=8) == []


def test_the_number_of_threads_changes_nothing():
    source = Images([(7, 9)] * 10)
    one, many = (batches(source, Loading((4, 6), "crop", n)) for n in (1, 7))
    assert_equal(one, many)


def test_every_image_once_in_an_epoch_and_each_epoch_anew():
    positions = order(stop=25)  # ten epochs of ten images, though 4 does not divide 10
    epochs = [tuple(positions[i : i + 10]) for i in range(0, 100, 10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len(set(epochs)) == 10
    assert tuple(range(10)) not in epochs


def test_another_seed_is_another_order():
    orders = {tuple(order(seed=seed)) for seed in range(5)}
    assert len(orders) == 5


def test_the_order_does_not_depend_on_the_batch_size():
    assert (
        order(batch_size=2, stop=12) == order(batch_size=4, stop=6) == order(batch_size=24, stop=1)
    )


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("start", [0, 3])
def test_the_shares_of_all_processes_are_the_batch(count, start):
    source = Images([(7, 9)] * 10)
    whole = batches(source, CROP, start=start)
    rows = np.arange(4).reshape(count, -1)
    shares = [batches(source, CROP, start=start, rows=own) for own in rows]
    assert {len(share) for share in shares} == {len(whole)}
    for batch, *parts in zip(whole, *shares, strict=True):
        assert all(len(part["image"]) == 4 // count for part in parts)
        assert_equal([{k: np.concatenate([part[k] for part in parts]) for k in batch}], [batch])


def test_resize_squeezes_the_whole_image():
    source = Images([(9, 5), (4, 6), (2, 13)])
    for batch in batches(source, RESIZE):
        for image, label, weight in zip(*batch.values(), strict=True):
            index = image[0, 0, 2]
            whole = source.read(index)
            np.testing.assert_array_equal(image, resize_image(whole.image, (4, 6)))
            expected = resize_label(whole.label, (4, 6))
            np.testing.assert_array_equal(weight, expected != IGNORE)
            np.testing.assert_array_equal(label, np.where(expected == IGNORE, 0, expected))


def test_a_crop_takes_label_and_image_alike():
    source, corners = Images([(7, 8)] * 3), set()
    for batch in batches(source, CROP, batch_size=8, stop=15):
        for image, label, weight in zip(*batch.values(), strict=True):
            top, left, index = (int(n) for n in image[0, 0])
            corners.add((index, top, left))
            for row, column in np.ndindex(4, 6):
                np.testing.assert_array_equal(image[row, column], (top + row, left + column, index))
                expected = int(label_at(top + row, left + column, index))
                assert weight[row, column] == (expected != IGNORE)
                assert label[row, column] == (0 if expected == IGNORE else expected)
    # every place where a 4x6 crop fits into 7x8, and each image at several of them
    assert {corner[1:] for corner in corners} == set(itertools.product(range(4), range(3)))
    assert len(corners) > 24


@pytest.mark.parametrize("size", [(3, 9), (9, 5), (1, 1)])
def test_an_image_smaller_than_the_crop_is_filled_up_with_weight_0(size):
    source = Images([size] * 2)
    for batch in batches(source, CROP):
        for image, label, weight in zip(*batch.values(), strict=True):
            top, left, index = (int(n) for n in image[0, 0])
            for row, column in np.ndindex(4, 6):
                y, x = top + row, left + column
                is_outside = y >= size[0] or x >= size[1]
                edge = min(y, size[0] - 1), min(x, size[1] - 1)
                np.testing.assert_array_equal(image[row, column], (*edge, index))
                expected = IGNORE if is_outside else int(label_at(y, x, index))
                assert weight[row, column] == (expected != IGNORE)
                assert label[row, column] == (0 if expected == IGNORE else expected)


SIZES = [(33, 40), (20, 20), (33, 64), (70, 20), (20, 31), (64, 64), (1, 1), (32, 32), (65, 40)]


def canvas(size):
    """The size's canvas, found by trying the lengths that are allowed one after the other."""
    allowed = list(range(32, 257, 32)) + [2**k * n // 4 for k in range(8, 13) for n in range(5, 9)]
    return tuple(next(length for length in allowed if length >= n) for n in size)


@pytest.mark.parametrize("batch_size", [3, 4, 8])
@pytest.mark.parametrize("fit", ["resize", "crop"])
def test_evaluation_sees_every_image_once_at_its_own_size(batch_size, fit):
    source = Images(SIZES)
    seen = []
    way = make_fit(Loading((4, 6), fit, 2), UNet(2, (4, 8)))
    alike = collections.Counter(map(canvas, SIZES))
    for batch in image_batches(source, way, with_labels=True, batch_size=batch_size, workers=2):
        shape = batch["label"].shape[1:]
        assert 1 <= len(batch["index"]) <= batch_size
        rows = min(batch_size, alike[shape])  # no work for what fills up where few are alike
        assert batch["batch_size"] == rows
        assert all(len(batch[key]) == rows for key in ("image", "label", "weight", "size"))
        assert batch["image"].shape[1:3] == ((4, 6) if fit == "resize" else shape)
        assert batch["size"].dtype == np.float32
        assert {batch[key].dtype.name for key in ("image", "label", "weight")} == {"uint8"}
        assert not batch["weight"][len(batch["index"]) :].any()
        for row, index in enumerate(batch["index"]):
            seen.append(index)
            height, width = SIZES[index]
            assert shape == canvas((height, width))
            assert tuple(batch["size"][row]) == (height, width)
            example = source.read(index)
            expected = np.full(shape, IGNORE)
            expected[:height, :width] = example.label
            np.testing.assert_array_equal(batch["weight"][row], expected != IGNORE)
            known = expected != IGNORE
            np.testing.assert_array_equal(batch["label"][row], np.where(known, expected, 0))
            if fit == "resize":
                image = resize_image(example.image, (4, 6))
            else:
                rows = np.minimum(np.arange(shape[0]), height - 1)
                columns = np.minimum(np.arange(shape[1]), width - 1)
                image = example.image[rows][:, columns]
            np.testing.assert_array_equal(batch["image"][row], image)
    assert sorted(seen) == list(range(len(SIZES)))


def test_only_the_last_batch_of_a_size_is_filled_up():
    source = Images([(5, 5)] * 7 + [(40, 5)] * 4)
    way = make_fit(RESIZE, UNet(2, (4, 8)))
    found = [
        batch["index"]
        for batch in image_batches(source, way, with_labels=True, batch_size=3, workers=1)
    ]
    assert sorted(map(len, found)) == [1, 1, 3, 3, 3]
    assert [index for indices in found for index in indices if index < 7] == list(range(7))


def test_round_up():
    for pixels in range(1, 3000):
        length = round_up(pixels)
        assert (length,) == canvas((pixels,))
        assert pixels <= length < pixels + max(32, pixels / 4)
        assert round_up(length) == length
    assert len({round_up(pixels) for pixels in range(257, 4097)}) == 16


def test_context_is_mirrored_around_images_without_labels():
    loading = Loading((6, 10), "crop", 1, context=2)
    found = batches(Images([(2, 6)] * 4), loading, stop=1)[0]
    rows = [1, 0, 0, 1, 1, 0]  # of the image, in the mirrored one
    columns = [1, 0, 0, 1, 2, 3, 4, 5, 5, 4]
    for image, label, weight in zip(found["image"], found["label"], found["weight"], strict=True):
        np.testing.assert_array_equal(image[:, 0, 0], rows)
        np.testing.assert_array_equal(image[0, :, 1], columns)
        assert not weight[:2].any()
        assert not weight[4:].any()
        assert not weight[:, :2].any()
        assert not weight[:, 8:].any()
        truth = label_at(*np.mgrid[:2, :6], image[0, 0, 2])
        np.testing.assert_array_equal(weight[2:4, 2:8], truth != IGNORE)
        np.testing.assert_array_equal(label[2:4, 2:8], np.where(truth == IGNORE, 0, truth))


@pytest.mark.parametrize("labels", [0, 3])
@pytest.mark.parametrize("sizes", [[(6, 7, 8), (4, 5, 9)], [(7, 8), (5, 9)]])
def test_crops_of_any_axes_channels_types_and_labels(sizes, labels):
    source, size = Kinds(sizes, labels), (4, 5, 6)[: len(sizes[0])]
    seen = set()
    for batch in batches(source, Loading(size, "crop", 1), batch_size=2, stop=4):
        assert batch["image"].dtype == np.uint16
        assert batch["label"].shape == (2, *size, *([labels] if labels else []))
        assert batch["weight"].shape == (2, *size)
        for image, label, weight in zip(*batch.values(), strict=True):
            index = int(image.ravel()[1])
            sample = source.read(index)
            seen.add(image.ravel()[0])
            start = np.unravel_index(int(image.ravel()[0]), sizes[index])
            for place in np.ndindex(size):
                there = tuple(a + b for a, b in zip(start, place, strict=True))
                edge = tuple(min(a, n - 1) for a, n in zip(there, sizes[index], strict=True))
                np.testing.assert_array_equal(image[place], sample.image[edge])
                truth = sample.label[edge] if edge == there else np.uint8(IGNORE)
                assert weight[place] == (np.max(truth) != IGNORE)
                np.testing.assert_array_equal(label[place], np.where(truth == IGNORE, 0, truth))
    assert len(seen) > 1


@pytest.mark.parametrize("labels", [0, 3])
@pytest.mark.parametrize("fit", ["resize", "crop"])
def test_evaluation_of_volumes_with_labels_of_any_number(fit, labels):
    sizes = [(6, 7, 8), (33, 5, 9), (5, 9, 3)]
    source = Kinds(sizes, labels)
    way = make_fit(Loading((4, 6, 4), fit, 2), UNet(2, (4, 8), dimensions=3))
    seen = []
    for batch in image_batches(source, way, with_labels=True, batch_size=3, workers=1):
        for row, index in enumerate(batch["index"]):
            seen.append(index)
            sample, inside = source.read(index), tuple(map(slice, sizes[index]))
            label, weight = batch["label"][row], batch["weight"][row]
            assert label.shape[:3] == weight.shape == batch["canvas"] == canvas(sizes[index])
            known = sample.label != IGNORE
            np.testing.assert_array_equal(label[inside], np.where(known, sample.label, 0))
            all_known = known.all(axis=-1) if labels else known
            np.testing.assert_array_equal(weight[inside], all_known)
            assert weight.sum() == all_known.sum()
            assert tuple(batch["size"][row]) == sizes[index]
            if fit == "resize":
                np.testing.assert_array_equal(
                    batch["image"][row], resize_image(sample.image, (4, 6, 4))
                )
            else:
                np.testing.assert_array_equal(batch["image"][row][inside], sample.image)
    assert sorted(seen) == [0, 1, 2]


class Counting(Kinds):
    """Counts how often each image is read; the third cannot be."""

    def __init__(self, *args):
        super().__init__(*args)
        self.count = collections.Counter()

    def read(self, index):
        self.count[index] += 1
        if index == 2:
            raise UserError("no such file")
        return super().read(index)._replace(label=None)


@pytest.mark.parametrize("share", [range(4), range(2), range(2, 4)])
def test_images_to_predict_have_no_label_and_are_read_once(share):
    source = Counting([(6, 7, 8)] * 5 + [(40, 7, 8)], 0)
    way = make_fit(Loading((4, 6, 4), "crop", 2), UNet(2, (4, 8), dimensions=3))
    rows = lambda size: [row for row in share if row < size] or [0]  # noqa: E731
    found = list(
        image_batches(source, way, with_labels=False, batch_size=4, workers=1, rows=rows, share=1)
    )
    read = [i for batch in found for i in (*batch["samples"], *batch["errors"])]
    # Who has no image of a batch reads one, whose shapes it takes for what it fills up with.
    others = [batch["index"][0] for batch in found if not (batch["samples"] or batch["errors"])]
    assert source.count == dict.fromkeys((*read, *others), 1)
    assert others == ([4] if share == range(2, 4) else [])
    assert sorted(batch["index"] for batch in found) == [[0, 1, 2, 3], [4], [5]]
    for batch in found:
        assert "label" not in batch
        assert "weight" not in batch
        own = [
            batch["index"][row] for row in rows(batch["batch_size"]) if row < len(batch["index"])
        ]
        flags = [index != 2 for index in own]
        assert batch["is_read"][: len(own)].tolist() == flags
        assert not batch["is_read"][len(own) :].any()
        for row, index in enumerate(own):
            image = batch["image"][row][tuple(map(slice, source.sizes[index]))]
            expected = Kinds.read(source, index).image
            np.testing.assert_array_equal(image, 0 * expected if index == 2 else expected)
        assert batch["errors"] == ({2: "no such file"} if 2 in own else {})


def test_what_fills_up_a_batch_of_evaluation_is_not_read():
    class Once(Kinds):
        def read(self, index):
            seen.append(index)
            return super().read(index)

    seen, source = [], Once([(6, 7)] * 3, 0)
    way = make_fit(RESIZE, UNet(2, (4, 8)))
    [one, other] = image_batches(source, way, with_labels=True, batch_size=2, workers=1)
    assert sorted(seen) == [0, 1, 2]
    assert len(one["image"]) == len(other["image"]) == 2
    assert not other["weight"][1].any()
