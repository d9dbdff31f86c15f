"""Metrics of surfaces, borders and centre lines against loops over pixels and scikit-image."""

import jax
import numpy as np
import pytest
from skimage.metrics import hausdorff_distance
from skimage.morphology import skeletonize
from support.masks import cases, neighbours, outcome_of
from surface_distance import compute_robust_hausdorff, compute_surface_distances

from unet_jax.errors import UserError
from unet_jax.metrics import choices, make
from unet_jax.metrics.base import Outcome
from unet_jax.metrics.boundary import Boundary
from unet_jax.metrics.per_image import PerImage
from unet_jax.metrics.surface import Surface, surface
from unet_jax.metrics.tubes import ClDice

NAMES = ("rest", "a", "b")


def slow_surface(mask, counts):
    found = []
    for pixel in zip(*np.nonzero(mask), strict=True):
        beside = list(neighbours(pixel, mask.shape))
        if any(there is None or (counts[there] and not mask[there]) for there in beside):
            found.append(pixel)
    return np.array(found, float).reshape(-1, mask.ndim)


def slow_distances(truth, guess, counts, sides, tolerance):
    first, second = (slow_surface(mask, counts) * sides for mask in (truth, guess))
    if not len(first) and not len(second):
        return None
    if not len(first) or not len(second):
        return *[np.sqrt(sum((n * s) ** 2 for n, s in zip(truth.shape, sides, strict=True)))] * 3, 0
    apart = np.sqrt(((first[:, None] - second[None]) ** 2).sum(-1))
    forth, back = apart.min(axis=1), apart.min(axis=0)
    both = [*forth, *back]
    percentiles = [
        max(np.quantile(forth, q, method="linear"), np.quantile(back, q, method="linear"))
        for q in (1.0, 0.95)
    ]
    return *percentiles, np.mean(both), np.mean([d <= tolerance for d in both])


@pytest.mark.parametrize("units", ["spacing", "pixels"])
def test_surfaces_equal_loops(units):
    metric, seen = Surface(NAMES, tolerance=1.0, units=units), set()
    for outcome, (label, decision, counts, sides) in cases(300):
        found = metric.count(outcome)
        assert {name: array.shape for name, array in found.items()} == dict.fromkeys(
            metric.axes, (1, 3)
        )
        assert not any(array[0, 0] for array in found.values()), "the background"
        used = sides if units == "spacing" else (1.0,) * label.ndim
        for k in (1, 2):
            truth, guess = (label == k) & counts, (decision == k) & counts
            want = slow_distances(truth, guess, counts, used, 1.0)
            got = [found[name][0, k] for name in ("HD", "HD95", "ASSD", "NSD")]
            assert got == pytest.approx(want or [0] * 4, abs=1e-9)
            there, guessed = (len(slow_surface(m, counts)) > 0 for m in (truth, guess))
            flags = there or guessed, there and not guessed, guessed and not there, there
            assert [found[n][0, k] for n in ("images", "missed", "invented", "true")] == [*flags]
            seen.add((there, guessed))
    assert len(seen) == 4


def test_the_largest_distance_is_that_of_scikit_image():
    for _, (label, decision, counts, sides) in cases(60):
        everywhere = np.ones_like(counts)
        first, second = (surface(mask == 1, everywhere) for mask in (label, decision))
        if first.any() and second.any():
            one = outcome_of(label, decision, everywhere, (1.0,) * len(sides))
            got = Surface(NAMES).count(one)["HD"][0, 1]
            assert got == pytest.approx(hausdorff_distance(first, second))


@pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")  # of surface-distance
def test_the_largest_distance_is_nearly_that_of_deepmind():
    """Its surfaces run through the corners of pixels, half a diagonal beside their centres."""
    for outcome, (label, decision, counts, sides) in cases(200):
        masks = [mask == 1 for mask in (label, decision)]
        if counts.all() and masks[0].any() and masks[1].any():
            apart = compute_surface_distances(*masks, sides)
            want = compute_robust_hausdorff(apart, 100)
            got = Surface(NAMES).count(outcome)["HD"][0, 1]
            assert abs(got - want) <= np.sqrt(np.sum(np.square(sides))) + 1e-9
    box, moved = np.zeros((2, 30, 30), np.int64)
    box[5:15, 5:15] = moved[5:15, 9:19] = 1
    apart = compute_surface_distances(box > 0, moved > 0, (1, 1))
    metric = Surface(NAMES, tolerance=1.0)
    found = metric.count(outcome_of(box, moved, np.ones((30, 30))))
    for name, percent in (("HD", 100), ("HD95", 95)):
        assert found[name][0, 1] == compute_robust_hausdorff(apart, percent) == 4


def test_scores_are_means_over_images_and_classes_and_nothing_is_dropped():
    label, decision = np.zeros((2, 3, 3), np.int64), np.zeros((2, 3, 3), np.int64)
    decision[0, 1, 1] = label[1, 0, 0] = decision[1, 0, 1] = 1  # invented; one pixel off
    metric = Surface(NAMES, tolerance=1.0)
    counts = [metric.count(outcome_of(*pair, np.ones((3, 3)))) for pair in zip(label, decision)]  # noqa: B905
    sums = {name: np.concatenate([one[name] for one in counts]) for name in metric.axes}
    found = make.values(metric.scores(sums))
    assert found["HD/a"] == found["HD"] == pytest.approx((np.sqrt(18) + 1) / 2)
    assert found["NSD/a"] == 0.5
    assert found["HD/b"] is found["HD/rest"] is found["missed/b"] is None
    assert (found["missed/a"], found["invented/a"], found["invented/b"]) == (0.0, 1.0, 0.0)


def test_bands_and_centre_lines_equal_loops():
    boundary, tubes = Boundary(NAMES, width=0.1), ClDice(NAMES)
    for outcome, (label, decision, counts, _) in cases(300):
        bands, lines = boundary.count(outcome), tubes.count(outcome)
        width = max(1, round(0.1 * np.sqrt(np.sum(np.square(label.shape)))))
        for k in (1, 2):
            truth, guess = (label == k) & counts, (decision == k) & counts
            first, second = (slow_band(mask, counts, width) for mask in (truth, guess))
            assert bands["both"][0, k] == len(first & second)
            assert bands["either"][0, k] == len(first | second)
            assert bands["true"][0, k] == len(first)
            assert lines["images"][0, k] == (truth.any() or guess.any())
            assert lines["clDice"][0, k] == pytest.approx(slow_cldice(truth, guess))


def slow_band(mask, counts, width):
    """Peels off what has a neighbour outside, again and again."""
    left = {tuple(map(int, pixel)) for pixel in np.argwhere(mask | ~counts)}
    for _ in range(width):
        beside = {p: neighbours(p, mask.shape, corners=True) for p in left}
        left = {p for p, around in beside.items() if all(there in left for there in around)}
    return {tuple(map(int, p)) for p in np.argwhere(mask)} - left


def slow_cldice(truth, guess):
    if not truth.any() or not guess.any():
        return 0
    areas = [set(map(tuple, np.argwhere(mask))) for mask in (truth, guess)]
    lines = [set(map(tuple, np.argwhere(skeletonize(mask)))) for mask in (truth, guess)]
    lines = [line or area for line, area in zip(lines, areas, strict=True)]
    sensitivity, precision = (len(lines[i] & areas[1 - i]) / len(lines[i]) for i in (0, 1))
    return 2 * precision * sensitivity / (precision + sensitivity or 1)


def test_each_image_alone_equals_a_loop():
    drawn = [arrays for _, arrays in cases(300) if arrays[0].shape == (12, 17)]
    label, decision, weight = (np.stack([one[i] for one in drawn]) for i in range(3))
    logits = np.zeros((*label.shape, 3), np.float32)
    together = Outcome(logits, None, decision, label, weight)
    found = jax.jit(lambda: PerImage(NAMES).count(together))()
    masks = [np.stack([x == k for k in range(3)], -1) for x in (decision, label)]
    apart = PerImage(NAMES).count(Outcome(logits, None, *masks, weight))
    for index, k in np.ndindex(len(drawn), 3):
        truth, guess = ((x[index] == k) & weight[index] for x in (label, decision))
        both, either = (truth & guess).sum(), (truth | guess).sum()
        want = [both / either, 2 * both / (both + either), 1] if either else [0, 0, 0]
        for name, value in zip(("image_IoU", "image_Dice", "images"), want, strict=True):
            assert found[name][index, k] == pytest.approx(value if k else 0, abs=1e-6)
            assert apart[name][index, k] == pytest.approx(value, abs=1e-6)


def test_classes_that_share_pixels_are_each_measured():
    rng = np.random.default_rng(1)
    label, decision = rng.integers(0, 2, (2, 6, 5, 3))
    weight = rng.integers(0, 2, (6, 5, 3))
    together = outcome_of(label, decision, weight, (2.0, 1.0))
    for make_one in (Surface, Boundary, ClDice):
        found = make_one(NAMES).count(together)
        chosen = make_one(NAMES, classes=(2,)).count(together)
        for k in range(3):
            alone = outcome_of(label[..., k], decision[..., k], weight[..., k], (2.0, 1.0))
            own = make_one(("rest", "on")).count(alone)
            for name, array in found.items():
                assert array[0, k] == own[name][0, 1]
                assert chosen[name][0, k] == (array[0, k] if k == 2 else 0)


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ({"surface": {"tolerance": -1.0}}, r"surface\.tolerance=-1\.0 must be 0 or more"),
        ({"surface": {"units": "mm"}}, r"surface\.units='mm' is not known; allowed are spacing, p"),
        (
            {"surface": {"classes": (3,)}},
            r"surface\.classes=\(3,\) must be different class ids fro",
        ),
        ({"boundary": {"width": 2.0}}, r"boundary\.width=2\.0 must be 1 or less"),
        ({"cldice": {"classes": (1, 1)}}, r"cldice\.classes=\(1, 1\) must be different class ids"),
        ({"surfaces": {}}, r"surfaces is not known; allowed are per_image, surface, "),
        ({"surface": {"size": 1}}, r"surface\.size is not a config key; allowed are tolerance, un"),
    ],
)
def test_bad_values(section, says):
    with pytest.raises(UserError, match=rf"^config\.eval\.metrics\.{says}"):
        make.make_metrics(NAMES, chosen=choices.check_metrics(section))
