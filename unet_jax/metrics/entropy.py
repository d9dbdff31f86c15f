"""Cross-entropy, summed by image."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from unet_jax.metrics.base import Counts, Kind, Metric, Outcome, Ratio


@dataclasses.dataclass(frozen=True)
class CrossEntropy(Metric):
    """The score "cross_entropy": the mean over the elements that count, 0 or more.

    What an element is, a pixel or a class of a pixel, says `Outcome`.
    """

    on_device: ClassVar[bool] = True
    axes: ClassVar[Mapping[str, tuple[int, ...]]] = {"loss": (), "elements": ()}

    def count(self, outcome: Outcome) -> dict[str, jax.Array]:
        """Sums losses, float32 [B], and counts what they are of, int32 [B]; see `Metric`."""
        loss, weight = outcome.loss, outcome.weight
        if weight.ndim < loss.ndim:
            weight = jnp.broadcast_to(weight[..., None], loss.shape)
        axes = tuple(range(1, loss.ndim))
        return {
            "loss": jnp.sum(loss * weight, axis=axes),
            "elements": jnp.sum(weight > 0, axis=axes, dtype=jnp.int32),
        }

    def kinds(self) -> dict[str, Kind]:
        """Returns the name of the score; see `Metric`."""
        return {"cross_entropy": Kind(high=np.inf, higher_is_better=False)}

    def ratio(self, name: str, counts: Counts) -> Ratio:
        """Returns what the score is computed from; see `Metric`."""
        elements = counts["elements"][..., None]
        return Ratio(counts["loss"][..., None], elements, elements)
