"""A study is data: a base page, and a design of points made by small combinators.

A page of a study is a Python file with a function get_study() that returns a `Study`; see
experiments/studies. This module imports no jax.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from unet_jax.errors import UserError
from unet_jax.studies.ranges import Range, among, integers, log_uniform, uniform

__all__ = [
    "Design",
    "Point",
    "Range",
    "Study",
    "Trial",
    "among",
    "choices",
    "grid",
    "integers",
    "log_uniform",
    "point_of",
    "quasi_points",
    "random_points",
    "seeds",
    "uniform",
    "union",
    "values",
    "zipped",
]  # fmt: skip


class Point(NamedTuple):
    """One combination of factors.

    Attributes:
        labels: What each factor is called here, by the factor's name.
        overrides: Config values by key, such as "model.up".
    """

    labels: dict[str, str]
    overrides: dict[str, Any]


Design = list[Point]
MOST_POINTS = 10**5
"""Of a design."""


@dataclass(frozen=True)
class Study:
    """A question, as trials that differ in known ways.

    Attributes:
        page: Config page of every trial, from the root of the repository, with its recipe where it
            has several: "configs/oxford_pets.py:cpu".
        design: Points, made by the combinators below.
        overrides: Config values of every trial, by key.
        baseline: Labels of the trials that the others are compared with, by factor.
        search: Ranges by config key, for a search by --search.
    """

    page: str
    design: Design = field(default_factory=list)
    overrides: Mapping[str, Any] = field(default_factory=dict)
    baseline: Mapping[str, str] = field(default_factory=dict)
    search: Mapping[str, Range] = field(default_factory=dict)


class Trial(NamedTuple):
    """One run of a study.

    Attributes:
        name: Of its folder: its factors and a hash of its page and overrides.
        factors: Label by factor.
        overrides: All config values that differ from the page, by key.
    """

    name: str
    factors: dict[str, str]
    overrides: dict[str, Any]


def choices(name: str, options: Mapping[str, Mapping[str, Any]]) -> Design:
    """Makes a factor of named choices.

    Args:
        name: The factor's.
        options: For each label the config values it stands for, by key; {} for those of the page.

    Returns:
        One point per label.

    Raises:
        UserError: There is none.
    """
    if not options:
        raise UserError(f"choices({name!r}) has no options; give a value for each label.")
    return [Point({name: str(label)}, dict(given)) for label, given in options.items()]


def values(key: str, *options: Any) -> Design:
    """Makes a factor of one config key's values, named by the key's last part.

    Args:
        key: Such as "optim.learning_rate".
        *options: The values; their labels are their texts.

    Returns:
        One point per value.

    Raises:
        UserError: There is none, or two have one label.
    """
    labels = [str(value) for value in options]
    if not options or len(set(labels)) < len(labels):
        raise UserError(f"values({key!r}): give one or more values, each once; found {labels}.")
    name = _factor(key)
    return [Point({name: label}, {key: v}) for label, v in zip(labels, options, strict=True)]


def seeds(which: int | Sequence[int]) -> Design:
    """Makes the factor "seed".

    Args:
        which: How many seeds, from 0; or the seeds.

    Returns:
        One point per seed.
    """
    if isinstance(which, int):
        _check_count("seeds", which)
        which = range(which)
    return values("train.seed", *which)


def grid(*designs: Design) -> Design:
    """Combines every point of each design with every point of the others.

    Args:
        *designs: Of different factors and keys.

    Returns:
        The points; the last design's vary fastest.

    Raises:
        UserError: Two designs have a factor or a config key in common.
    """
    _check_count("grid", math.prod(map(len, designs)))
    points = [Point({}, {})]
    for design in designs:
        points = [_merge("grid", first, second) for first in points for second in design]
    return points


def zipped(*designs: Design) -> Design:
    """Combines the first points of designs, the second ones, and so on.

    Args:
        *designs: Of one length, and of different factors and keys.

    Returns:
        As many points as each has.

    Raises:
        UserError: They differ in length, or have a factor or a config key in common.
    """
    lengths = [len(design) for design in designs]
    if len(set(lengths)) > 1:
        raise UserError(f"zipped() takes designs of one length; these have {lengths} points.")
    points = [Point({}, {})] * (lengths[0] if lengths else 0)
    for design in designs:
        points = [_merge("zipped", a, b) for a, b in zip(points, design, strict=True)]
    return points


def union(*designs: Design) -> Design:
    """Puts designs one after the other; a point that came before is left out."""
    points: Design = []
    for point in (point for design in designs for point in design):
        if point not in points:
            points.append(point)
    return points


def random_points(n: int, seed: int, ranges: Mapping[str, Range]) -> Design:
    """Draws points independently.

    Args:
        n: How many.
        seed: Of the draws.
        ranges: Range by config key.

    Returns:
        The points; a factor is named by its key's last part. Numbers are rounded to their labels.

    Raises:
        UserError: Two keys end in the same part.
    """
    _check_count("random_points", n)
    return _drawn(np.random.default_rng(seed).random((n, len(ranges))), ranges)


def quasi_points(n: int, seed: int, ranges: Mapping[str, Range]) -> Design:
    """Draws points that fill the ranges evenly: a scrambled Sobol sequence (Owen, 1998).

    Args:
        n: How many; powers of 2 are the most even.
        seed: Of the scrambling.
        ranges: Range by config key.

    Returns:
        As of `random_points`.

    Raises:
        UserError: Two keys end in the same part, or SciPy is absent.
    """
    try:
        from scipy.stats import qmc
    except ImportError:
        raise UserError("quasi_points() needs SciPy: pip install scipy.") from None
    _check_count("quasi_points", n)
    # A power of 2, of which the first n are taken: scipy warns of every other number.
    drawn = qmc.Sobol(len(ranges), rng=np.random.default_rng(seed)).random_base2(
        math.ceil(math.log2(max(n, 1)))
    )
    return _drawn(drawn[:n], ranges)


def point_of(given: Mapping[str, Any]) -> Point:
    """Makes a point of values by config key, each key a factor named by its last part.

    Args:
        given: The values.

    Returns:
        The point.

    Raises:
        UserError: Two keys end in the same part.
    """
    point = Point({}, {})
    for key, value in given.items():
        point = _merge("a point", point, Point({_factor(key): str(value)}, {key: value}))
    return point


def _check_count(what: str, count: int) -> None:
    if not 0 <= count <= MOST_POINTS:
        raise UserError(f"{what}() would make {count:,} points; {MOST_POINTS:,} is the most.")


def _factor(key: str) -> str:
    name = key.rpartition(".")[2]
    if not name or name == key:
        raise UserError(f"{key!r} is no config key; write SECTION.KEY, such as train.seed.")
    return name


def _merge(what: str, first: Point, second: Point) -> Point:
    for kind, a, b in zip(("factor", "config key"), first, second, strict=True):
        for name in a:
            if name in b:
                raise UserError(
                    f"{what}: two designs have the {kind} {name!r}; each needs its own."
                )
    return Point(first.labels | second.labels, first.overrides | second.overrides)


def _drawn(shares: np.ndarray, ranges: Mapping[str, Range]) -> Design:
    rows = [zip(ranges.items(), row, strict=True) for row in shares.tolist()]
    return [point_of({key: span.at(share) for (key, span), share in row}) for row in rows]
