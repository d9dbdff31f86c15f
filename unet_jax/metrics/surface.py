"""Distances between the surfaces of classes, exact, on the host."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
from scipy import ndimage

from unet_jax.config import check_range, choose
from unet_jax.metrics.base import SHARE, Counts, K, Kind, Outcome, Ratio
from unet_jax.metrics.regions import OverImages, check_classes, regions

_LENGTH = Kind(high=np.inf, higher_is_better=False)
_FAULT = Kind(higher_is_better=False)
_MEASURED = ("HD", "HD95", "ASSD", "NSD")


class Distances(NamedTuple):
    """From every surface pixel of one mask to the nearest of another, both ways; see `distances`.

    Attributes:
        forth: [n], from the first mask's.
        back: [m], from the second's.
    """

    forth: np.ndarray
    back: np.ndarray

    def percentile(self, percent: float) -> float:
        """Returns the larger one of both ways' percentiles, between two values linearly."""
        return float(max(np.percentile(self.forth, percent), np.percentile(self.back, percent)))

    def mean(self) -> float:
        """Returns the mean over the surface pixels of both."""
        return float(np.concatenate(self).mean())

    def within(self, tolerance: float) -> float:
        """Returns the share of the surface pixels of both that are so near, or nearer."""
        return float(np.mean(np.concatenate(self) <= tolerance))


def surface(mask: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Finds the pixels of a mask that are on its surface.

    These have a neighbour across a side (4 in 2-D, 6 in 3-D) that is not of the mask, or lies
    outside the image. A pixel that does not count is no reason to be on a surface.

    Args:
        mask: bool [*n], False where a pixel does not count.
        counts: bool [*n].

    Returns:
        bool [*n].
    """
    return mask & ~ndimage.binary_erosion(mask | ~counts)


def distances(first: np.ndarray, second: np.ndarray, sides: tuple[float, ...]) -> Distances:
    """Measures between the centres of surface pixels.

    Args:
        first: bool [*n], surface pixels of a mask, one or more.
        second: Likewise.
        sides: Lengths of a pixel's sides.

    Returns:
        The distances.
    """
    transform: Any = ndimage.distance_transform_edt
    to_first, to_second = (transform(~pixels, sampling=sides) for pixels in (first, second))
    return Distances(to_second[first], to_first[second])


@dataclasses.dataclass(frozen=True)
class Surface(OverImages):
    """Distances between true and predicted surfaces: means over images of what each image has.

    "HD" is the Hausdorff distance, the largest of all d(a, B) and d(b, A) over the surface pixels a
    of the truth A and b of the prediction B, ``d(a, B) = min_b |a - b|``; "HD95" the larger one of
    the 95th percentiles of d(a, B) and of d(b, A); "ASSD" the mean of all of them together; "NSD"
    the normalised surface Dice (Nikolov et al., 2018), the share of them up to a tolerance;
    each also of a class, "HD95/NAME". What a surface is, says `surface`; its pixels weigh the same.

    A structure that is missed, or invented, has the distance of the image's diagonal, and NSD 0; an
    image where it truly is not, nor predicted, has none. "missed/NAME" is the share of such images
    among those that have the structure, "invented/NAME" among those that have not.

    Attributes:
        tolerance: Of the NSD, 0 or more, in these units.
        units: "spacing" for that of the data, such as mm, where a file tells it, or "pixels".
        classes: Ids; () for all, but for the first where a pixel has one class: the background.
    """

    tolerance: float = 2.0
    units: str = "spacing"
    classes: tuple[int, ...] = ()
    axes: ClassVar[Mapping[str, tuple[int, ...]]] = {
        **dict.fromkeys((*_MEASURED, "images", "missed", "invented", "true", "other"), (K,))
    }
    measured: ClassVar[Mapping[str, Kind]] = {
        **dict.fromkeys(("HD", "HD95", "ASSD"), _LENGTH),
        "NSD": SHARE,
        **dict.fromkeys(("missed", "invented"), _FAULT),
    }

    def count(self, outcome: Outcome) -> dict[str, Any]:
        """Measures one image, float64 [1, K], and counts what is there; see `Metric`."""
        found = {name: np.zeros((1, len(self.class_names))) for name in self.axes}
        sides = outcome.spacing if self.units == "spacing" else (1.0,) * len(outcome.spacing)
        for k, truth, guess, counts in regions(outcome, len(self.class_names), self.classes):
            first, second = surface(truth, counts), surface(guess, counts)
            is_there, is_guessed = first.any(), second.any()
            own = {"true": is_there, "other": not is_there, "images": is_there or is_guessed}
            own |= {"missed": is_there and not is_guessed, "invented": is_guessed and not is_there}
            if is_there and is_guessed:
                apart = distances(first, second, sides)
                own |= {"HD": apart.percentile(100), "HD95": apart.percentile(95)}
                own |= {"ASSD": apart.mean(), "NSD": apart.within(self.tolerance)}
            elif own["images"]:
                diagonal = float(np.hypot.reduce(np.multiply(truth.shape, sides)))
                own |= dict.fromkeys(("HD", "HD95", "ASSD"), diagonal)
            for name, value in own.items():
                found[name][0, k] = value
        return found

    def ratio(self, name: str, counts: Counts) -> Ratio:
        """Returns what a score is computed from; see `Metric`."""
        kind, _, class_name = name.partition("/")
        among = {"missed": "true", "invented": "other"}.get(kind, "images")
        return self.of_class(Ratio(counts[kind], counts[among], counts[among]), class_name)


def check_surface(values: Mapping[str, Any], num_classes: int) -> None:
    """Checks the arguments of `Surface`, by name.

    Raises:
        UserError: One does not fit.
    """
    key = "config.eval.metrics.surface"
    check_range(f"{key}.tolerance", values["tolerance"], 0)
    choose({"spacing": 0, "pixels": 0}, f"{key}.units", values["units"])
    check_classes(key, values["classes"], num_classes)
