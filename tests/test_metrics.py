import jax.numpy as jnp
import numpy as np
import pytest

from unet_jax.data.pets import VIEWS
from unet_jax.metrics import confusion_matrices, scores, view_confusion

NAMES = ("a", "b", "c", "d")


def numpy_confusion(prediction, label, weight, num_classes):
    result = np.zeros((len(label), num_classes, num_classes), np.int64)
    for i in np.ndindex(label.shape):
        if weight[i]:
            result[i[0], label[i], prediction[i]] += 1
    return result


@pytest.mark.parametrize("weight_type", [np.uint8, np.float32])
def test_confusion_equals_a_loop(weight_type):
    rng = np.random.default_rng(0)
    prediction, label = rng.integers(0, 4, (2, 3, 7, 9))
    weight = rng.integers(0, 2, label.shape).astype(weight_type)
    found = confusion_matrices(jnp.asarray(prediction), jnp.asarray(label), weight, 4)
    assert found.dtype == jnp.int32
    np.testing.assert_array_equal(found, numpy_confusion(prediction, label, weight, 4))


def test_confusion_is_exact_beyond_the_integers_of_float32():
    side = 4100  # more pixels than 2^24
    zeros = jnp.zeros((1, side, side), jnp.uint8)
    assert int(confusion_matrices(zeros, zeros, zeros + 1, 2)[0, 0, 0]) == side * side


def test_scores_follow_their_definitions():
    rng = np.random.default_rng(1)
    label, prediction = rng.integers(0, 3, (2, 500))
    confusion = numpy_confusion(prediction[None], label[None], np.ones((1, 500)), 4)[0]
    found = scores(confusion, NAMES)
    iou, dice, accuracy = {}, {}, {}
    for k, name in enumerate(NAMES[:3]):
        truth, predicted = set(np.flatnonzero(label == k)), set(np.flatnonzero(prediction == k))
        iou[name] = len(truth & predicted) / len(truth | predicted)
        dice[name] = 2 * len(truth & predicted) / (len(truth) + len(predicted))
        accuracy[name] = len(truth & predicted) / len(truth)
    for kind, values in {"IoU": iou, "Dice": dice, "accuracy": accuracy}.items():
        for name, value in values.items():
            assert found[f"{kind}/{name}"] == pytest.approx(value)
        assert found[f"{kind}/d"] is None
    assert found["mIoU"] == pytest.approx(np.mean(list(iou.values())))
    assert found["mDice"] == pytest.approx(np.mean(list(dice.values())))
    assert found["mean_class_accuracy"] == pytest.approx(np.mean(list(accuracy.values())))
    assert found["pixel_accuracy"] == pytest.approx(np.mean(label == prediction))


def test_an_absent_class_that_is_predicted_is_absent_and_costs_the_true_class():
    found = scores(np.array([[6, 2], [0, 0]]), ("a", "b"))
    assert found["IoU/b"] is None
    assert found["mIoU"] == found["IoU/a"] == pytest.approx(6 / 8)


def test_no_pixels_at_all():
    assert set(scores(np.zeros((2, 2)), ("a", "b")).values()) == {None}


def test_the_views_of_pets():
    rng = np.random.default_rng(2)
    label, prediction = rng.integers(0, 3, (2, 400))  # pet, background, border
    confusion = numpy_confusion(prediction[None], label[None], np.ones((1, 400)), 3)[0]
    pet_truth, pet_found = label != 1, prediction != 1
    for view, counted in zip(VIEWS, (label >= 0, label != 2), strict=True):
        found = scores(view_confusion(confusion, view), view.class_names)
        both = (pet_truth & pet_found & counted).sum()
        either = ((pet_truth | pet_found) & counted).sum()
        assert found["IoU/pet"] == pytest.approx(both / either)
