"""Main effects: what one factor does on average over the others."""

from typing import NamedTuple

import numpy as np

from unet_jax.report import statistics
from unet_jax.report.material import Material
from unet_jax.report.statistics import Summary
from unet_jax.report.tables import Column, Table, interval
from unet_jax.report.variants import Variant, as_number

_FEW = 8


class Effect(NamedTuple):
    """A label of a factor.

    Attributes:
        factor: The factor.
        label: The label.
        variants: How many variants have it.
        mean: Of their means, each counting the same, with its interval over seeds.
        pairs: How many of them have a partner: the same but for the reference's label.
        difference: From those partners; nothing of the reference itself.
    """

    factor: str
    label: str
    variants: int
    mean: Summary
    pairs: int
    difference: Summary


def labels_of(material: Material, factor: str) -> list[str]:
    """Returns a factor's labels that have scores, the baseline's first, in the study's order."""
    found = list(dict.fromkeys(variant.factors[factor] for variant in material.scored))
    declared = [label for s in material.sweeps for label in s.factors.get(factor, ())]
    order = list(dict.fromkeys([*map(str, declared), *found]))
    base = material.baseline
    first = base.factors[factor] if base else None
    return sorted(found, key=lambda label: (label != first, order.index(label)))


def effects(material: Material, factor: str) -> list[Effect]:
    """Computes the marginal means of a factor, and differences from its first label.

    Args:
        material: The material.
        factor: One that varies.

    Returns:
        One effect per label.
    """
    labels = labels_of(material, factor)
    result = []
    for label in labels:
        having = [v for v in material.scored if v.factors[factor] == label]
        scores = [material.values(v) for v in having]
        pairs = _pairs(material, having, factor, labels[0]) if label != labels[0] else []
        mean = statistics.mean_of_groups(scores, material.headline.kind.ends)
        result.append(
            Effect(
                factor=factor,
                label=label,
                variants=len(having),
                mean=mean,
                pairs=len(pairs),
                difference=_difference(material, pairs),
            )
        )
    return result


def _pairs(
    material: Material, having: list[Variant], factor: str, reference: str
) -> list[tuple[Variant, Variant]]:
    """Pairs variants with those that differ in this factor alone."""
    partners = {tuple(v.factors[name] for name in material.varied): v for v in material.scored}
    pairs = []
    for variant in having:
        point = variant.factors | {factor: reference}
        partner = partners.get(tuple(point[name] for name in material.varied))
        if partner is not None:
            pairs.append((variant, partner))
    return pairs


def _difference(material: Material, pairs: list[tuple[Variant, Variant]]) -> Summary:
    """Summarises the mean difference of pairs, seed by seed where all have the same seeds."""
    if not pairs:
        return Summary(0)
    scores = [[material.values(v) for v in pair] for pair in pairs]
    seeds = scores[0][0].keys()
    mean = float(
        np.mean([np.mean(list(a.values())) - np.mean(list(b.values())) for a, b in scores])
    )
    if any(values.keys() != seeds for pair in scores for values in pair):
        return Summary(len(pairs), mean, why="pairs of other seeds")
    groups = [{s: a[s] - b[s] for s in seeds} for a, b in scores]
    return statistics.mean_of_groups(groups, material.headline.kind.difference)


def effect_table(found: list[Effect], score: str) -> Table:
    """Makes the table of one factor's effects, or of several factors'.

    Args:
        found: The effects.
        score: What the score is called.

    Returns:
        The table.
    """
    rows = [
        {
            "factor": e.factor,
            "label": e.label,
            "variants": e.variants,
            "mean": e.mean.mean,
            "low": e.mean.low,
            "high": e.mean.high,
            "why": e.mean.why,
            "pairs": e.pairs,
            "difference": e.difference.mean,
            "difference low": e.difference.low,
            "difference high": e.difference.high,
            "difference why": e.difference.why,
        }
        for e in found
    ]
    columns = (
        Column("factor", ("factor",)),
        Column("label", ("label",)),
        Column("variants", ("variants",), "{:d}"),
        Column(f"marginal mean of {score}", ("mean",), "{:.4f}"),
        interval("95% over seeds", "", "{:.4f}"),
        Column("difference from the first label", ("difference",), "{:+.4f}"),
        interval("95% over seeds", "difference", "{:+.4f}"),
        Column("pairs", ("pairs",), "{:d}"),
    )
    return Table(columns, rows, file="effects.csv")


def is_range(material: Material, factor: str) -> bool:
    """Tells whether a factor's labels are numbers of a range: many, or each of its own variant."""
    labels = labels_of(material, factor)
    are_numbers = all(as_number(label) is not None for label in labels)
    return are_numbers and (len(labels) > _FEW or len(labels) == len(material.scored))


def is_crossed(material: Material) -> bool:
    """Tells whether every combination of labels is there, so that marginal means compare."""
    combinations = np.prod([len(labels_of(material, name)) for name in material.varied])
    return len(material.scored) == combinations
