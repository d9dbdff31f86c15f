"""Curves and calibration against loops over pixels and scikit-learn."""

import jax
import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_softmax, softmax
from sklearn.metrics import (
    average_precision_score,
    brier_score_loss,
    log_loss,
    roc_auc_score,
    roc_curve,
)

from unet_jax.metrics import make
from unet_jax.metrics.base import Outcome
from unet_jax.metrics.calibration import BINS, TEMPERATURES, Calibration
from unet_jax.metrics.curves import SPECIFICITIES, Curves, place, roc
from unet_jax.task import Exclusive, MultiLabel

NAMES = ("a", "b", "c")
SIZE = (12, 17)


def draw(images, spread, *, overlap=False, size=SIZE):
    """Draws logits that know something of the labels, and weights that leave pixels out."""
    rng = np.random.default_rng(0)
    label = rng.choice(3, (images, *size), p=[0.7, 0.25, 0.05])
    if overlap:
        label = rng.random((images, *size, 3)) < [0.5, 0.2, 0.02]
    weight = (rng.random((images, *size)) < 0.8).astype(np.uint8)
    own = label if overlap else np.eye(3)[label]
    logits = spread * (rng.normal(size=(images, *size, 3)) + 1.5 * own)
    return logits.astype(np.float32), label, weight


def counted(metric, logits, label, weight, *, overlap=False):
    task = (MultiLabel if overlap else Exclusive)(NAMES)

    @jax.jit
    def count(*arrays):
        logits, label, weight = arrays
        return metric.count(Outcome(logits, None, task.decide(logits), label, weight, task))

    return {name: np.asarray(array) for name, array in count(logits, label, weight).items()}


def slow_odds(logits, k):
    others = np.delete(logits.astype(np.float64), k, axis=-1)
    return logits[..., k] - np.log(np.exp(others).sum(axis=-1))


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("spread", [0.3, 1.0, 30.0])
def test_areas_are_those_of_scikit_learn(spread, overlap):
    arrays = logits, label, weight = draw(20, spread, overlap=overlap, size=(126, 161))
    metric = Curves(NAMES, classes=(0, 1, 2))
    counts = counted(metric, *arrays, overlap=overlap)
    assert counts["histogram"].sum() == 3 * weight.sum()
    got = make.values(metric.scores(counts))
    known = weight > 0
    for k, name in enumerate(NAMES):
        truth = (label[..., k] if overlap else label == k)[known]
        score = (logits[..., k] if overlap else slow_odds(logits, k))[known]
        assert got[f"AUROC/{name}"] == pytest.approx(roc_auc_score(truth, score), abs=1e-4)
        want = average_precision_score(truth, score)
        assert got[f"AP_pixels/{name}"] == pytest.approx(want, abs=1e-4)
        false, true, _ = roc_curve(truth, score, drop_intermediate=False)
        for at in SPECIFICITIES:
            want = np.interp(1 - at, false, true)
            assert got[f"sensitivity@{at}/{name}"] == pytest.approx(want, abs=2e-3)
    for mean in ("AUROC", "AP_pixels", "sensitivity@0.9"):
        assert got[mean] == pytest.approx(np.mean([got[f"{mean}/{name}"] for name in NAMES]))


def slow_precision(truth, bins):
    """The mean precision at the pixels of the class, those of a bin evenly among the others."""
    found, false, true = [], 0, 0
    for b in sorted(set(bins.tolist()), reverse=True):
        own, others = (truth & (bins == b)).sum(), (~truth & (bins == b)).sum()
        for j in range(1, own + 1):
            found.append((true + j) / (true + j + false + j * others / (own + 1)))
        false, true = false + others, true + own
    return np.mean(found)


def test_few_pixels_and_classes_that_are_nowhere_or_everywhere():
    rng, metric = np.random.default_rng(1), Curves(NAMES)
    logits, label, weight = draw(300, 1.0)
    for index in range(300):
        weight[index] = rng.random(SIZE) < rng.choice([0.0, 0.005, 0.05])
        label[index] = rng.choice(
            [0, 1, 2], SIZE, p=[[1, 0, 0], [0, 1, 0], [0.5, 0.5, 0]][index % 3]
        )
    counts, apart = counted(metric, logits, label, weight), 0
    assert counts["histogram"][:, 0].sum() == 0, "the background"
    for index in range(300):
        known = weight[index] > 0
        truth, score = (label[index] == 1)[known], slow_odds(logits[index], 1)[known]
        own = {name: array[index : index + 1] for name, array in counts.items()}
        got = make.values(metric.scores(own))
        assert got["AUROC/a"] is got["AUROC/c"] is None
        if truth.any() and not truth.all():
            bins = np.asarray(place(score))
            assert got["AUROC/b"] == pytest.approx(roc_auc_score(truth, bins))
            assert got["AP_pixels/b"] == pytest.approx(slow_precision(truth, bins))
            if len(set(bins)) == len(bins):
                want = average_precision_score(truth, score)
                assert got["AP_pixels/b"] == pytest.approx(want), "nothing is lost"
                apart += 1
        else:
            assert got["AUROC/b"] is got["AP_pixels/b"] is got["AUROC"] is None
    assert apart > 25
    every = metric.ratio("AUROC/b", counts)
    weights = rng.integers(0, 3, (4, 300)).astype(float)
    for value, repeats in zip(every.linearise(weights)[0], weights.astype(int), strict=True):
        repeated = {name: np.repeat(array, repeats, axis=0) for name, array in counts.items()}
        assert value == pytest.approx(make.values(metric.scores(repeated))["AUROC/b"])


def test_the_curve_goes_from_one_corner_to_the_other():
    false, true = roc(counted(Curves(NAMES), *draw(2, 1.0))["histogram"].sum(axis=0)[1])
    assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)
    assert (np.diff(false) >= 0).all()
    assert (np.diff(true) >= 0).all()


@pytest.mark.parametrize("overlap", [False, True])
def test_calibration_equals_a_loop_and_scikit_learn(overlap):
    arrays = logits, label, weight = draw(5, 2.0, overlap=overlap)
    weight[3] = 0
    counts = counted(Calibration(NAMES), *arrays, overlap=overlap)
    got = make.values(Calibration(NAMES).scores(counts))
    known = weight > 0
    logits, label = logits[known].astype(np.float64), label[known]
    if overlap:
        logits, label = logits.ravel(), label.ravel()
        probability = expit(logits)
        confidence, right = np.maximum(probability, 1 - probability), (logits > 0) == label
        assert got["Brier"] == pytest.approx(brier_score_loss(label, probability), rel=1e-5)
    else:
        probability = softmax(logits, axis=-1)
        confidence, right = probability.max(axis=-1), probability.argmax(axis=-1) == label
        want = brier_score_loss(label, probability, scale_by_half=False)
        assert got["Brier"] == pytest.approx(want, rel=1e-5)
    expected, maximal = 0.0, 0.0
    for b in range(BINS):
        chosen = (confidence >= b / BINS) & (confidence < (b + 1) / BINS + (b == BINS - 1))
        if chosen.any():
            apart = abs(confidence[chosen].mean() - right[chosen].mean())
            expected, maximal = expected + apart * chosen.mean(), max(maximal, apart)
    assert got["ECE"] == pytest.approx(expected, abs=1e-6)
    assert got["MCE"] == pytest.approx(maximal, abs=1e-5)

    def loss(log_temperature):
        scaled = logits / np.exp(log_temperature)
        return log_loss(label, expit(scaled) if overlap else softmax(scaled, axis=-1))

    best = minimize_scalar(loss, bounds=np.log(TEMPERATURES[[0, -1]]), method="bounded")
    assert got["temperature"] == pytest.approx(np.exp(best.x), rel=0.01)
    assert got["scaled_cross_entropy"] == pytest.approx(best.fun, rel=1e-3)
    warm = counted(Calibration(NAMES, float(got["temperature"])), *arrays, overlap=overlap)
    assert make.values(Calibration(NAMES).scores(warm))["ECE"] < got["ECE"]
    assert make.values(Calibration(NAMES).scores(warm))["temperature"] == got["temperature"]


def test_losses_by_temperature_are_those_of_a_loop():
    logits, label, weight = draw(2, 3.0)
    counts = counted(Calibration(NAMES), logits, label, weight)
    for index, temperature in enumerate(TEMPERATURES[::8]):
        each = log_softmax(logits.astype(np.float64) / temperature, axis=-1)
        each = -np.take_along_axis(each, label[..., None], axis=-1)[..., 0]
        want = (each * weight).sum(axis=(1, 2))
        np.testing.assert_allclose(counts["loss"][:, 8 * index], want, rtol=1e-5)
