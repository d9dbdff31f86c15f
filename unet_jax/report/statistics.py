"""Means over seeds with their intervals, the test between two variants, and Holm's correction."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from unet_jax.metrics.resampling import LEVEL, ROUNDING, Ends, cut


class Summary(NamedTuple):
    """Some numbers in short.

    Attributes:
        n: How many.
        mean: Their mean; None of none.
        sd: Standard deviation, with n - 1; None of one.
        low: Lower end of Student's t-interval for the mean; None where there is none.
        high: Upper end.
        why: Why there is no interval.
    """

    n: int
    mean: float | None = None
    sd: float | None = None
    low: float | None = None
    high: float | None = None
    why: str | None = None


class Test(NamedTuple):
    """A test of the hypothesis that two variants have the same mean over seeds.

    Attributes:
        name: "paired t", "Welch t", or "none: " and why.
        difference: Of the means.
        low: Lower end of the test's interval for it.
        high: Upper end.
        t: The statistic.
        df: Degrees of freedom.
        p: Two-sided.
        why: Why there is no test and no interval.
    """

    name: str
    difference: float
    low: float | None = None
    high: float | None = None
    t: float | None = None
    df: float | None = None
    p: float | None = None
    why: str | None = None

    @property
    def ends(self) -> Ends | None:
        """Returns the interval; None without one."""
        return None if self.low is None or self.high is None else (self.low, self.high)


def summarise(values: Sequence[float], bounds: Ends) -> Summary:
    """Summarises numbers that are independent draws of one distribution.

    Args:
        values: The numbers.
        bounds: What their mean can be.

    Returns:
        Their summary; of one number, or of equal ones, without an interval.
    """
    n = len(values)
    if n < 2:
        return Summary(n, *map(float, values), why="1 run" if n else None)
    mean, sd = float(np.mean(values)), float(np.std(values, ddof=1))
    if np.ptp(values) <= ROUNDING:
        return Summary(n, mean, sd, why="no spread over runs")
    half = float(stats.t.ppf((1 + LEVEL) / 2, n - 1)) * sd / np.sqrt(n)
    return Summary(n, mean, sd, *cut(mean - half, mean + half, bounds))


def compare(variant: Mapping[str, float], baseline: Mapping[str, float], bounds: Ends) -> Test:
    """Tests the difference of two variants' means over seeds.

    Paired by seed where both have the same seeds, which share the order of the images; else
    Welch's test, which allows for different variances.

    Args:
        variant: Score by seed, one or more.
        baseline: Score of the baseline by seed, one or more.
        bounds: What the difference of two scores can be.

    Returns:
        The test of variant - baseline.
    """
    a, b = list(variant.values()), list(baseline.values())
    difference = float(np.mean(a) - np.mean(b))
    is_paired = variant.keys() == baseline.keys()
    if min(len(a), len(b)) < 2:
        return _no_test(difference, "1 run")
    if is_paired:
        b = [baseline[seed] for seed in variant]
        has_spread = np.ptp(np.subtract(a, b)) > ROUNDING
    else:
        has_spread = max(np.ptp(a), np.ptp(b)) > ROUNDING
    if not has_spread:
        return _no_test(difference, "no spread over runs")
    found = stats.ttest_rel(a, b) if is_paired else stats.ttest_ind(a, b, equal_var=False)
    interval = found.confidence_interval(LEVEL)
    return Test(
        "paired t" if is_paired else "Welch t",
        difference,
        *cut(interval.low, interval.high, bounds),
        float(found.statistic),
        float(found.df),
        float(found.pvalue),
    )


def _no_test(difference: float, why: str) -> Test:
    return Test(f"none: {why}", difference, why=why)


def over_both(estimate: float, first: Ends, second: Ends, bounds: Ends) -> Ends:
    """Joins intervals for two independent sources of chance: their half-widths in quadrature.

    This is the method of variance estimates recovery (Zou and Donner, 2008). An end that was cut
    before stays at the bound.
    """
    below = np.hypot(first[0] - estimate, second[0] - estimate)
    above = np.hypot(first[1] - estimate, second[1] - estimate)
    return cut(estimate - below, estimate + above, bounds)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Corrects for several tests (Holm, 1979): the chance of any false positive stays p.

    Args:
        p_values: One per comparison; None where there is no test, which does not count.

    Returns:
        The adjusted values.
    """
    known = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, index) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * p))
        adjusted[index] = largest
    return adjusted


def mean_of_groups(groups: Sequence[Mapping[str, float]], bounds: Ends) -> Summary:
    """Summarises the mean over several variants, each of which counts the same.

    Where all have the same seeds, the mean over variants is a number per seed, and its t-interval
    holds whatever the seeds share. Elsewhere the variants count as independent, and the degrees of
    freedom are Satterthwaite's.

    Args:
        groups: Score by seed of each variant, one or more.
        bounds: What the mean can be.

    Returns:
        The mean, and its interval over seeds; `n` is the number of scores, `sd` None.
    """
    n = sum(map(len, groups))
    mean = float(np.mean([np.mean(list(group.values())) for group in groups]))
    if all(group.keys() == groups[0].keys() for group in groups):
        by_seed = [float(np.mean([group[seed] for group in groups])) for seed in groups[0]]
        return summarise(by_seed, bounds)._replace(n=n, mean=mean, sd=None)
    if min(map(len, groups)) < 2:
        return Summary(n, mean, why="1 run of a variant")
    parts = [(np.var(list(g.values()), ddof=1) / len(g), len(g) - 1) for g in groups]
    total = sum(part for part, _ in parts)
    if total <= ROUNDING**2:
        return Summary(n, mean, why="no spread over runs")
    df = total**2 / sum(part**2 / degrees for part, degrees in parts)
    half = float(stats.t.ppf((1 + LEVEL) / 2, df) * np.sqrt(total)) / len(groups)
    return Summary(n, mean, None, *cut(mean - half, mean + half, bounds))


def pareto(costs: Sequence[float], scores: Sequence[float]) -> list[bool]:
    """Tells which points no other one beats by costing less, or scoring higher, at no loss.

    Args:
        costs: One per point; less is better.
        scores: One per point; more is better.

    Returns:
        Whether a point is on the front; of equal points all are.
    """
    front = [False] * len(costs)
    best, at = -np.inf, np.inf
    for index in sorted(range(len(costs)), key=lambda i: (costs[i], -scores[i])):
        is_same = scores[index] == best and costs[index] == at
        if scores[index] > best or is_same:
            front[index], best, at = True, scores[index], costs[index]
    return front
