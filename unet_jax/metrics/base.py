"""What a metric is: counts by image, which add up, and scores from weighted sums of them."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np

Counts = Mapping[str, np.ndarray]
"""What a metric counts, by name: [N, ...], of N images."""

K = 0
"""In `Metric.axes`, the length of an axis of classes."""


_MOST_SUMS = 2**24  # of counts at a time


class Kind(NamedTuple):
    """What values a score can have.

    Attributes:
        low: The lowest.
        high: The highest; may be infinite.
        higher_is_better: Whether the highest is the best; else the lowest is.
        heading: In tables of studies; "" where only the headline is shown there.
    """

    low: float = 0.0
    high: float = 1.0
    higher_is_better: bool = True
    heading: str = ""

    @property
    def ends(self) -> tuple[float, float]:
        """Returns the lowest and the highest value."""
        return self.low, self.high

    @property
    def difference(self) -> tuple[float, float]:
        """Returns the lowest and the highest difference of two values."""
        return self.low - self.high, self.high - self.low

    def rank(self, value: float) -> float:
        """Returns a number that is higher for better values."""
        return value if self.higher_is_better else -value


SHARE = Kind()
"""From 0 to 1, higher is better."""


class Score(NamedTuple):
    """A score.

    Attributes:
        value: Its value; None where nothing was counted that it is of, such as an absent class.
        kind: What values it can have.
    """

    value: float | None
    kind: Kind


Scores = dict[str, Score]


class Outcome(NamedTuple):
    """What a network says of a batch, and what is true.

    Of classes that exclude each other an element is a pixel, [B, *n]; of classes that overlap it is
    a class of a pixel, [B, *n, K].

    Attributes:
        logits: float32 [B, *n, K].
        loss: float32, the cross-entropy of every element.
        decision: int [B, *n], class ids; or [B, *n, K], 0 or 1.
        label: As `decision`; valid also where the weight is 0.
        weight: [B, *n] or, of overlapping classes, also [B, *n, K]; 0 for what does not count.
        task: What labels and logits mean, a `task.Task`; on the device alone.
        spacing: Lengths of a pixel's sides; on the host alone.
        objects: Integers [B, *n], the number of the object that a pixel is truly of, 0 for none; on
            the host alone, None where the data do not tell.
    """

    logits: Any
    loss: Any
    decision: Any
    label: Any
    weight: Any
    task: Any = None
    spacing: Any = None
    objects: Any = None


class Ratio(NamedTuple):
    """A score as a mean of ratios of sums, which is what nearly all scores are.

    Each of the J parts, such as a class, has a ratio of two sums of counts; the score is the mean
    over the parts that are present. The arrays are those of single images, [N, J], or of sums over
    images, [..., J].

    Attributes:
        numerator: Of each part.
        denominator: Of each part, positive where the part is present.
        present: More than 0 where the part is present.
    """

    numerator: np.ndarray
    denominator: np.ndarray
    present: np.ndarray

    def value(self) -> np.ndarray:
        """Computes the score of each sum.

        Returns:
            float64 [...]; NaN where no part is present.
        """
        present = self.present > 0
        ratios = np.where(present, self.numerator / np.where(present, self.denominator, 1), 0.0)
        parts = present.sum(axis=-1)
        total = np.cumsum(ratios, axis=-1)[..., -1]  # in the order of the parts
        return np.where(parts > 0, total / np.maximum(parts, 1), np.nan)

    def linearise(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Computes the score of weighted images, and how it moves with the weight of each.

        Args:
            weights: float64 [R, N], how often each image counts.

        Returns:
            The scores [R], 0 where no part is present, and their derivatives [N, R].
        """
        numerator, denominator, present = (weights @ part for part in self)
        is_present = present > 0
        parts = np.maximum(is_present.sum(axis=1), 1)
        scale = np.where(is_present, 1 / np.where(is_present, denominator, 1), 0) / parts[:, None]
        ratio = np.where(is_present, numerator / np.where(is_present, denominator, 1), 0)
        slope = self.numerator @ scale.T - self.denominator @ (ratio * scale).T
        return ratio.sum(axis=1) / parts, slope

    def whole(self) -> float:
        """Computes the score of all images together, of single images [N, J]."""
        return float(Ratio(*(part.sum(axis=0) for part in self)).value())


@dataclasses.dataclass(frozen=True)
class Function:
    """A score that is no mean of ratios: any function of sums of counts, such as a quantile.

    Attributes:
        counts: float64 [N, C] of single images, or [..., C] of sums over images.
        of: Computes scores from sums [..., C], float64 [...]; NaN where there is none.
        present: More than 0 where the images, or sums, have what the score is of, [..., 1].
    """

    counts: np.ndarray
    of: Callable[[np.ndarray], np.ndarray]
    present: np.ndarray

    def value(self) -> np.ndarray:
        """Computes the score of each image or sum, float64 [...]; NaN where there is none."""
        return np.where(self.present[..., 0] > 0, self.of(self.counts), np.nan)

    def linearise(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Computes the score of weighted images, and about how it moves with the weight of each.

        That is the jackknife's influence, of leaving each image out of all, centred on the
        weighted images; see `Ratio.linearise`.

        Args:
            weights: float64 [R, N].

        Returns:
            The scores [R], 0 where there is none, and slopes [N, R].
        """
        images = len(self.counts)
        total = self.counts.sum(axis=0)
        without = self._all(1 - np.eye(images)) if images > 1 else np.zeros(1)
        influence = np.nan_to_num(self.of(total) - without) * (images - 1) / images
        centred = influence[:, None] - weights @ influence / weights.sum(axis=1)
        return np.nan_to_num(self._all(weights)), centred

    def _all(self, weights: np.ndarray) -> np.ndarray:
        rows = max(1, _MOST_SUMS // self.counts.shape[1])
        parts = [weights[i : i + rows] @ self.counts for i in range(0, len(weights), rows)]
        return np.concatenate([self.of(part) for part in parts])

    def whole(self) -> float:
        """Computes the score of all images together."""
        return float(self.of(self.counts.sum(axis=0)))


Statistic = Ratio | Function
"""What a score is computed from."""


class Metric(Protocol):
    """A metric of some classes.

    What it is told beside their names changes what it counts, and neither the names of its scores
    nor how they follow from the counts: files hold the counts alone.

    Attributes:
        on_device: Whether `count` is traced into the compiled evaluation; else it is called with
            NumPy arrays, one image of its own size at a time, in several threads.
        axes: The names of its counts, and the lengths of the axes that each has after that of
            images, `K` where it is the number of classes.
        reads: The fields of `Outcome` that come to the host for it, beside `spacing` and `objects`.
    """

    on_device: ClassVar[bool]
    axes: ClassVar[Mapping[str, tuple[int, ...]]]
    reads: ClassVar[tuple[str, ...]] = ("decision", "label", "weight")

    def count(self, outcome: Outcome) -> dict[str, Any]:
        """Counts a batch, image by image.

        Args:
            outcome: Of the batch, on the device or not; see `on_device`.

        Returns:
            By name of `axes`, [B, ...]; counts of several images add up.
        """
        ...

    def kinds(self) -> dict[str, Kind]:
        """Returns the names of its scores, and what values they can have."""
        ...

    def ratio(self, name: str, counts: Counts) -> Statistic:
        """Returns what a score is computed from.

        Args:
            name: One of `kinds`.
            counts: Of single images or of sums over images, [..., and the axes of each].

        Returns:
            The ratios, linear in the counts; or, of a score that is none of ratios, the function.
        """
        ...

    def scores(self, counts: Counts, weights: np.ndarray | None = None) -> Scores:
        """Computes all scores of some images together.

        Args:
            counts: [N, ...] by name.
            weights: [N], how often each image counts; None for once.

        Returns:
            By name of `kinds`.
        """
        sums = {name: _add(array, weights) for name, array in counts.items()}
        found = {}
        for name, kind in self.kinds().items():
            ratio = self.ratio(name, sums)
            is_known = bool((ratio.present > 0).any())
            found[name] = Score(float(ratio.value()) if is_known else None, kind)
        return found


def _add(array: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """Adds up counts over images; whole numbers exactly, others in the order of the images."""
    if weights is not None:
        return np.tensordot(weights, array, axes=1)
    if np.issubdtype(array.dtype, np.floating):
        return np.cumsum(array, axis=0)[-1]
    return array.sum(axis=0, dtype=np.int64)
