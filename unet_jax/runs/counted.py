"""Figures that are drawn from the counts of an evaluation alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from unet_jax.figures.rates import Curve, Panel, rates
from unet_jax.figures.sizes import recall_by_size
from unet_jax.metrics.calibration import reliability
from unet_jax.metrics.curves import precision_recall, roc
from unet_jax.metrics.sizes import SIZES


def draw_counted(
    folder: Path,
    name: str,
    title: str,
    counts: Mapping[str, np.ndarray],
    class_names: Sequence[str],
) -> None:
    """Draws ROC and precision-recall curves, reliability and recall by size, where counted.

    Args:
        folder: Gets curves_NAME.png and sizes_NAME.png.
        name: Of the evaluation.
        title: Above each figure.
        counts: By "METRIC/COUNT", [N, ...].
        class_names: K names.
    """
    draw_rates(folder / f"curves_{name}.png", title, counts, class_names)
    if "sizes/objects" in counts:
        objects, shares = (counts[f"sizes/{own}"].sum(axis=0) for own in ("objects", "shares"))
        file = folder / f"sizes_{name}.png"
        recall_by_size(file, objects, shares, SIZES, class_names, f"Recall by size, {title}")


def draw_rates(
    file: Path, title: str, counts: Mapping[str, np.ndarray], class_names: Sequence[str]
) -> None:
    """Draws ROC and precision-recall curves, and reliability, of what was counted for them.

    Args:
        file: A PNG to write; without such counts none is.
        title: Above it.
        counts: Of an evaluation.
        class_names: K names.
    """
    panels = []
    if "curves/histogram" in counts:
        sums = counts["curves/histogram"].sum(axis=0)
        known = [k for k, own in enumerate(sums) if own.any(axis=-1).all()]
        for name, across, up, of in (
            ("ROC", "false positive rate", "true positive rate", roc),
            ("Precision by recall", "recall", "precision", precision_recall),
        ):
            both = [of(sums[k]) for k in known]
            x, y = (0, 1) if of is roc else (1, 0)
            curves = [
                Curve(one[x], one[y], class_names[k]) for one, k in zip(both, known, strict=True)
            ]
            panels += [Panel(name, across, up, curves, of is roc)] if curves else []
    if "calibration/elements" in counts:
        names = ("confidence", "right", "elements")
        sums = np.concatenate([counts[f"calibration/{name}"].sum(axis=0) for name in names])
        confidence, accuracy, share = reliability(sums)
        points = Curve(confidence[share > 0], accuracy[share > 0], "by bin of confidence", True)
        used = Curve(confidence[share > 0], share[share > 0], "share of what is in the bin", True)
        panels.append(Panel("Reliability", "confidence", "accuracy", [points, used], True))
    if panels:
        rates(file, title, panels)
