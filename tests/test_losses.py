import jax.numpy as jnp
import numpy as np
import pytest

from unet_jax.errors import UserError
from unet_jax.losses import cross_entropy, make_loss, soft_dice

K = 4


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
    loss = make_loss(class_weights=class_weights, label_smoothing=smoothing, num_classes=K)
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
    np.testing.assert_allclose(soft_dice(*map(jnp.asarray, batch)), np.mean(terms), rtol=1e-5)


def test_sum_with_dice(batch):
    arrays = tuple(map(jnp.asarray, batch))
    loss = make_loss("cross_entropy+dice", dice_weight=0.3, num_classes=K)
    expected = cross_entropy(*arrays) + 0.3 * soft_dice(*arrays)
    np.testing.assert_allclose(loss(*arrays), expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["cross_entropy", "cross_entropy+dice"])
def test_pixels_of_weight_zero_do_not_count(batch, name):
    logits, label, weight = map(jnp.asarray, batch)
    loss = make_loss(name, num_classes=K)
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
        loss = make_loss(class_weights=weights, num_classes=K)
        np.testing.assert_allclose(loss(*arrays), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"name": "mse"}, "config.loss.name='mse'"),
        ({"class_weights": (1.0, 2.0)}, "2 values for 4 classes"),
        ({"class_weights": (1.0, 2.0, "a", 1.0)}, "must be numbers"),
        ({"class_weights": (0.0,) * K}, "one or more of them above 0"),
        ({"class_weights": (1.0, 2.0, float("nan"), 1.0)}, "must be numbers"),
        ({"dice_weight": -1.0}, "config.loss.dice_weight=-1.0"),
        ({"label_smoothing": 1.0}, "config.loss.label_smoothing=1.0"),
    ],
)
def test_values_that_do_not_fit(arguments, named):
    with pytest.raises(UserError, match=named):
        make_loss(num_classes=K, **arguments)
