"""The score of every image alone, and the images that stand out."""

from collections.abc import Sequence

import numpy as np

from unet_jax.metrics.base import Counts, Kind
from unet_jax.metrics.make import Headline, of_counts, of_metric
from unet_jax.metrics.views import View

WORST, MIDDLE = 4, 2
"""Images that stand out: the worst ones, and those around the median."""


def score_by_image(
    counts: Counts, name: str, class_names: Sequence[str], views: Sequence[View] = ()
) -> np.ndarray | None:
    """Computes a score of every image alone.

    Args:
        counts: By "METRIC/COUNT", [N, ...].
        name: Of the score.
        class_names: K names.
        views: Of the data set.

    Returns:
        float64 [N], NaN where an image has none; None where the score was not counted.
    """
    for key, metric in of_counts(counts, class_names, views).items():
        if name in metric.kinds():
            return metric.ratio(name, of_metric(counts, key)).value()
    return None


def worst_first(scores: np.ndarray, kind: Kind) -> np.ndarray:
    """Returns the indices of images that have a score, the worst first, of equal ones the first.

    Args:
        scores: [N], not finite where an image has none.
        kind: What values the score can have.
    """
    known = np.flatnonzero(np.isfinite(scores))
    return known[np.argsort([kind.rank(x) for x in scores[known]], kind="stable")]


def choose_extremes(
    counts: Counts, headline: Headline, class_names: Sequence[str], views: Sequence[View] = ()
) -> list[int]:
    """Chooses the images that stand out: the worst ones, then those around the median.

    Args:
        counts: See `score_by_image`.
        headline: The score.
        class_names: K names.
        views: Of the data set.

    Returns:
        Up to `WORST` + `MIDDLE` different indices, the worst first; of equal ones the first. Images
        without a score are left out.
    """
    scores = score_by_image(counts, headline.name, class_names, views)
    if scores is None:
        return []
    order = worst_first(scores, headline.kind)
    begin = max(0, (len(order) - MIDDLE + 1) // 2)
    return list(dict.fromkeys([*order[:WORST].tolist(), *order[begin : begin + MIDDLE].tolist()]))
