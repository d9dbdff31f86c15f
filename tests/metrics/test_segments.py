"""V_rand and V_info against counts of pairs of pixels and scikit-image."""

import itertools

import numpy as np
import pytest
from scipy.special import expit, softmax
from skimage.measure import label as number
from skimage.metrics import adapted_rand_error, contingency_table, variation_of_information
from skimage.morphology import skeletonize
from support.masks import draw

from unet_jax.errors import UserError
from unet_jax.metrics import choices, make
from unet_jax.metrics.base import Outcome
from unet_jax.metrics.segments import THRESHOLDS, Segments, part, rand_and_info

NAMES = ("border", "cell")


def numbered(guess):
    """Makes each pixel that is of no segment one of its own."""
    own = np.arange(guess.size).reshape(guess.shape) + guess.max() + 1
    return np.where(guess == 0, own, guess)


def test_both_are_those_of_scikit_image_and_of_pairs_of_pixels():
    rng = np.random.default_rng(0)
    for index in range(300):
        truth, guess = (draw(rng, (9, 11), 4) for _ in range(2))
        if index % 3 == 0:
            guess = np.where(rng.random(truth.shape) < 0.1, guess, truth)
        if not truth.any():
            continue
        rand, info = rand_and_info(truth, guess)
        alone = numbered(guess)
        known = truth > 0
        table = contingency_table(truth, alone, ignore_labels=(0,)).toarray()
        sums = [(x**2).sum() for x in (table, table.sum(axis=0), table.sum(axis=1))]
        assert rand == pytest.approx(2 * sums[0] / (sums[1] + sums[2]))
        # scikit-image leaves out the pairs of a pixel with itself.
        both, one, other = (x - known.sum() for x in sums)
        if one + other > 0 < min(one, other):
            error, _, _ = adapted_rand_error(truth, alone, ignore_labels=(0,))
            assert 2 * both / (one + other) == pytest.approx(1 - error)
        split, merged = variation_of_information(alone[known], truth[known])
        entropies = [
            -sum(p * np.log2(p) for p in np.unique(x[known], return_counts=True)[1] / known.sum())
            for x in (alone, truth)
        ]
        shared = (sum(entropies) - split - merged) / 2
        assert info == pytest.approx(2 * shared / sum(entropies) if sum(entropies) else 1, abs=1e-9)
    pairs = list(itertools.product(np.flatnonzero(truth), repeat=2)) if truth.any() else []
    a, b = truth.ravel(), alone.ravel()
    same = [(a[i] == a[j], b[i] == b[j]) for i, j in pairs]
    both, one, other = (sum(map(f, same)) for f in (all, lambda s: s[0], lambda s: s[1]))
    assert rand == pytest.approx(2 * both / (one + other))


def parted(border, known):
    """Numbers what is left of an image without the lines of its border."""
    line = skeletonize(np.pad(border & known, 32, mode="edge"))[32:-32, 32:-32]
    return number(~line & known, connectivity=1)


@pytest.mark.parametrize(("overlap", "thin"), [(False, False), (True, False), (False, True)])
def test_images_and_slices_equal_a_loop(overlap, thin):
    rng, metric = np.random.default_rng(1), Segments(NAMES, threshold=0.3, thin=thin)
    label = rng.random((3, 10, 14)) < 0.75
    label[1] = True
    label[2, :, 5:8], label[2, :, 8:] = False, True
    logits = rng.normal(size=(3, 10, 14, 2)) + 2 * np.stack([~label, label], -1)
    weight = (rng.random(label.shape) < 0.9).astype(np.uint8)
    truth = np.stack([~label, label], -1) if overlap else label.astype(int)
    found = metric.count(Outcome(logits[None], None, None, truth[None], weight[None]))
    score = expit(logits[..., 1]) if overlap else softmax(logits, axis=-1)[..., 1]
    assert found["images"] == [3]
    for index, threshold in ((None, 0.3), (0, THRESHOLDS[0]), (12, THRESHOLDS[12])):
        sums = np.zeros(2)
        for own, inside, known in zip(score, label, weight > 0, strict=True):
            guess = own > threshold
            guess = parted(~guess, known) if thin else number(guess, connectivity=1)
            sums += rand_and_info(parted(~inside, known), guess)
        ends = ("", "") if index is None else ("_by_threshold",) * 2
        for name, end, value in zip(("V_rand", "V_info"), ends, sums, strict=True):
            got = found[name + end][0]
            assert (got if index is None else got[index]) == pytest.approx(value)


@pytest.mark.parametrize("thin", [False, True])
def test_a_border_that_leaves_the_image_parts_it(thin):
    inside = np.ones((31, 46), bool)
    inside[:, 10:17], inside[12:20] = False, False  # a cross: four cells
    corners = [(0, 0), (0, -1), (-1, 0), (-1, -1)]
    cells = part(~inside, np.ones_like(inside))
    assert len({int(cells[corner]) for corner in corners}) == cells.max() == 4
    logits = np.stack([~inside, inside], -1) * 9.0
    metric = Segments(NAMES, threshold=0.5, thin=thin)
    outcome = Outcome(logits[None], None, None, inside[None].astype(int), np.ones((1, 31, 46)))
    found = metric.count(outcome)
    whole = rand_and_info(cells, number(inside, connectivity=1))[0]
    assert whole < 0.9
    assert found["V_rand"][0] == pytest.approx(1.0 if thin else whole)


def test_scores_at_thresholds():
    metric = Segments(NAMES)
    by_threshold = np.zeros((2, len(THRESHOLDS)))
    by_threshold[0, 4], by_threshold[1, 4], by_threshold[1, 7] = 0.9, 0.3, 1.0
    counts = {name: np.array([0.25, 0.75]) for name in ("V_rand", "V_info")}
    counts |= {f"{name}_by_threshold": by_threshold for name in ("V_rand", "V_info")}
    counts["images"] = np.array([1.0, 1.0])
    got = make.values(metric.scores(counts))
    assert got["V_rand"] == 0.5
    assert got["V_rand_best"] == pytest.approx(0.6)
    assert got["V_rand_threshold"] == 0.25
    none = {name: 0 * array for name, array in counts.items()}
    counts["V_rand"], counts["V_info"] = np.array([0, -1]), np.array([-2, 0])
    counts["V_info_by_threshold"] = by_threshold[:, ::-1]
    own = make.values(metric.scores(counts))
    assert own["V_rand"] == own["V_rand_best"] == pytest.approx(0.6)
    assert own["V_info"] == 0, "not at its own threshold, which is 0.75"
    assert own["V_info_best"] == pytest.approx(0.6)
    assert set(make.values(metric.scores(none)).values()) == {None}


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"threshold": 1.0}, r"threshold=1\.0 must be between"),
        ({"threshold": -0.1}, r"threshold=-0\.1 must be between"),
        ({"inside": 2}, "inside=2 must be 1"),
    ],
)
def test_bad_values(values, says):
    with pytest.raises(UserError, match=rf"^config\.eval\.metrics\.segments\.{says}"):
        make.make_metrics(NAMES, chosen=choices.check_metrics({"segments": values}))
