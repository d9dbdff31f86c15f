"""Evaluations of all variants on the same images, resampled together."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from unet_jax.errors import BrokenFileError
from unet_jax.metrics import resampling
from unet_jax.metrics.base import Statistic
from unet_jax.metrics.make import Headline, are_of, of_counts, of_metric
from unet_jax.metrics.names import class_names_of
from unet_jax.report.read import Evaluated, read_evaluation
from unet_jax.report.statistics import Ends
from unet_jax.report.variants import Variant

NO_COUNTS = "no counts of these images"


class Pooled(NamedTuple):
    """What the same images tell of the variants, by the variants' letters; means over seeds.

    Attributes:
        ids: Of the N images.
        intervals: Of the score, over images; or why there is none.
        differences: Of its difference from the baseline's, over images; or why there is none.
        by_image: The score of every image alone, [N].
        notes: Which variants are left out, and why.
        resamples: R.
    """

    ids: tuple[str, ...]
    intervals: dict[str, Ends | str]
    differences: dict[str, Ends | str]
    by_image: dict[str, np.ndarray]
    notes: tuple[str, ...]
    resamples: int


def pool(
    variants: Sequence[Variant],
    split: str,
    headline: Headline,
    resamples: int = resampling.RESAMPLES,
) -> Pooled:
    """Reads the evaluations of all variants and resamples their images.

    Args:
        variants: The variants.
        split: "val" or "test".
        headline: The score.
        resamples: R.

    Returns:
        What was found, of all variants with a finished run.
    """
    ids: tuple[str, ...] = ()
    counts: dict[str, list[Statistic]] = {}
    notes = []
    scored = [variant for variant in variants if variant.runs]
    none: dict[str, Ends | str] = {variant.key: NO_COUNTS for variant in scored}
    for variant in scored:
        found = _read(variant, split, headline, ids)
        if isinstance(found, str):
            notes.append(f"{variant.label}: {found}")
            continue
        ids, counts[variant.key] = found
    if not counts:
        return Pooled((), none, none, {}, tuple(notes), resamples)
    keys = list(counts)
    base = next((keys.index(v.key) for v in variants if v.is_baseline and v.key in counts), None)
    groups = list(counts.values())
    found = resampling.bootstrap(groups, base, resamples, kind=headline.kind)
    intervals = none | dict(zip(keys, found.means, strict=True))
    differences = none | dict(zip(keys, found.differences, strict=base is not None))
    by_image = {
        key: np.mean([images.value() for images in runs], axis=0) for key, runs in counts.items()
    }
    return Pooled(ids, intervals, differences, by_image, tuple(notes), resamples)


def _read(
    variant: Variant, split: str, headline: Headline, ids: tuple[str, ...]
) -> tuple[tuple[str, ...], list[Statistic]] | str:
    """Reads the counts of all runs of a variant in the order of `ids`; or says what is wrong."""
    counts: list[Statistic] = []
    for run in variant.runs:
        try:
            found = read_evaluation(run, split)
        except BrokenFileError as error:
            return str(error)
        if found is None:
            return f"{run.folder.name} has no counts by image (evaluations/{split}_....npz)"
        ids = ids or found.ids
        ordered = _order(found, ids)
        if ordered is None:
            return f"{run.folder.name} was evaluated on other images"
        scores = run.results[split]
        images = score_images(ordered, headline, class_names_of(scores))
        if images is None:
            return f"{run.folder.name} has no counts of {headline.name} by image"
        counts.append(images)
        if counts[0].present.shape != counts[-1].present.shape:
            return f"{run.folder.name} has another number of classes"
        value = scores[headline.name]
        if abs(counts[-1].whole() - value) > 1e-6:
            return (
                f"{run.folder.name}: counts by image give another {headline.title} than {value:.4f}"
            )
    return ids, counts


def score_images(
    counts: Mapping[str, np.ndarray], headline: Headline, class_names: tuple[str, ...]
) -> Statistic | None:
    """Finds what the score of every image is computed from.

    Args:
        counts: By "METRIC/COUNT", [N, ...].
        headline: The score.
        class_names: K names.

    Returns:
        float64 [N, J]; None where the score was not counted.
    """
    if class_names and not are_of(counts, len(class_names)):
        return None
    for key, metric in of_counts(counts, class_names).items():
        if headline.name in metric.kinds():
            return resampling.by_image(metric, headline.name, of_metric(counts, key))
    return None


def _order(found: Evaluated, ids: tuple[str, ...]) -> Mapping[str, np.ndarray] | None:
    """Returns the counts in the order of `ids`; None where those are other images."""
    if found.ids == ids:
        return found.counts
    if sorted(found.ids) != sorted(ids) or len(set(ids)) < len(ids):
        return None
    place = {name: index for index, name in enumerate(found.ids)}
    order = [place[name] for name in ids]
    return {name: array[order] for name, array in found.counts.items()}
