"""Crops that are put on pixels of chosen classes."""

import collections
import itertools
import math

import numpy as np
import pytest
from support.sources import Sized

from unet_jax.data.base import IGNORE
from unet_jax.data.foreground import choose_classes, is_on, pick_pixel, reach
from unet_jax.data.pipeline import train_batches
from unet_jax.data.sample import Sample, make_spec
from unet_jax.data.sources import Loading, make_loading
from unet_jax.errors import UserError

SIZES = [(31, 47), (9, 5), (64, 20), (33, 33), (1, 1), (12, 90)]
SOLIDS = [(9, 31, 17), (5, 4, 40), (20, 20, 20)]


class Rare(Sized):
    """Images whose pixels say their place and index; class 2 is at few of them, class 1 at more."""

    def __init__(self, sizes, labels=0, without=()):
        super().__init__(sizes)
        axes = len(sizes[0])
        self.spec, self.labels, self.without = make_spec(axes, axes + 1, "uint16"), labels, without

    def label(self, index):
        size = self.sizes[index]
        value = np.random.default_rng(index).random(size)
        label = np.where(value < 0.004, 2, np.where(value < 0.05, 1, 0)).astype(np.uint8)
        label = label * (index not in self.without)
        label[value > 0.7] = IGNORE
        label.flat[0] = 0 if index in self.without else 2
        return label

    def read(self, index):
        size, label = self.sizes[index], self.label(index)
        place = np.stack([*np.indices(size), np.full(size, index)], axis=-1).astype(np.uint16)
        if self.labels:
            by_class = np.stack([label == 1, label == 2], axis=-1).astype(np.uint8)
            by_class[label == IGNORE, 0] = IGNORE
            label = by_class
        return Sample(place, label, str(index), (1.0,) * len(size))


def crops(source, size, share, classes=(1, 2), **given):
    """Lists (image, label, weight) of every crop, in the order of training."""
    loading = {"workers": 1, "context": 0} | {
        key: given.pop(key) for key in ("workers", "context") if key in given
    }
    loading = Loading(size, "crop", foreground=share, foreground_classes=classes, **loading)
    given = {"batch_size": 4, "seed": 3, "start": 0, "stop": 12} | given
    batches = list(train_batches(source, loading, **given))
    return [row for batch in batches for row in zip(*batch.values(), strict=True)]


def corner(image):
    return tuple(int(n) for n in image[(0,) * (image.ndim - 1)])


@pytest.mark.parametrize("share", [0.0, 0.1, 0.33, 0.5, 2 / 3, 1.0])
def test_the_share_is_exact_and_evenly_spread(share):
    found = [is_on(position, share) for position in range(3000)]
    numerator, denominator = {0.33: (33, 100), 2 / 3: (2, 3)}.get(share, (round(share * 10), 10))
    for count, total in enumerate(itertools.accumulate(found), start=1):
        assert total == count * numerator // denominator
    far = 2**40
    assert sum(is_on(far + p, share) for p in range(300)) == pytest.approx(300 * share, abs=1)


@pytest.mark.parametrize("labels", [0, 2])
@pytest.mark.parametrize(("sizes", "size"), [(SIZES, (8, 12)), (SOLIDS, (4, 6, 8))])
def test_crops_on_classes_hold_them_and_all_others_are_as_without(sizes, size, labels):
    source = Rare(sizes, labels)
    classes = (0, 1) if labels else (1, 2)
    plain, half = (crops(source, size, share, classes) for share in (0.0, 0.5))
    on = others = 0
    for position, (before, after) in enumerate(zip(plain, half, strict=True)):
        if position % 2 == 0:  # of each two the second
            assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
            others += 1
            continue
        image, label, weight = after
        index = corner(image)[-1]
        if (source.read(index).label == 1).any():
            there = label.any(axis=-1) if labels else label > 0
            assert (there & (weight == 1)).any()
            on += 1
    assert on > 15
    assert others == 24


def test_a_crop_has_the_pixel_in_its_middle_or_touches_the_border():
    source = Rare(SIZES)
    for image, label, _ in crops(source, (8, 12), 1.0, (2,)):
        *start, index = corner(image)
        whole = [max(n, size) for n, size in zip((8, 12), SIZES[index], strict=True)]
        assert all(0 <= s <= w - n for s, w, n in zip(start, whole, (8, 12), strict=True))
        places = np.argwhere(label == 2)
        expected = [
            [
                np.clip(s + p - n // 2, 0, w - n)
                for s, p, w, n in zip(start, place, whole, (8, 12), strict=True)
            ]
            for place in places
        ]
        assert start in [list(map(int, one)) for one in expected]


def test_an_image_without_the_class_gives_plain_crops():
    source = Rare(SIZES, without=(0, 2))
    plain, all_on = (crops(source, (8, 12), share) for share in (0.0, 1.0))
    same = collections.Counter()
    for before, after in zip(plain, all_on, strict=True):
        index = corner(before[0])[-1]
        same[index, all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))] += 1
    assert {(0, False), (2, False)}.isdisjoint(same)
    assert same[0, True] == same[2, True] == 8
    assert same[5, False] > 4


@pytest.mark.parametrize("labels", [0, 2])
def test_classes_are_drawn_alike_and_then_their_pixels_alike(labels):
    label = np.zeros((7, 5), np.uint8)
    label[0, 1:] = 1
    label[3, 2] = label[6, 4] = 2
    label[2, 2] = IGNORE
    if labels:
        label = np.stack([label == 1, label == 2], axis=-1).astype(np.uint8)
        label[2, 2] = (1, IGNORE)  # ignored, since one class is not known
    rng = np.random.default_rng(0)
    classes = (0, 1) if labels else (1, 2, 7)
    found = collections.Counter(pick_pixel(label, 2, classes, rng) for _ in range(8000))
    assert set(found) == {(0, 1), (0, 2), (0, 3), (0, 4), (3, 2), (6, 4)}
    for place, count in found.items():
        expected = 8000 / 2 / (2 if place[0] else 4)
        assert abs(count - expected) < 5 * math.sqrt(expected)


def test_the_same_on_any_threads_rows_and_start():
    source = Rare(SIZES, without=(1,))
    whole = crops(source, (8, 12), 0.33, workers=1)
    assert_same(whole, crops(source, (8, 12), 0.33, workers=4))
    assert_same(whole[4 * 7 :], crops(source, (8, 12), 0.33, start=7))
    assert_same(whole, crops(source, (8, 12), 0.33, batch_size=8, stop=6))
    first, second = (crops(source, (8, 12), 0.33, rows=rows) for rows in ([0, 1], [2, 3]))
    pairs = [x[i : i + 2] for i in range(0, len(first), 2) for x in (first, second)]
    assert_same(whole, [row for pair in pairs for row in pair])


def assert_same(ours, theirs):
    assert len(ours) == len(theirs) > 0
    for one, other in zip(ours, theirs, strict=True):
        assert [x.tobytes() for x in one] == [x.tobytes() for x in other]


def test_with_context_the_pixel_is_in_what_the_network_answers_for():
    source = Rare([(9, 31), (40, 12)])
    for _, label, weight in crops(source, (12, 14), 1.0, (2,), context=4):
        assert (label[4:-4, 4:-4] == 2).any()
        assert weight[4:-4, 4:-4].any()


def test_the_share_that_is_reached(tmp_path, monkeypatch):
    monkeypatch.setenv("UNET_JAX_CACHE", str(tmp_path))
    source = Rare(SIZES, without=(0, 2))
    assert reach(source, (1, 2), 3, 0.33) == pytest.approx(0.33 * 4 / 6)
    with pytest.raises(UserError, match=r"^config\.data\.foreground=0\.33: no image of the train"):
        reach(Rare(SIZES, without=range(6)), (1, 2), 3, 0.33)


def test_which_classes():
    names = ("a", "b", "c")
    assert choose_classes((), names, by_class=False) == (1, 2)
    assert choose_classes((), names, by_class=True) == (0, 1, 2)
    assert choose_classes((2, 0), names, by_class=False) == (2, 0)
    with pytest.raises(UserError, match=r"foreground_classes=\(3,\) must be class ids: 0 a, 1 b"):
        choose_classes((3,), names, by_class=False)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"foreground": 0.5}, r"^config\.data\.foreground=0\.5 must be 0, or more with .*'crop'"),
        ({"foreground": 1.5, "fit": "crop"}, r"^config\.data\.foreground=1\.5 must be 1 or less"),
        (
            {"foreground_classes": (1, 1)},
            r"^config\.data\.foreground_classes=\(1, 1\) must be diff",
        ),
        ({"foreground_classes": (1.0,)}, r"foreground_classes=\(1\.0,\) must be different class"),
    ],
)
def test_values_that_make_no_sense(given, says):
    with pytest.raises(UserError, match=says):
        make_loading(**given)
