"""The trials of a study: their names and what they override; imports no jax."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from unet_jax.errors import UserError
from unet_jax.studies.study import Point, Study, Trial

# Values common to all trials that no name depends on; fewer than `compare.MAY_DIFFER`, of which all
# may change when a trial goes on: more of them here would rename the folders of older studies.
UNNAMED = ("data.source", "data.path", "data.workers")
_LONGEST_NAME = 120


def make_trials(study: Study, base: Mapping[str, Any] | None = None) -> list[Trial]:
    """Makes the trials of a study's design.

    Args:
        study: The study.
        base: Further config values of every trial, which win over the study's own.

    Returns:
        The trials in the design's order; one that came before is left out.

    Raises:
        UserError: The design is empty, a key of `base` is a factor's, or the baseline is not in it.
    """
    if not study.design:
        raise UserError("the study's design has no points; give it one, such as grid(seeds(3)).")
    varied = {key for point in study.design for key in point.overrides}
    for key in base or {}:
        if key in varied:
            raise UserError(f"{key} is varied by the study's design, so it cannot be set for all.")
    trials = {}
    for point in study.design:
        trial = make_trial(study, point, base)
        trials.setdefault(trial.name.rpartition("_")[2], trial)
    found = list(trials.values())
    _check_baseline(study.baseline, found)
    return found


def make_trial(study: Study, point: Point, base: Mapping[str, Any] | None = None) -> Trial:
    """Makes the trial of a point.

    Args:
        study: The study.
        point: The point.
        base: Further config values, which win over the study's own.

    Returns:
        The trial; its name depends on nothing but the page, its labels and its overrides.
    """
    common = {**study.overrides, **(base or {})}
    lasting = {key: value for key, value in common.items() if key not in UNNAMED}
    digest = _hash({"page": study.page, "overrides": {**lasting, **point.overrides}})
    factors = ",".join(f"{_plain(key)}={_plain(label)}" for key, label in point.labels.items())
    name = f"{factors[:_LONGEST_NAME] or 'base'}_{digest}"
    return Trial(name, dict(point.labels), {**common, **point.overrides})


def factors_of(trials: Iterable[Trial]) -> dict[str, list[str]]:
    """Returns the labels of every factor, in the order in which trials have them."""
    factors: dict[str, dict[str, None]] = {}
    for trial in trials:
        for name, label in trial.factors.items():
            factors.setdefault(name, {})[label] = None
    return {name: list(labels) for name, labels in factors.items()}


def _check_baseline(baseline: Mapping[str, str], trials: Sequence[Trial]) -> None:
    factors = factors_of(trials)
    for name, label in baseline.items():
        if name not in factors:
            raise UserError(
                f"baseline: {name!r} is no factor of the design; it has {', '.join(factors)}."
            )
        if label not in factors[name]:
            raise UserError(
                f"baseline: {name}={label!r} is not in the design; its labels are "
                f"{', '.join(map(repr, factors[name]))}."
            )
    if not any(baseline.items() <= trial.factors.items() for trial in trials):
        raise UserError(f"baseline: no point of the design has all of {dict(baseline)}.")


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.+-]", "-", text)


def _hash(value: Any) -> str:
    text = json.dumps(_canonical(value), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _canonical(value: Any) -> Any:
    """Returns what is written the same for equal configs: 1.0 as 1, tuples as lists."""
    if isinstance(value, Mapping):
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_canonical(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if value is None or isinstance(value, str | int | float):
        return value
    raise UserError(
        f"{value!r} is no value of a config page; use numbers, texts, True, False and tuples."
    )
