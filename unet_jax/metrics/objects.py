"""Objects of classes, found or not, on the host: precision to panoptic quality."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np

from unet_jax.config import choose
from unet_jax.metrics.base import SHARE, Counts, K, Kind, Outcome, Ratio
from unet_jax.metrics.regions import (
    CONNECTIVITY,
    OverImages,
    check_classes,
    components,
    regions,
    true_objects,
)

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)
_T = len(THRESHOLDS)
_OF_COUNTS = ("precision", "recall", "F1", "AP")


class Pairs(NamedTuple):
    """Objects that share pixels, each pair once; see `pair`.

    Attributes:
        both: Pixels that they share, [P].
        truth: Number of the true one among the true objects, [P].
        guess: Number of the predicted one, [P].
        true_sizes: Pixels of every true object, one or more.
        guessed_sizes: Likewise.
    """

    both: np.ndarray
    truth: np.ndarray
    guess: np.ndarray
    true_sizes: np.ndarray
    guessed_sizes: np.ndarray

    @property
    def iou(self) -> np.ndarray:
        """Returns the overlap of every pair, [P], in (0, 1]."""
        either = self.true_sizes[self.truth] + self.guessed_sizes[self.guess] - self.both
        return self.both / either


def pair(truth: np.ndarray, guess: np.ndarray) -> Pairs:
    """Finds the objects that share pixels.

    Args:
        truth: Integers [*n], the number of a pixel's object, 0 for none; any numbers.
        guess: Likewise.

    Returns:
        The pairs.
    """
    numbers, sizes, ids = [], [], []
    for objects in (truth, guess):
        found, place, count = np.unique(objects, return_inverse=True, return_counts=True)
        is_none = int(found.size > 0 and found[0] == 0)
        ids.append(place.reshape(-1) - is_none)
        sizes.append(count[is_none:])
        numbers.append(len(count) - is_none)
    shared = (ids[0] >= 0) & (ids[1] >= 0)
    places, both = np.unique(ids[0][shared] * numbers[1] + ids[1][shared], return_counts=True)
    width = max(1, numbers[1])
    return Pairs(both, places // width, places % width, *sizes)


def matches(pairs: Pairs, threshold: float) -> int:
    """Counts the matches of a largest one-to-one matching of objects by their overlap.

    Args:
        pairs: The pairs.
        threshold: Least IoU of a pair, 0.5 or more.

    Returns:
        How many there are. Above 0.5 an object has one partner at most (Kirillov et al., 2019,
        theorem 1). At 0.5 it may have two, its halves, and they have no other: of a forest of such
        stars the matches are its nodes less its edges.
    """
    close = pairs.iou >= threshold
    nodes = len(np.unique(pairs.truth[close])) + len(np.unique(pairs.guess[close]))
    return nodes - int(close.sum())


@dataclasses.dataclass(frozen=True)
class Objects(OverImages):
    """True and predicted objects, from sums over images of TP, FP and FN.

    A true object is one number of the data's instances where these tell them apart
    (config.data.folder.instances), and else a connected component of the class; a predicted one is
    a component of the predicted class. A pair is found at a threshold t if its IoU is t or more,
    one to one. For t of 0.5, 0.6 to 0.9, as "AP@0.5/NAME" and, over the classes, "AP@0.5":
    "precision" TP / (TP + FP), which has no value where nothing is predicted, "recall" TP / (TP +
    FN), "F1" 2 TP / (2 TP + FP + FN), and "AP" TP / (TP + FP + FN), as the Data Science Bowl of
    2018 (Caicedo et al., 2019) and StarDist (Schmidt et al., 2018) have it, which is no area under
    a curve as that of COCO is; "AP" is its mean over t.

    "PQ" is the panoptic quality (Kirillov et al., 2019, eq. 1), the sum of the IoU of pairs of more
    than 0.5 by TP + FP / 2 + FN / 2. "SEG" is that of the Cell Tracking Challenge (Maska et al.,
    2014): the mean over true objects of the IoU with the predicted object that has more than half
    of its pixels, 0 where none has.

    What is missed is a FN and what is invented a FP, also in an image without any true object.

    Attributes:
        connectivity: Which pixels of a component are beside each other: "sides" (4 in 2-D, 6 in
            3-D) or "corners" (8, 26).
        classes: Ids; () for all, but for the first where a pixel has one class: the background.
    """

    connectivity: str = "sides"
    classes: tuple[int, ...] = ()
    axes: ClassVar[Mapping[str, tuple[int, ...]]] = {
        "matched": (K, _T),
        **dict.fromkeys(("true", "guessed", "quality", "paired", "seg"), (K,)),
    }
    measured: ClassVar[Mapping[str, Kind]] = {
        **{f"{name}@{t}": SHARE for name in _OF_COUNTS for t in THRESHOLDS},
        **dict.fromkeys(("AP", "PQ", "SEG"), SHARE),
    }

    def count(self, outcome: Outcome) -> dict[str, Any]:
        """Counts the objects of one image, [1, K, ...]; see `Metric`."""
        classes = len(self.class_names)
        found = {
            name: np.zeros((1, *(axis or classes for axis in axes)))
            for name, axes in self.axes.items()
        }
        for k, truth, guess, _ in regions(outcome, classes, self.classes):
            own = true_objects(truth, outcome, self.connectivity)
            pairs = pair(own, components(guess, self.connectivity))
            iou, most = pairs.iou, pairs.both > pairs.true_sizes[pairs.truth] / 2
            found["matched"][0, k] = [matches(pairs, t) for t in THRESHOLDS]
            found["true"][0, k] = len(pairs.true_sizes)
            found["guessed"][0, k] = len(pairs.guessed_sizes)
            found["quality"][0, k] = iou[iou > 0.5].sum()
            found["paired"][0, k] = (iou > 0.5).sum()
            found["seg"][0, k] = iou[most].sum()
        return found

    def ratio(self, name: str, counts: Counts) -> Ratio:
        """Returns what a score is computed from; see `Metric`."""
        measured, _, class_name = name.partition("/")
        kind, _, threshold = measured.partition("@")
        true, guessed = counts["true"], counts["guessed"]
        both = true + guessed
        if kind == "SEG":
            ratio = Ratio(counts["seg"], true, true)
        elif kind == "PQ":
            ratio = Ratio(2 * counts["quality"], both, both)
        elif not threshold:
            return self._mean_ap(counts, class_name)
        else:
            hit = counts["matched"][..., THRESHOLDS.index(float(threshold))]
            ratio = {
                "precision": Ratio(hit, guessed, guessed),
                "recall": Ratio(hit, true, true),
                "F1": Ratio(2 * hit, both, both),
                "AP": Ratio(hit, both - hit, both),
            }[kind]
        return self.of_class(ratio, class_name)

    def _mean_ap(self, counts: Counts, class_name: str) -> Ratio:
        """Returns AP by class and threshold, all of which are as present as the class is."""
        chosen = [self.class_names.index(class_name)] if class_name else slice(None)
        hit = counts["matched"][..., chosen, :]
        both = (counts["true"] + counts["guessed"])[..., chosen, None] + 0 * hit
        flat = (*hit.shape[:-2], -1)
        return Ratio(*(part.reshape(flat) for part in (hit, both - hit, both)))


def check_objects(values: Mapping[str, Any], num_classes: int) -> None:
    """Checks the arguments of `Objects`, by name.

    Raises:
        UserError: One does not fit.
    """
    key = "config.eval.metrics.objects"
    choose(CONNECTIVITY, f"{key}.connectivity", values["connectivity"])
    check_classes(key, values["classes"], num_classes)
