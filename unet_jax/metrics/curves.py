"""ROC and precision-recall curves, from histograms of scores that are counted on the device."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import digamma

from unet_jax.metrics.base import SHARE, Counts, Function, K, Kind, Metric, Outcome
from unet_jax.metrics.regions import check_classes

BINS = 4096
SPECIFICITIES = (0.9, 0.95, 0.99)
_FARTHEST = 1000.0  # log odds of the outermost bins


def place(log_odds: jax.Array) -> jax.Array:
    """Puts scores into bins, which lie the closer the nearer the probability is to 1/2.

    They divide asinh(4 log odds) evenly: 0.001 wide at 0, 0.04 at 10, up to 1,000. Networks are so
    certain of most pixels that bins of the probability would hold them all at their ends.

    Args:
        log_odds: float32.

    Returns:
        int32, 0 to `BINS` - 1.
    """
    share = jnp.arcsinh(4 * log_odds) / np.arcsinh(4 * _FARTHEST)
    return jnp.clip(jnp.floor((share + 1) * (BINS / 2)), 0, BINS - 1).astype(jnp.int32)


def roc(histogram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Computes the ROC curve, from the highest score to the lowest.

    Args:
        histogram: [..., 2, BINS], of the pixels that are not of the class, then of those that are.

    Returns:
        False and true positive rates [..., BINS + 1]; NaN where there is none of the kind.
    """
    above = np.cumsum(histogram[..., ::-1], axis=-1)
    above = np.concatenate([np.zeros_like(above[..., :1]), above], axis=-1)
    total = above[..., -1:]
    with np.errstate(invalid="ignore"):
        rates = np.where(total > 0, above / total, np.nan)
    return rates[..., 0, :], rates[..., 1, :]


def precision_recall(histogram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Computes precision and recall, from the highest score to the lowest; see `roc`.

    Returns:
        Both [..., BINS]; the precision is 1 where nothing is above.
    """
    false, true = np.moveaxis(np.cumsum(histogram[..., ::-1], axis=-1), -2, 0)
    with np.errstate(invalid="ignore"):
        precision = np.where(false + true > 0, true / (false + true), 1.0)
        return precision, true / true[..., -1:]


def area_under_roc(histogram: np.ndarray) -> np.ndarray:
    """Computes the area under the ROC curve by trapezia, so that ties count half; [...]."""
    false, true = roc(histogram)
    return np.trapezoid(true, false, axis=-1)


def average_precision(histogram: np.ndarray) -> np.ndarray:
    """Computes sum_n (R_n - R_{n-1}) P_n over the pixels of the class, by falling score.

    The p pixels of the class in a bin and the n others count as evenly mixed: the j-th has
    j n / (p + 1) others before it. Where a bin has one kind alone that is exact.

    Args:
        histogram: See `roc`.

    Returns:
        [...]; NaN without a pixel of the class.
    """
    others, own = np.moveaxis(histogram[..., ::-1].astype(np.float64), -2, 0)
    false, true = (np.cumsum(part, axis=-1) - part for part in (others, own))
    # sum_{j=1}^{p} (T + j) / (T + F + j g) with g = 1 + n / (p + 1), by partial fractions.
    grow = 1 + others / (own + 1)
    begin = (true + false) / grow
    harmonic = digamma(own + 1 + begin) - digamma(1 + begin)
    area = (own + (true - begin) * harmonic) / grow
    total = own.sum(axis=-1)
    with np.errstate(invalid="ignore"):
        return np.where(total > 0, area.sum(axis=-1) / total, np.nan)


def sensitivity(histogram: np.ndarray, specificity: float) -> np.ndarray:
    """Computes the highest true positive rate at which the specificity is reached.

    Args:
        histogram: See `roc`.
        specificity: Least share of the pixels that are not of the class below the threshold.

    Returns:
        [...], between two bins linearly.
    """
    false, true = (part.reshape(-1, BINS + 1) for part in roc(histogram))
    most = 1 - specificity
    found = [
        # The last of equal rates has the highest true positive rate.
        np.nan if np.isnan(x).any() else _interpolate(most, x, y)
        for x, y in zip(false, true, strict=True)
    ]
    return np.array(found).reshape(histogram.shape[:-2])


def _interpolate(at: float, x: np.ndarray, y: np.ndarray) -> float:
    right = int(np.searchsorted(x, at, side="right"))
    if right == len(x):
        return float(y[-1])
    width = x[right] - x[right - 1]
    return float(y[right - 1] + (y[right] - y[right - 1]) * (at - x[right - 1]) / width)


@dataclasses.dataclass(frozen=True)
class Curves(Metric):
    """Areas under curves of each class against the rest, over all pixels of a split.

    "AUROC/NAME", "AP_pixels/NAME" the average precision, and "sensitivity@0.95/NAME" the
    sensitivity at a specificity of 0.95 (0.9, 0.99); without a name the mean over the classes that
    the split has, and has not everywhere. The score of a pixel is the log odds of the class; its
    `BINS` bins keep the areas within 1e-4 of those of the scores themselves, but where pixels are
    few or all scores within 0.1 of each other; see `place`.

    Attributes:
        class_names: K names.
        classes: Ids; () for all, but for the first where a pixel has one class: the background.
    """

    class_names: tuple[str, ...]
    classes: tuple[int, ...] = ()
    on_device: ClassVar[bool] = True
    axes: ClassVar[Mapping[str, tuple[int, ...]]] = {"histogram": (K, 2, BINS)}

    def count(self, outcome: Outcome) -> dict[str, jax.Array]:
        """Counts the pixels of each class, kind and bin, int32 [B, K, 2, BINS]; see `Metric`."""
        bins, weight = place(outcome.task.log_odds(outcome.logits)), outcome.weight
        number, label = len(self.class_names), outcome.label
        by_class = label.ndim == bins.ndim
        wide = np.arange(number).reshape(*(1,) * (bins.ndim - 1), number)
        truth = label > 0 if by_class else label[..., None] == wide
        weight = weight if weight.ndim == bins.ndim else weight[..., None]
        chosen = self.classes or range(0 if by_class else 1, number)
        counts = jnp.broadcast_to((weight > 0) & np.isin(wide, list(chosen)), bins.shape)
        places = (wide * 2 + truth.astype(jnp.int32)) * BINS + bins

        def one(where: jax.Array, how_often: jax.Array) -> jax.Array:
            zeros = jnp.zeros(number * 2 * BINS, jnp.int32)
            return zeros.at[where.ravel()].add(how_often.ravel().astype(jnp.int32))

        return {"histogram": jax.vmap(one)(places, counts).reshape(-1, number, 2, BINS)}

    def kinds(self) -> dict[str, Kind]:
        """Returns the names of the scores; see `Metric`."""
        names = ["AUROC", "AP_pixels", *(f"sensitivity@{s}" for s in SPECIFICITIES)]
        of_classes = [f"{name}/{own}" for name in names for own in self.class_names]
        return dict.fromkeys([*names, *of_classes], SHARE)

    def ratio(self, name: str, counts: Counts) -> Function:
        """Returns what a score is computed from; see `Metric`."""
        measured, _, class_name = name.partition("/")
        kind, _, at = measured.partition("@")
        chosen = [self.class_names.index(class_name)] if class_name else slice(None)
        histogram = counts["histogram"][..., chosen, :, :]
        classes = histogram.shape[-3]

        def of(sums: np.ndarray) -> np.ndarray:
            both = sums.reshape(*sums.shape[:-1], classes, 2, BINS)
            if kind == "AUROC":
                each = area_under_roc(both)
            elif kind == "AP_pixels":
                each = np.where(both[..., 0, :].any(axis=-1), average_precision(both), np.nan)
            else:
                each = sensitivity(both, float(at))
            known = ~np.isnan(each)
            total = np.where(known, each, 0).sum(axis=-1)
            return np.where(known.any(axis=-1), total / np.maximum(known.sum(axis=-1), 1), np.nan)

        flat = histogram.reshape(*histogram.shape[:-3], -1)
        both_kinds = histogram.any(axis=-1).all(axis=-1)
        return Function(flat, of, np.any(both_kinds, axis=-1, keepdims=True))


def check_curves(values: Mapping[str, Any], num_classes: int) -> None:
    """Checks the arguments of `Curves`, by name.

    Raises:
        UserError: One does not fit.
    """
    check_classes("config.eval.metrics.curves", values["classes"], num_classes)
