"""The bootstrap over pictures: what other pictures of the same kind might have shown."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from experiments.report.statistics import DIFFERENCE, LEVEL, ROUNDING, SCORE, Ends, cut

LEAST = 10
"""Images that an interval over them takes.

Of fewer, so many draws hold one image alone, and have no spread, that they reach into its ends.
"""

RESAMPLES, SEED = 10_000, 0
_CHUNK = 250_000  # weights at a time


class Counts(NamedTuple):
    """Pixels of each picture and class, float64 [N, K]; see `count`.

    Attributes:
        hit: Rightly classified.
        union: Of the class or classified so.
        truth: Of the class.
    """

    hit: np.ndarray
    union: np.ndarray
    truth: np.ndarray


class Intervals(NamedTuple):
    """Lower and upper ends by group, or why there are none; see `bootstrap`."""

    means: Sequence[Ends | str]
    differences: Sequence[Ends | str]


def count(confusion: np.ndarray) -> Counts:
    """Reduces confusion matrices int [N, K, K] (rows are truth) to what the mIoU needs."""
    matrices = np.asarray(confusion, np.float64)
    hit = np.diagonal(matrices, axis1=1, axis2=2)
    truth, predicted = matrices.sum(axis=2), matrices.sum(axis=1)
    return Counts(hit, truth + predicted - hit, truth)


def mean_iou(hit: np.ndarray, union: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Computes the mIoU from sums of counts, as `unet_jax.metrics.scores`.

    Args:
        hit: [..., K].
        union: [..., K].
        truth: [..., K]; a class without a true pixel is left out of the mean.

    Returns:
        [...]; NaN where no class is left.
    """
    present = truth > 0
    iou = np.where(present, hit / np.where(present, union, 1), 0)
    classes = present.sum(axis=-1)
    return np.where(classes > 0, iou.sum(axis=-1) / np.maximum(classes, 1), np.nan)


def whole(counts: Counts) -> float:
    """Returns the mIoU of all pictures."""
    return float(mean_iou(*(part.sum(axis=0) for part in counts)))


def by_picture(counts: Counts) -> np.ndarray:
    """Returns the mIoU of every picture alone, [N]."""
    return mean_iou(*counts)


def weights(pictures: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Yields how often each picture is drawn: [R, N] in parts, the same for everything compared."""
    rng = np.random.default_rng(seed)
    rows = max(1, _CHUNK // pictures)
    for start in range(0, resamples, rows):
        size = min(rows, resamples - start)
        yield rng.multinomial(pictures, np.full(pictures, 1 / pictures), size).astype(np.float64)


def bootstrap(
    groups: Sequence[Sequence[Counts]],
    base: int | None = None,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Intervals:
    """Computes studentised intervals (bootstrap-t, Efron 1981) over pictures.

    The same pictures are drawn for all groups. Each resampled value is divided by its own standard
    error (from the derivative of the mIoU by the weight of each picture), which keeps the intervals
    from being too short where there are few pictures.

    Args:
        groups: Counts of the runs of each variant, of the same pictures in the same order.
        base: Index of the baseline; None for no differences.
        resamples: R.
        seed: Of the draws.

    Returns:
        Intervals of the mean mIoU over the runs of each group, and of its difference from the
        baseline's, in [0, 1] and [-1, 1]; no differences without a baseline.
    """
    pictures, count = len(groups[0][0].hit), len(groups)
    labelled = min(int(np.sum(run.truth.any(axis=1))) for runs in groups for run in runs)
    if labelled < LEAST:
        why = f"{labelled} labelled image{'s' if labelled != 1 else ''}, it takes {LEAST}"
        return Intervals([why] * count, [why] * count if base is not None else [])
    value, slope = _linearise(groups, np.ones((1, pictures)))
    wholes, errors = _contrast(value, slope, np.ones((1, pictures)), base)
    ratios = []
    for weight in weights(pictures, resamples, seed):
        drawn, spread = _contrast(*_linearise(groups, weight), weight, base)
        ratios.append(_studentise(drawn - wholes, spread))
    studentised = np.concatenate(ratios, axis=1)
    bounds = [SCORE] * count + [DIFFERENCE] * (len(wholes) - count)
    rows = zip(wholes[:, 0], errors[:, 0], studentised, bounds, strict=True)
    found = [_interval(*row) for row in rows]
    return Intervals(found[:count], found[count:])


def _linearise(
    groups: Sequence[Sequence[Counts]], weight: np.ndarray
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Computes each group's mIoU on weighted pictures [R, N], and its slope by every picture.

    Returns:
        The values [groups, R], and for each group N times the derivatives [N, R].
    """
    values, slopes = [], []
    for runs in groups:
        value, slope = np.zeros(len(weight)), np.zeros(weight.shape[::-1])
        for run in runs:
            hit, union, truth = (weight @ part for part in run)
            present = truth > 0
            classes = np.maximum(present.sum(axis=1), 1)
            scale = np.where(present, 1 / np.where(present, union, 1), 0) / classes[:, None]
            iou = np.where(present, hit / np.where(present, union, 1), 0)
            value += iou.sum(axis=1) / classes / len(runs)
            moved = run.hit @ scale.T - run.union @ (iou * scale).T
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
