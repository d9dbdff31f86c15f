"""The metrics there are, and the one score that decides."""

import fnmatch
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from unet_jax.errors import UserError
from unet_jax.metrics.base import Counts, Kind, Metric, Outcome, Scores
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
"""By name; an evaluation has all that take its labels. No two of these have a score of one name."""


def make_metrics(
    class_names: Sequence[str], views: Sequence[View] = (), target: Target = "ids"
) -> dict[str, Metric]:
    """Makes the metrics of an evaluation.

    Args:
        class_names: K names.
        views: Other ways to count the same predictions.
        target: What a label is.

    Returns:
        By name of `METRICS`.
    """
    names, others = tuple(class_names), tuple(views)
    return {key: row.make(names, others) for key, row in METRICS.items() if target in row.targets}


def of_counts(counts: Counts, class_names: Sequence[str]) -> dict[str, Metric]:
    """Makes the metrics that counts are of.

    Args:
        counts: By "METRIC/COUNT".
        class_names: K names.

    Returns:
        By name of `METRICS`; without views, which no file tells.
    """
    names = tuple(class_names)
    return {key: row.make(names, ()) for key, row in METRICS.items() if of_metric(counts, key)}


def count(outcome: Outcome, target: Target = "ids", *, on_device: bool = True) -> dict[str, Any]:
    """Counts a batch with all metrics that count on the device, or with all others.

    Args:
        outcome: Of the batch.
        target: What its labels are.
        on_device: Which metrics; see `Metric.on_device`.

    Returns:
        By "METRIC/COUNT", [B, ...].
    """
    class_names = tuple(map(str, range(outcome.logits.shape[-1])))
    return {
        f"{key}/{name}": array
        for key, metric in make_metrics(class_names, (), target).items()
        if metric.on_device == on_device
        for name, array in metric.count(outcome).items()
    }


def has_host_metrics(target: Target = "ids") -> bool:
    """Tells whether a metric counts on the host."""
    return not all(metric.on_device for metric in make_metrics((), (), target).values())


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
    kinds: dict[str, Kind] = {}
    for row in METRICS.values():
        kinds = row.make(("*",), ()).kinds() | kinds
    for start in ("", "*/"):  # first a score itself, then that of a view
        for pattern, kind in kinds.items():
            if fnmatch.fnmatchcase(name, start + pattern):
                return kind
    return None


def tabled() -> dict[str, Headline]:
    """Returns the scores that tables of studies show, by name: those with a heading."""
    kinds: dict[str, Kind] = {}
    for row in METRICS.values():
        kinds |= row.make((), ()).kinds()
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
        raise _unknown(name, list(make_metrics(("CLASS",)).values()))
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
        raise _unknown(name, list(metrics.values()))


def _unknown(name: str, metrics: Sequence[Metric]) -> UserError:
    known = [name for metric in metrics for name in metric.kinds()]
    more = ", ..." if len(known) > _MOST_NAMES else ""
    return UserError(
        f"config.eval.headline={name!r} is no score; known are "
        f"{', '.join(known[:_MOST_NAMES])}{more}."
    )
