"""How much of objects is found, by their size, on the host."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from unet_jax.config import choose
from unet_jax.metrics.base import SHARE, Counts, K, Kind, Outcome, Ratio
from unet_jax.metrics.regions import CONNECTIVITY, OverImages, check_classes, regions, true_objects

SIZES = tuple(4**power for power in range(10))
"""The least size of the objects of each bin, in pixels; those of the last bin have no upper end."""


@dataclasses.dataclass(frozen=True)
class Sizes(OverImages):
    """The share of true objects that is found, in the mean over objects of a size.

    Of an object it is the share of its pixels that are given its class. "size_recall@16/NAME" is
    the mean over the objects of a class of 16 to 63 pixels, and so on for sizes that begin at 1, 4,
    16 to 262,144; "size_recall/NAME" that over all objects of the class, each of which weighs the
    same; without a name the mean over the classes. The size of an object is how many of its pixels
    count.

    A true object is one number of the data's instances where these tell them apart
    (config.data.folder.instances), and else a connected component of the class.

    Attributes:
        connectivity: Which pixels of a component are beside each other: "sides" (4 in 2-D, 6 in
            3-D) or "corners" (8, 26).
        classes: Ids; () for all, but for the first where a pixel has one class: the background.
    """

    connectivity: str = "sides"
    classes: tuple[int, ...] = ()
    axes: ClassVar[Mapping[str, tuple[int, ...]]] = {
        **dict.fromkeys(("objects", "shares"), (K, len(SIZES)))
    }
    measured: ClassVar[Mapping[str, Kind]] = {
        "size_recall": SHARE,
        **{f"size_recall@{size}": SHARE for size in SIZES},
    }

    def count(self, outcome: Outcome) -> dict[str, Any]:
        """Counts the objects of one image, and adds up their shares, [1, K, 10]; see `Metric`."""
        classes = len(self.class_names)
        found = {name: np.zeros((1, classes, len(SIZES))) for name in self.axes}
        for k, truth, guess, _ in regions(outcome, classes, self.classes):
            numbers = true_objects(truth, outcome, self.connectivity)
            there = numbers > 0
            own = numbers[there] - 1
            if outcome.objects is not None:  # any numbers; sorting them takes its time
                own = np.unique(own, return_inverse=True)[1]
            sizes, right = np.bincount(own), np.bincount(own, guess[there])
            bins = np.searchsorted(SIZES, sizes, "right") - 1
            found["objects"][0, k] = np.bincount(bins, minlength=len(SIZES))
            found["shares"][0, k] = np.bincount(bins, right / sizes, len(SIZES))
        return found

    def ratio(self, name: str, counts: Counts) -> Ratio:
        """Returns what a score is computed from; see `Metric`."""
        measured, _, class_name = name.partition("/")
        _, _, size = measured.partition("@")
        chosen = [SIZES.index(int(size))] if size else slice(None)
        shares, objects = (counts[own][..., chosen].sum(axis=-1) for own in ("shares", "objects"))
        return self.of_class(Ratio(shares, objects, objects), class_name)


def check_sizes(values: Mapping[str, Any], num_classes: int) -> None:
    """Checks the arguments of `Sizes`, by name.

    Raises:
        UserError: One does not fit.
    """
    key = "config.eval.metrics.sizes"
    choose(CONNECTIVITY, f"{key}.connectivity", values["connectivity"])
    check_classes(key, values["classes"], num_classes)
