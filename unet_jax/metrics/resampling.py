"""The bootstrap over images: what other images of the same kind might have shown."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from unet_jax.metrics.base import SHARE, Counts, Kind, Metric, Statistic

LEVEL = 0.95
"""Of all intervals."""

Ends = tuple[float, float]

ROUNDING = 1e-12
"""A spread up to this is that of rounding; far below one pixel of all that a split can have."""

LEAST = 10
"""Images that an interval over them takes.

Of fewer, so many draws hold one image alone, and have no spread, that they reach into its ends.
"""

IMAGES = ("labelled image", "labelled images")
GROUPS = ("group of labelled images", "groups of labelled images")
RESAMPLES, SEED = 10_000, 0
_CHUNK = 250_000  # weights at a time


class Intervals(NamedTuple):
    """Lower and upper ends by group, or why there are none; see `bootstrap`."""

    means: Sequence[Ends | str]
    differences: Sequence[Ends | str]


HELD: dict[str, dict[int, float]] = {
    "overlap": {10: 0.926, 20: 0.932, 30: 0.952},
    "distance": {10: 0.916, 20: 0.947, 30: 0.933},
    "area": {10: 0.868, 20: 0.922, 30: 0.938},
    "error": {10: 0.949, 20: 0.941, 30: 0.954},
}
"""The share of 1,000 synthetic draws in which an interval held the truth, by kind of score and by
number of images: `python -m experiments.calibration.scores`. With 50 and more it is about 95%."""
_KINDS = {"surface": "distance", "curves": "area", "calibration": "error"}  # by metric
_ENOUGH = 50


def held(metric: str, images: int) -> float | None:
    """Tells how often intervals of so few images held the truth where it was known.

    Args:
        metric: Name of the score's metric.
        images: How many, or how many groups of images.

    Returns:
        The share, measured with as many images or the next smaller number; None of many images, or
        too few for an interval.
    """
    if not LEAST <= images < _ENOUGH:
        return None
    measured = HELD[_KINDS.get(metric, "overlap")]
    return measured[max(number for number in measured if number <= images)]


def cut(low: float, high: float, bounds: Ends) -> Ends:
    """Cuts an interval to what its target can be.

    It holds the target as often as before: the target is never in what is cut off.
    """
    return float(np.clip(low, *bounds)), float(np.clip(high, *bounds))


def by_image(metric: Metric, name: str, counts: Counts) -> Statistic:
    """Reduces the counts of images to what one score is computed from.

    Args:
        metric: The metric.
        name: Of its score.
        counts: [N, ...] by name.

    Returns:
        That of the images; its `value` is the score of every image alone.
    """
    return metric.ratio(name, {key: np.asarray(x, np.float64) for key, x in counts.items()})


def weights(images: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Yields how often each image is drawn: [R, N] in parts, the same for everything compared."""
    rng = np.random.default_rng(seed)
    rows = max(1, _CHUNK // images)
    for start in range(0, resamples, rows):
        size = min(rows, resamples - start)
        yield rng.multinomial(images, np.full(images, 1 / images), size).astype(np.float64)


def bootstrap(
    groups: Sequence[Sequence[Statistic]],
    base: int | None = None,
    resamples: int = RESAMPLES,
    seed: int = SEED,
    kind: Kind = SHARE,
) -> Intervals:
    """Computes studentised intervals (bootstrap-t, Efron 1981) over images.

    The same images are drawn for all groups. Each resampled value is divided by its own standard
    error (from the derivative of the score by the weight of each image), which keeps the
    intervals from being too short where there are few images.

    Args:
        groups: Of the runs of each variant, of the same images in the same order; see `by_image`.
        base: Index of the baseline; None for no differences.
        resamples: R.
        seed: Of the draws.
        kind: What values the score can have.

    Returns:
        Intervals of the mean score over the runs of each group, and of its difference from the
        baseline's, cut to what they can be; no differences without a baseline.
    """
    images, count = len(groups[0][0].present), len(groups)
    labelled = min(int(np.sum(run.present.any(axis=1))) for runs in groups for run in runs)
    if labelled < LEAST:
        why = _too_few(labelled)
        return Intervals([why] * count, [why] * count if base is not None else [])
    value, slope = _linearise(groups, np.ones((1, images)))
    wholes, errors = _contrast(value, slope, np.ones((1, images)), base)
    ratios = []
    for weight in weights(images, resamples, seed):
        drawn, spread = _contrast(*_linearise(groups, weight), weight, base)
        ratios.append(_studentise(drawn - wholes, spread))
    studentised = np.concatenate(ratios, axis=1)
    bounds = [kind.ends] * count + [kind.difference] * (len(wholes) - count)
    rows = zip(wholes[:, 0], errors[:, 0], studentised, bounds, strict=True)
    found = [_interval(*row) for row in rows]
    return Intervals(found[:count], found[count:])


def intervals(
    scores: Sequence[Statistic],
    kinds: Sequence[Kind],
    resamples: int = RESAMPLES,
    seed: int = SEED,
    units: tuple[str, str] = IMAGES,
) -> list[Ends | str]:
    """Computes the intervals of several scores of the same images; see `bootstrap`.

    Args:
        scores: Of the same N images in the same order, or of N groups of images, which are drawn
            whole; see `by_image` and `sum_groups`.
        kinds: What values each can have.
        resamples: R.
        seed: Of the draws, the same for all scores.
        units: What one of the N is called, and several.

    Returns:
        The interval of each, or why there is none.
    """
    found: list[Ends | str] = [""] * len(scores)
    wholes, drawn = {}, {}
    for place, score in enumerate(scores):
        labelled = int(np.sum(score.present.any(axis=1)))
        if labelled < LEAST:
            found[place] = _too_few(labelled, units)
            continue
        once = np.ones((1, len(score.present)))
        value, slope = _linearise([[score]], once)
        wholes[place], drawn[place] = _contrast(value, slope, once, None), []
    if not wholes:
        return found
    for weight in weights(len(scores[0].present), resamples, seed):
        for place, (whole, _) in wholes.items():
            value, spread = _contrast(*_linearise([[scores[place]]], weight), weight, None)
            drawn[place].append(_studentise(value - whole, spread)[0])
    for place, (whole, error) in wholes.items():
        studentised, ends = np.concatenate(drawn[place]), kinds[place].ends
        found[place] = _interval(whole[0, 0], error[0, 0], studentised, ends)
    return found


def sum_groups(counts: Counts, groups: Sequence[str]) -> dict[str, np.ndarray]:
    """Adds up the counts of the images of each group.

    Images of one patient or one video are much alike: an interval over them as if each stood for
    itself would be too short.

    Args:
        counts: [N, ...] by name.
        groups: The group of each image; () where each stands for itself.

    Returns:
        [G, ...] by name, of the groups in the order in which they begin; counts as they are without
        groups.
    """
    if not groups:
        return dict(counts)
    order = {name: place for place, name in enumerate(dict.fromkeys(groups))}
    rows = np.array([order[name] for name in groups])
    found = {}
    for name, array in counts.items():
        found[name] = np.zeros((len(order), *array.shape[1:]), array.dtype)
        np.add.at(found[name], rows, array)
    return found


def _too_few(labelled: int, units: tuple[str, str] = IMAGES) -> str:
    return f"{labelled} {units[labelled != 1]}, it takes {LEAST}"


def _linearise(
    groups: Sequence[Sequence[Statistic]], weight: np.ndarray
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Computes each group's score on weighted images [R, N], and its slope by every image.

    Returns:
        The values [groups, R], and for each group N times the derivatives [N, R].
    """
    values, slopes = [], []
    for runs in groups:
        value, slope = np.zeros(len(weight)), np.zeros(weight.shape[::-1])
        for run in runs:
            drawn, moved = run.linearise(weight)
            value += drawn / len(runs)
            slope += moved * weight.shape[1] / len(runs)
        values.append(value)
        slopes.append(slope)
    return np.array(values), slopes


def _contrast(
    value: np.ndarray, slope: Sequence[np.ndarray], weight: np.ndarray, base: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Returns values and standard errors [groups, R], then those of differences from the base."""
    rows = list(slope)
    if base is not None:
        value = np.concatenate([value, value - value[base]])
        rows += [row - slope[base] for row in slope]
    squares = np.array([np.einsum("rn,nr->r", weight, row**2) for row in rows])
    return value, np.sqrt(squares) / weight.shape[1]


def _studentise(moved: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Divides by standard errors; of one that is 0 but for rounding the ratio is infinite, or 0."""
    infinite = np.where(np.abs(moved) > ROUNDING, np.copysign(np.inf, moved), 0)
    return np.divide(moved, spread, out=infinite, where=spread > ROUNDING)


def _interval(estimate: float, error: float, studentised: np.ndarray, bounds: Ends) -> Ends | str:
    """Turns studentised values into an interval, or says why there is none."""
    if error <= ROUNDING:
        return "no spread over images"
    with np.errstate(invalid="ignore"):  # between two infinite values
        low, high = np.quantile(studentised, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    if not np.isfinite([low, high]).all():
        return "too few images differ"
    return cut(estimate - high * error, estimate - low * error, bounds)
