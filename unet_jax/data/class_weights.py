"""Weights of classes from how many pixels of the training split each has."""

import contextlib
import functools
import hashlib
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from unet_jax.data.base import PairSource
from unet_jax.data.sample import Source
from unet_jax.errors import UserError
from unet_jax.process import records
from unet_jax.process.console import follow
from unet_jax.process.runtime import cache_dir
from unet_jax.process.whole import write_whole
from unet_jax.task import IGNORE, Task


class Counts(NamedTuple):
    """How many pixels of a split each class has; those that are ignored are in none of the numbers.

    Attributes:
        pixels: int64 [K], n_k: that are of the class.
        places: int64 [K]: that count at all, in the images that hold the class.
    """

    pixels: np.ndarray
    places: np.ndarray


def sum_counts(pixels: np.ndarray, counted: np.ndarray) -> Counts:
    """Sums the counts of single images.

    Args:
        pixels: Integers [N, K]: pixels of each class in each image.
        counted: Integers [N]: pixels of each image that count at all.

    Returns:
        The counts of all N images.
    """
    places = (pixels > 0) * counted[:, None]
    return Counts(pixels.sum(axis=0, dtype=np.int64), places.sum(axis=0, dtype=np.int64))


def balanced(counts: Counts) -> tuple[float, ...]:
    """Returns n / (K n_k), with which every class has the same sum of weights.

    As `class_weight="balanced"` of scikit-learn (King and Zeng, 2001, "Logistic Regression in Rare
    Events Data"): n is the sum of all n_k, and K the number of classes that are there.

    Args:
        counts: Of the training split.

    Returns:
        K weights; 0 of a class that is never there.
    """
    there = counts.pixels > 0
    equal = counts.pixels.sum() / max(1, there.sum())
    return _divide(np.full(len(there), equal), counts.pixels)


def median_frequency(counts: Counts) -> tuple[float, ...]:
    """Returns m / f_k: f_k is a class's share of the pixels of images that hold it, m their median.

    Eigen and Fergus (2015), "Predicting Depth, Surface Normals and Semantic Labels with a Common
    Multi-scale Convolutional Architecture", 6.3.2, and SegNet (Badrinarayanan et al., 2017), 3.1.
    The median is that of the classes that are there.

    Args:
        counts: Of the training split.

    Returns:
        K weights; 0 of a class that is never there.
    """
    frequency = np.array(_divide(counts.pixels, counts.places))
    there = frequency > 0
    middle = np.median(frequency[there]) if there.any() else 0.0
    return _divide(np.full(len(there), middle), frequency)


def _divide(numbers: np.ndarray, by: np.ndarray) -> tuple[float, ...]:
    """Divides one by one, as plain numbers; 0 where the divisor is 0."""
    result = np.zeros(len(by))
    np.divide(numbers, by, out=result, where=by > 0)
    return tuple(map(float, result))


RULES: dict[str, Callable[[Counts], tuple[float, ...]]] = {
    "balanced": balanced,
    "median_frequency": median_frequency,
}
"""By name, for factors by class of terms in config.loss, such as dice.class_weights."""


class Weights(NamedTuple):
    """Weights that a rule found.

    Attributes:
        rule: A key of `RULES`.
        weights: Of each of the task's K channels.
        pixels: n_k of each.
    """

    rule: str
    weights: tuple[float, ...]
    pixels: tuple[int, ...]

    def describe(self, names: tuple[str, ...]) -> str:
        """Says them in a line, by the names of the channels."""
        listed = [f"{name} {w:.4g}" for name, w in zip(names, self.weights, strict=True)]
        absent = [name for name, n in zip(names, self.pixels, strict=True) if not n]
        lacks = f"; {', '.join(absent)} is not in the training split" if absent else ""
        return f"{self.rule}: {', '.join(listed)}{lacks}"


def find_rule(class_weights: tuple[object, ...]) -> str:
    """Returns the rule that a config's class weights name; "" where they are numbers."""
    is_rule = len(class_weights) == 1 and class_weights[0] in RULES
    return str(class_weights[0]) if is_rule else ""


def weigh(rule: str, source: Source, num_classes: int, task: Task) -> Weights:
    """Finds the weights of a task's channels by a rule.

    Args:
        rule: A key of `RULES`.
        source: The training split; each label is read once, at its own size.
        num_classes: Of the labels.
        task: What they mean; the pixels of a region are those of all its classes.

    Returns:
        The weights.

    Raises:
        UserError: A label cannot be read, or the split lacks a class of independent ones, whose
            channel would learn nothing with weight 0.
    """
    found = count_images(source, num_classes)
    classes = np.eye(num_classes) if task.label_shape else np.arange(num_classes)
    members = np.asarray(task.target(classes.astype(np.uint8))) > 0  # pyrefly: ignore
    counts = sum_counts(found[:, :-1] @ members.astype(np.int64), found[:, -1])
    weights = Weights(rule, RULES[rule](counts), tuple(map(int, counts.pixels)))
    absent = [name for name, n in zip(task.names, weights.pixels, strict=True) if not n]
    if absent and task.decides == "masks":
        raise UserError(
            f"the class weights {rule!r} of config.loss: the training split has no pixel of "
            f"{', '.join(absent)}, so that no weight balances it; split the data otherwise "
            "(config.data.split.stratify_classes), leave the class out, or give "
            f"{len(task.names)} numbers."
        )
    return weights


@functools.lru_cache(maxsize=8)
def count_images(source: Source, num_classes: int) -> np.ndarray:
    """Counts the pixels of every class in every label, at the labels' own size.

    Of files and records the counts are remembered by names, sizes and times; what has not changed
    since is not read again.

    Args:
        source: N images.
        num_classes: K, of the labels.

    Returns:
        int64 [N, K + 1]: pixels of each class, then those that count at all. Pixels that are
        ignored, for a class that may overlap with others, count for none.

    Raises:
        UserError: A label cannot be read.
    """
    file = None
    if isinstance(source, PairSource):
        stamps = [source.pairs.stamp(index) for index in source.indices]
        text = repr((stamps, sorted(source.label_map.items()), source.by_class, num_classes))
        file = cache_dir() / "pixels" / f"{hashlib.sha256(text.encode()).hexdigest()}.json"
        known = records.recall(file, [[records.Count]])
        if known is not None and [len(row) for row in known] == [num_classes + 1] * len(source):
            return np.array(known, np.int64)

    def count(index: int) -> list[int]:
        is_pair = isinstance(source, PairSource)
        label = source.read_label(index) if is_pair else source.read(index).truth()
        return count_label(label, len(source.shape(index)), num_classes)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        rows = pool.map(count, range(len(source)))
        found = follow(rows, "counting the pixels of the classes", len(source))
    if file:
        with contextlib.suppress(OSError):  # it only saves time
            file.parent.mkdir(parents=True, exist_ok=True)
            write_whole(file, json.dumps(found).encode())
    return np.array(found, np.int64)


def count_label(label: np.ndarray, axes: int, num_classes: int) -> list[int]:
    """Counts the pixels of every class in a label; see `count_images`.

    Args:
        label: uint8 [*n] or [*n, K], with `IGNORE`.
        axes: Of pixels.
        num_classes: K.

    Returns:
        K + 1 counts.
    """
    if label.ndim > axes:
        counts = (label != IGNORE).all(axis=-1)
        return [*map(int, (label[counts] == 1).sum(axis=0)), int(counts.sum())]
    by_id = np.bincount(label.ravel(), minlength=IGNORE + 1)
    return [*map(int, by_id[:num_classes]), int(by_id[:num_classes].sum())]
