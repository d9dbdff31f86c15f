"""Overlap against loops over pixels, in two and three dimensions."""

import jax.numpy as jnp
import numpy as np
import pytest
from support.scored import scores

from unet_jax.data.sets.pets import VIEWS
from unet_jax.metrics.base import Outcome
from unet_jax.metrics.make import values
from unet_jax.metrics.overlap import BinaryOverlap, Overlap, confusion_matrices
from unet_jax.metrics.views import view_confusion

NAMES = ("a", "b", "c", "d")
SIZES = [(1, 1), (7, 9), (13, 2), (3, 5, 4), (1, 6, 11)]


def numpy_confusion(prediction, label, weight, num_classes):
    result = np.zeros((len(label), num_classes, num_classes), np.int64)
    for i in np.ndindex(label.shape):
        if weight[i]:
            result[i[0], label[i], prediction[i]] += 1
    return result


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("weight_type", [np.uint8, np.float32])
def test_confusion_equals_a_loop(size, weight_type):
    rng = np.random.default_rng(0)
    prediction, label = rng.integers(0, 4, (2, 3, *size))
    weight = rng.integers(0, 2, label.shape).astype(weight_type)
    found = confusion_matrices(jnp.asarray(prediction), jnp.asarray(label), weight, 4)
    assert found.dtype == jnp.int32
    np.testing.assert_array_equal(found, numpy_confusion(prediction, label, weight, 4))


def test_confusion_is_exact_beyond_the_integers_of_float32():
    side = 4100  # more pixels than 2^24
    zeros = jnp.zeros((1, side, side), jnp.uint8)
    assert int(confusion_matrices(zeros, zeros, zeros + 1, 2)[0, 0, 0]) == side * side


def slow_scores(label, prediction, names):
    """Scores of flat arrays by sets of pixels; a class that the labels lack has none."""
    found = {}
    for k, name in enumerate(names):
        truth, predicted = set(np.flatnonzero(label == k)), set(np.flatnonzero(prediction == k))
        iou = len(truth & predicted) / len(truth | predicted) if truth else None
        dice = 2 * len(truth & predicted) / (len(truth) + len(predicted)) if truth else None
        accuracy = len(truth & predicted) / len(truth) if truth else None
        found |= {f"IoU/{name}": iou, f"Dice/{name}": dice, f"accuracy/{name}": accuracy}
    for mean, kind in {"mIoU": "IoU", "mDice": "Dice", "mean_class_accuracy": "accuracy"}.items():
        known = [found[f"{kind}/{name}"] for name in names if found[f"{kind}/{name}"] is not None]
        found[mean] = np.mean(known)
    return found | {"pixel_accuracy": np.mean(label == prediction)}


def test_scores_follow_their_definitions():
    rng = np.random.default_rng(1)
    label, prediction = rng.integers(0, 3, (2, 500))
    confusion = numpy_confusion(prediction[None], label[None], np.ones((1, 500)), 4)[0]
    found = scores(confusion, NAMES)
    assert found == pytest.approx(slow_scores(label, prediction, NAMES))
    assert found["IoU/d"] is None


def test_scores_state_their_range():
    found = Overlap(NAMES).scores({"confusion": np.ones((1, 4, 4), int)})
    assert {score.kind[:3] for score in found.values()} == {(0.0, 1.0, True)}
    assert len(found) == 4 + 3 * 4


def test_means_add_up_in_the_order_of_the_classes():
    """As earlier versions did in a loop, to the last digit, which a sum in pairs would change."""
    rng = np.random.default_rng(2)
    for _ in range(20):
        confusion = rng.integers(0, 1000, (19, 19))
        hit, union = np.diag(confusion), confusion.sum(0) + confusion.sum(1) - np.diag(confusion)
        total = 0.0
        for one, of in zip(hit.tolist(), union.tolist(), strict=True):
            total += one / of
        assert scores(confusion, tuple(map(str, range(19))))["mIoU"] == total / 19


@pytest.mark.parametrize("weights", [(1, 1, 1), (2, 0, 3), (0, 0, 1)])
def test_weights_repeat_images(weights):
    rng = np.random.default_rng(3)
    confusion = rng.integers(0, 20, (3, 4, 4))
    confusion[:, 3] = 0
    confusion[1, 3, 3] = 5  # the class is in one image alone
    metric = Overlap(NAMES, ())
    found = values(metric.scores({"confusion": confusion}, np.array(weights)))
    repeated = np.repeat(confusion, weights, axis=0)
    assert found == values(metric.scores({"confusion": repeated}))
    if not weights[1]:
        assert found["IoU/d"] is None


def test_an_absent_class_that_is_predicted_is_absent_and_costs_the_true_class():
    found = scores(np.array([[6, 2], [0, 0]]), ("a", "b"))
    assert found["IoU/b"] is None
    assert found["mIoU"] == found["IoU/a"] == pytest.approx(6 / 8)


def test_no_pixels_at_all():
    assert set(scores(np.zeros((2, 2)), ("a", "b")).values()) == {None}


def test_the_views_of_pets():
    rng = np.random.default_rng(2)
    label, prediction = rng.integers(0, 3, (2, 400))  # pet, background, border
    confusion = numpy_confusion(prediction[None], label[None], np.ones((1, 400)), 3)
    pet_truth, pet_found = label != 1, prediction != 1
    metric = Overlap(("pet", "background", "border"), VIEWS)
    whole = values(metric.scores({"confusion": confusion}))
    for view, counted in zip(VIEWS, (label >= 0, label != 2), strict=True):
        found = scores(view_confusion(confusion, view)[0], view.class_names)
        both = (pet_truth & pet_found & counted).sum()
        either = ((pet_truth | pet_found) & counted).sum()
        assert found["IoU/pet"] == pytest.approx(both / either)
        assert {name: whole[f"{view.name}/{name}"] for name in found} == found


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("by_class", [False, True])
def test_classes_that_share_pixels_equal_a_loop(size, by_class):
    rng = np.random.default_rng(4)
    decision, label = rng.integers(0, 2, (2, 3, *size, 4))
    label[..., 3] = 0  # absent, and predicted here and there
    weight = rng.integers(0, 2, (3, *size, 4) if by_class else (3, *size))
    weight.reshape(3, -1)[:, 0] = 1
    metric = BinaryOverlap(NAMES)
    found = metric.count(Outcome(None, None, *map(jnp.asarray, (decision, label, weight))))
    want = {name: np.zeros((3, 4), int) for name in metric.axes}
    for i in np.ndindex(label.shape):
        if weight[i] if by_class else weight[i[:-1]]:
            right = ("false", "true")[int(decision[i] == label[i])]
            want[f"{right}_{('negative', 'positive')[decision[i]]}"][i[0], i[-1]] += 1
    for name, counts in found.items():
        assert counts.dtype == jnp.int32
        np.testing.assert_array_equal(counts, want[name])
    got = values(metric.scores(want))
    assert got["IoU/d"] is None
    counted = np.broadcast_to(weight if by_class else weight[..., None], label.shape) > 0
    assert got["pixel_accuracy"] == pytest.approx(np.mean((label == decision)[counted]))
    known = []
    for k, name in enumerate(NAMES[:3]):
        truth, guess = (x[..., k][counted[..., k]] for x in (label, decision))
        if truth.any():
            known.append((truth & guess).sum() / (truth | guess).sum())
            assert got[f"IoU/{name}"] == pytest.approx(known[-1])
            dice = 2 * (truth & guess).sum() / (truth.sum() + guess.sum())
            assert got[f"Dice/{name}"] == pytest.approx(dice)
            assert got[f"accuracy/{name}"] == pytest.approx(guess[truth > 0].mean())
        else:
            assert got[f"IoU/{name}"] is None
    assert got["mIoU"] == (pytest.approx(np.mean(known)) if known else None)
    weights = np.array([2, 0, 1])
    repeated = {name: np.repeat(counts, weights, axis=0) for name, counts in want.items()}
    assert values(metric.scores(want, weights)) == values(metric.scores(repeated))
