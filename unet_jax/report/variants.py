"""Groups runs into variants: the same labels of every factor but the seed."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from unet_jax.errors import UserError
from unet_jax.report.read import Run, Sweep


class Variant(NamedTuple):
    """Runs that differ in their seed alone.

    Attributes:
        key: A letter, which stands for it in figures.
        name: Its labels.
        factors: Label by factor, without the seed.
        runs: Those that are finished and have scores of the split.
        missing: The others.
        is_baseline: Whether the others are compared with it.
    """

    key: str
    name: str
    factors: dict[str, str]
    runs: tuple[Run, ...]
    missing: tuple[Run, ...]
    is_baseline: bool

    @property
    def label(self) -> str:
        """Returns its letter and name."""
        return f"{self.key} {self.name}"

    def values(self, split: str, score: str) -> dict[str, float]:
        """Returns a score by seed, of the runs that have it (an absent class has none)."""
        found = {run.seed: run.results[split].get(score) for run in self.runs}
        return {seed: value for seed, value in found.items() if value is not None}


def letter(index: int) -> str:
    """Names a variant: A to Z, then AA, AB, ..."""
    before, last = divmod(index, 26)
    return (letter(before - 1) if before else "") + chr(ord("A") + last)


def label_runs(sweeps: Sequence[Sweep]) -> list[Run]:
    """Gives all runs the same factors, under which no two of them are the same.

    Ordinary runs, which have no factors, get the factor "run": the name of the first one whose
    config differs in the seed alone.

    Args:
        sweeps: What the directories hold.

    Returns:
        The runs, in order.
    """
    firsts: dict[str, Path] = {}
    for sweep in sweeps:
        for run in () if sweep.is_study else sweep.runs:
            firsts.setdefault(_without_seed(run), run.folder)
    called, places = _names(firsts.values()), _names(sweep.folder for sweep in sweeps)
    labelled: list[tuple[Sweep, Run, dict[str, str]]] = []
    for sweep in sweeps:
        for run in sweep.runs:
            factors = dict(run.factors)
            if not sweep.is_study:
                factors = {"run": called[firsts[_without_seed(run)]], **factors}
            labelled.append((sweep, run, factors))
    distinct = {tuple(sorted(factors.items())) for _, _, factors in labelled}
    names = list(dict.fromkeys(name for _, _, factors in labelled for name in factors))
    runs = []
    for sweep, run, factors in labelled:
        whole = {name: factors.get(name, "-") for name in names}
        # The same trial in two sweeps is two: they may have run on different pages.
        where = {"folder": places[sweep.folder]} if len(distinct) < len(labelled) else {}
        runs.append(run._replace(factors=where | whole))
    return runs


def _names(folders: Iterable[Path]) -> dict[Path, str]:
    """Names folders by the ends of their paths, as long as it takes to tell them apart."""
    parts = {folder: folder.absolute().parts for folder in folders}
    for count in range(1, max(map(len, parts.values()), default=0) + 1):
        names = {folder: "/".join(own[-count:]) for folder, own in parts.items()}
        if len(set(names.values())) == len(names):
            return names
    return {folder: str(folder) for folder in parts}


def _without_seed(run: Run) -> str:
    if run.config is None:
        return str(run.folder)
    config = run.config.to_dict()
    config["train"].pop("seed", None)
    return json.dumps(config, sort_keys=True, default=str)


def varying(runs: Sequence[Run]) -> tuple[str, ...]:
    """Returns the factors, without the seed, that have more than one label."""
    names = [name for name in runs[0].factors if name != "seed"] if runs else []
    return tuple(name for name in names if len({run.factors[name] for run in runs}) > 1)


def name_of(factors: dict[str, str], varied: Sequence[str]) -> str:
    """Names a variant by its labels; those that say little alone come with their factor.

    Args:
        factors: Label by factor.
        varied: The factors that have more than one label; without any, all are named.

    Returns:
        Such as "bilinear, learning_rate 0.001".
    """

    def said(factor: str) -> str:
        label = factors[factor]
        is_bare = as_number(label) is not None or label in ("True", "False", "None", "-", "")
        return f"{factor} {label}" if is_bare else label

    return ", ".join(map(said, varied or [name for name in factors if name != "seed"]))


def as_number(label: str) -> float | None:
    """Returns the number that a label is; None where it is none."""
    try:
        return float(label)
    except ValueError:
        return None


def choose_baseline(
    sweeps: Sequence[Sweep], runs: Sequence[Run], given: dict[str, str]
) -> dict[str, str] | None:
    """Finds the labels of the variant that the others are compared with.

    Args:
        sweeps: What the directories hold.
        runs: The runs, from `label_runs`.
        given: Label by factor, as the user says; {} to take the study's. Of ordinary runs it is
            the first one.

    Returns:
        Its labels of the factors that vary; None where the study names none.

    Raises:
        UserError: No variant, or more than one, has the labels that the user gave.
    """
    varied = varying(runs)
    points = list(dict.fromkeys(tuple(run.factors[name] for name in varied) for run in runs))
    if len(points) == 1 and not given:
        return None
    wanted = given or next((sweep.baseline for sweep in sweeps if sweep.baseline), {})
    if not wanted:
        return None if any(sweep.is_study for sweep in sweeps) else _labels(varied, points[:1])
    asked = {name: str(label) for name, label in wanted.items() if name in varied}
    matches = [p for p in points if asked.items() <= dict(zip(varied, p, strict=True)).items()]
    unknown = given and set(given) - set(runs[0].factors)
    if given and (len(matches) != 1 or unknown):
        pairs = [zip(varied, point, strict=True) for point in points]
        known = "; ".join(",".join(f"{n}={v}" for n, v in point) for point in pairs)
        raise UserError(
            f"--baseline={given} fits {0 if unknown else len(matches)} variants; give one of: "
            f"{known}."
        )
    return _labels(varied, matches[:1])


def _labels(varied: Sequence[str], points: Sequence[tuple[str, ...]]) -> dict[str, str] | None:
    return dict(zip(varied, points[0], strict=True)) if points else None


def group(
    runs: Sequence[Run], split: str, score: str, baseline: dict[str, str] | None
) -> tuple[Variant, ...]:
    """Groups runs into variants.

    Args:
        runs: The runs, from `label_runs`.
        split: Whose scores count.
        score: That a run must have.
        baseline: The baseline, from `choose_baseline`.

    Returns:
        The variants in the order of the runs, the baseline first.
    """
    varied = varying(runs)
    members: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        members.setdefault(tuple(run.factors[name] for name in varied), []).append(run)
    base = None if baseline is None else tuple(baseline[name] for name in varied)
    points = sorted(members, key=lambda point: point != base)  # stable: only the baseline moves
    return tuple(
        _variant(letter(index), members[point], varied, (split, score), point == base)
        for index, point in enumerate(points)
    )


def _variant(
    key: str, runs: list[Run], varied: Sequence[str], of: tuple[str, str], is_baseline: bool
) -> Variant:
    factors = {name: label for name, label in runs[0].factors.items() if name != "seed"}
    done, missing = [], []
    for run in runs:
        split, score = of
        has_scores = run.results.get(split, {}).get(score) is not None
        (done if run.state == "finished" and has_scores else missing).append(run)
    name = name_of(factors, varied)
    return Variant(
        key=key,
        name=name,
        factors=factors,
        runs=tuple(done),
        missing=tuple(missing),
        is_baseline=is_baseline,
    )
