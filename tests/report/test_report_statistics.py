import itertools

import numpy as np
import pytest
from scipy import stats

from unet_jax.metrics.base import SHARE
from unet_jax.report import statistics
from unet_jax.report.statistics import Summary

REALS, SCORE, DIFFERENCE = (-np.inf, np.inf), SHARE.ends, SHARE.difference


def test_summary_is_that_of_the_textbook():
    values = [0.61, 0.64, 0.60, 0.66, 0.58]
    mean = sum(values) / 5
    sd = (sum((v - mean) ** 2 for v in values) / 4) ** 0.5
    half = 2.7764451 * sd / 5**0.5  # t of 0.975 with 4 degrees of freedom, from a table
    got = statistics.summarise(values, SCORE)
    np.testing.assert_allclose(got[:5], (5, mean, sd, mean - half, mean + half), rtol=1e-7)
    again = stats.t.interval(0.95, 4, loc=mean, scale=stats.sem(values))
    np.testing.assert_allclose((got.low, got.high), again, rtol=1e-12)
    assert got.why is None


def test_one_value_has_no_spread_and_none_no_mean():
    assert statistics.summarise([0.5], SCORE) == Summary(1, 0.5, why="1 run")
    assert statistics.summarise([], SCORE) == Summary(0)


def test_equal_scores_have_no_interval():
    for n in (2, 3):
        got = statistics.summarise([0.1 + 0.2] * n, SCORE)
        assert (got.low, got.high, got.why) == (None, None, "no spread over runs")
        assert (got.n, got.mean) == (n, pytest.approx(0.3))


@pytest.mark.parametrize("values", [[0.9, 0.99], [0.02, 0.1], [0.999, 0.9, 1.0]])
def test_intervals_of_scores_are_cut_to_what_a_score_can_be(values):
    want = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
    assert min(want) < 0 or max(want) > 1
    got = statistics.summarise(values, SCORE)
    np.testing.assert_allclose((got.low, got.high), np.clip(want, 0, 1), rtol=1e-12)
    alike = statistics.mean_of_groups([{str(i): v for i, v in enumerate(values)}], SCORE)
    np.testing.assert_allclose((alike.low, alike.high), np.clip(want, 0, 1), rtol=1e-12)


def test_intervals_of_differences_are_cut_to_what_a_difference_can_be():
    a, b = {"0": 0.95, "1": 0.35}, {"0": 0.05, "1": 0.55}
    paired = statistics.compare(a, b, DIFFERENCE)
    want = stats.t.interval(0.95, 1, *mean_and_sem([0.9, -0.2]))
    assert want[0] < -1
    assert want[1] > 1
    assert paired.ends == (-1, 1)
    welch = statistics.compare({"0": 0.95, "1": 0.75}, {"2": 0.05, "3": 0.15}, DIFFERENCE)
    parts = np.array([0.1**2, 0.05**2])  # squared standard errors
    df = parts.sum() ** 2 / (parts**2).sum()
    want = stats.t.interval(0.95, df, 0.75, parts.sum() ** 0.5)
    assert want[1] > 1
    np.testing.assert_allclose(welch.ends, (want[0], 1), rtol=1e-9)


def test_the_interval_over_both_is_cut_too():
    want = 0.6 - np.hypot(0.4, 0.5), 0.6 + np.hypot(0.3, 0.2)
    np.testing.assert_allclose(statistics.over_both(0.6, (0.2, 0.9), (0.1, 0.8), DIFFERENCE), want)
    assert statistics.over_both(0.6, (0.2, 0.9), (0.1, 0.95), DIFFERENCE)[1] == 1
    assert statistics.over_both(-0.6, (-1, 1), (-0.7, -0.5), DIFFERENCE) == (-1, 1)


def test_cutting_before_or_after_joining_is_the_same():
    rng = np.random.default_rng(0)
    for _ in range(200):
        estimate = rng.uniform(-1, 1)
        ends = [(estimate - a, estimate + b) for a, b in rng.exponential(0.7, (2, 2))]
        first = [statistics.cut(*pair, DIFFERENCE) for pair in ends]
        later = statistics.over_both(estimate, *ends, REALS)
        np.testing.assert_allclose(
            statistics.over_both(estimate, *first, DIFFERENCE), np.clip(later, -1, 1), atol=1e-12
        )


def test_t_interval_holds_the_mean_at_its_level():
    rng = np.random.default_rng(0)
    draws = rng.normal(3, 2, (2000, 3))
    held = sum(s.low <= 3 <= s.high for s in (statistics.summarise(d, REALS) for d in draws))
    assert stats.binomtest(held, 2000, 0.95).pvalue > 0.01


def test_a_cut_interval_holds_the_mean_as_often():
    """Scores near 1, two and three of them: nearly all intervals are cut, and none loses it."""
    rng = np.random.default_rng(0)
    for n in (2, 3):
        draws = rng.beta(40, 2, (500, n))
        whole = [statistics.summarise(d, REALS) for d in draws]
        cut = [statistics.summarise(d, SCORE) for d in draws]
        assert sum(s.high > 1 for s in whole) > 100
        assert all(0 <= s.low <= s.high <= 1 for s in cut)
        held = [[s.low <= 40 / 42 <= s.high for s in part] for part in (whole, cut)]
        assert held[0] == held[1]


def test_same_seeds_are_paired_in_any_order():
    a, b = {"0": 0.5, "1": 0.7, "2": 0.65}, {"2": 0.6, "0": 0.42, "1": 0.68}
    got = statistics.compare(a, b, DIFFERENCE)
    moved = np.array([0.5 - 0.42, 0.7 - 0.68, 0.65 - 0.6])
    t = moved.mean() / (moved.std(ddof=1) / 3**0.5)
    p = 2 * stats.t.sf(abs(t), 2)
    assert got.name == "paired t"
    np.testing.assert_allclose((got.difference, got.t, got.df, got.p), (moved.mean(), t, 2, p))
    one = statistics.summarise(moved, DIFFERENCE)
    np.testing.assert_allclose((got.low, got.high), (one.low, one.high))
    np.testing.assert_allclose((got.low, got.high), stats.t.interval(0.95, 2, *mean_and_sem(moved)))


def mean_and_sem(values):
    return np.mean(values), stats.sem(values)


def test_other_seeds_are_compared_by_welch():
    a, b = {"0": 0.5, "1": 0.7, "2": 0.65}, {"5": 0.6, "6": 0.42}
    got = statistics.compare(a, b, DIFFERENCE)
    x, y = np.array(list(a.values())), np.array(list(b.values()))
    parts = np.array([x.var(ddof=1) / 3, y.var(ddof=1) / 2])
    df = parts.sum() ** 2 / (parts**2 / [2, 1]).sum()
    t = (x.mean() - y.mean()) / parts.sum() ** 0.5
    assert got.name == "Welch t"
    np.testing.assert_allclose((got.t, got.df, got.p), (t, df, 2 * stats.t.sf(abs(t), df)))


@pytest.mark.parametrize(
    ("a", "b", "why"),
    [
        ({"0": 0.5}, {"0": 0.4}, "1 run"),
        ({"0": 0.5, "1": 0.6}, {"0": 0.4}, "1 run"),
        ({"0": 0.5, "1": 0.6}, {"0": 0.4, "1": 0.5}, "no spread"),
        ({"0": 0.5, "1": 0.5}, {"2": 0.4, "3": 0.4}, "no spread"),
    ],
)
def test_there_is_no_test_without_spread(a, b, why):
    got = statistics.compare(a, b, DIFFERENCE)
    assert got.name.startswith("none: ")
    assert why in got.name
    assert why in got.why
    assert (got.p, got.ends, got.t) == (None, None, None)
    assert got.difference == pytest.approx(np.mean(list(a.values())) - np.mean(list(b.values())))


def test_interval_over_both_adds_variances():
    """Of two normal errors whose variances are known it is the interval of their sum."""
    first, second = stats.norm.interval(0.95, 1, 3), stats.norm.interval(0.95, 1, 4)
    want = stats.norm.interval(0.95, 1, 5)
    np.testing.assert_allclose(statistics.over_both(1, first, second, REALS), want)
    np.testing.assert_allclose(statistics.over_both(1, (0, 4), (0, 5), REALS), (1 - 2**0.5, 6))


def closed_testing(p_values):
    """Holm by its definition: the largest Bonferroni value of all sets that hold a hypothesis."""
    n = len(p_values)
    sets = [s for size in range(1, n + 1) for s in itertools.combinations(range(n), size)]
    bonferroni = {s: min(1.0, len(s) * min(p_values[i] for i in s)) for s in sets}
    return [max(value for s, value in bonferroni.items() if i in s) for i in range(n)]


def test_holm_is_closed_testing_with_bonferroni():
    rng = np.random.default_rng(0)
    for _ in range(50):
        p_values = (rng.random(rng.integers(1, 7)) ** 3).tolist()
        np.testing.assert_allclose(statistics.holm(p_values), closed_testing(p_values))
    assert statistics.holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])


def test_holm_does_not_count_what_was_not_tested():
    assert statistics.holm([None, 0.02, None, 0.04]) == [None, 0.04, None, 0.04]
    assert statistics.holm([None]) == [None]


def test_pareto_front_is_that_of_brute_force():
    rng = np.random.default_rng(0)
    for _ in range(200):
        n = rng.integers(1, 9)
        costs, scores = rng.integers(0, 5, (2, n)).tolist()  # with many ties

        def is_beaten(i, costs=costs, scores=scores):
            return any(
                costs[j] <= costs[i]
                and scores[j] >= scores[i]
                and (costs[j] < costs[i] or scores[j] > scores[i])
                for j in range(len(costs))
            )

        assert statistics.pareto(costs, scores) == [not is_beaten(i) for i in range(n)]


def test_mean_over_variants_goes_seed_by_seed():
    a, b = {"0": 0.5, "1": 0.7, "2": 0.6}, {"0": 0.6, "1": 0.9, "2": 0.7}
    got = statistics.mean_of_groups([a, b], SCORE)
    by_seed = statistics.summarise([0.55, 0.8, 0.65], SCORE)
    assert got.n == 6
    assert (got.sd, got.why) == (None, None)
    np.testing.assert_allclose((got.mean, got.low, got.high), by_seed[1:2] + by_seed[3:5])


def test_mean_over_variants_of_other_seeds_is_satterthwaites():
    a, b = {"0": 0.5, "1": 0.7, "2": 0.6}, {"7": 0.6, "8": 0.7}
    got = statistics.mean_of_groups([a, b], SCORE)
    welch = statistics.compare(a, b, DIFFERENCE)  # of a difference: the same width, twice as wide
    assert got.mean == pytest.approx((0.6 + 0.65) / 2)
    assert got.high - got.low == pytest.approx((welch.high - welch.low) / 2)


def test_mean_over_variants_says_why_it_has_no_interval():
    one, two, other = {"0": 0.5}, {"0": 0.5, "1": 0.6}, {"5": 0.4, "6": 0.4}
    why = {
        "1 run": [one, {"0": 0.7}],
        "1 run of a variant": [one, two],
        "no spread over runs": [other, {"0": 0.5, "1": 0.5}],
    }
    for reason, groups in why.items():
        got = statistics.mean_of_groups(groups, SCORE)
        assert (got.low, got.high, got.why) == (None, None, reason)
        assert got.mean == pytest.approx(np.mean([np.mean(list(g.values())) for g in groups]))
    gone = statistics.mean_of_groups([{"0": 0.3, "1": 0.6}, {"0": 0.5, "1": 0.2}], SCORE)
    assert gone.why == "no spread over runs"  # the seeds' means are equal
