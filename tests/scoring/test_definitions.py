"""Every definition of a mean against loops over pixels, images and classes, and scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import jaccard_score
from support.masks import draw

from unet_jax.scoring.definitions import DEFINITIONS, Scope, Sums, score, score_all

CLASSES = 4
SIZES = [(12, 17), (1, 1), (7, 5), (1, 9)]


def images(seed, absent=(), invented=()):
    """Draws true and predicted masks of several sizes, 255 where a true one is void.

    Classes that are absent are in no mask, those that are invented in predicted ones alone.
    """
    rng = np.random.default_rng(seed)
    pairs = []
    for size in SIZES:
        label, guess = (draw(rng, size, CLASSES) for _ in range(2))
        guess = np.where(rng.random(size) < 0.5, guess, label)
        for k in absent:
            label[label == k] = guess[guess == k] = 0
        label[np.isin(label, invented)] = 0
        label[rng.random(size) < 0.2] = 255
        pairs.append((label, guess))
    pairs.append((np.full((2, 3), 255), np.zeros((2, 3), int)))  # nothing counts
    pairs.append((np.zeros((3, 2), int), np.full((3, 2), CLASSES - 1)))  # all is wrong
    return pairs


def sums_of(pairs):
    counted = [(label[label != 255], guess[label != 255]) for label, guess in pairs]
    parts = [
        [[((t == k) & (p == k)).sum(), (t == k).sum(), (p == k).sum()] for k in range(CLASSES)]
        for t, p in counted
    ]
    return Sums(*np.moveaxis(np.array(parts), -1, 0))


def ratio(kind, true, guess):
    """Returns the ratio of two sets, None where both are empty."""
    if not true | guess:
        return None
    if kind == "IoU":
        return len(true & guess) / len(true | guess)
    return 2 * len(true & guess) / (len(true) + len(guess))


def sets(pairs, k):
    """Returns the places of a class in the masks of some images that count."""
    true, guess = set(), set()
    for n, (label, own) in enumerate(pairs):
        for place in np.ndindex(label.shape):
            if label[place] != 255:
                true |= {(n, *place)} if label[place] == k else set()
                guess |= {(n, *place)} if own[place] == k else set()
    return true, guess


def mean(values):
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def of_classes(kind, pairs, classes):
    """Returns the ratio of the pixels of all classes together."""
    both = [sets(pairs, k) for k in classes]
    sides = (
        {(k, place) for k, own in zip(classes, both, strict=True) for place in own[i]}
        for i in (0, 1)
    )
    return ratio(kind, *sides)


def slow(name, kind, pairs, classes):
    """Computes a definition by loops, each as its library says it."""
    whole = {k: sets(pairs, k) for k in classes}
    one = [{k: sets([pair], k) for k in classes} for pair in pairs]

    def either(own):
        return ratio(kind, *own)

    def true(own):
        return ratio(kind, *own) if own[0] else None

    def filled(own, value):
        return value if ratio(kind, *own) is None else ratio(kind, *own)

    return {
        "pixels": lambda: mean(true(whole[k]) for k in classes),
        "pixels, any": lambda: mean(either(whole[k]) for k in classes),
        "pixels, absent 0": lambda: mean(filled(whole[k], 0) for k in classes),
        "pixels, absent 1": lambda: mean(filled(whole[k], 1) for k in classes),
        "pixels of all classes": lambda: of_classes(kind, pairs, classes),
        "images": lambda: mean(mean(true(own[k]) for own in one) for k in classes),
        "images, any": lambda: mean(mean(either(own[k]) for own in one) for k in classes),
        "images, absent 0": lambda: mean(filled(own[k], 0) for own in one for k in classes),
        "images, absent 1": lambda: mean(filled(own[k], 1) for own in one for k in classes),
        "images of all classes": lambda: mean(of_classes(kind, [p], classes) for p in pairs),
        "each image": lambda: mean(mean(true(own[k]) for k in classes) for own in one),
        "each image, any": lambda: mean(mean(either(own[k]) for k in classes) for own in one),
        "pairs, any": lambda: mean(either(own[k]) for own in one for k in classes),
    }[name]()


@pytest.mark.parametrize("name", DEFINITIONS)
@pytest.mark.parametrize(("absent", "invented"), [((), ()), ((1,), (2,)), ((1, 2), ())])
def test_definitions_equal_loops(name, absent, invented):
    for seed in range(2):
        pairs = images(seed, absent, invented)
        sums = sums_of(pairs)
        for classes in (range(CLASSES), (1, 2, 3), (2,)):
            for kind in ("IoU", "Dice"):
                want = slow(name, kind, pairs, list(classes))
                got = score(DEFINITIONS[name], kind, sums, classes)
                assert got == (None if want is None else pytest.approx(want, abs=1e-12))


def test_no_two_definitions_are_one():
    sums = sums_of(images(0, (1,), (2,)))
    found = {name: score(definition, "IoU", sums) for name, definition in DEFINITIONS.items()}
    assert len(set(found.values())) == len(DEFINITIONS), found


def test_means_without_the_background():
    sums = sums_of(images(2))
    found = score_all(Scope("", sums, 0, ("a", "b", "c", "d"), "b"))
    for name, definition in DEFINITIONS.items():
        for kind in ("IoU", "Dice"):
            assert found[name][kind] == score(definition, kind, sums)
            assert found[name][f"{kind} without b"] == score(definition, kind, sums, (0, 2, 3))


def test_what_scikit_learn_has():
    pairs = images(1, (1,), (2,))
    counted = [(label[label != 255], guess[label != 255]) for label, guess in pairs]
    true, guess = (np.concatenate(part) for part in zip(*counted, strict=True))
    labels, sums = list(range(CLASSES)), sums_of(pairs)

    def own(name):
        return score(DEFINITIONS[name], "IoU", sums)

    assert own("pixels, any") == pytest.approx(jaccard_score(true, guess, average="macro"))
    micro = jaccard_score(true, guess, average="micro")
    assert own("pixels of all classes") == pytest.approx(micro)
    for empty in (0, 1):
        how = {"labels": labels, "average": "macro", "zero_division": empty}
        assert own(f"pixels, absent {empty}") == pytest.approx(jaccard_score(true, guess, **how))
        each = [jaccard_score(t, p, **how) if len(t) else empty for t, p in counted]
        assert own(f"images, absent {empty}") == pytest.approx(np.mean(each))
