"""Scores of the library, from masks that are arrays."""

import numpy as np
import pytest

import unet_jax

NAMES = ("background", "square", "disc")


def counted(truth, prediction, names):
    """Scores by a loop over all pixels."""
    pairs = [(t, p) for t, p in zip(truth.ravel(), prediction.ravel(), strict=True) if t != 255]
    scores = {"pixel_accuracy": sum(t == p for t, p in pairs) / len(pairs)}
    for k, name in enumerate(names):
        both = sum(t == k and p == k for t, p in pairs)
        either = sum(t == k or p == k for t, p in pairs)
        is_there = any(t == k for t, _ in pairs)
        scores[f"IoU/{name}"] = both / either if is_there else None
    known = [v for key, v in scores.items() if key.startswith("IoU/") and v is not None]
    return scores | {"mIoU": sum(known) / len(known)}


@pytest.mark.parametrize("shape", [(7, 9), (3, 5, 6)])
@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_scores_are_those_of_a_loop(shape, dtype):
    rng = np.random.default_rng(0)
    truth, prediction = (rng.integers(0, n, shape).astype(dtype) for n in (2, 3))
    truth[rng.random(shape) < 0.2] = 255
    found = unet_jax.score(truth, prediction, NAMES)
    assert found["IoU/disc"] is None  # which the truth lacks
    for name, value in counted(truth, prediction, NAMES).items():
        assert found[name] == pytest.approx(value, abs=1e-12), name


def test_scores_without_names_and_of_booleans():
    truth, prediction = np.array([[0, 1, 1]]), np.array([[0, 1, 0]])
    found = unet_jax.score(truth, prediction)
    assert found["IoU/0"] == found["IoU/1"] == 0.5
    assert found == unet_jax.score(truth == 1, prediction == 1)
    # What is predicted where the truth is not known is no class that must be there.
    assert unet_jax.score([[0, 255]], [[0, 255]])["mIoU"] == 1.0


@pytest.mark.parametrize("shape", [(7, 9, 3), (3, 5, 6, 3), (1, 1, 3)])
@pytest.mark.parametrize("dtype", [bool, np.int64])
def test_scores_of_classes_that_overlap_are_those_of_a_loop(shape, dtype):
    rng = np.random.default_rng(0)
    truth, prediction = (rng.random(shape) < share for share in ([0.3, 0.6, 0], [0.6, 0.3, 0.1]))
    truth, prediction = truth.astype(dtype), prediction.astype(dtype)
    if dtype is not bool:
        truth[rng.random(shape) < 0.1] = 255  # the pixel counts for no class
        truth.flat[:3] = 0
    hit, on, said, right, total = np.zeros((5, 3), int)
    for pixel in np.ndindex(shape[:-1]):
        if 255 in truth[pixel]:
            continue
        for k in range(3):
            y, p = truth[pixel][k] > 0, prediction[pixel][k] > 0
            hit[k] += y and p
            on[k] += y
            said[k] += p
            right[k] += y == p
            total[k] += 1
    found = unet_jax.score(truth, prediction, NAMES, by_class=True)
    ious = {}
    for k, name in enumerate(NAMES):
        ious[name] = hit[k] / (on + said - hit)[k] if on[k] else None
        assert found[f"IoU/{name}"] == pytest.approx(ious[name], abs=1e-12)
    assert found["pixel_accuracy"] == pytest.approx(right.sum() / total.sum(), abs=1e-12)
    known = [iou for iou in ious.values() if iou is not None]
    assert found["mIoU"] == (pytest.approx(np.mean(known), abs=1e-12) if known else None)
    unnamed = unet_jax.score(truth, prediction, by_class=True)
    assert unnamed["IoU/0"] == found[f"IoU/{NAMES[0]}"]


BY_CLASS = np.zeros((4, 5, 3), int)


@pytest.mark.parametrize(
    ("truth", "prediction", "says"),
    [
        (BY_CLASS[0], BY_CLASS[0], "truth has the shape (5, 3); expected [H, W, K] or [N, H, W, K"),
        (BY_CLASS, BY_CLASS[..., :2], "prediction has the shape (4, 5, 2); expected that of truth"),
        (
            BY_CLASS[..., :2],
            BY_CLASS[..., :2],
            "masks by class have 2 classes; expected 3, the num",
        ),
        (BY_CLASS, BY_CLASS + 2, "prediction has values from 2 to 2; expected 0 and 1, and 255 w"),
        (BY_CLASS, BY_CLASS * 1.0, "prediction has the type float64; expected 0 and 1, integers"),
        (
            BY_CLASS,
            BY_CLASS + 255,
            "prediction by class has the value 255 where the truth is known",
        ),
    ],
)
def test_what_are_no_masks_by_class_is_told_what_is_expected(truth, prediction, says):
    with pytest.raises(unet_jax.UserError) as error:
        unet_jax.score(truth, prediction, NAMES, by_class=True)
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("truth", "prediction", "says"),
    [
        (np.zeros((4, 5), int), np.zeros((5, 4), int), "prediction has the shape (5, 4); expected"),
        (np.zeros(4, int), np.zeros(4, int), "truth has the shape (4,); expected [H, W] or [N, H"),
        (np.zeros((4, 5)), np.zeros((4, 5), int), "truth has the type float64; expected class ids"),
        (np.zeros((1, 1), int), np.full((1, 1), -1), "prediction has values from -1 to -1; expect"),
        (np.zeros((1, 1), int), np.full((1, 1), 300), "values from 300 to 300; expected class ids"),
        (np.zeros((1, 1), int), np.full((1, 1), 3), "the class id 3; expected ids below 3"),
        (np.zeros((1, 1), int), np.full((1, 1), 255), "the class id 255; expected ids below 3"),
    ],
)
def test_what_are_no_masks_is_told_what_is_expected(truth, prediction, says):
    with pytest.raises(unet_jax.UserError) as error:
        unet_jax.score(truth, prediction, NAMES)
    assert says in str(error.value)
