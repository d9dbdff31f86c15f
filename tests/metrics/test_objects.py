"""Objects against flood fill, sets of pixels, and the assignment that StarDist solves."""

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from support.masks import cases, flood, outcome_of

from unet_jax.errors import UserError
from unet_jax.metrics import choices, make
from unet_jax.metrics.objects import THRESHOLDS, Objects

NAMES = ("rest", "a", "b")


def slow_counts(truth, guess):
    """Counts of lists of sets of pixels."""
    iou = np.array([[len(a & b) / len(a | b) for b in guess] for a in truth])
    iou = iou.reshape(len(truth), len(guess))
    matched = []
    for threshold in THRESHOLDS:
        reward = (iou >= threshold) + iou / (2 * max(1, min(iou.shape)))  # as StarDist does
        rows, columns = linear_sum_assignment(-reward)
        matched.append(int((iou[rows, columns] >= threshold).sum()))
    seg = 0.0
    for a in truth:
        seg += sum(len(a & b) / len(a | b) for b in guess if 2 * len(a & b) > len(a))
    return {
        "matched": matched,
        "true": len(truth),
        "guessed": len(guess),
        "quality": iou[iou > 0.5].sum(),
        "paired": (iou > 0.5).sum(),
        "seg": seg,
    }


@pytest.mark.parametrize("connectivity", ["sides", "corners"])
def test_objects_equal_flood_fill_and_assignment(connectivity):
    metric, found_some = Objects(NAMES, connectivity), 0
    for outcome, (label, decision, counts, _) in cases(300):
        found = metric.count(outcome)
        for k in (1, 2):
            masks = ((label == k) & counts, (decision == k) & counts)
            parts = [flood(mask, corners=connectivity == "corners") for mask in masks]
            want = slow_counts(*parts)
            assert found["true"][0, 0] == 0, "the background"
            for name, value in want.items():
                np.testing.assert_allclose(found[name][0, k], value, err_msg=name)
            found_some += sum(want["matched"])
    assert found_some > 300


def test_two_halves_of_an_object_match_it_once():
    label, decision = np.ones((2, 4), int), np.array([[1, 1, 0, 0], [0, 0, 0, 0]])
    whole = np.zeros((1, 5), int)
    whole[0, :4] = 1
    halves, one = np.array([[1, 1, 2, 2, 0]]), np.array([[1, 1, 1, 1, 0]])
    found = Objects(NAMES).count(outcome_of(one, one, np.ones((1, 5)), objects=halves))
    assert (found["matched"][0, 1, 0], found["true"][0, 1], found["guessed"][0, 1]) == (1, 2, 1)
    assert found["quality"][0, 1] == 0, "panoptic quality takes more than a half"
    found = Objects(NAMES).count(outcome_of(label, decision, np.ones((2, 4))))
    assert found["matched"][0, 1].tolist() == [0] * 5
    assert found["seg"][0, 1] == 0, "a quarter is no majority"


def test_numbers_of_the_data_are_the_true_objects():
    label = np.array([[1, 1, 1, 1, 0, 2, 2]])
    objects = np.array([[7, 7, 900, 900, 0, 7, 7]])
    found = Objects(NAMES).count(outcome_of(label, label, np.ones((1, 7)), objects=objects))
    assert found["true"].tolist() == [[0, 2, 1]]
    assert found["guessed"].tolist() == [[0, 1, 1]]
    assert found["seg"].tolist() == [[0, 1.0, 1]], "0.5 each: the guess has all of both"


def test_scores_are_those_of_their_equations():
    metric, rng = Objects(NAMES), np.random.default_rng(2)
    counts = {
        name: rng.random((4, *(axis or 3 for axis in axes))) for name, axes in metric.axes.items()
    }
    counts["true"] += 3
    counts["guessed"] += 2
    for name in ("true", "guessed", "matched", "seg", "quality", "paired"):
        counts[name][:, 2] = 0  # a class that is nowhere
    got = make.values(metric.scores(counts))
    sums = {name: array.sum(axis=0) for name, array in counts.items()}
    mean = []
    for index, t in enumerate(THRESHOLDS):
        hit = sums["matched"][1, index]
        false, missed = sums["guessed"][1] - hit, sums["true"][1] - hit
        mean.append(hit / (hit + false + missed))
        assert got[f"AP@{t}/a"] == pytest.approx(mean[-1])
        assert got[f"precision@{t}/a"] == pytest.approx(hit / (hit + false))
        assert got[f"recall@{t}/a"] == pytest.approx(hit / (hit + missed))
        assert got[f"F1@{t}/a"] == pytest.approx(2 * hit / (2 * hit + false + missed))
    assert got["AP/a"] == pytest.approx(np.mean(mean))
    assert got["AP"] == pytest.approx((got["AP/a"] + got["AP/rest"]) / 2)
    assert got["PQ/a"] == pytest.approx(
        sums["quality"][1] / ((sums["true"][1] + sums["guessed"][1]) / 2)
    )
    assert got["SEG/a"] == pytest.approx(sums["seg"][1] / sums["true"][1])
    assert {got[name] for name in got if name.endswith("/b")} == {None}


def test_bad_values():
    section = choices.check_metrics({"objects": {"connectivity": "8"}})
    with pytest.raises(UserError, match=r"^config\.eval\.metrics\.objects\.connectivity='8' is no"):
        make.make_metrics(NAMES, chosen=section)
