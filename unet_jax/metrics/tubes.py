"""Overlap of centre lines, for vessels, roads and other tubes, on the host."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from unet_jax.errors import UserError
from unet_jax.metrics.base import SHARE, K, Kind, Outcome
from unet_jax.metrics.regions import OverImages, check_classes, regions


def cldice(truth: np.ndarray, guess: np.ndarray) -> float:
    """Computes clDice (Shit et al., 2021, section 3, eq. 1 and 2) of two masks.

    2 T_prec T_sens / (T_prec + T_sens), where T_prec is the share of the skeleton of B that is in
    A, and T_sens that of the skeleton of A that is in B. The skeletons are those of scikit-image:
    of Zhang and Suen (1984) in 2-D, of Lee et al. (1994) in 3-D. Where that leaves nothing, as of
    some squares of 2 x 2 pixels and columns at a border, the mask is its own skeleton.

    Args:
        truth: A, bool [*n].
        guess: B, likewise; not both are empty.

    Returns:
        From 0 to 1; 0 where one is empty.
    """
    if not (truth.any() and guess.any()):
        return 0.0
    line, guessed = _line(truth), _line(guess)
    precision = (guessed & truth).sum() / guessed.sum()
    sensitivity = (line & guess).sum() / line.sum()
    total = precision + sensitivity
    return float(2 * precision * sensitivity / total) if total else 0.0


def _line(mask: np.ndarray) -> np.ndarray:
    found = skeletonize(mask)
    return found if found.any() else mask


def skeletonize(mask: np.ndarray) -> np.ndarray:
    """Returns the skeleton of a mask, bool [*n], of scikit-image.

    Raises:
        UserError: It is missing.
    """
    try:
        from skimage import morphology
    except ImportError:
        raise UserError(
            "config.eval.metrics.cldice and segments need scikit-image: pip install "
            "'unet-jax[metrics]', or leave these metrics out."
        ) from None
    return np.asarray(morphology.skeletonize(mask)) > 0


@dataclasses.dataclass(frozen=True)
class ClDice(OverImages):
    """clDice: "clDice/NAME" of every class, the mean over images, and "clDice" over classes.

    A structure that is missed, or invented, has 0; an image where it truly is not, nor predicted,
    has none.

    Attributes:
        classes: Ids; () for all, but for the first where a pixel has one class: the background.
    """

    classes: tuple[int, ...] = ()
    axes: ClassVar[Mapping[str, tuple[int, ...]]] = {"clDice": (K,), "images": (K,)}
    measured: ClassVar[Mapping[str, Kind]] = {"clDice": SHARE}

    def count(self, outcome: Outcome) -> dict[str, Any]:
        """Computes that of one image, float64 [1, K]; see `Metric`."""
        found = {name: np.zeros((1, len(self.class_names))) for name in self.axes}
        for k, truth, guess, _ in regions(outcome, len(self.class_names), self.classes):
            if truth.any() or guess.any():
                found["clDice"][0, k], found["images"][0, k] = cldice(truth, guess), 1
        return found


def check_cldice(values: Mapping[str, Any], num_classes: int) -> None:
    """Checks the arguments of `ClDice`, by name.

    Raises:
        UserError: scikit-image is missing, or a class is none.
    """
    skeletonize(np.zeros((1, 1), bool))
    check_classes("config.eval.metrics.cldice", values["classes"], num_classes)
