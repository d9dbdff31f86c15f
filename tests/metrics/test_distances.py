"""Distances between masks against what MONAI and MedPy say, stored by vectors/make_distances.py."""

import functools
import json
import math

import numpy as np
import pytest
from support.masks import outcome_of
from support.paths import ROOT

from unet_jax.metrics.per_image import PerImage
from unet_jax.metrics.surface import Surface, distances, surface

STORED = json.loads((ROOT / "tests" / "vectors" / "distances.json").read_text())
CASES = STORED["cases"]
EMPTY = ("empty truth", "empty guess", "both empty")
THERE = [name for name in CASES if name not in EMPTY]


def masks_of(case):
    return [np.array([*case[key]], int).reshape(case["shape"]) for key in ("truth", "guess")]


@functools.cache
def ours(name):
    """Returns our values of a case, and whether its image counts."""
    case = CASES[name]
    one = outcome_of(*masks_of(case), np.ones(case["shape"], int), tuple(case["spacing"]))
    found = Surface(("rest", "on"), tolerance=STORED["tolerance"]).count(one)
    alone = PerImage(("rest", "on")).count(one._replace(logits=np.zeros((1, *case["shape"], 2))))
    values = {key: float(found[key][0, 1]) for key in ("HD", "HD95", "ASSD", "NSD")}
    counts = {float(x["images"][0, 1]) for x in (found, alone)}
    return values | {"Dice": float(alone["image_Dice"][0, 1])}, counts


@pytest.mark.parametrize("name", THERE)
def test_where_both_masks_are_there(name):
    """MONAI's values are ours; MedPy's HD95 alone is another, of all distances together."""
    own, counts = ours(name)
    case = CASES[name]
    assert counts == {1}
    assert case["monai"] == pytest.approx(own, rel=1e-5)
    everywhere = np.ones(case["shape"], bool)
    both = (surface(mask > 0, everywhere) for mask in masks_of(case))
    together = np.concatenate(distances(*both, tuple(case["spacing"])))
    want = {key: own[key] for key in ("HD", "ASSD", "Dice")}
    assert case["medpy"] == pytest.approx(want | {"HD95": np.percentile(together, 95)}, rel=1e-5)


def test_the_percentiles_of_medpy_are_others():
    differ = [
        name for name in THERE if abs(CASES[name]["medpy"]["HD95"] - ours(name)[0]["HD95"]) > 0.1
    ]
    assert differ == ["near", "everywhere", "volume"]


@pytest.mark.parametrize(
    ("name", "monai", "medpy"),
    [
        ("empty truth", (math.inf, math.nan, math.inf, 0, math.nan), (None, None, None, 0)),
        ("empty guess", (math.inf, math.nan, math.inf, 0, 0), (None, None, None, 0)),
        ("both empty", (math.nan,) * 5, (None, None, None, math.nan)),
    ],
)
def test_where_a_mask_is_empty(name, monai, medpy):
    """Here a missed or invented structure has the diagonal of 12 x 17 pixels, and counts."""
    own, counts = ours(name)
    names = ("HD", "HD95", "ASSD", "NSD", "Dice")
    far = math.hypot(12, 17)
    if name != "both empty":
        assert own == pytest.approx(dict(zip(names, (far, far, far, 0, 0), strict=True)))
    assert counts == {float(name != "both empty")}
    said = CASES[name]
    assert [*said["monai"].values()] == pytest.approx(monai, nan_ok=True)
    for found, want in zip(said["medpy"].values(), medpy, strict=True):
        assert found is want is None or found == pytest.approx(want, nan_ok=True)
