"""Overlap near the borders of classes, exact, on the host."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from scipy import ndimage

from unet_jax.config import check_range
from unet_jax.metrics.base import SHARE, Counts, K, Kind, Outcome, Ratio
from unet_jax.metrics.regions import OverImages, check_classes, regions


def band(mask: np.ndarray, counts: np.ndarray, width: int) -> np.ndarray:
    """Finds the pixels of a mask that are near its border, or that of the image.

    What is left when the mask was eroded `width` times by all neighbours (8 in 2-D, 26 in 3-D) is
    not; a pixel that does not count makes no border.

    Args:
        mask: bool [*n], False where a pixel does not count.
        counts: bool [*n].
        width: In pixels, 1 or more.

    Returns:
        bool [*n].
    """
    inside = np.pad(mask | ~counts, 1)
    # How many erosions a pixel lasts is its distance to the border by steps to any neighbour.
    steps: Any = ndimage.distance_transform_cdt(inside, "chessboard")
    return mask & (steps[(slice(1, -1),) * mask.ndim] <= width)


@dataclasses.dataclass(frozen=True)
class Boundary(OverImages):
    """Boundary IoU (Cheng et al., 2021): that of the bands of width d along both borders.

    "boundary_IoU/NAME" of every class from the sums over images of both, and "boundary_IoU", the
    mean over the classes that the truth has. The band is that of the authors' code; see `band`.

    Attributes:
        width: d as a share of the image's diagonal, rounded to pixels, at least 1.
        classes: Ids; () for all, but for the first where a pixel has one class: the background.
    """

    width: float = 0.02
    classes: tuple[int, ...] = ()
    axes: ClassVar[Mapping[str, tuple[int, ...]]] = {"both": (K,), "either": (K,), "true": (K,)}
    measured: ClassVar[Mapping[str, Kind]] = {"boundary_IoU": SHARE}

    def count(self, outcome: Outcome) -> dict[str, Any]:
        """Counts the pixels of the bands in one image, int64 [1, K]; see `Metric`."""
        found = {name: np.zeros((1, len(self.class_names)), np.int64) for name in self.axes}
        for k, truth, guess, counts in regions(outcome, len(self.class_names), self.classes):
            width = max(1, round(self.width * float(np.hypot.reduce(truth.shape))))
            first, second = band(truth, counts, width), band(guess, counts, width)
            found["both"][0, k] = np.sum(first & second)
            found["either"][0, k] = np.sum(first | second)
            found["true"][0, k] = np.sum(first)
        return found

    def ratio(self, name: str, counts: Counts) -> Ratio:
        """Returns what a score is computed from; see `Metric`."""
        _, _, class_name = name.partition("/")
        return self.of_class(Ratio(counts["both"], counts["either"], counts["true"]), class_name)


def check_boundary(values: Mapping[str, Any], num_classes: int) -> None:
    """Checks the arguments of `Boundary`, by name.

    Raises:
        UserError: One does not fit.
    """
    key = "config.eval.metrics.boundary"
    check_range(f"{key}.width", values["width"], 0, 1)
    check_classes(key, values["classes"], num_classes)
