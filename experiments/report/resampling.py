"""The bootstrap over pictures: what other pictures of the same kind might have shown."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from experiments.report.statistics import LEVEL

RESAMPLES, SEED = 10_000, 0
_CHUNK = 4_000_000  # weights at a time


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


def resample(
    runs: Sequence[Counts], resamples: int = RESAMPLES, seed: int = SEED
) -> tuple[np.ndarray, np.ndarray]:
    """Computes the mIoU of every run on the same resampled pictures, and without each picture.

    Args:
        runs: Counts of each, of the same pictures in the same order.
        resamples: R.
        seed: Of the draws.

    Returns:
        The mIoU on resampled pictures [runs, R], and with one picture left out [runs, N].
    """
    pictures = len(runs[0].hit)
    drawn = [
        [mean_iou(*(weight @ part for part in run)) for run in runs]
        for weight in weights(pictures, resamples, seed)
    ]
    without = [mean_iou(*(part.sum(axis=0) - part for part in run)) for run in runs]
    return np.concatenate(drawn, axis=1), np.array(without)


def interval(estimate: float, drawn: np.ndarray, without: np.ndarray) -> tuple[float, float]:
    """Computes the BCa interval (Efron, 1987), which corrects for bias and skewness.

    Args:
        estimate: On the pictures as they are.
        drawn: On resampled pictures, [R].
        without: With one picture left out, [N].

    Returns:
        Its lower and upper end; both the estimate where nothing varies.
    """
    drawn, without = drawn[np.isfinite(drawn)], without[np.isfinite(without)]
    moved = without.mean() - without if len(without) else np.zeros(1)
    spread = float(np.sum(moved**2))
    if not len(drawn) or not spread:
        return estimate, estimate
    acceleration = float(np.sum(moved**3)) / (6 * spread**1.5)
    below = np.mean(drawn < estimate) + np.mean(drawn == estimate) / 2
    bias = stats.norm.ppf(np.clip(below, 1 / len(drawn), 1 - 1 / len(drawn)))
    z = bias + stats.norm.ppf([(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    low, high = np.quantile(drawn, stats.norm.cdf(bias + z / (1 - acceleration * z)))
    return float(low), float(high)
