"""Overlap of prediction and truth, from counts that are exact integers until the last division."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unet_jax.metrics.base import SHARE, Counts, K, Kind, Metric, Outcome, Ratio
from unet_jax.metrics.names import MEANS, PIXEL_ACCURACY
from unet_jax.metrics.views import View, view_confusion

_OF_ALL = {
    "mIoU": SHARE._replace(heading="mIoU"),
    "mDice": SHARE._replace(heading="mDice"),
    PIXEL_ACCURACY: SHARE._replace(heading="pixel accuracy"),
    "mean_class_accuracy": SHARE,
}


class _Sums(NamedTuple):
    """Pixels of each class, [..., K], and of all, [...].

    Attributes:
        hit: Of the class and classified so.
        truth: Of the class.
        predicted: Classified so.
        right: Rightly classified, also those that rightly are not of a class; K or more numbers,
            which add up.
        total: All; likewise.
    """

    hit: np.ndarray
    truth: np.ndarray
    predicted: np.ndarray
    right: np.ndarray
    total: np.ndarray


def _kinds(class_names: tuple[str, ...]) -> dict[str, Kind]:
    return _OF_ALL | {f"{kind}/{name}": SHARE for kind in MEANS for name in class_names}


def _ratio(name: str, class_names: tuple[str, ...], sums: _Sums) -> Ratio:
    """Computes what a score is made of (Long et al., 2015, section 5).

    With n_ij pixels of class i predicted as j: IoU_i = n_ii / (sum_j n_ij + sum_j n_ji - n_ii),
    Dice_i = 2 n_ii / (sum_j n_ij + sum_j n_ji), accuracy_i = n_ii / sum_j n_ij. A class without a
    true pixel is absent: it is left out of the means and has no score of its own; pixels wrongly
    given to it count against the classes they truly have.
    """
    if name == PIXEL_ACCURACY:
        total = sums.total.sum(axis=-1, keepdims=True)
        return Ratio(sums.right.sum(axis=-1, keepdims=True), total, total)
    kind, _, class_name = name.partition("/")
    kind = next((kind for kind, mean in MEANS.items() if mean == name), kind)
    hit, truth, predicted, _, _ = sums
    if kind == "IoU":
        ratio = Ratio(hit, truth + predicted - hit, truth)
    elif kind == "Dice":
        ratio = Ratio(2 * hit, truth + predicted, truth)
    else:
        ratio = Ratio(hit, truth, truth)
    if not class_name:
        return ratio
    k = class_names.index(class_name)
    return Ratio(*(part[..., k : k + 1] for part in ratio))


@dataclasses.dataclass(frozen=True)
class Overlap(Metric):
    """Overlap of classes that exclude each other: scores of the confusion matrix.

    "mIoU", "mDice", "pixel_accuracy", "mean_class_accuracy", and "IoU/NAME", "Dice/NAME" and
    "accuracy/NAME" of every class, all micro averages over the pixels of a split, in [0, 1]; of
    every view the same, after its name and a "/".

    Attributes:
        class_names: K names.
        views: Other ways to count the same predictions.
    """

    class_names: tuple[str, ...]
    views: tuple[View, ...] = ()
    on_device: ClassVar[bool] = True
    axes: ClassVar[Mapping[str, tuple[int, ...]]] = {"confusion": (K, K)}

    def count(self, outcome: Outcome) -> dict[str, jax.Array]:
        """Counts confusion matrices int32 [B, K, K]; see `Metric`."""
        arrays = outcome.decision, outcome.label, outcome.weight
        return {"confusion": confusion_matrices(*arrays, len(self.class_names))}

    def kinds(self) -> dict[str, Kind]:
        """Returns the names of the scores; see `Metric`."""
        found = _kinds(self.class_names)
        for view in self.views:
            found |= {
                f"{view.name}/{name}": kind for name, kind in _kinds(view.class_names).items()
            }
        return found

    def ratio(self, name: str, counts: Counts) -> Ratio:
        """Returns what a score is computed from; see `Metric`."""
        confusion, class_names = counts["confusion"], self.class_names
        for view in self.views:
            if name.startswith(f"{view.name}/"):
                name = name.removeprefix(f"{view.name}/")
                confusion, class_names = view_confusion(confusion, view), view.class_names
                break
        hit = np.diagonal(confusion, axis1=-2, axis2=-1)
        truth, predicted = confusion.sum(axis=-1), confusion.sum(axis=-2)
        return _ratio(name, class_names, _Sums(hit, truth, predicted, hit, truth))


def confusion_matrices(
    prediction: jax.Array, label: jax.Array, weight: jax.Array, num_classes: int
) -> jax.Array:
    """Counts the pixels of each true and predicted class, image by image.

    Args:
        prediction: int [B, *n], in 0..K-1.
        label: int [B, *n], in 0..K-1.
        weight: [B, *n], more than 0 for pixels that count and 0 for others.
        num_classes: K.

    Returns:
        int32 [B, K, K], rows are truth and columns prediction.
    """
    truth = jax.nn.one_hot(label, num_classes) * (weight > 0)[..., None]
    predicted = jax.nn.one_hot(prediction, num_classes)
    # One row of pixels at a time: sums of at most W ones are exact in float32 on every device
    # (also where matrix units round their inputs to bfloat16), and the rest is summed as integers.
    rows = jnp.einsum("...wi,...wj->...ij", truth, predicted)
    return rows.astype(jnp.int32).sum(axis=tuple(range(1, rows.ndim - 2)))


@dataclasses.dataclass(frozen=True)
class BinaryOverlap(Metric):
    """Overlap of classes that may share pixels: of each class alone, and means over the classes.

    The scores are named as those of `Overlap`, and are the same functions of the pixels that are of
    a class, predicted so, and both; every class has a pixel of its own for the pixel accuracy.

    Attributes:
        class_names: K names.
    """

    class_names: tuple[str, ...]
    on_device: ClassVar[bool] = True
    axes: ClassVar[Mapping[str, tuple[int, ...]]] = {
        "true_positive": (K,),
        "false_positive": (K,),
        "false_negative": (K,),
        "true_negative": (K,),
    }

    def count(self, outcome: Outcome) -> dict[str, jax.Array]:
        """Counts the pixels of each class, int32 [B, K]; see `Metric`."""
        guess, truth = outcome.decision > 0, outcome.label > 0
        weight = outcome.weight
        counts = weight > 0 if weight.ndim == truth.ndim else (weight > 0)[..., None]

        def add(pixels: jax.Array) -> jax.Array:
            axes = tuple(range(1, pixels.ndim - 1))
            return jnp.sum(pixels & counts, axis=axes, dtype=jnp.int32)

        return {
            "true_positive": add(guess & truth),
            "false_positive": add(guess & ~truth),
            "false_negative": add(~guess & truth),
            "true_negative": add(~guess & ~truth),
        }

    def kinds(self) -> dict[str, Kind]:
        """Returns the names of the scores; see `Metric`."""
        return _kinds(self.class_names)

    def ratio(self, name: str, counts: Counts) -> Ratio:
        """Returns what a score is computed from; see `Metric`."""
        hit, too_many, missed, rest = (counts[count] for count in self.axes)
        truth, predicted, right = hit + missed, hit + too_many, hit + rest
        sums = _Sums(hit, truth, predicted, right, right + too_many + missed)
        return _ratio(name, self.class_names, sums)
