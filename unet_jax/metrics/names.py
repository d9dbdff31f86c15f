"""Names that scores of overlap have in results and logs; imports no jax."""

from collections.abc import Iterable

MEANS = {"IoU": "mIoU", "Dice": "mDice", "accuracy": "mean_class_accuracy"}
"""Scores of single classes, which are named KIND/CLASS, and the mean of each over the classes."""

PIXEL_ACCURACY = "pixel_accuracy"


def class_names_of(scores: Iterable[str]) -> tuple[str, ...]:
    """Returns the classes that scores are of, in their order.

    Args:
        scores: Their names; those of views do not count.
    """
    kind = next(iter(MEANS))
    return tuple(key.removeprefix(f"{kind}/") for key in scores if key.startswith(f"{kind}/"))
