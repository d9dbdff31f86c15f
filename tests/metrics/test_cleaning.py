"""Small parts and holes, against SciPy and loops over pixels."""

import numpy as np
import pytest
from scipy import ndimage
from support.odd_masks import odd_labels

from unet_jax.metrics.cleaning import AS_IT_IS, RULES, Rule, clean, fill, keep

LABELS = {**odd_labels(), "a volume": np.random.default_rng(3).integers(0, 3, (5, 6, 7), np.uint8)}


def kept_by_loop(mask, rule):
    """Removes parts one by one."""
    numbers, count = ndimage.label(mask)
    sizes = {n: (numbers == n).sum() for n in range(1, count + 1)}
    largest = max(sizes, key=sizes.get, default=0)
    stays = [n for n, size in sizes.items() if size >= rule.least]
    stays = [n for n in stays if n == largest or not rule.largest]
    return np.isin(numbers, stays) & mask


@pytest.mark.parametrize("name", LABELS)
def test_parts_and_holes_are_those_of_scipy(name):
    for k in (0, 1, 2):
        mask = LABELS[name] == k
        assert np.array_equal(fill(mask), ndimage.binary_fill_holes(mask))
        for rule in (*RULES.values(), Rule(least=3), Rule(least=2, largest=True)):
            assert np.array_equal(keep(mask, rule), kept_by_loop(mask, rule)), rule


@pytest.mark.parametrize("name", LABELS)
def test_a_removed_pixel_takes_the_class_of_the_nearest_that_stays(name):
    label, rules = LABELS[name], {1: Rule(least=4), 2: Rule(largest=True)}
    before, cleaned = label.copy(), clean(label, rules, label.ndim)
    assert np.array_equal(label, before)
    stays = np.ones(label.shape, bool)
    for k, rule in rules.items():
        stays[label == k] = kept_by_loop(label == k, rule)[label == k]
    assert np.array_equal(cleaned[stays], label[stays])
    if not stays.any():
        assert np.array_equal(cleaned, label)
        return
    places = np.argwhere(stays)
    for place in np.argwhere(~stays):
        far = ((places - place) ** 2).sum(axis=1)
        nearest = {label[tuple(p)] for p in places[far == far.min()]}
        assert cleaned[tuple(place)] in nearest


def test_holes_are_filled_in_the_order_of_ids():
    label = np.zeros((7, 7), np.uint8)
    label[0:7, 0:7] = 2
    label[1:6, 1:6] = 1
    label[2:5, 2:5] = 0
    label[3, 3] = 2
    filled = clean(label, {1: Rule(holes=True)}, 2)
    expected = np.full((7, 7), 2)
    expected[1:6, 1:6] = 1
    assert np.array_equal(filled, expected)
    assert (clean(label, {1: Rule(holes=True), 2: Rule(holes=True)}, 2) == 2).all()
    assert clean(label, {}, 2) is not label


def test_classes_that_overlap_are_cleaned_alone():
    label = np.zeros((6, 9, 2), np.uint8)
    label[0:4, 0:4, 0] = 1
    label[1:3, 1:3, 0] = 0
    label[5, 8, 0] = 1
    label[5, 0:3, 1] = label[0, 8, 1] = 1
    cleaned = clean(label, {0: Rule(least=2, holes=True), 1: Rule(largest=True)}, 2)
    expected = np.zeros_like(label)
    expected[0:4, 0:4, 0] = expected[5, 0:3, 1] = 1
    assert cleaned.dtype == np.uint8
    assert np.array_equal(cleaned, expected)


def test_the_rules():
    assert RULES[AS_IT_IS] == Rule()
    assert len(set(RULES.values())) == len(RULES) == 12
    assert RULES["least_64_filled"] == Rule(64, False, True)
    assert RULES["largest"] == Rule(0, True, False)
