"""The score of every image alone, and those that stand out."""

import numpy as np
import pytest

from unet_jax.metrics.by_image import choose_extremes, score_by_image
from unet_jax.metrics.make import read_headline
from unet_jax.metrics.views import View


def counts_of(hits, total=10):
    """Confusion matrices of two classes, of which the first is right so often."""
    confusion = np.zeros((len(hits), 2, 2), int)
    confusion[:, 0, 0], confusion[:, 0, 1] = hits, total - np.array(hits)
    return {"overlap/confusion": confusion}


def test_scores_of_images_are_those_of_the_images_alone():
    confusion = np.random.default_rng(0).integers(0, 9, (5, 3, 3))
    confusion[2] = 0
    found = score_by_image({"overlap/confusion": confusion}, "mIoU", "abc")
    for image, value in zip(confusion, found, strict=True):
        each = [
            image[k, k] / (image[k].sum() + image[:, k].sum() - image[k, k])
            for k in range(3)
            if image[k].sum()
        ]
        assert value == pytest.approx(np.mean(each) if each else np.nan, nan_ok=True)
    view = View("two", (0, 0, 1), (0, 0, 1), ("ab", "c"))
    merged = score_by_image({"overlap/confusion": confusion}, "two/IoU/c", "abc", [view])
    own = score_by_image({"overlap/confusion": confusion}, "IoU/c", "abc")
    np.testing.assert_array_equal(merged, own)
    assert score_by_image({"overlap/confusion": confusion}, "cross_entropy", "abc") is None


def test_the_worst_come_first_then_those_around_the_median():
    headline = read_headline("mIoU")

    def chosen(hits):
        return choose_extremes(counts_of(hits), headline, "ab")

    assert chosen([9, 3, 5, 1, 7, 4, 8, 6, 2, 10]) == [3, 8, 1, 5, 2, 7]
    assert chosen([9, 3, 5]) == [1, 2, 0]
    assert chosen([4]) == [0]
    assert chosen([5, 5, 5, 5, 5, 5, 5, 5]) == [0, 1, 2, 3, 4]
    unlabelled = counts_of([4, 2, 1], total=10)
    unlabelled["overlap/confusion"][2] = 0
    assert choose_extremes(unlabelled, headline, "ab") == [1, 0]


def test_a_score_of_which_lower_is_better():
    counts = {"cross_entropy/loss": np.array([1.0, 9.0, 4.0, 2.0, 0.5, 7.0, 3.0])}
    counts["cross_entropy/elements"] = np.ones(7)
    found = choose_extremes(counts, read_headline("cross_entropy"), "ab")
    assert found == [1, 5, 2, 6, 3]
