"""The numbers of a card, all of them computed from counts by image."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from unet_jax.metrics import make as metrics
from unet_jax.metrics.base import SHARE, Kind, Metric, Ratio, Statistic
from unet_jax.metrics.by_image import worst_first
from unet_jax.metrics.resampling import GROUPS, IMAGES, by_image, held, intervals, sum_groups
from unet_jax.metrics.views import View

DIGITS = 9
"""After the point, of every number of a card: so many that rounding them to the four that are
printed gives what rounding the score itself gives."""

SHOWN = 5
"""Images that are listed as the worst, and as many as median ones."""


class Counted(NamedTuple):
    """What is counted of the images of a split, and what it is to be read by.

    Attributes:
        ids: Names of the N images.
        groups: The group of each; () where each stands for itself.
        counts: By "METRIC/COUNT", [N, ...], or [1, ...] of all images together.
        class_names: K names, of what the predictions tell apart.
        views: Other ways to count the same predictions.
        headline: Name of the score that counts most.
    """

    ids: Sequence[str]
    groups: Sequence[str]
    counts: Mapping[str, np.ndarray]
    class_names: Sequence[str]
    views: Sequence[View]
    headline: str


class Origin(NamedTuple):
    """Where a score comes from.

    Attributes:
        key: Of its metric.
        statistic: Of every image.
        kind: What values it can have.
    """

    key: str
    statistic: Statistic
    kind: Kind


def judge(counted: Counted) -> dict[str, Any]:
    """Computes all scores, their intervals, and which images are the worst.

    Args:
        counted: The counts.

    Returns:
        "scores": by name {"value"}, of some also {"low", "high"} or {"why"} there is no interval,
        and {"held"}, the share of such intervals that held the truth where images are few; of
        groups also those of `each_group`;
        "images": {"worst", "median"}, each a list of [name, value of the headline score].
    """
    made = metrics.of_counts(counted.counts, counted.class_names, counted.views)
    found = metrics.scores(made, counted.counts)
    scores: dict[str, dict[str, Any]] = {
        name: {"value": _round(score.value)} for name, score in found.items()
    }
    sources = {name: source for name in found if (source := _find(made, counted, name))}
    chosen = {name: s for name, s in sources.items() if _has_interval(name, s, counted.headline)}
    grouped = {name: s.statistic for name, s in chosen.items()}
    if counted.groups:
        kept = {n: x for n, x in counted.counts.items() if len(x) == len(counted.ids)}
        of_groups = counted._replace(counts=sum_groups(kept, counted.groups))
        grouped = {name: _statistic(made, of_groups, name) for name in chosen}
        alone = each_group(of_groups.counts, counted.class_names)
        scores |= {name: {"value": _round(ratio.whole())} for name, ratio in alone.items()}
        chosen |= {name: Origin("overlap", ratio, SHARE) for name, ratio in alone.items()}
        grouped |= alone
    units = GROUPS if counted.groups else IMAGES
    ends = intervals(list(grouped.values()), [s.kind for s in chosen.values()], units=units)
    for (name, source), own in zip(chosen.items(), ends, strict=True):
        if isinstance(own, str):
            scores[name]["why"] = own
            continue
        scores[name] |= {"low": _round(own[0]), "high": _round(own[1])}
        share = held(source.key, len(grouped[name].present))
        scores[name] |= {} if share is None else {"held": share}
    return {"scores": scores, "images": _images(counted, sources.get(counted.headline))}


def each_group(sums: Mapping[str, np.ndarray], class_names: Sequence[str]) -> dict[str, Ratio]:
    """Computes the overlap of each group alone, such as a patient, for means over groups.

    They are to groups what the metric `per_image` is to images: "group_IoU/NAME", "group_Dice/NAME"
    and the means of both over classes; 0 where a structure is missed or invented, and without a
    part of groups where it neither is nor is predicted. Where classes exclude each other the first
    one is the background, and left out.

    Args:
        sums: Counts of G groups by "METRIC/COUNT"; see `sum_groups`.
        class_names: K names.

    Returns:
        By name; {} without counts of overlap.
    """
    if "overlap/confusion" in sums:
        confusion = sums["overlap/confusion"]
        hit = np.diagonal(confusion, axis1=1, axis2=2)
        total, first = confusion.sum(axis=1) + confusion.sum(axis=2), 1
    elif "binary_overlap/true_positive" in sums:
        names = ("true_positive", "false_positive", "false_negative")
        hit, more, less = (sums[f"binary_overlap/{name}"] for name in names)
        total, first = 2 * hit + more + less, 0
    else:
        return {}
    there = (total > 0).astype(np.float64)
    there[:, :first] = 0
    values = {
        "IoU": hit / np.maximum(total - hit, 1) * there,
        "Dice": 2 * hit / np.maximum(total, 1) * there,
    }
    found = {}
    for kind, value in values.items():
        found[f"group_{kind}"] = Ratio(value, there, there)
        for k, name in enumerate(class_names[first:], first):
            part = slice(k, k + 1)
            found[f"group_{kind}/{name}"] = Ratio(value[:, part], there[:, part], there[:, part])
    return {name: ratio for name, ratio in found.items() if ratio.present.any()}


def _find(made: metrics.Metrics, counted: Counted, name: str) -> Origin | None:
    """Finds what a score is computed from; None where its counts are not by image."""
    key, metric = _metric_of(made, name)
    own = metrics.of_metric(counted.counts, key)
    if any(len(array) != len(counted.ids) for array in own.values()):
        return None
    return Origin(key, by_image(metric, name, own), metric.kinds()[name])


def _statistic(made: metrics.Metrics, counted: Counted, name: str) -> Statistic:
    key, metric = _metric_of(made, name)
    return by_image(metric, name, metrics.of_metric(counted.counts, key))


def _metric_of(made: metrics.Metrics, name: str) -> tuple[str, Metric]:
    return next((key, metric) for key, metric in made.items() if name in metric.kinds())


def _has_interval(name: str, source: Origin, headline: str) -> bool:
    """Chooses the headline, the means over classes, and the IoU of every class and view."""
    parts = name.split("/")
    is_main = len(parts) == 1 or "IoU" in parts or parts[-1] == "mIoU"
    return name == headline or (is_main and isinstance(source.statistic, Ratio))


def _images(counted: Counted, source: Origin | None) -> dict[str, list[list[Any]]]:
    """Lists the worst images by the headline score, and those about the median one."""
    if source is None:
        return {"worst": [], "median": []}
    values = source.statistic.value()
    order = worst_first(values, source.kind)
    middle = max(0, (len(order) - SHOWN) // 2)
    places = {"worst": order[:SHOWN], "median": order[middle : middle + SHOWN]}
    return {
        name: [[counted.ids[index], _round(float(values[index]))] for index in own]
        for name, own in places.items()
    }


def _round(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else round(float(value), DIGITS)
