"""Maps beside a label, against their equations by loops over all pairs of pixels."""

import jax
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from unet_jax.augment.make import make_augment
from unet_jax.data import cache
from unet_jax.data.maps import Border, Distance, draw_maps, number_objects
from unet_jax.data.normalise import RANGE
from unet_jax.data.pipeline import train_batches
from unet_jax.data.sample import RGB, Sample
from unet_jax.data.sources import Loading, open_data
from unet_jax.errors import UserError
from unet_jax.task import IGNORE

SIZES = [(1, 1), (1, 9), (7, 5), (23, 31), (6, 7, 5)]


def blobs(size, seed=0):
    """Returns a label of classes 0, 1 and 2 in patches, some of it ignored."""
    rng = np.random.default_rng((seed, *size))
    label = (ndimage.gaussian_filter(rng.normal(size=size), 1) > 0.1).astype(np.uint8)
    label[ndimage.gaussian_filter(rng.normal(size=size), 1.5) > 0.2] *= 2
    label[rng.random(size) < 0.03] = IGNORE
    return label


def whole(label, axes=None):
    return tuple(slice(0, n) for n in label.shape[:axes])


def flood(label):
    """Numbers objects by walking from pixel to pixel along the axes."""
    numbers, count = np.zeros(label.shape, int), 0
    for start in np.ndindex(label.shape):
        if label[start] in (0, IGNORE) or numbers[start]:
            continue
        count += 1
        todo = [start]
        while todo:
            place = todo.pop()
            if numbers[place] or label[place] != label[start]:
                continue
            numbers[place] = count
            for axis in range(label.ndim):
                for step in (-1, 1):
                    near = (*place[:axis], place[axis] + step, *place[axis + 1 :])
                    if 0 <= near[axis] < label.shape[axis]:
                        todo.append(near)
    return numbers


def border_by_force(objects, sigma):
    """The paper's equation, from the distances of all pixels to all pixels of every object."""
    found = np.zeros(objects.shape)
    members = [np.argwhere(objects == i) for i in np.unique(objects) if i]
    for place in np.ndindex(objects.shape):
        nearest = sorted(np.sqrt(((own - place) ** 2).sum(-1)).min() for own in members)
        if objects[place] == 0 and len(nearest) > 1:
            found[place] = np.exp(-((nearest[0] + nearest[1]) ** 2) / (2 * sigma**2))
    return found


def distance_by_force(inside):
    found = np.zeros(inside.shape)
    for place in np.ndindex(inside.shape):
        others = np.argwhere(inside != inside[place])
        if len(others):
            far = np.sqrt(((others - place) ** 2).sum(-1)).min() - 0.5
            found[place] = -far if inside[place] else far
    return found


@pytest.mark.parametrize("size", SIZES)
def test_border_is_the_equation(size):
    label = blobs(size)
    expected = flood(label)
    objects = number_objects(label, label.ndim)
    np.testing.assert_array_equal(objects > 0, expected > 0)
    pairs = np.unique(np.stack([objects.ravel(), expected.ravel()]), axis=1)
    assert pairs.shape[1] == len(np.unique(expected))  # the same objects, by whatever number
    for sigma in (0.4, 2.0, 5.0):
        found = Border(sigma).draw(label, None, whole(label))
        np.testing.assert_allclose(found, border_by_force(expected, sigma), atol=1e-7)


def test_objects_that_touch_are_told_apart_by_their_numbers():
    """Instance maps count, of any numbers; without them what touches is one object."""
    objects = np.zeros((9, 12), np.int32)
    objects[1:8, 1:4], objects[1:8, 4:6], objects[3:5, 9:11] = 70000, 3, 2**31 - 1
    label = (objects > 0).astype(np.uint8)
    found = Border(3.0).draw(label, objects, whole(label))
    np.testing.assert_allclose(found, border_by_force(objects, 3.0), atol=1e-7)
    alone = Border(3.0).draw(label, None, whole(label))
    assert found[0, 4] > 0.5 > alone[0, 4]
    full = np.ones((4, 5), np.int32)
    for nothing in (full, 0 * full):
        assert not Border(3.0).draw(full.astype(np.uint8), nothing, whole(full)).any()


@pytest.mark.parametrize("size", SIZES)
def test_distance_is_that_of_the_border(size):
    label = blobs(size)
    ids = ((0,), (1, 2), (2,), (3,))
    found = Distance(ids, 4).draw(label, None, whole(label))
    for k, own in enumerate(ids):
        expected = distance_by_force(np.isin(label, own))
        np.testing.assert_allclose(found[..., k], expected, rtol=1e-6)
    bits = np.stack([label == 1, label == 2], -1).astype(np.uint8)
    bits[label == IGNORE] = IGNORE
    by_class = Distance((), 2).draw(bits, None, whole(bits, label.ndim))
    for k in (0, 1):
        np.testing.assert_allclose(by_class[..., k], distance_by_force(label == k + 1), rtol=1e-6)
    in_front = number_objects(bits, label.ndim)
    np.testing.assert_array_equal(in_front > 0, np.isin(label, (1, 2)))


@pytest.mark.parametrize(
    ("starts", "size"), [((3, 5), (9, 8)), ((-4, 20), (40, 25)), ((-9, 2), (6, 4))]
)
def test_a_part_has_the_values_of_the_whole(starts, size):
    """Of an image cut out somewhere, also beyond its ends, where the maps are 0."""
    label = blobs((23, 31))
    maps = (Border(1.5), Distance(((0,), (1,)), 2))
    found = draw_maps(maps, label, None, starts, size)
    for each in maps:
        alone = each.draw(label, None, whole(label))
        expected = np.zeros((*size, *each.channels))
        for place in np.ndindex(*size):
            there = tuple(a + b for a, b in zip(starts, place, strict=True))
            if all(0 <= a < n for a, n in zip(there, label.shape, strict=True)):
                expected[place] = alone[there]
        np.testing.assert_allclose(found[each.name], expected, atol=1e-7)


class Blobs:
    """Images of which the first channel says the row, with objects where `numbered`."""

    spec = RGB

    def __init__(self, sizes, numbered=False):
        self.sizes, self.numbered = sizes, numbered
        self.ids = [str(index) for index in range(len(sizes))]

    def __len__(self):
        return len(self.sizes)

    def shape(self, index):
        return self.sizes[index]

    def read(self, index, window=None):
        label = blobs(self.sizes[index], index)
        image = np.zeros((*label.shape, 3), np.uint8)
        image[..., 0], image[..., 1] = np.indices(label.shape)
        image[..., 2] = index
        objects = 1000 * (label == 1) + np.arange(label.size).reshape(label.shape) % 3 * (
            label == 1
        )
        return Sample(image, label, str(index), (1.0, 1.0), objects if self.numbered else None)


MAPS = (Border(2.0), Distance(((0,), (1,), (2,)), 3))
ORDER = {"batch_size": 2, "seed": 0, "start": 0, "stop": 3}


@pytest.mark.parametrize("numbered", [False, True])
@pytest.mark.parametrize(("size", "context"), [((12, 11), 0), ((40, 37), 4)])
def test_crops_bring_the_maps_of_their_own_pixels(numbered, size, context):
    source = Blobs([(23, 31), (17, 40)], numbered)
    loading = Loading(size, "crop", 1, context=context, maps=MAPS)
    for batch in train_batches(source, loading, **ORDER):
        for image, label, weight, border, distance in zip(
            *(batch[name] for name in ("image", "label", "weight")),
            *batch["extras"].values(),
            strict=True,
        ):
            index = int(image[..., 2].max())
            given = source.read(index)
            alone = [m.draw(given.label, given.objects, whole(given.label)) for m in MAPS]
            rows, columns = image[..., 0], image[..., 1]
            known = weight > 0
            assert known.any()
            for found, expected in zip((border, distance), alone, strict=True):
                own = expected[rows, columns]
                np.testing.assert_allclose(found[known], own[known], atol=1e-7)
            np.testing.assert_array_equal(label[known], given.label[rows, columns][known])


@pytest.mark.parametrize("numbered", [False, True])
def test_resized_labels_have_maps_of_their_own_size(numbered):
    """Distances are those of the label that the network sees, also where images are kept."""
    source, size = Blobs([(23, 31), (17, 40)], numbered), (14, 20)
    loading = Loading(size, "resize", 1, maps=MAPS, normalise=RANGE, cache=1)
    batches = list(train_batches(source, loading, **ORDER))
    kept = list(train_batches(*cache.keep(source, loading), **ORDER))
    jax.tree.map(np.testing.assert_array_equal, batches, kept)
    for batch in batches:
        for image, label, weight, border, distance in zip(
            *(batch[name] for name in ("image", "label", "weight")),
            *batch["extras"].values(),
            strict=True,
        ):
            given = source.read(int(image[..., 2].max()))
            places = [
                np.floor((np.arange(m) + 0.5) * n / m).astype(int)
                for m, n in zip(size, given.label.shape, strict=True)
            ]
            small = given.label[np.ix_(*places)]
            np.testing.assert_array_equal(np.where(weight, label, IGNORE), small)
            objects = given.objects[np.ix_(*places)] if numbered else flood(small)
            np.testing.assert_allclose(border, border_by_force(objects, 2.0), atol=1e-7)
            for k in range(3):
                np.testing.assert_allclose(
                    distance[..., k], distance_by_force(small == k), rtol=1e-6
                )


@pytest.mark.parametrize(
    "section",
    [
        {"flip": {"left_right": True, "up_down": True}},
        {
            "zoom": {"scale": (0.6, 1.7)},
            "flip": {"left_right": True},
            "colour": {"brightness": 0.3},
        },
    ],
)
def test_augmentation_moves_maps_with_the_label(section):
    """A map that says what the label says does so afterwards; the others stay what they were."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (3, 9, 7, 3)).astype(np.uint8)
    label, weight = rng.integers(0, 5, (3, 9, 7)).astype(np.uint8), np.ones((3, 9, 7), np.uint8)
    by_channel = np.stack([label * 0.5, label * -1.25], -1).astype(np.float32)
    augment, key = jax.jit(make_augment(section, RGB.value_range)), jax.random.key(1)
    plain = augment(image, label, weight, key)
    *found, one, two = augment(image, label, weight, key, label * np.float32(0.1), by_channel)
    jax.tree.map(np.testing.assert_array_equal, list(plain), found)
    moved = np.asarray(found[1])
    assert (moved != label).any()
    np.testing.assert_allclose(one, moved * np.float32(0.1), rtol=1e-6)
    np.testing.assert_allclose(two, np.stack([moved * 0.5, moved * -1.25], -1), rtol=1e-6)


@pytest.fixture
def numbered(tmp_path):
    """Three images whose masks number objects that touch, and what the masks hold."""
    masks = []
    for index in range(3):
        mask = np.zeros((10, 14), np.uint16)
        mask[1:9, 1:5], mask[1:9, 5:8], mask[2:5, 11:13] = 300, 7 + index, 65000
        masks.append(mask)
        for kind, array in (("images", np.zeros((10, 14, 3), np.uint8)), ("masks", mask)):
            (tmp_path / kind).mkdir(exist_ok=True)
            Image.fromarray(array).save(tmp_path / kind / f"n{index}.png")
    (tmp_path / "val.txt").write_text("n0\n")
    return tmp_path, masks


NUMBERS = {"class_names": ("none", "cell"), "label_map": ((0, 0), ("1-65535", 1))}


def open_train(path, **folder):
    return open_data(source="folder", path=str(path), folder=folder)[0].splits["train"]


def test_masks_of_a_folder_number_objects(numbered):
    path, masks = numbered
    train = open_train(path, **NUMBERS, instances=True)
    for index in (0, 1):
        sample, mask = train.read(index), masks[index + 1]
        np.testing.assert_array_equal(sample.label, mask > 0)
        np.testing.assert_array_equal(sample.objects == 0, mask == 0)
        drawn = Border(2.0).draw(sample.label, sample.objects, whole(mask))
        np.testing.assert_allclose(drawn, border_by_force(mask, 2.0), atol=1e-7)
        window = (slice(1, 7), slice(3, 12))
        part = train.read(index, window)
        np.testing.assert_array_equal(part.objects, sample.objects[window])
    assert open_train(path, **NUMBERS).read(0).objects is None


def test_numbers_are_kept_in_memory_and_in_no_file(numbered, capsys):
    path, _ = numbered
    train = open_train(path, **NUMBERS, instances=True)
    for fit in ("resize", "crop"):
        loading = Loading((8, 9), fit, 1, maps=MAPS[:1], cache=1, cache_dir=str(path / "cache"))
        kept = list(train_batches(*cache.keep(train, loading), **ORDER))
        jax.tree.map(
            np.testing.assert_array_equal, kept, list(train_batches(train, loading, **ORDER))
        )
        assert "config.data.cache_dir holds no numbers of objects" in capsys.readouterr().out
    assert not (path / "cache").exists()


@pytest.mark.parametrize(
    ("folder", "named"),
    [
        ({"class_names": ("a", "b"), "label_map": ((0, 0), (7, 1))}, "names 1 for as many classes"),
        ({"class_names": ("a", "b"), "by_class": True}, "is for masks of one class a pixel"),
    ],
)
def test_masks_that_number_nothing(numbered, folder, named):
    path, _ = numbered
    with pytest.raises(UserError, match=named) as error:
        open_train(path, **folder, instances=True)
    assert "config.data.folder.instances=True" in str(error.value)
    assert "\n" not in str(error.value)
