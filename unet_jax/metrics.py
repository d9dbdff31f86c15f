"""Scores from confusion matrices: exact integers until the last division."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Scores = dict[str, float | None]


class View(NamedTuple):
    """Another way to count the same predictions, with classes merged or left out.

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


def confusion_matrices(
    prediction: jax.Array, label: jax.Array, weight: jax.Array, num_classes: int
) -> jax.Array:
    """Counts the pixels of each true and predicted class, picture by picture.

    Args:
        prediction: int [B, H, W], in 0..K-1.
        label: int [B, H, W], in 0..K-1.
        weight: [B, H, W], 1 for pixels that count and 0 for others.
        num_classes: K.

    Returns:
        int32 [B, K, K], rows are truth and columns prediction.
    """
    truth = jax.nn.one_hot(label, num_classes) * (weight > 0)[..., None]
    predicted = jax.nn.one_hot(prediction, num_classes)
    # One row of pixels at a time: sums of at most W ones are exact in float32 on every device
    # (also where matrix units round their inputs to bfloat16), and the rest is summed as integers.
    rows = jnp.einsum("bhwi,bhwj->bhij", truth, predicted)
    return rows.astype(jnp.int32).sum(axis=1)


def view_confusion(confusion: np.ndarray, view: View) -> np.ndarray:
    """Counts a confusion matrix anew under a view.

    Args:
        confusion: int [K, K], rows are truth.
        view: The view, V classes.

    Returns:
        int64 [V, V].
    """
    result = np.zeros((len(view.class_names),) * 2, np.int64)
    for k, true_class in enumerate(view.truth):
        for j, predicted_class in enumerate(view.prediction):
            if true_class >= 0:
                result[true_class, predicted_class] += confusion[k, j]
    return result


def scores(confusion: np.ndarray, class_names: tuple[str, ...]) -> Scores:
    """Computes the scores of one confusion matrix (Long et al., 2015, section 5).

    With n_ij pixels of class i predicted as j: IoU_i = n_ii / (sum_j n_ij + sum_j n_ji - n_ii),
    Dice_i = 2 n_ii / (sum_j n_ij + sum_j n_ji), accuracy_i = n_ii / sum_j n_ij, all micro
    averages over the pixels of a whole split. A class without a true pixel is absent: it is left
    out of the means and its own scores are None; pixels wrongly given to it count against the
    classes they truly have.

    Args:
        confusion: int [K, K], rows are truth.
        class_names: K names.

    Returns:
        "mIoU", "mDice", "pixel_accuracy", "mean_class_accuracy", and "IoU/NAME", "Dice/NAME" and
        "accuracy/NAME" per class, each in [0, 1] or None.
    """
    counts = np.asarray(confusion, np.int64)
    hit, truth, predicted = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)

    def ratio(numerator: float, denominator: float) -> float | None:
        return float(numerator / denominator) if denominator else None

    per_class: dict[str, list[float | None]] = {"IoU": [], "Dice": [], "accuracy": []}
    for k in range(len(class_names)):
        present = truth[k] > 0
        union = truth[k] + predicted[k] - hit[k]
        per_class["IoU"].append(ratio(hit[k], union) if present else None)
        per_class["Dice"].append(ratio(2 * hit[k], truth[k] + predicted[k]) if present else None)
        per_class["accuracy"].append(ratio(hit[k], truth[k]))

    def mean(values: list[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if known else None

    return {
        "mIoU": mean(per_class["IoU"]),
        "mDice": mean(per_class["Dice"]),
        "pixel_accuracy": ratio(hit.sum(), counts.sum()),
        "mean_class_accuracy": mean(per_class["accuracy"]),
        **{
            f"{score}/{name}": value
            for score, values in per_class.items()
            for name, value in zip(class_names, values, strict=True)
        },
    }
