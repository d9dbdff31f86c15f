"""What rules of post-processing add, counted and chosen, against loops over images."""

import numpy as np
import pytest

from unet_jax.errors import UserError
from unet_jax.metrics.base import Outcome
from unet_jax.metrics.cleaned import Choice, Cleaning, check_cleaning, choose_rules, to_rules
from unet_jax.metrics.cleaning import RULES, clean
from unet_jax.metrics.make import make_metrics, values

NAMES = ("background", "disk", "ring")


def outcome(label, guess, weight=None, axes=2):
    weight = np.ones(label.shape) if weight is None else weight
    arrays = (guess[None], label[None], weight[None])
    return Outcome(None, None, *arrays, None, (1.0,) * axes)


def cases(count, axes=2):
    """Returns labels of one square each, and predictions with specks, and holes."""
    rng, found = np.random.default_rng(7), []
    for _ in range(count):
        label = np.zeros((31, 43), np.uint8)
        y, x, size = rng.integers(1, 12), rng.integers(1, 20), rng.integers(9, 15)
        label[y : y + size, x : x + size] = 1
        guess = label.copy()
        guess[rng.random(label.shape) < 0.03] = 1
        guess[y + 3 : y + 5, x + 3 : x + 5] = 0
        guess[0, 0] = 2
        label[0, 0] = 2
        found.append((label, guess))
    return found


def add(counted):
    return {name: np.concatenate([one[name] for one in counted]) for name in counted[0]}


@pytest.mark.parametrize("rules", [(), ("as_it_is", "least_16_filled", "largest")])
def test_counts_are_those_of_cleaned_labels(rules):
    rng, metric, counted = np.random.default_rng(0), Cleaning(NAMES, rules), []
    pairs = [(rng.integers(0, 3, (13, 17)), rng.integers(0, 3, (13, 17))) for _ in range(3)]
    weights = rng.integers(0, 2, (3, 13, 17))
    for (label, guess), weight in zip(pairs, weights, strict=True):
        counted.append(metric.count(outcome(label, guess, weight)))
    found = values(metric.scores(add(counted)))
    ious = []
    for k, name in [*enumerate(NAMES)][1:]:
        for rule in (*RULES, ""):
            hit = either = 0
            for (label, guess), weight in zip(pairs, weights, strict=True):
                own = {k: RULES[rule]} if rule else to_rules(rules)
                one, other = clean(guess, own, 2) == k, label == k
                hit += (one & other & (weight > 0)).sum()
                either += ((one | other) & (weight > 0)).sum()
            key = f"cleaned_IoU@{rule}/{name}" if rule else f"cleaned_IoU/{name}"
            assert found.pop(key) == pytest.approx(hit / either)
        ious.append(hit / either)
    assert found == {"cleaned_IoU": pytest.approx(np.mean(ious))}


def test_counts_of_classes_that_overlap():
    rng = np.random.default_rng(1)
    label, guess, weight = (rng.integers(0, 2, (11, 14, 2)) for _ in range(3))
    metric = Cleaning(("disk", "ring"), ("least_16", "filled"))
    found = values(metric.scores(metric.count(outcome(label, guess, weight))))
    cleaned = clean(guess, to_rules(metric.rules), 2)
    for k, name in enumerate(("disk", "ring")):
        one, other = (x[..., k] & weight[..., k] for x in (cleaned, label))
        iou = (one & other).sum() / (one | other).sum()
        assert found[f"cleaned_IoU/{name}"] == pytest.approx(iou)
        assert found[f"cleaned_IoU@{metric.rules[k]}/{name}"] == pytest.approx(iou)


def test_val_chooses_what_surely_helps():
    metric, pairs = Cleaning(NAMES), cases(20)
    counts = add([metric.count(outcome(*pair)) for pair in pairs])
    found = choose_rules(counts, NAMES)
    assert found.keys() == {1, 2}

    def iou(rule):
        masks = [(label == 1, clean(guess, {1: RULES[rule]}, 2) == 1) for label, guess in pairs]
        return sum((one & other).sum() for one, other in masks) / sum(
            (a | b).sum() for a, b in masks
        )

    best = max(RULES, key=iou)
    assert best in ("least_16_filled", "least_64_filled", "largest_filled")
    assert found[1][:3] == (best, pytest.approx(iou("as_it_is")), pytest.approx(iou(best)))
    assert 0.1 < found[1].low < found[1].after - found[1].before
    assert found[2] == Choice("as_it_is", 1.0, 1.0, 0.0)  # a speck that is right


def test_few_images_and_absent_classes_choose_nothing():
    metric = Cleaning(NAMES)
    counts = add([metric.count(outcome(*pair)) for pair in cases(9)])
    assert choose_rules(counts, NAMES)[1].rule == "as_it_is"
    none = {name: np.zeros_like(array) for name, array in counts.items()}
    assert choose_rules(none, NAMES)[1] == Choice("as_it_is", None, None, 0.0)


def test_what_hurts_or_may_be_chance_is_not_chosen():
    metric = Cleaning(NAMES)
    pairs = [(guess, label) for label, guess in cases(20)]  # specks and holes are the truth
    counts = add([metric.count(outcome(*pair)) for pair in pairs])
    assert choose_rules(counts, NAMES)[1].rule == "as_it_is"
    # One image of twenty has a speck.
    pairs = [(label, label) for label, _ in cases(20)]
    speck = pairs[0][0].copy()
    speck[-1, -1] = 1
    pairs[0] = pairs[0][0], speck
    counts = add([metric.count(outcome(*pair)) for pair in pairs])
    assert choose_rules(counts, NAMES)[1].rule == "as_it_is"


@pytest.mark.parametrize("rules", [("filled",), ("filled", "none", "largest"), ("filled",) * 4])
def test_rules_that_are_none(rules):
    with pytest.raises(UserError, match=r"^config\.eval\.metrics\.cleaning\.rules=\("):
        make_metrics(NAMES, chosen={"cleaning": {"rules": rules}})
    check_cleaning({"rules": ()}, 3)
