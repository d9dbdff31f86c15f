import itertools

import numpy as np
import pytest
from scipy import stats
from support.scored import images, scores

from experiments.calibration.synthetic import Spread, draw_images, draw_networks
from unet_jax.metrics import resampling

NAMES = ("a", "b", "c")


@pytest.fixture(scope="module")
def confusion():
    """int64 [2 variants, 1 seed, 12 images, 3, 3]; class c is in one image alone."""
    rng = np.random.default_rng(0)
    drawn = draw_networks(rng, draw_images(rng, 12), (0.0, 0.4), 1, Spread())
    drawn[:, :, 1:, 2] = 0
    drawn[:, :, 0, 2, 2] += 5
    return drawn


def test_miou_is_that_of_metrics(confusion):
    for these_images in confusion[:, 0]:
        counts = images(these_images)
        want = scores(these_images.sum(axis=0), NAMES)["mIoU"]
        assert counts.whole() == pytest.approx(want, abs=1e-12)
        alone = [scores(matrix, NAMES)["mIoU"] for matrix in these_images]
        np.testing.assert_allclose(counts.value(), alone, atol=1e-12)


def test_an_image_without_a_counted_pixel_has_no_miou():
    counts = images(np.zeros((1, 3, 3), int))
    assert np.isnan(counts.value()).all()


def miou(total):
    """The mIoU of a matrix of floats, by its definition."""
    iou = []
    for k in range(len(total)):
        if total[k].sum() > 0:
            iou.append(total[k, k] / (total[k].sum() + total[:, k].sum() - total[k, k]))
    return sum(iou) / len(iou)


def slow_ratios(first, second, weights):
    """Studentised differences of mIoU on images really drawn, slopes by finite differences."""

    def difference(images, moved=None, by=0.0):
        values = []
        for matrices in (first, second):
            total = sum(matrices[i].astype(float) for i in images)
            if moved is not None:
                total = total + by * matrices[moved]
            values.append(miou(total))
        return values[1] - values[0]

    def error(images):
        step = 1e-4
        slopes = [
            (difference(images, i, step) - difference(images, i, -step)) / (2 * step)
            for i in images
        ]
        return sum(slope**2 for slope in slopes) ** 0.5

    whole = range(len(first))
    ratios = [
        (difference(drawn) - difference(whole)) / error(drawn)
        for drawn in (np.repeat(np.arange(len(w)), w.astype(int)).tolist() for w in weights)
    ]
    return difference(whole), error(whole), np.array(ratios)


def test_interval_is_that_of_a_slow_loop_over_drawn_images(confusion):
    """Class c, which one image alone has, is absent from a third of the draws."""
    first, second = confusion[:, 0]
    weights = np.concatenate(list(resampling.weights(12, 60, seed=3)))
    assert 10 < np.sum(weights[:, 0] == 0) < 40
    whole, error, ratios = slow_ratios(first, second, weights)
    low, high = np.quantile(ratios, [0.025, 0.975])
    groups = [[images(first)], [images(second)]]
    got = resampling.bootstrap(groups, 0, 60, seed=3)
    np.testing.assert_allclose(
        got.differences[1], (whole - high * error, whole - low * error), rtol=1e-5
    )
    assert got.differences[0] == "no spread over images"


def test_mean_over_seeds_and_parts_of_resamples(monkeypatch):
    rng = np.random.default_rng(1)
    drawn = draw_networks(rng, draw_images(rng, 30), (0.0, 0.4), 3, Spread())
    groups = [[images(c) for c in row] for row in drawn]
    once = resampling.bootstrap(groups, 0, 500)
    again = resampling.bootstrap([[*row, *row] for row in groups], 0, 500)
    np.testing.assert_allclose(again.means, once.means)
    monkeypatch.setattr(resampling, "_CHUNK", 700)
    np.testing.assert_allclose(resampling.bootstrap(groups, 0, 500).means, once.means)
    one = resampling.bootstrap([row[:1] for row in groups], 0, 500)
    assert abs(one.means[0][0] - once.means[0][0]) > 1e-4


def test_interval_is_about_scipys_where_images_are_many():
    rng = np.random.default_rng(1)
    drawn = draw_networks(rng, draw_images(rng, 300), (0.0, 0.4), 1, Spread())
    first, second = drawn[:, 0]

    def difference(index):
        a, b = (scores(c[index.astype(int)].sum(axis=0), NAMES) for c in (first, second))
        return b["mIoU"] - a["mIoU"]

    options = {"vectorized": False, "n_resamples": 1500, "method": "percentile", "rng": 0}
    want = stats.bootstrap((np.arange(300),), difference, **options).confidence_interval
    groups = [[images(first)], [images(second)]]
    got = resampling.bootstrap(groups, 0, 5000).differences[1]
    np.testing.assert_allclose(got, want, atol=0.1 * (want.high - want.low))


def test_draws_are_uniform_and_do_not_depend_on_the_parts(monkeypatch):
    once = np.concatenate(list(resampling.weights(7, 3000, seed=0)))
    monkeypatch.setattr(resampling, "_CHUNK", 70)
    parts = list(resampling.weights(7, 3000, seed=0))
    assert len(parts) == 300
    np.testing.assert_array_equal(np.concatenate(parts), once)
    assert stats.chisquare(once.sum(axis=0)).pvalue > 0.01


def test_every_draw_of_ten_images_gives_the_interval():
    """The quantiles of all 92,378 ways to draw ten images, each with its exact chance."""
    rng = np.random.default_rng(4)
    first, second = draw_networks(rng, draw_images(rng, 10), (0.0, 0.4), 1, Spread())[:, 0]
    bars = np.array(list(itertools.combinations(range(19), 9)))
    edges = np.pad(bars, ((0, 0), (1, 1)), constant_values=((0, 0), (-1, 19)))
    ways = np.diff(edges, axis=1) - 1
    assert ways.shape == (92378, 10)
    assert (ways.sum(axis=1) == 10).all()
    chance = stats.multinomial(10, [0.1] * 10).pmf(ways)
    assert chance.sum() == pytest.approx(1)

    def value_and_slope(matrices):
        """The mIoU of every way, and how it moves with one more image, by the quotient rule."""
        total = np.einsum("wn,nij->wij", ways.astype(float), matrices)
        value, slope = np.zeros(len(ways)), np.zeros(ways.shape)
        there = (total.sum(axis=2) > 0).sum(axis=1)
        for k in range(3):
            row, column = matrices[:, k].sum(axis=1), matrices[:, :, k].sum(axis=1)
            hit, union = matrices[:, k, k], row + column - matrices[:, k, k]
            hits = total[:, k, k]
            unions = total[:, k].sum(axis=1) + total[:, :, k].sum(axis=1) - hits
            known = total[:, k].sum(axis=1) > 0
            bottom = np.where(known, unions, 1)[:, None]
            moved = hit / bottom - union * hits[:, None] / bottom**2
            value += np.where(known, hits / bottom[:, 0], 0) / there
            slope += np.where(known[:, None], moved, 0) / there[:, None]
        return value, slope

    (low, slope_low), (high, slope_high) = map(value_and_slope, (first, second))
    moved, slope = high - low, slope_high - slope_low
    spread = np.sqrt((ways * slope**2).sum(axis=1))
    once = np.flatnonzero((ways == 1).all(axis=1)).item()
    order = np.argsort(ratio := (moved - moved[once]) / np.maximum(spread, 1e-12))
    ends = np.interp([0.025, 0.975], np.cumsum(chance[order]), ratio[order])
    want = moved[once] - ends[::-1] * spread[once]
    assert -1 < want[0] < want[1] < 1
    groups = [[images(first)], [images(second)]]
    got = resampling.bootstrap(groups, 0, 100_000).differences[1]
    np.testing.assert_allclose(got, want, atol=0.02 * (want[1] - want[0]))


@pytest.mark.parametrize("these_images", [1, 2, 3, 9])
def test_below_ten_images_there_is_no_interval(these_images):
    rng = np.random.default_rng(0)
    drawn = draw_networks(rng, draw_images(rng, these_images), (0.0, 0.4), 2, Spread())
    groups = [[images(c) for c in row] for row in drawn]
    why = f"{these_images} labelled image{'s' * (these_images > 1)}, it takes 10"
    assert resampling.bootstrap(groups, 0, 50) == ([why, why], [why, why])
    assert resampling.bootstrap(groups, None, 50) == ([why, why], [])


def test_images_without_a_labelled_pixel_do_not_count():
    rng = np.random.default_rng(0)
    (drawn,) = draw_networks(rng, draw_images(rng, 15), (0.0,), 1, Spread())[0]
    drawn[4:10] = 0
    got = resampling.bootstrap([[images(drawn)]], None, 50)
    assert got.means == ["9 labelled images, it takes 10"]
    drawn[4, 0, 0] = 5
    ((low, high),) = resampling.bootstrap([[images(drawn)]], None, 50).means
    assert 0 <= low < miou(drawn.sum(axis=0).astype(float)) < high <= 1


def matrices(perfect, wrong):
    """Counts of images of two classes, some without an error and some with."""
    return np.array([[[60, 0], [0, 30]]] * perfect + [[[40, 20], [9, 21]]] * wrong)


@pytest.mark.parametrize("rounded", [1, 1 / 3, 7e9])
def test_what_does_not_vary_has_no_interval(rounded):
    """Whatever is drawn, all scores are equal but for rounding: the spread is not known."""
    same = images(np.array([[[6, 2], [1, 3]]] * 12) * rounded)
    got = resampling.bootstrap([[same], [same]], 0, 50)
    assert got == (["no spread over images"] * 2,) * 2
    perfect = images(matrices(11, 0))
    assert resampling.bootstrap([[perfect]], None, 50).means == ["no spread over images"]


def test_one_image_with_errors_among_perfect_ones_gives_no_interval():
    """It is absent from (11/12)^12 = 35% of the draws, in which nothing varies."""
    few, many = (images(matrices(12 - n, n)) for n in (1, 6))
    got = resampling.bootstrap([[few], [many]], 0, 2000)
    assert got.means[0] == "too few images differ"
    assert 0 <= got.means[1][0] < got.means[1][1] <= 1
    assert -1 <= got.differences[1][0] < got.differences[1][1] < 0
    base = resampling.bootstrap([[many], [images(matrices(5, 7))]], 0, 2000)
    assert base.differences[1] == "too few images differ"


def test_no_interval_leaves_the_possible_range():
    """Ten images of which one is nearly all of the pixels: ratios far from normal."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(20):
        drawn = draw_networks(rng, draw_images(rng, 10), (0.0, 3.0), 1, Spread(image=2.0))
        drawn[:, :, 0] *= 1000
        groups = [[images(c) for c in row] for row in drawn]
        got = resampling.bootstrap(groups, 0, 500)
        for runs, (low, high) in zip(groups, got.means, strict=True):
            assert 0 <= low <= runs[0].whole() <= high <= 1
        assert -1 <= got.differences[1][0] <= got.differences[1][1] <= 1
        found += [end for ends in got.means for end in ends]
    assert {0.0, 1.0} & set(found)  # some were cut


def test_intervals_of_several_scores_are_those_of_each_alone(monkeypatch):
    rng = np.random.default_rng(0)
    (drawn,) = draw_networks(rng, draw_images(rng, 25), (0.0,), 1, Spread())[0]
    few = drawn.copy()
    few[3:, 2] = 0
    few[:3, 2, 2] += 1
    scored = [images(drawn), images(few, "IoU/c"), images(drawn, "IoU/b"), images(drawn)]
    monkeypatch.setattr(resampling, "_CHUNK", 1000)
    kinds = [resampling.SHARE] * 4
    got = resampling.intervals(scored, kinds, 300, seed=5)
    for index in (0, 2, 3):
        [want] = resampling.bootstrap([[scored[index]]], None, 300, seed=5).means
        assert got[index] == pytest.approx(want, abs=1e-12)
    assert got[1] == "3 labelled images, it takes 10"
    assert resampling.intervals(scored[1:2], kinds[:1]) == got[1:2]


def test_counts_of_groups_add_up():
    rng = np.random.default_rng(0)
    counts = {"a": rng.integers(0, 9, (7, 2)), "b": rng.random(7)}
    groups = ["x", "y", "x", "z", "y", "x", "x"]
    got = resampling.sum_groups(counts, groups)
    for name, array in counts.items():
        want = [sum(array[i] for i in range(7) if groups[i] == name) for name in "xyz"]
        np.testing.assert_allclose(got[name], want, rtol=1e-15)
        assert got[name].dtype == array.dtype
    assert resampling.sum_groups(counts, ()) == counts


def test_how_often_few_images_hold_is_said_of_the_next_smaller_number():
    said = resampling.HELD["overlap"]
    assert resampling.held("overlap", 9) is None
    assert resampling.held("per_image", 10) == said[10]
    assert resampling.held("overlap", 29) == said[20]
    assert resampling.held("overlap", 49) == said[30]
    assert resampling.held("overlap", 50) is None
    assert resampling.held("surface", 10) == resampling.HELD["distance"][10]
