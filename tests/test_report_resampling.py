import numpy as np
import pytest
from scipy import stats

from experiments.report import resampling
from experiments.report.synthetic import Spread, draw_networks, draw_pictures
from unet_jax import metrics

NAMES = ("a", "b", "c")


@pytest.fixture(scope="module")
def confusion():
    """int64 [2 variants, 1 seed, 12 pictures, 3, 3]; class c is in one picture alone."""
    rng = np.random.default_rng(0)
    drawn = draw_networks(rng, draw_pictures(rng, 12), (0.0, 0.4), 1, Spread())
    drawn[:, :, 1:, 2] = 0
    drawn[:, :, 0, 2, 2] += 5
    return drawn


def test_miou_is_that_of_metrics(confusion):
    for pictures in confusion[:, 0]:
        counts = resampling.count(pictures)
        want = metrics.scores(pictures.sum(axis=0), NAMES)["mIoU"]
        assert resampling.whole(counts) == pytest.approx(want, abs=1e-12)
        alone = [metrics.scores(matrix, NAMES)["mIoU"] for matrix in pictures]
        np.testing.assert_allclose(resampling.by_picture(counts), alone, atol=1e-12)


def test_a_picture_without_a_counted_pixel_has_no_miou():
    counts = resampling.count(np.zeros((1, 3, 3), int))
    assert np.isnan(resampling.by_picture(counts)).all()


def miou(total):
    """The mIoU of a matrix of floats, by its definition."""
    iou = []
    for k in range(len(total)):
        if total[k].sum() > 0:
            iou.append(total[k, k] / (total[k].sum() + total[:, k].sum() - total[k, k]))
    return sum(iou) / len(iou)


def slow_ratios(first, second, weights):
    """Studentised differences of mIoU on pictures really drawn, slopes by finite differences."""

    def difference(pictures, moved=None, by=0.0):
        values = []
        for matrices in (first, second):
            total = sum(matrices[i].astype(float) for i in pictures)
            if moved is not None:
                total = total + by * matrices[moved]
            values.append(miou(total))
        return values[1] - values[0]

    def error(pictures):
        step = 1e-4
        slopes = [
            (difference(pictures, i, step) - difference(pictures, i, -step)) / (2 * step)
            for i in pictures
        ]
        return sum(slope**2 for slope in slopes) ** 0.5

    whole = range(len(first))
    ratios = [
        (difference(drawn) - difference(whole)) / error(drawn)
        for drawn in (np.repeat(np.arange(len(w)), w.astype(int)).tolist() for w in weights)
    ]
    return difference(whole), error(whole), np.array(ratios)


def test_interval_is_that_of_a_slow_loop_over_drawn_pictures(confusion):
    """Class c, which one picture alone has, is absent from a third of the draws."""
    first, second = confusion[:, 0]
    weights = np.concatenate(list(resampling.weights(12, 60, seed=3)))
    assert 10 < np.sum(weights[:, 0] == 0) < 40
    whole, error, ratios = slow_ratios(first, second, weights)
    low, high = np.quantile(ratios, [0.025, 0.975])
    groups = [[resampling.count(first)], [resampling.count(second)]]
    got = resampling.bootstrap(groups, 0, 60, seed=3)
    np.testing.assert_allclose(
        got.differences[1], (whole - high * error, whole - low * error), rtol=1e-5
    )
    assert got.differences[0] == (0.0, 0.0)


def test_mean_over_seeds_and_parts_of_resamples(monkeypatch):
    rng = np.random.default_rng(1)
    drawn = draw_networks(rng, draw_pictures(rng, 30), (0.0, 0.4), 3, Spread())
    groups = [[resampling.count(c) for c in row] for row in drawn]
    once = resampling.bootstrap(groups, 0, 500)
    again = resampling.bootstrap([[*row, *row] for row in groups], 0, 500)
    np.testing.assert_allclose(again.means, once.means)
    monkeypatch.setattr(resampling, "_CHUNK", 700)
    np.testing.assert_allclose(resampling.bootstrap(groups, 0, 500).means, once.means)
    one = resampling.bootstrap([row[:1] for row in groups], 0, 500)
    assert abs(one.means[0][0] - once.means[0][0]) > 1e-4


def test_interval_is_about_scipys_where_pictures_are_many():
    rng = np.random.default_rng(1)
    drawn = draw_networks(rng, draw_pictures(rng, 300), (0.0, 0.4), 1, Spread())
    first, second = drawn[:, 0]

    def difference(index):
        a, b = (metrics.scores(c[index.astype(int)].sum(axis=0), NAMES) for c in (first, second))
        return b["mIoU"] - a["mIoU"]

    options = {"vectorized": False, "n_resamples": 1500, "method": "percentile", "rng": 0}
    want = stats.bootstrap((np.arange(300),), difference, **options).confidence_interval
    groups = [[resampling.count(first)], [resampling.count(second)]]
    got = resampling.bootstrap(groups, 0, 5000).differences[1]
    np.testing.assert_allclose(got, want, atol=0.1 * (want.high - want.low))


def test_draws_are_uniform_and_do_not_depend_on_the_parts(monkeypatch):
    once = np.concatenate(list(resampling.weights(7, 3000, seed=0)))
    monkeypatch.setattr(resampling, "_CHUNK", 70)
    parts = list(resampling.weights(7, 3000, seed=0))
    assert len(parts) == 300
    np.testing.assert_array_equal(np.concatenate(parts), once)
    assert stats.chisquare(once.sum(axis=0)).pvalue > 0.01


def test_interval_of_what_does_not_vary_is_a_point():
    same = resampling.count(np.array([[[6, 2], [1, 3]]] * 5))
    got = resampling.bootstrap([[same]], None, 50)
    assert got.means == [pytest.approx((resampling.whole(same),) * 2)]
    assert got.differences == [None]
