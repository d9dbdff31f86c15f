"""What metrics on the host share: the regions of classes in one image, and means over images."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
from scipy import ndimage

from unet_jax.errors import UserError
from unet_jax.metrics.base import Counts, Kind, Metric, Outcome, Ratio

CONNECTIVITY = {"sides": (4, 6), "corners": (8, 26)}
"""By name, how many neighbours a pixel has in its component at most, in 2-D and in 3-D."""

BACKGROUND = "background"
"""A class of this name, in any case, is what objects stand out from, and has none itself."""


def object_classes(class_names: Sequence[str]) -> list[int]:
    """Returns the ids of the classes that have objects: all but the one called background."""
    return [k for k, name in enumerate(class_names) if name.casefold() != BACKGROUND]


class Region(NamedTuple):
    """Where a class is in one image.

    Attributes:
        index: Of the class.
        truth: bool [*n], False where a pixel does not count.
        guess: Likewise.
        counts: bool [*n], whether a pixel counts.
    """

    index: int
    truth: np.ndarray
    guess: np.ndarray
    counts: np.ndarray


def regions(outcome: Outcome, num_classes: int, classes: Sequence[int] = ()) -> Iterator[Region]:
    """Yields the regions of classes.

    Args:
        outcome: Of one image, on the host.
        num_classes: K.
        classes: Which ones; () for all, but for the first where a pixel has one class, which is the
            background.

    Yields:
        One for each class.
    """
    decision, label, weight = (np.asarray(x[0]) for x in outcome[2:5])
    by_class = decision.ndim > len(outcome.spacing)
    for k in classes or range(0 if by_class else 1, num_classes):
        guess, truth = (x[..., k] > 0 if by_class else x == k for x in (decision, label))
        counts = (weight[..., k] if weight.ndim > len(outcome.spacing) else weight) > 0
        yield Region(k, truth & counts, guess & counts, counts)


def components(mask: np.ndarray, connectivity: str) -> np.ndarray:
    """Numbers the connected components of a mask from 1 on.

    Args:
        mask: bool [*n].
        connectivity: A key of `CONNECTIVITY`.

    Returns:
        int [*n], 0 outside.
    """
    reach = mask.ndim if connectivity == "corners" else 1
    labelled: Any = ndimage.label(mask, ndimage.generate_binary_structure(mask.ndim, reach))
    return labelled[0]


def true_objects(truth: np.ndarray, outcome: Outcome, connectivity: str) -> np.ndarray:
    """Numbers the true objects of a class: those that the data number, or else its components.

    Args:
        truth: bool [*n].
        outcome: Of the image.
        connectivity: A key of `CONNECTIVITY`.

    Returns:
        Integers [*n], 0 outside.
    """
    if outcome.objects is not None:
        return np.where(truth, outcome.objects[0], 0)
    return components(truth, connectivity)


def check_classes(key: str, classes: Sequence[Any], num_classes: int) -> None:
    """Checks the classes that a metric is told.

    Args:
        key: Its section, such as "config.eval.metrics.surface".
        classes: What it is told.
        num_classes: K.

    Raises:
        UserError: They are not different ids.
    """
    are_ids = all(type(k) is int and 0 <= k < num_classes for k in classes)
    if not are_ids or len(set(classes)) < len(classes):
        raise UserError(
            f"{key}.classes={classes} must be different class ids from 0 to {num_classes - 1}, or "
            "() for all but the background."
        )


@dataclasses.dataclass(frozen=True)
class OverImages(Metric):
    """Scores "KIND/NAME" of classes that are means over images, and "KIND", the mean over these.

    A metric says in `measured` which kinds it has. Of each it counts, by class, the sum over images
    under the kind's name, and under "images" of how many images.

    Attributes:
        class_names: K names.
    """

    class_names: tuple[str, ...]
    on_device: ClassVar[bool] = False
    measured: ClassVar[Mapping[str, Kind]] = {}

    def kinds(self) -> dict[str, Kind]:
        """Returns the names of the scores; see `Metric`."""
        found = dict(self.measured)
        for name, kind in self.measured.items():
            found |= {f"{name}/{class_name}": kind for class_name in self.class_names}
        return found

    def ratio(self, name: str, counts: Counts) -> Ratio:
        """Returns what a score is computed from; see `Metric`."""
        kind, _, class_name = name.partition("/")
        return self.of_class(Ratio(counts[kind], counts["images"], counts["images"]), class_name)

    def of_class(self, ratio: Ratio, class_name: str) -> Ratio:
        """Returns the part of one class; all of them where it has no name."""
        if not class_name:
            return ratio
        k = self.class_names.index(class_name)
        return Ratio(*(part[..., k : k + 1] for part in ratio))
