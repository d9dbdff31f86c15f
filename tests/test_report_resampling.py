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


def test_resampling_is_drawing_pictures(confusion):
    """Against a slow loop over pictures that are really drawn, a class may be absent then."""
    runs = [resampling.count(pictures) for pictures in confusion[:, 0]]
    drawn, _ = resampling.resample(runs, 200, seed=3)
    weights = np.concatenate(list(resampling.weights(12, 200, seed=3)))
    absent = 0
    for column, weight in enumerate(weights.astype(int)):
        pictures = np.repeat(np.arange(12), weight)
        assert len(pictures) == 12
        for row, matrices in enumerate(confusion[:, 0]):
            total = sum(matrices[i] for i in pictures)
            absent += total[2].sum() == 0
            want = metrics.scores(total, NAMES)["mIoU"]
            assert drawn[row, column] == pytest.approx(want, abs=1e-12)
    assert absent > 20


def test_draws_are_uniform_and_do_not_depend_on_the_parts(monkeypatch):
    once = np.concatenate(list(resampling.weights(7, 3000, seed=0)))
    monkeypatch.setattr(resampling, "_CHUNK", 70)
    parts = list(resampling.weights(7, 3000, seed=0))
    assert len(parts) == 300
    np.testing.assert_array_equal(np.concatenate(parts), once)
    assert stats.chisquare(once.sum(axis=0)).pvalue > 0.01


def test_interval_is_scipys_bca(confusion):
    first, second = confusion[0, 0], confusion[1, 0]
    rng = np.random.default_rng(1)
    drawn = draw_networks(rng, draw_pictures(rng, 30), (0.0, 0.4), 1, Spread())
    first, second = drawn[:, 0]

    def difference(index):
        a, b = (metrics.scores(c[index.astype(int)].sum(axis=0), NAMES) for c in (first, second))
        return b["mIoU"] - a["mIoU"]

    want = stats.bootstrap(
        (np.arange(30),), difference, vectorized=False, n_resamples=3000, method="BCa", rng=0
    ).confidence_interval
    runs = [resampling.count(c) for c in (first, second)]
    again, without = resampling.resample(runs, 20000)
    estimate = resampling.whole(runs[1]) - resampling.whole(runs[0])
    got = resampling.interval(estimate, again[1] - again[0], without[1] - without[0])
    np.testing.assert_allclose(got, want, atol=0.06 * (want.high - want.low))


def test_leaving_a_picture_out(confusion):
    pictures = confusion[0, 0]
    _, without = resampling.resample([resampling.count(pictures)], 1)
    want = [metrics.scores(np.delete(pictures, i, 0).sum(axis=0), NAMES)["mIoU"] for i in range(12)]
    np.testing.assert_allclose(without[0], want, atol=1e-12)


def test_interval_of_what_does_not_vary_is_a_point():
    assert resampling.interval(0.5, np.full(10, 0.5), np.full(4, 0.5)) == (0.5, 0.5)
