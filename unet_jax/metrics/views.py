"""Views: other ways to count the same predictions, with classes merged or left out."""

from typing import NamedTuple

import numpy as np


class View(NamedTuple):
    """Another way to count the same predictions.

    Attributes:
        name: Prefix of its scores, such as "border_as_pet".
        truth: For each class of the labels, its class in the view; -1 leaves such pixels out.
        prediction: For each predicted class, its class in the view.
        class_names: The view's classes.
    """

    name: str
    truth: tuple[int, ...]
    prediction: tuple[int, ...]
    class_names: tuple[str, ...]


def view_confusion(confusion: np.ndarray, view: View) -> np.ndarray:
    """Counts confusion matrices anew under a view.

    Args:
        confusion: [..., K, K], rows are truth.
        view: The view, of V classes.

    Returns:
        [..., V, V], of the same type.
    """
    size = len(view.class_names)
    result = np.zeros((*confusion.shape[:-2], size, size), confusion.dtype)
    for k, true_class in enumerate(view.truth):
        for j, predicted_class in enumerate(view.prediction):
            if true_class >= 0:
                result[..., true_class, predicted_class] += confusion[..., k, j]
    return result
