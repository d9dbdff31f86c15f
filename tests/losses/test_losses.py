import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit
from support.tasks import exclusive

from unet_jax.defaults import PARTS
from unet_jax.errors import UserError
from unet_jax.losses.example import Example
from unet_jax.losses.make import TERMS, check_loss, make_loss
from unet_jax.losses.overlap import soft_dice
from unet_jax.losses.pixel import cross_entropy
from unet_jax.task import make_task

K = 4
TASK = exclusive(K)


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 5, 6, K)).astype(np.float32)
    label = rng.integers(0, K - 1, (2, 5, 6))  # class 3 is absent
    weight = rng.integers(0, 2, (2, 5, 6)).astype(np.float32)
    return logits, label, weight


def probabilities(logits):
    e = np.exp(np.float64(logits))
    return e / e.sum(-1, keepdims=True)


def numpy_cross_entropy(logits, label, weight, class_weights, smoothing):
    total = divisor = 0.0
    p = probabilities(logits)
    for i in np.ndindex(label.shape):
        target = np.full(K, smoothing / K)
        target[label[i]] += 1 - smoothing
        w = weight[i] * class_weights[label[i]]
        total += w * -(target * np.log(p[i])).sum()
        divisor += w
    return total / divisor


@pytest.mark.parametrize("class_weights", [(), (1.0, 2.0, 0.5, 3.0)])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_equals_a_loop(batch, class_weights, smoothing):
    keys = {"class_weights": class_weights, "label_smoothing": smoothing}
    loss = make_loss({"cross_entropy": keys}, TASK)
    expected = numpy_cross_entropy(*batch, class_weights or (1.0,) * K, smoothing)
    np.testing.assert_allclose(loss(*map(jnp.asarray, batch)), expected, rtol=1e-5)


def test_soft_dice_equals_a_loop_and_leaves_the_absent_class_out(batch):
    logits, label, weight = batch
    p = probabilities(logits)
    terms = []
    for k in range(K):
        y = (label == k) * weight
        if y.sum() > 0:
            terms.append(1 - 2 * (p[..., k] * y).sum() / ((p[..., k] * weight).sum() + y.sum()))
    assert len(terms) == K - 1
    np.testing.assert_allclose(
        soft_dice(Example(*map(jnp.asarray, batch), TASK)), np.mean(terms), rtol=1e-5
    )


@pytest.fixture(params=["multilabel", "regions"])
def independent(request):
    """Returns a task of independent channels, logits, label and weight, and what is true of each.

    The last channel is never on, and one pixel is ignored.
    """
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(2, 5, 6, K)).astype(np.float32)
    ids = rng.integers(0, 4, (2, 5, 6))
    regions = (("a", (1, 2), 1), ("b", (2, 3), 2), ("c", (3,), 3), ("d", (4,), 4))
    on = np.stack([np.isin(ids, own) for _, own, _ in regions], -1).astype(np.float64)
    weight = rng.random(ids.shape).astype(np.float32)
    weight[0, 1, 2] = 0
    if request.param == "regions":
        task = make_task("regions", regions, class_names=("0", "1", "2", "3", "4"))
        return task, logits, ids, weight, on
    task = make_task("multilabel", class_names=("a", "b", "c", "d"))
    return task, logits, on.astype(np.int32), weight, on


@pytest.mark.parametrize("class_weights", [(), (1.0, 2.0, 0.5, 3.0)])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_binary_cross_entropy_equals_a_loop(independent, class_weights, smoothing):
    task, logits, label, weight, on = independent
    total = divisor = 0.0
    for place in np.ndindex(on.shape):
        p, y = expit(np.float64(logits[place])), (1 - smoothing) * on[place] + smoothing / 2
        w = weight[place[:-1]] * (class_weights or (1.0,) * K)[place[-1]]
        total -= w * (y * np.log(p) + (1 - y) * np.log(1 - p))
        divisor += w
    keys = {"class_weights": class_weights, "label_smoothing": smoothing}
    loss = make_loss({"cross_entropy": keys}, task)
    found = loss(jnp.asarray(logits), jnp.asarray(label), jnp.asarray(weight))
    np.testing.assert_allclose(found, total / divisor, rtol=1e-5)
    mean = divisor / on.size
    (part,) = loss.parts
    batch_weight = part.batch_weight(Example(*map(jnp.asarray, (logits, label, weight)), task))
    np.testing.assert_allclose(batch_weight, mean, rtol=1e-5)


def test_soft_dice_by_channel_equals_a_loop(independent):
    task, logits, label, weight, on = independent
    p, terms = expit(np.float64(logits)), []
    for k in range(K):
        y = on[..., k] * weight
        if y.sum() > 0:
            overlap = 2 * (p[..., k] * y).sum()
            terms.append(1 - overlap / ((p[..., k] * weight).sum() + y.sum()))
    assert len(terms) == K - 1
    loss = make_loss({"dice": {}}, task)
    found = loss(jnp.asarray(logits), jnp.asarray(label), jnp.asarray(weight))
    np.testing.assert_allclose(found, np.mean(terms), rtol=1e-5)
    assert loss(jnp.asarray(logits), jnp.asarray(label), jnp.zeros(weight.shape)) == 0


def test_sum_with_dice(batch):
    arrays = tuple(map(jnp.asarray, batch))
    loss = make_loss({"cross_entropy": {}, "dice": {"weight": 0.3}}, TASK)
    expected = cross_entropy(Example(*arrays, TASK)) + 0.3 * soft_dice(Example(*arrays, TASK))
    np.testing.assert_allclose(loss(*arrays), expected, rtol=1e-6)


@pytest.mark.parametrize("names", [("cross_entropy",), ("dice",), ("cross_entropy", "dice")])
def test_pixels_of_weight_zero_do_not_count(batch, names):
    logits, label, weight = map(jnp.asarray, batch)
    loss = make_loss({name: {} for name in names}, TASK)
    changed = jnp.where(weight[..., None] > 0, logits, 7.0 * logits + 1)
    other_label = jnp.where(weight > 0, label, K - 1)
    np.testing.assert_allclose(
        loss(changed, other_label, weight), loss(logits, label, weight), rtol=1e-6
    )
    assert loss(logits, label, jnp.zeros_like(weight)) == 0


def test_the_scale_of_class_weights_says_nothing(batch):
    arrays = tuple(map(jnp.asarray, batch))
    expected = numpy_cross_entropy(*batch, (1.0, 2.0, 0.5, 3.0), 0.0)
    for scale in (1e-20, 1e5):
        weights = tuple(scale * w for w in (1.0, 2.0, 0.5, 3.0))
        loss = make_loss({"cross_entropy": {"class_weights": weights}}, TASK)
        np.testing.assert_allclose(loss(*arrays), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("section", "named"),
    [
        ({"mse": {}}, r"config\.loss\.mse is not known; allowed are cross_entropy, dice"),
        ({}, r"config\.loss has no term; name one or more of cross_entropy, dice"),
        ({"dice": 1.0}, r"config\.loss\.dice=1\.0 must be a section"),
        (
            {"dice": {"smooth": 1.0}},
            r"config\.loss\.dice\.smooth is not a config key; allowed are weight, ramp, cla",
        ),
        (
            {"cross_entropy": {"gamma": 1.0}},
            r"cross_entropy\.gamma is not .* weight, ramp, class_weights, .*, border_sigma\.",
        ),
        ({"cross_entropy": {"class_weights": (1.0, 2.0)}}, "2 values for 4 classes"),
        ({"cross_entropy": {"class_weights": (1.0, 2.0, "a", 1.0)}}, "must be numbers"),
        ({"cross_entropy": {"class_weights": (0.0,) * K}}, "one or more of them above 0"),
        ({"cross_entropy": {"class_weights": (1.0, 2.0, float("nan"), 1.0)}}, "must be finite"),
        ({"dice": {"weight": -1.0}}, r"config\.loss\.dice\.weight=-1\.0 must be from 0 to 1e\+06"),
        ({"cross_entropy": {"weight": True}}, r"cross_entropy\.weight=True is of type bool"),
        ({"cross_entropy": {"label_smoothing": 1.0}}, r"cross_entropy\.label_smoothing=1\.0"),
    ],
)
def test_values_that_do_not_fit(section, named):
    with pytest.raises(UserError, match=named):
        check_loss(section, num_classes=K)


def test_what_is_checked_is_whole():
    assert check_loss({"dice": {"weight": 2}, "cross_entropy": {}}, num_classes=K) == {
        "dice": {"weight": 2.0, "ramp": (), "class_weights": ()},
        "cross_entropy": {
            "weight": 1.0,
            "ramp": (),
            "class_weights": (),
            "label_smoothing": 0.0,
            "top_k": 0.0,
            "border_weight": 0.0,
            "border_sigma": 5.0,
        },
    }


def test_literal_defaults_are_those_of_the_terms():
    assert list(PARTS["loss"]) == list(TERMS)
    for name in TERMS:
        assert check_loss({name: {}}, num_classes=K) == {name: PARTS["loss"][name]}
