"""Evaluations of all variants on the same pictures, resampled together."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from experiments.report import resampling
from experiments.report.read import Evaluated, read_evaluation
from experiments.report.statistics import Ends
from experiments.report.variants import Variant

NO_COUNTS = "no counts of these images"


class Pooled(NamedTuple):
    """What the same pictures tell of the variants, by the variants' letters; means over seeds.

    Attributes:
        ids: Of the N pictures.
        intervals: Of the mIoU, over pictures; or why there is none.
        differences: Of its difference from the baseline's, over pictures; or why there is none.
        by_picture: The mIoU of every picture alone, [N].
        notes: Which variants are left out, and why.
        resamples: R.
    """

    ids: tuple[str, ...]
    intervals: dict[str, Ends | str]
    differences: dict[str, Ends | str]
    by_picture: dict[str, np.ndarray]
    notes: tuple[str, ...]
    resamples: int


def pool(variants: Sequence[Variant], split: str, resamples: int = resampling.RESAMPLES) -> Pooled:
    """Reads the evaluations of all variants and resamples their pictures.

    Args:
        variants: The variants.
        split: "val" or "test".
        resamples: R.

    Returns:
        What was found, of all variants with a finished run.
    """
    ids: tuple[str, ...] = ()
    counts: dict[str, list[resampling.Counts]] = {}
    notes = []
    scored = [variant for variant in variants if variant.runs]
    none: dict[str, Ends | str] = {variant.key: NO_COUNTS for variant in scored}
    for variant in scored:
        found = _read(variant, split, ids)
        if isinstance(found, str):
            notes.append(f"{variant.label}: {found}")
            continue
        ids, counts[variant.key] = found
    if not counts:
        return Pooled((), none, none, {}, tuple(notes), resamples)
    keys = list(counts)
    base = next((keys.index(v.key) for v in variants if v.is_baseline and v.key in counts), None)
    found = resampling.bootstrap(list(counts.values()), base, resamples)
    intervals = none | dict(zip(keys, found.means, strict=True))
    differences = none | dict(zip(keys, found.differences, strict=base is not None))
    by_picture = {
        key: np.mean([resampling.by_picture(c) for c in runs], axis=0)
        for key, runs in counts.items()
    }
    return Pooled(ids, intervals, differences, by_picture, tuple(notes), resamples)


def _read(
    variant: Variant, split: str, ids: tuple[str, ...]
) -> tuple[tuple[str, ...], list[resampling.Counts]] | str:
    """Reads the counts of all runs of a variant in the order of `ids`; or says what is wrong."""
    counts = []
    for run in variant.runs:
        found = read_evaluation(run, split)
        if found is None:
            return f"{run.folder.name} has no counts by picture (evaluations/{split}_....npz)"
        ids = ids or found.ids
        ordered = _order(found, ids)
        if ordered is None:
            return f"{run.folder.name} was evaluated on other pictures"
        counts.append(resampling.count(ordered))
        if counts[0].hit.shape != counts[-1].hit.shape:
            return f"{run.folder.name} has another number of classes"
        miou = run.results[split]["mIoU"]
        if abs(resampling.whole(counts[-1]) - miou) > 1e-6:
            return f"{run.folder.name}: counts by picture give another mIoU than {miou:.4f}"
    return ids, counts


def _order(found: Evaluated, ids: tuple[str, ...]) -> np.ndarray | None:
    """Returns the confusion matrices in the order of `ids`; None where those are other pictures."""
    if found.ids == ids:
        return found.confusion
    if sorted(found.ids) != sorted(ids) or len(set(ids)) < len(ids):
        return None
    place = {name: index for index, name in enumerate(found.ids)}
    return found.confusion[[place[name] for name in ids]]
