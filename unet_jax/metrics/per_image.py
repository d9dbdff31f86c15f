"""Overlap of each image alone, averaged over images, on the device."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from unet_jax.metrics.base import SHARE, K, Kind, Outcome
from unet_jax.metrics.regions import OverImages, check_classes


@dataclasses.dataclass(frozen=True)
class PerImage(OverImages):
    """Means over images of each image's own overlap: "image_IoU/NAME" and "image_Dice/NAME".

    "image_IoU" and "image_Dice" are their means over the classes. The scores of every evaluation,
    such as "IoU/NAME", are of the pixels of all images together, where large structures weigh more;
    here each image that has the class weighs the same. One where it is missed, or invented, has 0;
    one where it truly is not, nor predicted, has none.

    Attributes:
        classes: Ids; () for all, but for the first where a pixel has one class: the background.
    """

    classes: tuple[int, ...] = ()
    on_device: ClassVar[bool] = True
    axes: ClassVar[Mapping[str, tuple[int, ...]]] = {
        **dict.fromkeys(("image_IoU", "image_Dice", "images"), (K,))
    }
    measured: ClassVar[Mapping[str, Kind]] = dict.fromkeys(("image_IoU", "image_Dice"), SHARE)

    def count(self, outcome: Outcome) -> dict[str, jax.Array]:
        """Computes both of every image and class, float32 [B, K]; see `Metric`."""
        number, axes = len(self.class_names), outcome.logits.ndim - 1
        by_class = outcome.label.ndim > axes
        chosen = self.classes or range(0 if by_class else 1, number)

        def add(k: int) -> jax.Array:
            """Sums the pixels of the truth, the prediction and both, int32 [B, 3]."""
            truth, guess = (
                x[..., k] > 0 if by_class else x == k for x in (outcome.label, outcome.decision)
            )
            weight = outcome.weight[..., k] if outcome.weight.ndim > axes else outcome.weight
            masks = (mask & (weight > 0) for mask in (truth, guess, truth & guess))
            pixels = tuple(range(1, axes))
            return jnp.stack([jnp.sum(x, axis=pixels, dtype=jnp.int32) for x in masks], axis=-1)

        none = jnp.zeros((outcome.label.shape[0], 3), jnp.int32)
        sums = jnp.stack([add(k) if k in chosen else none for k in range(number)], axis=1)
        total, both = sums[..., 0] + sums[..., 1], sums[..., 2]
        return {
            "image_IoU": both / jnp.maximum(total - both, 1),
            "image_Dice": 2 * both / jnp.maximum(total, 1),
            "images": (total > 0).astype(jnp.int32),
        }


def check_per_image(values: Mapping[str, Any], num_classes: int) -> None:
    """Checks the arguments of `PerImage`, by name.

    Raises:
        UserError: A class is none.
    """
    check_classes("config.eval.metrics.per_image", values["classes"], num_classes)
