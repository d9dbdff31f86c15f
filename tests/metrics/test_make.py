"""Which metrics there are, the cross-entropy among them, and the score that decides."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from unet_jax.defaults import PARTS
from unet_jax.errors import UserError
from unet_jax.metrics import choices, make
from unet_jax.metrics.base import Function, Outcome, Ratio
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
    metrics = make.make_metrics("abc", (VIEW,), target)
    counts = {name: np.asarray(x) for name, x in make.count(metrics, outcome).items()}
    on_device = {key for key, metric in metrics.items() if metric.on_device}
    assert {name.partition("/")[0] for name in counts} == on_device
    others = make.count(metrics, outcome, on_device=False)
    assert {name.partition("/")[0] for name in others} == set(metrics) - on_device
    counts |= {name: np.asarray(x) for name, x in others.items()}
    for key, metric in metrics.items():
        own = make.of_metric(counts, key)
        assert {name: array.shape for name, array in own.items()} == {
            name: (2, *(axis or 3 for axis in axes)) for name, axes in metric.axes.items()
        }
    names = [name for metric in metrics.values() for name in metric.kinds()]
    assert len(set(names)) == len(names), "a score has two metrics"
    found = make.scores(metrics, counts)
    assert list(found) == names
    assert found["pixel_accuracy"].value == pytest.approx(np.mean(decision == label))
    assert {name: make.find_kind(name) for name in names} == {
        name: score.kind for name, score in found.items()
    }


def test_literals_are_the_metrics_own_defaults():
    assert list(PARTS["eval.metrics"]) == list(choices.CHOICES)
    for name, keys in PARTS["eval.metrics"].items():
        assert choices.check_metrics({name: {}}) == {name: keys}
        assert keys, "without a key the command line could not name it"


def test_counts_tell_their_metrics_and_shapes():
    chosen = choices.check_metrics({key: {} for key in choices.CHOICES})
    metrics = make.make_metrics("ab", (), "ids", chosen)
    counts = {
        f"{key}/{name}": np.ones((5, *(axis or 2 for axis in axes)))
        for key, metric in metrics.items()
        for name, axes in metric.axes.items()
    }
    make.check_counts(counts, 5)
    assert make.are_of(counts, 2)
    assert not make.are_of(counts, 3)
    found = make.of_counts(counts, "ab")
    assert {key: type(metric) for key, metric in found.items()} == {
        key: type(metric) for key, metric in metrics.items()
    }
    for name, array in counts.items():
        for wrong in (array[:4], array[..., None], np.ones((5, 2, 9))):
            if wrong.shape != array.shape:
                with pytest.raises(ValueError, match=r"counts .* of shape .* for 5 images"):
                    make.check_counts(counts | {name: wrong}, 5)
        if "/" in name and sum(key.startswith(name.split("/")[0] + "/") for key in counts) > 1:
            with pytest.raises(ValueError, match="it lacks"):
                make.check_counts({key: x for key, x in counts.items() if key != name}, 5)


def test_a_function_of_sums_moves_as_a_ratio_does():
    """Of a score that is both, values are equal and slopes nearly."""
    rng = np.random.default_rng(4)
    counts = rng.random((40, 2)) + 1
    ratio = Ratio(counts[:, :1], counts[:, 1:], counts[:, 1:])
    function = Function(counts, lambda sums: sums[..., 0] / sums[..., 1], counts[:, 1:])
    np.testing.assert_allclose(function.value(), ratio.value())
    assert function.whole() == pytest.approx(ratio.whole())
    weights = rng.multinomial(40, np.full(40, 1 / 40), 30).astype(float)
    (value, slope), (want, moved) = function.linearise(weights), ratio.linearise(weights)
    np.testing.assert_allclose(value, want)
    errors = [np.sqrt((weights.T * x**2).sum(0)) for x in (slope, moved)]
    np.testing.assert_allclose(*errors, rtol=0.15)
    alone = Function(counts[:1], function.of, counts[:1, 1:])
    np.testing.assert_allclose(alone.linearise(np.ones((1, 1)))[0], alone.value())


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
    assert make.read_headline("HD95/a").rank({"HD95/a": 2.0}) == -2.0
    with pytest.raises(
        UserError, match=r"'HD95/a' is a score of config\.eval\.metrics\.surface, wh"
    ):
        make.check_headline("HD95/a", metrics)
    chosen = choices.check_metrics({"surface": {}})
    make.check_headline("HD95/a", make.make_metrics("abc", chosen=chosen))
    with pytest.raises(UserError, match=r"'Dice/disk' is no score; .* Dice/a, Dice/b, Dice/c, "):
        make.check_headline("Dice/disk", metrics)


def test_ranks_are_higher_for_better_scores():
    lower, higher = make.read_headline("cross_entropy"), make.read_headline("mIoU")
    assert lower.rank({"cross_entropy": 0.5}) > lower.rank({"cross_entropy": 2.5})
    assert higher.rank({"val/mIoU": 0.5}, "val/") < higher.rank({"val/mIoU": 0.6}, "val/")
    for nothing in ({}, {"cross_entropy": None}, {"cross_entropy": float("nan")}):
        assert lower.rank(nothing) is None
