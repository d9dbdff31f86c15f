"""The metrics there are, and the one score that decides."""

import fnmatch
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import numpy as np

from unet_jax.errors import UserError
from unet_jax.metrics.base import Counts, K, Kind, Metric, Outcome, Scores
from unet_jax.metrics.choices import CHOICES, Chosen
from unet_jax.metrics.entropy import CrossEntropy
from unet_jax.metrics.overlap import BinaryOverlap, Overlap
from unet_jax.metrics.views import View

Target = Literal["ids", "masks"]
"""What a label is: class ids [B, *n], or a mask of 0 and 1 for every class, [B, *n, K]."""

Metrics = Mapping[str, Metric]
_MOST_NAMES = 40  # in a message


class Row(NamedTuple):
    """A metric that there is.

    Attributes:
        make: (class names, views) -> the metric.
        targets: What labels it takes.
    """

    make: Callable[[tuple[str, ...], tuple[View, ...]], Metric]
    targets: tuple[Target, ...]


METRICS: dict[str, Row] = {
    "cross_entropy": Row(lambda names, views: CrossEntropy(), ("ids", "masks")),
    "overlap": Row(Overlap, ("ids",)),
    "binary_overlap": Row(lambda names, views: BinaryOverlap(names), ("masks",)),
}
"""By name; an evaluation has all that take its labels. No two metrics have a score of one name."""


def make_metrics(
    class_names: Sequence[str],
    views: Sequence[View] = (),
    target: Target = "ids",
    chosen: Chosen = MappingProxyType({}),
) -> dict[str, Metric]:
    """Makes the metrics of an evaluation.

    Args:
        class_names: K names.
        views: Other ways to count the same predictions.
        target: What a label is.
        chosen: By name of `CHOICES`, the arguments of the metric.

    Returns:
        By name of `METRICS` and `CHOICES`.

    Raises:
        UserError: An argument is out of range.
    """
    names, others = tuple(class_names), tuple(views)
    found = {key: row.make(names, others) for key, row in METRICS.items() if target in row.targets}
    for key, values in chosen.items():
        CHOICES[key].check(values, len(names))
        found[key] = CHOICES[key].make(names, **values)
    return found


def of_counts(
    counts: Counts, class_names: Sequence[str], views: Sequence[View] = ()
) -> dict[str, Metric]:
    """Makes the metrics that counts are of.

    Args:
        counts: By "METRIC/COUNT".
        class_names: K names.
        views: Other ways to count the same predictions, which no file tells.

    Returns:
        By name of `METRICS` and `CHOICES`. What the latter were told beside the names of the
        classes, no file tells either; it is in the counts.
    """
    made = _make_all(tuple(class_names), tuple(views))
    return {key: metric for key, metric in made.items() if of_metric(counts, key)}


def _make_all(names: tuple[str, ...], views: tuple[View, ...] = ()) -> dict[str, Metric]:
    """Makes all metrics that there are, those of `CHOICES` with their defaults."""
    found = {key: row.make(names, views) for key, row in METRICS.items()}
    return found | {key: choice.make(names) for key, choice in CHOICES.items()}


def check_counts(counts: Counts, images: int) -> None:
    """Checks that counts have the shapes of their metrics, with any number of classes.

    Args:
        counts: By "METRIC/COUNT".
        images: N.

    Raises:
        ValueError: They have not; the message says why.
    """
    for key, metric in of_counts(counts, ()).items():
        own = of_metric(counts, key)
        for name, axes in metric.axes.items():
            if name not in own:
                raise ValueError(f"it lacks {key}/{name}")
            shape = own[name].shape
            classes = {size for size, axis in zip(shape[1:], axes, strict=False) if axis == K}
            wanted = images, *(axis or max(classes) for axis in axes)
            if len(shape) != len(wanted) or shape != wanted:
                raise ValueError(f"counts {key}/{name} of shape {shape} for {images} images")


def are_of(counts: Counts, num_classes: int) -> bool:
    """Tells whether counts, which `check_counts` lets pass, are of K classes."""
    return all(
        size == num_classes
        for key, metric in of_counts(counts, ()).items()
        for name, axes in metric.axes.items()
        for size, axis in zip(counts[f"{key}/{name}"].shape[1:], axes, strict=True)
        if axis == K
    )


def count(metrics: Metrics, outcome: Outcome, *, on_device: bool = True) -> dict[str, Any]:
    """Counts a batch with all metrics that count on the device, or with all others.

    Args:
        metrics: Of `make_metrics`.
        outcome: Of the batch.
        on_device: Which metrics; see `Metric.on_device`.

    Returns:
        By "METRIC/COUNT", [B, ...].
    """
    return {
        f"{key}/{name}": array
        for key, metric in metrics.items()
        if metric.on_device == on_device
        for name, array in metric.count(outcome).items()
    }


def read_on_host(metrics: Metrics, outcome: Outcome, later: Collection[str] = ()) -> Outcome | None:
    """Returns what metrics that count on the host read of a batch; None without such metrics.

    Args:
        metrics: Of `make_metrics`.
        outcome: Of the batch.
        later: Names of metrics that count there too, though they might on the device.

    Returns:
        The fields that are read; all others are None.
    """
    reading = [m.reads for key, m in metrics.items() if key in later or not m.on_device]
    names = {name for own in reading for name in own}
    left_out = {name: None for name in Outcome._fields if name not in names}
    return outcome._replace(**left_out) if reading else None


def of_metric(counts: Counts, key: str) -> dict[str, np.ndarray]:
    """Returns the counts of one metric by their own names, of those by "METRIC/COUNT"."""
    start = f"{key}/"
    return {name.removeprefix(start): x for name, x in counts.items() if name.startswith(start)}


def scores(metrics: Metrics, counts: Counts, weights: np.ndarray | None = None) -> Scores:
    """Computes the scores of all metrics that were counted.

    Args:
        metrics: Of `make_metrics`.
        counts: By "METRIC/COUNT", [N, ...].
        weights: [N], how often each image counts; None for once.

    Returns:
        By name.
    """
    found: Scores = {}
    for key, metric in metrics.items():
        if own := of_metric(counts, key):
            found |= metric.scores(own, weights)
    return found


def values(found: Scores) -> dict[str, float | None]:
    """Returns the plain values of scores, by name."""
    return {name: score.value for name, score in found.items()}


class Headline(NamedTuple):
    """The one score that decides the best checkpoint, searches and reports.

    Attributes:
        name: Of the score, such as "Dice/disk".
        kind: What values it can have.
    """

    name: str
    kind: Kind

    @property
    def title(self) -> str:
        """Returns its name in tables and figures."""
        return self.kind.heading or self.name

    def rank(self, scores: Mapping[str, Any], prefix: str = "") -> float | None:
        """Ranks what an evaluation found.

        Args:
            scores: Values by name.
            prefix: Before the names, such as "val/".

        Returns:
            A number that is higher for better scores; None where the score is absent or not finite.
        """
        value = scores.get(prefix + self.name)
        return None if value is None or not math.isfinite(value) else self.kind.rank(value)


def find_kind(name: str) -> Kind | None:
    """Finds what values a score can have by its name alone, whatever classes there are.

    Args:
        name: Such as "Dice/disk" or "VIEW/IoU/NAME".

    Returns:
        The kind; None of what is no score.
    """
    found = _find(name)
    return found[1] if found else None


def _find(name: str) -> tuple[str, Kind] | None:
    """Finds the metric and the kind of a score by its name."""
    for start in ("", "*/"):  # first a score itself, then that of a view
        for key, metric in _make_all(("*",)).items():
            for pattern, kind in metric.kinds().items():
                if fnmatch.fnmatchcase(name, start + pattern):
                    return key, kind
    return None


def tabled() -> dict[str, Headline]:
    """Returns the scores that tables of studies show, by name: those with a heading."""
    kinds: dict[str, Kind] = {}
    for metric in _make_all(()).values():
        kinds |= metric.kinds()
    return {name: Headline(name, kind) for name, kind in kinds.items() if kind.heading}


def read_headline(name: str) -> Headline:
    """Reads `config.eval.headline`.

    Args:
        name: Its value.

    Returns:
        The score; whether its class exists is not known here, see `check_headline`.

    Raises:
        UserError: No metric has such a score.
    """
    kind = find_kind(name)
    if kind is None:
        raise _unknown(name, list(_make_all(("CLASS",)).values()))
    return Headline(name, kind)


def check_headline(name: str, metrics: Metrics) -> None:
    """Checks that an evaluation will have the score that decides.

    Args:
        name: Value of `config.eval.headline`.
        metrics: Of the data set.

    Raises:
        UserError: It will not.
    """
    if not any(name in metric.kinds() for metric in metrics.values()):
        key, _ = _find(name) or ("", None)
        if key in CHOICES and key not in metrics:
            raise UserError(
                f"config.eval.headline={name!r} is a score of config.eval.metrics.{key}, which is "
                "not there: set one of its keys, or name another score."
            )
        raise _unknown(name, list(metrics.values()))


def _unknown(name: str, metrics: Sequence[Metric]) -> UserError:
    known = list(dict.fromkeys(name for metric in metrics for name in metric.kinds()))
    more = ", ..." if len(known) > _MOST_NAMES else ""
    return UserError(
        f"config.eval.headline={name!r} is no score; known are "
        f"{', '.join(known[:_MOST_NAMES])}{more}."
    )
