"""The definitions of mean IoU and mean Dice that are in use, of the same counts."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from unet_jax.metrics.base import Ratio
from unet_jax.metrics.views import View, view_confusion
from unet_jax.scoring.count import SUMS, MaskCounts
from unet_jax.task import Task

KINDS = ("IoU", "Dice")


class Sums(NamedTuple):
    """Pixels of N images and K classes, int64 [N, K] each.

    Attributes:
        both: Of the class in both masks.
        true: Of the class in the true one.
        predicted: In the predicted one.
    """

    both: np.ndarray
    true: np.ndarray
    predicted: np.ndarray


class Definition(NamedTuple):
    """A way to make one number of the counts of images and classes.

    Attributes:
        over: What ratios are of and what their means are over. "pixels": of the sums over images,
            the mean over classes. "images": of each image and class, for each class the mean over
            images, then that over classes. "each": first over an image's classes, then over images.
            "pairs": over all images and classes at once.
        counts: Which classes are in the means: "true" those with a true pixel, "either" those with
            a true or a predicted one, "all" all of them, where one without either has the value
            `empty`; "sum" adds the pixels of all classes up before the ratio.
        says: The formula in words.
        of: Whose it is.
        empty: See `counts`.
    """

    over: str
    counts: str
    says: str
    of: str
    empty: float = 0.0


DEFINITIONS: dict[str, Definition] = {
    "pixels": Definition(
        *("pixels", "true"),
        "ratio of the sums over all images; mean over the classes that have true pixels",
        "mIoU and mDice of this package",
    ),
    "pixels, any": Definition(
        *("pixels", "either"),
        "the same; mean over the classes that have true or predicted pixels",
        "Cityscapes, mmsegmentation, torchmetrics and scikit-learn (macro)",
    ),
    "pixels, absent 0": Definition(
        *("pixels", "all"),
        "the same; mean over all classes, 0 for one without a pixel",
        "scikit-learn (macro, all labels given, zero_division=0)",
    ),
    "pixels, absent 1": Definition(
        *("pixels", "all"),
        "the same; mean over all classes, 1 for one without a pixel",
        "segmentation_models.pytorch (macro)",
        1.0,
    ),
    "pixels of all classes": Definition(
        *("pixels", "sum"),
        "ratio of the sums over all images and classes",
        "micro of scikit-learn, torchmetrics and segmentation_models.pytorch",
    ),
    "images": Definition(
        *("images", "true"),
        "by class the mean over the images that have it; then over classes",
        "MONAI (mean_batch)",
    ),
    "images, any": Definition(
        *("images", "either"),
        "by class the mean over the images where it is true or predicted; then over classes",
        "nnU-Net (without background), torchmetrics MeanIoU (per_class)",
    ),
    "images, absent 0": Definition(
        *("images", "all"),
        "mean over all images and classes, 0 for a class that neither mask has",
        "scikit-learn by image (macro, all labels given, zero_division=0)",
    ),
    "images, absent 1": Definition(
        *("images", "all"),
        "mean over all images and classes, 1 for a class that neither mask has",
        "MONAI (ignore_empty=False), segmentation_models.pytorch (macro-imagewise)",
        1.0,
    ),
    "images of all classes": Definition(
        *("images", "sum"),
        "by image the ratio of the sums over classes; mean over images",
        "segmentation_models.pytorch (micro-imagewise)",
    ),
    "each image": Definition(
        *("each", "true"),
        "by image the mean over the classes that it has; then over images",
        "MONAI (mean, the default)",
    ),
    "each image, any": Definition(
        *("each", "either"),
        "by image the mean over the classes that are true or predicted; then over images",
        "torchmetrics DiceScore (macro, samplewise)",
    ),
    "pairs, any": Definition(
        *("pairs", "either"),
        "mean over all images and classes where the class is true or predicted",
        "torchmetrics MeanIoU",
    ),
}
"""By name."""


class Scope(NamedTuple):
    """Which pixels count, and as what.

    Attributes:
        says: In words.
        sums: What is counted of every image and class.
        pixels: How many count.
        class_names: K names.
        background: Name of the class that some means leave out, "" for none.
    """

    says: str
    sums: Sums
    pixels: int
    class_names: tuple[str, ...]
    background: str = ""


def find_scopes(
    counted: MaskCounts, task: Task, views: Sequence[View] = (), width: int = 0
) -> dict[str, Scope]:
    """Finds the ways in which border, void and frame are counted that the masks have.

    Args:
        counted: What was counted.
        task: What a label means.
        views: Of the data set.
        width: Of the band along borders, in pixels.

    Returns:
        By name; "whole" first.
    """
    names = task.names
    excludes = task.decides == "ids"

    def sums_of(scope: str) -> Sums:
        return Sums(*(counted.counts[f"{scope}/{name}"] for name in SUMS))

    def pixels_of(scope: str) -> int:
        return int(counted.counts[f"{scope}/pixels"].sum())

    def scope_of(says: str, sums: Sums, pixels: int, names: tuple[str, ...] = names) -> Scope:
        return Scope(says, sums, pixels, names, _background(names) if excludes else "")

    whole, pixels = sums_of("whole"), pixels_of("whole")
    found = {"whole": scope_of("all pixels but void", whole, pixels)}
    if void := pixels_of("void"):
        more = Sums(*(a + b for a, b in zip(whole, sums_of("void"), strict=True)))
        says = "also void, where whatever is predicted is wrong"
        found["void is wrong"] = scope_of(says, more, pixels + void)
    if "near/pixels" in counted.counts:
        near, count = sums_of("near"), pixels_of("near")
        rest = Sums(*(a - b for a, b in zip(whole, near, strict=True)))
        says = f"at most {width} pixels from a true border (trimap)"
        found["near borders"] = scope_of(says, near, count)
        says = f"more than {width} pixels from every true border"
        found["off borders"] = scope_of(says, rest, pixels - count)
    if "field_of_view/pixels" in counted.counts:
        own = sums_of("field_of_view"), pixels_of("field_of_view")
        found["field of view"] = scope_of("inside the field of view alone", *own)
    for view in views if excludes else ():
        matrices = view_confusion(counted.counts["overlap/confusion"], view)
        hit = np.diagonal(matrices, axis1=-2, axis2=-1)
        own = Sums(hit, matrices.sum(axis=-1), matrices.sum(axis=-2))
        says = f"view of the data set: {', '.join(view.class_names)}"
        found[view.name] = scope_of(says, own, int(own.true.sum()), view.class_names)
    return found


def _background(class_names: Sequence[str]) -> str:
    """Returns the class that is called so, or else the first; "" where there is no other."""
    name = "background" if "background" in class_names else class_names[0]
    return name if len(class_names) > 1 else ""


def score(
    definition: Definition, kind: str, sums: Sums, classes: Sequence[int] | None = None
) -> float | None:
    """Computes a mean IoU or Dice.

    Args:
        definition: How.
        kind: Of `KINDS`.
        sums: What was counted.
        classes: Those in the means; None for all.

    Returns:
        From 0 to 1; None where no image has a class that is in the mean.
    """
    own = sums if classes is None else Sums(*(part[:, list(classes)] for part in sums))
    if definition.over == "pixels":
        own = Sums(*(part.sum(axis=0, keepdims=True) for part in own))
    if definition.counts == "sum":
        own = Sums(*(part.sum(axis=1, keepdims=True) for part in own))
    terms = _terms(definition, kind, own)
    if definition.over in ("pixels", "pairs"):
        value = Ratio(*(part.reshape(-1) for part in terms)).value()
    elif definition.over == "each":
        value = _mean(terms.value())
    else:
        value = _mean(Ratio(*(part.T for part in terms)).value())
    return None if np.isnan(value) else float(value)


def _terms(definition: Definition, kind: str, sums: Sums) -> Ratio:
    """Returns the ratio of each image and class, [N, K], and which of them count."""
    total = sums.true + sums.predicted
    doubled = 2 if kind == "Dice" else 1
    numerator, denominator = doubled * sums.both, total - (2 - doubled) * sums.both
    if definition.counts == "true":
        return Ratio(numerator, denominator, sums.true)
    if definition.counts != "all":
        return Ratio(numerator, denominator, total)
    is_there = total > 0
    return Ratio(
        np.where(is_there, numerator, definition.empty),
        np.where(is_there, denominator, 1),
        np.ones_like(total),
    )


def _mean(values: np.ndarray) -> np.ndarray:
    """Returns the mean of numbers but NaN; NaN where there are none else."""
    return Ratio(np.nan_to_num(values), np.ones_like(values), ~np.isnan(values)).value()


def score_all(scope: Scope) -> dict[str, dict[str, float | None]]:
    """Computes every definition.

    Args:
        scope: Which pixels count.

    Returns:
        By definition, "IoU" and "Dice" of all classes, and where there is a background "IoU without
        NAME" and "Dice without NAME", whose means leave it out.
    """
    classes: dict[str, Sequence[int] | None] = {"": None}
    if scope.background:
        others = [k for k, name in enumerate(scope.class_names) if name != scope.background]
        classes[f" without {scope.background}"] = others
    return {
        name: {
            f"{kind}{which}": score(definition, kind, scope.sums, own)
            for which, own in classes.items()
            for kind in KINDS
        }
        for name, definition in DEFINITIONS.items()
    }


def ratios(sums: Sums, kind: str) -> np.ndarray:
    """Computes the ratio of each image and class, float64 [N, K]; NaN where neither mask has it."""
    terms = _terms(DEFINITIONS["pairs, any"], kind, sums)
    return Ratio(*(part[..., None] for part in terms)).value()
