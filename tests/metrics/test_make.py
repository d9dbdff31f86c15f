"""Which metrics there are, the cross-entropy among them, and the score that decides."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from unet_jax.errors import UserError
from unet_jax.metrics import make
from unet_jax.metrics.base import Outcome, Ratio
from unet_jax.metrics.entropy import CrossEntropy
from unet_jax.metrics.views import View

VIEW = View("merged", (0, 0, 1), (0, 0, 1), ("both", "c"))


@pytest.mark.parametrize("size", [(5, 3), (2, 3, 7)])
def test_cross_entropy_is_that_of_a_loop(size):
    rng = np.random.default_rng(0)
    logits, label = rng.normal(size=(3, *size, 4)), rng.integers(0, 4, (3, *size))
    weight = rng.integers(0, 2, (3, *size))
    weight[2] = 0
    chosen = np.zeros(label.shape)
    for i in np.ndindex(label.shape):
        chosen[i] = -log_softmax(logits[i])[label[i]]
    arrays = (jnp.asarray(x) for x in (logits, chosen.astype(np.float32), label, label, weight))
    found = CrossEntropy().count(Outcome(*arrays))
    counts = {name: np.asarray(array) for name, array in found.items()}
    np.testing.assert_array_equal(counts["elements"], weight.reshape(3, -1).sum(axis=1))
    got = CrossEntropy().scores(counts)["cross_entropy"]
    assert got.value == pytest.approx(np.mean(chosen[weight > 0]), rel=1e-6)
    assert got.kind[:3] == (0.0, np.inf, False)
    alone = CrossEntropy().scores(counts, np.array([0, 3, 1]))["cross_entropy"].value
    assert alone == pytest.approx(np.mean(chosen[1][weight[1] > 0]), rel=1e-6)
    assert CrossEntropy().scores(counts, np.array([0, 0, 1]))["cross_entropy"].value is None


def test_cross_entropy_of_classes_that_share_pixels():
    rng = np.random.default_rng(1)
    loss, weight = rng.random((2, 3, 5, 4)).astype(np.float32), rng.integers(0, 2, (2, 3, 5))
    outcome = Outcome(None, jnp.asarray(loss), None, None, jnp.asarray(weight))
    counts = {name: np.asarray(x) for name, x in CrossEntropy().count(outcome).items()}
    got = CrossEntropy().scores(counts)["cross_entropy"].value
    assert got == pytest.approx(loss[weight > 0].mean(), rel=1e-6)


def test_slopes_are_those_of_finite_differences():
    rng = np.random.default_rng(2)
    ratio = Ratio(rng.random((6, 3)), rng.random((6, 3)) + 1, rng.integers(0, 2, (6, 3)))
    ratio.present[:, 2] = 0
    weights = rng.integers(1, 4, (5, 6)).astype(float)
    value, slope = ratio.linearise(weights)
    for r, weight in enumerate(weights):
        sums = Ratio(*(weight @ part for part in ratio))
        assert value[r] == pytest.approx(sums.value())
        for n in range(6):
            moved = weight + 1e-6 * np.eye(6)[n]
            after = Ratio(*(moved @ part for part in ratio)).value()
            assert slope[n, r] == pytest.approx((after - sums.value()) / 1e-6, abs=1e-5)


@pytest.mark.parametrize("target", ["ids", "masks"])
def test_counts_and_scores_of_all_metrics(target):
    rng = np.random.default_rng(3)
    shape = (2, 5, 3, 3) if target == "masks" else (2, 5, 3)
    most = 2 if target == "masks" else 3
    logits = rng.normal(size=(2, 5, 3, 3))
    decision, label = rng.integers(0, most, (2, *shape))
    loss, weight = rng.random(shape), np.ones((2, 5, 3), np.uint8)
    outcome = Outcome(*(jnp.asarray(x) for x in (logits, loss, decision, label, weight)))
    counts = {name: np.asarray(x) for name, x in make.count(outcome, target).items()}
    metrics = make.make_metrics("abc", (VIEW,), target)
    on_device = {key for key, metric in metrics.items() if metric.on_device}
    assert {name.partition("/")[0] for name in counts} == on_device
    others = make.count(outcome, target, on_device=False)
    assert {name.partition("/")[0] for name in others} == set(metrics) - on_device
    counts |= {name: np.asarray(x) for name, x in others.items()}
    for key, metric in metrics.items():
        own = make.of_metric(counts, key)
        assert {name: array.shape for name, array in own.items()} == {
            name: (2,) + (3,) * axes for name, axes in metric.axes.items()
        }
    names = [name for metric in metrics.values() for name in metric.kinds()]
    assert len(set(names)) == len(names), "a score has two metrics"
    found = make.scores(metrics, counts)
    assert list(found) == names
    assert found["pixel_accuracy"].value == pytest.approx(np.mean(decision == label))
    assert {name: make.find_kind(name) for name in names} == {
        name: score.kind for name, score in found.items()
    }


def test_headlines():
    metrics = make.make_metrics("abc", (VIEW,))
    for name in ("mIoU", "Dice/a", "cross_entropy", "merged/IoU/c", "merged/mDice"):
        make.check_headline(name, metrics)
        found = make.read_headline(name)
        assert found.name == name
        assert found.kind.higher_is_better == (name != "cross_entropy")
    assert make.read_headline("mDice").title == "mDice"
    assert make.read_headline("Dice/a").title == "Dice/a"
    says = r"config\.eval\.headline='dice' is no score; known are cross_entropy, mIoU, .*IoU/CLASS"
    with pytest.raises(UserError, match=says):
        make.read_headline("dice")
    with pytest.raises(UserError, match=r"'Dice/disk' is no score; .* Dice/a, Dice/b, Dice/c, "):
        make.check_headline("Dice/disk", metrics)


def test_ranks_are_higher_for_better_scores():
    lower, higher = make.read_headline("cross_entropy"), make.read_headline("mIoU")
    assert lower.rank({"cross_entropy": 0.5}) > lower.rank({"cross_entropy": 2.5})
    assert higher.rank({"val/mIoU": 0.5}, "val/") < higher.rank({"val/mIoU": 0.6}, "val/")
    for nothing in ({}, {"cross_entropy": None}, {"cross_entropy": float("nan")}):
        assert lower.rank(nothing) is None
