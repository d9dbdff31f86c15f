import io
import itertools
import pickle

import numpy as np
import pytest
from PIL import Image
from scipy import fft, ndimage
from support.encoded import SHOWN, by_pillow

from unet_jax.doctor import alignment, measures, objects
from unet_jax.doctor.faults import classes, files, splits
from unet_jax.doctor.faults.objects import middle_by_area
from unet_jax.doctor.look import Look

SIZES = [(1, 1), (3, 5), (64, 64), (97, 131), (40, 500), (360, 480)]


def noise(size, channels=3, dtype=np.uint8, seed=0):
    high = 255 if np.issubdtype(dtype, np.integer) else 1
    few = np.random.default_rng(seed).integers(0, 255, (9, 11, channels)).astype(np.uint8)
    planes = [Image.fromarray(few[..., c]).resize(size[::-1], 3) for c in range(channels)]
    return (np.stack([np.asarray(one) for one in planes], axis=-1) / 255 * high).astype(dtype)


def measured(image):
    (found,) = measures.measure([measures.keep(image)])
    return found


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_numbers_of_an_image_are_those_of_its_pixels(size, dtype):
    image = noise(size, dtype=dtype)
    found = measured(image)
    assert (found.low, found.high) == (image.min(), image.max())
    scale = float(image.max()) or 1
    flat = image.reshape(-1, 3).astype(np.float64)
    few = measures.thin(image).reshape(-1, 3).astype(np.float64)  # those that are looked at
    np.testing.assert_allclose(found.means, few.mean(axis=0), atol=1e-5 * scale)
    np.testing.assert_allclose(found.means, flat.mean(axis=0), atol=0.03 * scale)
    if image.size > 3000:
        wanted = np.quantile(flat, [0.01, 0.25, 0.5, 0.75, 0.99])
        np.testing.assert_allclose(found.quantiles, wanted, atol=0.05 * scale)


def test_shares_of_black_and_white():
    image = np.full((100, 140, 1), 128, np.uint8)
    image[:30], image[90:] = 0, 255
    np.testing.assert_allclose(measured(image).clipped, (0.3, 0.1), atol=0.02)


def test_a_fingerprint_is_the_transform_of_the_paper():
    grey = np.random.default_rng(0).random((32, 32)).astype(np.float32)
    lowest = fft.dctn(grey.astype(np.float64), type=2)[1:9, 1:9].ravel()
    bits = "".join("1" if one > np.median(lowest) else "0" for one in lowest)
    assert measures.fingerprints(grey[None]) == [int(bits, 2)]


@pytest.mark.parametrize("size", [(5, 7), (96, 200), (333, 250)])
def test_cells_are_averages_of_a_grid_of_pixels(size):
    image = noise(size, 2)
    (found,) = measures.cells(measures.thin(image).astype(np.float32)[None])
    for row, column in itertools.product((0, 1, 13, 31), (0, 7, 30, 31)):
        part = [
            image[
                int((3 * row + i + 0.5) / 96 * size[0]), int((3 * column + j + 0.5) / 96 * size[1])
            ]
            for i, j in itertools.product(range(3), repeat=2)
        ]
        np.testing.assert_allclose(found[row, column], np.mean(part), rtol=1e-5)


def test_a_volume_is_measured_in_all_its_slices():
    volume = np.random.default_rng(0).integers(0, 99, (20, 30, 40, 2)).astype(np.int16)
    volume[:5] += 1000
    found = measured(volume)
    np.testing.assert_allclose(found.means, volume.mean(axis=(0, 1, 2)), rtol=0.05)
    other = volume.copy()
    other[0, 0, 0, 0] -= 1
    assert measured(other).digest != found.digest


def seen(image, name="x"):
    found = measured(image)
    return Look(name, shape=image.shape[:-1], **found._asdict())


def test_what_is_nearly_the_same_is_found_and_nothing_else():
    images = [noise((96, 128), seed=seed) for seed in range(30)]
    compressed = np.asarray(Image.open(_file(by_pillow(images[3], "JPEG", quality=40))))
    smaller = np.asarray(Image.fromarray(images[5]).resize((96, 72)))
    brighter = (images[7] * 0.8 + 40).astype(np.uint8)
    others = [compressed, smaller, brighter, images[9][:, ::-1], 255 - images[10]]
    looks = [seen(image) for image in (*images, *others)]
    assert sorted(splits.near_pairs(looks)) == [(3, 30), (5, 31), (7, 32)]
    assert seen(images[3]).digest != looks[30].digest
    assert seen(images[3].copy()).digest == looks[3].digest


def test_a_digest_is_of_every_pixel_the_shape_and_the_type():
    image = noise((500, 300))
    digests = {measured(image).digest}
    for row, column in ((0, 0), (0, 299), (250, 151), (499, 299)):
        other = image.copy()
        other[row, column, 1] ^= 1
        digests.add(measured(other).digest)
    digests.add(measured(image.reshape(300, 500, 3)).digest)
    digests.add(measured(image.view(np.int8)).digest)
    assert len(digests) == 7
    assert measured(np.asfortranarray(image)).digest in digests


def test_what_is_moved_by_some_rows_has_another_digest():
    image = np.zeros((600, 64, 1), np.uint8)  # of rows of 8 words
    image[40:60, 20:40] = 77
    digests = {measured(np.roll(image, down, axis=0)).digest for down in range(0, 540, 3)}
    assert len(digests) == 180


def test_images_of_all_kinds_are_measured_together_as_alone():
    images = [
        *(noise((64, 48), seed=seed) for seed in range(3)),
        noise((10, 300), dtype=np.uint16),
        noise((64, 48), channels=1),
        noise((33, 20), dtype=np.float32),
        np.random.default_rng(0).integers(0, 99, (8, 9, 10, 2)).astype(np.int16),
        noise((64, 48), seed=3),
    ]
    together = measures.measure([measures.keep(image) for image in images])
    assert pickle.dumps(together) == pickle.dumps([measured(image) for image in images])
    assert measures.measure([]) == []


def _file(data):
    return io.BytesIO(data)


def test_pairs_of_many_images_are_those_of_a_loop():
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**63, 10_000, np.uint64)
    hashes[[17, 4_000, 9_999]] = hashes[5] ^ np.array([0, 7, 2**60 + 2**33], np.uint64)
    hashes[600] = hashes[5] ^ np.uint64(127 << 40)  # 7 bits
    looks = [Look(str(i), phash=int(h), thumbnail=bytes(256)) for i, h in enumerate(hashes)]
    looks[17] = looks[17]._replace(thumbnail=bytes([100] * 256))  # another image
    found = splits.near_pairs(looks)
    assert sorted(found) == [(5, 4_000), (5, 9_999), (4_000, 9_999)]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(1,), (7, 9), (3, 5, 4), (0,)])
@pytest.mark.parametrize("most", [2, 255])
def test_counts_of_values(dtype, shape, most):
    ids = np.random.default_rng(0).integers(0, most, shape).astype(dtype)
    wanted = dict(zip(*(x.tolist() for x in np.unique(ids, return_counts=True)), strict=True))
    for likely in ((), range(256), range(3), (300, 1, 0), [*wanted][:1]):
        found = measures.count_values(ids, likely)
        assert list(found.items()) == list(wanted.items())
    assert measures.count_values(ids[..., ::2]) == {
        int(v): int((ids[..., ::2] == v).sum()) for v in np.unique(ids[..., ::2])
    }


@pytest.mark.parametrize("size", [(9, 13), (25, 33), (1, 7), (8, 9, 10), (64, 48)])
def test_objects_are_those_of_scipy(size):
    ids = np.random.default_rng(0).integers(0, 4, size).astype(np.uint8)
    values = {0: 0, 1: 1, 2: 2, 3: 255}
    found = objects.measure([ids], values, by_class=False)
    wanted = []
    for own in (0, 1, 2):
        parts, count = ndimage.label(ids == own)
        for part in range(1, count + 1):
            where = np.argwhere(parts == part)
            sides = where.max(axis=0) - where.min(axis=0) + 1
            wanted.append((own, sides.max(), sides.min(), len(where)))
    wanted.sort(key=lambda one: -one[-1])
    assert [row[-1] for row in found] == [row[-1] for row in wanted[: objects.MOST]]
    assert {*map(tuple, found.tolist())} <= {*wanted}
    if len(wanted) <= objects.MOST:
        assert sorted(map(tuple, found.tolist())) == sorted(wanted)


def test_objects_of_large_masks_and_of_classes_that_overlap():
    large = np.zeros((1000, 700), np.uint8)
    large[100:300, 200:240] = 1
    (row,) = objects.measure([large, 0 * large], {0: 0, 1: 1}, by_class=True)
    assert row[0] == 0
    np.testing.assert_allclose(row[1:], (200, 40, 8000), rtol=0.1)


def test_the_middle_by_area():
    sides, areas = np.array([1, 50, 10, 1, 1]), np.array([1, 40, 39, 1, 1])
    assert middle_by_area(sides, areas) == 10
    assert middle_by_area(np.array([4, 2, 3, 1]), np.full(4, 7)) == 2
    assert middle_by_area(sides, np.array([1, 400, 39, 1, 1])) == 50


@pytest.mark.parametrize("size", [(40, 40), (33, 57), (300, 500)])
def test_alignment_is_that_of_a_loop(size):
    label = np.zeros(size, np.uint8)
    label[size[0] // 4 : size[0] // 2, size[1] // 5 : size[1] // 2] = 3
    image = noise(size)
    found = alignment.measure(image, label)
    step = -(-max(size) // alignment.SIDE)
    grey = image[::step, ::step].mean(axis=-1)
    few = label[::step, ::step]
    edges = np.zeros(grey.shape)
    borders = np.zeros(few.shape, bool)
    for r, c in np.ndindex(*grey.shape):
        inside = 0 < r < grey.shape[0] - 1 and 0 < c < grey.shape[1] - 1
        if inside:
            edges[r, c] = np.hypot(grey[r + 1, c] - grey[r - 1, c], grey[r, c + 1] - grey[r, c - 1])
        for dr, dc in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            if 0 <= r + dr < few.shape[0] and 0 <= c + dc < few.shape[1]:
                borders[r, c] |= few[r, c] != few[r + dr, c + dc]
    edges = np.minimum(edges / edges.mean(), 6)
    edges /= edges.mean()
    count = 8 if size[0] == size[1] else 4
    places = [alignment.turned(borders, which) for which in range(count)]
    blurred = np.zeros_like(edges)
    for r, c in np.ndindex(*edges.shape):
        blurred[r, c] = edges[max(0, r - 4) : r + 5, max(0, c - 4) : c + 5].sum() / 81
    for row, one in enumerate((edges, blurred)):
        wanted = [one[p].mean() - 1 for p in places]
        np.testing.assert_allclose(found.turns[row, :count], wanted, atol=1e-4)
    assert np.isnan(found.turns[:, count:]).all()
    for down, right in ((0, 0), (3, -2), (-5, 6)):
        moved = np.roll(borders, (down, right), (0, 1))  # it lies well inside
        score = found.shifts[alignment.REACH + down, alignment.REACH + right]
        np.testing.assert_allclose(score, edges[moved].mean() - 1, atol=2e-3)


def test_turns_are_what_they_are_called():
    mask = np.arange(9).reshape(3, 3)
    wanted = {
        "as it is": mask,
        "flipped left to right": np.fliplr(mask),
        "flipped upside down": np.flipud(mask),
        "turned by 180 degrees": np.rot90(mask, 2),
        "transposed": mask.T,
        "turned by 90 degrees to the left": np.rot90(mask, 1),
        "turned by 90 degrees to the right": np.rot90(mask, 3),
        "transposed along the other diagonal": np.fliplr(np.flipud(mask)).T,
    }
    assert tuple(wanted) == alignment.TURNS
    for which, name in enumerate(wanted):
        np.testing.assert_array_equal(alignment.turned(mask, which), wanted[name])


def test_weights_are_those_of_the_paper():
    held = [np.array([90, 10, 0, 0, 5]), np.array([40, 0, 0, 0, 60]), np.array([70, 20, 0, 10, 0])]
    found = classes.suggest_weights([Look("x", classes=one) for one in held])
    # Class 1 has 30 of the 200 pixels that count in the images that hold it; the last do not count.
    frequencies = [200 / (100 + 40 + 100), 30 / 200, 10 / 100]
    first, second, third = (0.15 / f for f in frequencies)
    np.testing.assert_allclose(found, [first, second, 0, third], atol=1e-4)


@pytest.mark.parametrize("orientation", range(2, 9))
def test_orientations_are_turns(orientation):
    mask = np.arange(9).reshape(3, 3)
    turn = files._AS_TURN[orientation]
    np.testing.assert_array_equal(alignment.turned(mask, turn), SHOWN[orientation](mask))
