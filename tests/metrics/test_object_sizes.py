"""Shares of objects by size against flood fill."""

import numpy as np
import pytest
from support.masks import cases, flood, outcome_of

from unet_jax.errors import UserError
from unet_jax.metrics import choices, make
from unet_jax.metrics.sizes import SIZES, Sizes

NAMES = ("rest", "a", "b")


def slow_counts(truth, guess, counts, *, corners):
    """Counts and shares by bin, of one class, from sets of pixels."""
    objects, shares = [0] * 10, [0.0] * 10
    for pixels in flood(truth & counts, corners=corners):
        index = 0
        while index < 9 and len(pixels) >= 4 ** (index + 1):
            index += 1
        objects[index] += 1
        shares[index] += sum(bool(guess[p]) for p in pixels) / len(pixels)
    return objects, shares


@pytest.mark.parametrize("connectivity", ["sides", "corners"])
def test_shares_equal_flood_fill(connectivity):
    metric, seen = Sizes(NAMES, connectivity), np.zeros(10)
    for outcome, (label, decision, counts, _) in cases(100):
        found = metric.count(outcome)
        assert not found["objects"][0, 0].any(), "the background"
        for k in (1, 2):
            masks = label == k, decision == k, counts
            objects, shares = slow_counts(*masks, corners=connectivity == "corners")
            np.testing.assert_array_equal(found["objects"][0, k], objects)
            np.testing.assert_allclose(found["shares"][0, k], shares)
            seen += objects
    assert (seen[:4] > 3).all()


def test_bins_begin_at_powers_of_four():
    assert SIZES == (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144)
    label = np.zeros((6, 90), int)
    lengths, place = (1, 3, 4, 15, 16, 17), 0
    for length in lengths:
        label[0, place : place + length], place = 1, place + length + 1
    label[2:, :16], label[2:, 18:34] = 1, 1
    label[5, 15] = 0  # 63 pixels beside 64
    found = Sizes(NAMES).count(outcome_of(label, label, np.ones(label.shape)))
    assert found["objects"][0, 1].tolist() == [2, 2, 3, 1, *[0] * 6]
    assert found["shares"][0, 1].tolist() == found["objects"][0, 1].tolist()
    large = np.ones((600, 600), int)
    found = Sizes(NAMES).count(outcome_of(large, large, large))
    assert found["objects"][0, 1].tolist() == [*[0] * 9, 1]


def test_numbers_of_the_data_are_the_objects():
    label = np.array([[1, 1, 1, 1, 1, 2, 2]])
    objects = np.array([[7, 7, 70_000, 70_000, 0, 7, 7]])
    guess = np.array([[1, 0, 1, 1, 1, 0, 0]])
    found = Sizes(NAMES).count(outcome_of(label, guess, np.ones((1, 7)), objects=objects))
    assert found["objects"][0, :, 0].tolist() == [0, 2, 1]
    assert found["shares"][0, :, 0].tolist() == [0, 1.5, 0]


def test_classes_that_share_pixels_with_weights_of_their_own():
    label, weight = np.zeros((3, 4, 2), int), np.ones((3, 4, 2))
    label[0, :, 0] = label[:, 0, 1] = 1
    weight[0, 1, 0] = 0  # cuts the first class in two, and only that
    found = Sizes(("a", "b")).count(
        outcome_of(label, np.ones_like(label), weight, sides=(1.0, 1.0))
    )
    assert found["objects"][0, :, 0].tolist() == [2, 1]


def test_each_object_weighs_the_same():
    metric, counts = Sizes(NAMES), {name: np.zeros((2, 3, 10)) for name in Sizes.axes}
    counts["objects"][0, 1, 0], counts["shares"][0, 1, 0] = 3, 1.5
    counts["objects"][1, 1, 2], counts["shares"][1, 1, 2] = 1, 1
    counts["objects"][1, 2, 2], counts["shares"][1, 2, 2] = 2, 0.5
    got = make.values(metric.scores(counts))
    assert got["size_recall/a"] == 2.5 / 4
    assert got["size_recall@1/a"] == got["size_recall@1"] == 0.5
    assert got["size_recall@16"] == (1 + 0.25) / 2
    assert got["size_recall"] == (2.5 / 4 + 0.25) / 2
    assert got["size_recall@1/b"] is None
    assert got["size_recall@64"] is None
    twice = make.values(metric.scores(counts, np.array([1, 2])))
    assert twice["size_recall/a"] == 3.5 / 5


def test_bad_sizes():
    section = choices.check_metrics({"sizes": {"connectivity": "4"}})
    with pytest.raises(UserError, match=r"^config\.eval\.metrics\.sizes\.connectivity='4' is no"):
        make.make_metrics(NAMES, chosen=section)
    section = choices.check_metrics({"sizes": {"classes": (3,)}})
    with pytest.raises(UserError, match=r"^config\.eval\.metrics\.sizes\.classes=\(3,\)"):
        make.make_metrics(NAMES, chosen=section)
