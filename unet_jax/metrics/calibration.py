"""Whether probabilities are right: calibration error, Brier score, and the best temperature."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from unet_jax.config import check_range
from unet_jax.metrics.base import SHARE, Counts, Function, Kind, Metric, Outcome, Ratio

BINS = 15
TEMPERATURES = np.geomspace(1 / 8, 8, 33)
_FAULT = SHARE._replace(higher_is_better=False)
_POSITIVE = Kind(high=np.inf, higher_is_better=False)


@dataclasses.dataclass(frozen=True)
class Calibration(Metric):
    """How far confidence is from accuracy, over all elements of a split.

    The confidence of a pixel is the probability of the class that it is given; of a class that may
    overlap others, that of being or not being, whichever is decided. In `BINS` bins b of equal
    width, [0, 1/15) to [14/15, 1], with n_b elements of the mean confidence c_b, of which the share
    a_b is right (Guo et al., 2017, eq. 3 and 5):

    "ECE" is the expected calibration error, sum_b n_b / n times the distance of a_b and c_b, "MCE"
    the maximal one, the largest distance of a bin. "Brier" is the mean of sum_k (p_k - y_k)^2 over
    pixels (Brier, 1950), from 0 to 2, or of overlapping classes of (p - y)^2, up to 1. The
    negative log-likelihood is the score "cross_entropy"; "scaled_cross_entropy" is what it would be
    at the best "temperature", by which logits are divided (Guo et al., 2017, section 4.2): of
    `TEMPERATURES`, and between them by a parabola in the logarithm. It is fitted on val, and what
    other splits are scored with.

    Attributes:
        class_names: K names.
        temperature: What logits are divided by for all scores but the last two; 0.0 for the one
            that is fitted on val, where itself it is then 1.
    """

    class_names: tuple[str, ...]
    temperature: float = 0.0
    on_device: ClassVar[bool] = True
    axes: ClassVar[Mapping[str, tuple[int, ...]]] = {
        **dict.fromkeys(("elements", "confidence", "right"), (BINS,)),
        "brier": (),
        "loss": (len(TEMPERATURES),),
    }

    def count(self, outcome: Outcome) -> dict[str, jax.Array]:
        """Sums by image and bin, and losses by temperature, float32 and int32; see `Metric`."""
        task, logits, label = outcome.task, outcome.logits, outcome.label
        overlap, weight = label.ndim == logits.ndim, outcome.weight
        probability = task.probability(logits / (self.temperature or 1.0))
        truth = (label if overlap else task.target(label)).astype(jnp.float32)
        error, confidence = (probability - truth) ** 2, jnp.maximum(probability, 1 - probability)
        if overlap and weight.ndim < label.ndim:  # each class is an element
            weight = weight[..., None]
        elif not overlap:
            error, confidence = error.sum(axis=-1), probability.max(axis=-1)
        right = outcome.decision == label
        counts = jnp.broadcast_to(weight > 0, confidence.shape)
        pixels = tuple(range(1, counts.ndim))
        bins = jnp.clip(jnp.floor(confidence * BINS), 0, BINS - 1)

        def add(values: jax.Array) -> jax.Array:
            """Sums by bin, [B, BINS]."""

            def one(b: jax.Array) -> jax.Array:
                return jnp.sum(jnp.where(counts & (bins == b), values, 0), axis=pixels)

            return jax.vmap(one)(jnp.arange(BINS)).T

        def loss(temperature: jax.Array) -> jax.Array:
            scaled = logits / temperature
            if overlap:
                each = jnp.logaddexp(0, scaled) - truth * scaled
            else:
                each = task.cross_entropy(scaled, label)
            return jnp.sum(jnp.where(counts, each, 0), axis=pixels)

        return {
            "elements": add(jnp.int32(1)),
            "confidence": add(confidence),
            "right": add(right.astype(jnp.int32)),
            "brier": jnp.sum(jnp.where(counts, error, 0), axis=pixels),
            "loss": jax.lax.map(loss, jnp.asarray(TEMPERATURES, jnp.float32)).T,
        }

    def kinds(self) -> dict[str, Kind]:
        """Returns the names of the scores; see `Metric`."""
        return {
            "ECE": _FAULT,
            "MCE": _FAULT,
            "Brier": _FAULT._replace(high=2.0),
            "scaled_cross_entropy": _POSITIVE,
            "temperature": Kind(TEMPERATURES[0], TEMPERATURES[-1], higher_is_better=False),
        }

    def ratio(self, name: str, counts: Counts) -> Ratio | Function:
        """Returns what a score is computed from; see `Metric`."""
        elements = counts["elements"]
        total = elements.sum(axis=-1, keepdims=True)
        if name == "Brier":
            return Ratio(counts["brier"][..., None], total, total)
        if name in ("temperature", "scaled_cross_entropy"):
            return Function(np.concatenate([counts["loss"], total], axis=-1), _FIT[name], total)
        parts = [counts["confidence"], counts["right"], elements]
        return Function(np.concatenate(parts, axis=-1), _OF_BINS[name], total)


def reliability(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Computes what a reliability diagram shows.

    Args:
        sums: [..., 3 BINS], of the confidence, of what is right, and of the elements, by bin.

    Returns:
        The mean confidence and the accuracy of every bin, [..., BINS], 0 where it is empty, and the
        share of the elements that is in it.
    """
    confidence, right, elements = np.split(sums, 3, axis=-1)
    there = np.maximum(elements, 1e-300)
    total = np.maximum(elements.sum(axis=-1, keepdims=True), 1e-300)
    return confidence / there, right / there, elements / total


def _expected(sums: np.ndarray) -> np.ndarray:
    confidence, accuracy, share = reliability(sums)
    return (np.abs(confidence - accuracy) * share).sum(axis=-1)


def _maximal(sums: np.ndarray) -> np.ndarray:
    confidence, accuracy, _ = reliability(sums)
    return np.abs(confidence - accuracy).max(axis=-1)


def _temperature(sums: np.ndarray) -> np.ndarray:
    # Rounding may lead beyond the ends.
    return np.clip(np.exp(_minimum(sums)[0]), TEMPERATURES[0], TEMPERATURES[-1])


def _scaled(sums: np.ndarray) -> np.ndarray:
    return _minimum(sums)[1] / np.maximum(sums[..., -1], 1e-300)


def _minimum(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Finds the logarithm of the best temperature and the sum of losses there, [...] each."""
    losses, grid = sums[..., :-1], np.log(TEMPERATURES)
    middle = np.clip(losses.argmin(axis=-1), 1, len(grid) - 2)
    left, centre, right = (
        np.take_along_axis(losses, (middle + step)[..., None], axis=-1)[..., 0]
        for step in (-1, 0, 1)
    )
    bend = np.maximum(left - 2 * centre + right, 1e-300)
    shift = np.clip((left - right) / (2 * bend), -1, 1)
    return grid[middle] + shift * (grid[1] - grid[0]), centre + shift * (
        (right - left) / 2 + shift * bend / 2
    )


_OF_BINS = {"ECE": _expected, "MCE": _maximal}
_FIT = {"temperature": _temperature, "scaled_cross_entropy": _scaled}


def check_calibration(values: Mapping[str, Any], num_classes: int) -> None:
    """Checks the arguments of `Calibration`, by name.

    Raises:
        UserError: The temperature is out of range.
    """
    key = "config.eval.metrics.calibration.temperature"
    if values["temperature"]:  # not that of val
        check_range(key, values["temperature"], TEMPERATURES[0], TEMPERATURES[-1])
