"""Sections about how runs went: learning curves, cost, configurations, failures."""

from collections.abc import Sequence

import numpy as np
from ml_collections import ConfigDict

from unet_jax.compare import differences
from unet_jax.process.console import duration
from unet_jax.report import statistics
from unet_jax.report.blocks import Block, Figure, Listing, Points, Section, Words
from unet_jax.report.costs import differing_facts, mean_cost
from unet_jax.report.fronts import Point, draw_front
from unet_jax.report.lines import Curve, draw_curves
from unet_jax.report.material import Material
from unet_jax.report.scores import choose
from unet_jax.report.tables import Table
from unet_jax.report.variants import Variant
from unet_jax.studies.trials import STUDY

_BINS = 40
_MOST_CURVES = 9


def curves_section(material: Material) -> Section:
    """Makes the section with the learning curves."""
    shown, left_out = choose(material, _MOST_CURVES)
    blocks: list[Block] = []
    of = material.headline
    kinds = {
        f"val/{of.name}": (f"val {of.title}", False),
        "train/loss": ("training loss", True),
    }
    for key, (name, is_noisy) in kinds.items():
        found = [
            curve for i, v in enumerate(shown) if (curve := _curve(v, i, key, is_noisy)) is not None
        ]
        if not found:
            continue
        caption = f"{name[0].upper()}{name[1:]} by step, mean over seeds; the band goes from the "
        caption += "lowest to the highest seed."
        if is_noisy:
            caption += f" Means of {_BINS} stretches; of different losses not to be compared."
        if len(found) > 3:
            caption += f" Dotted in every panel: {found[0].label}."
        blocks.append(Figure(key.replace("/", "_"), caption + left_out, draw_curves(found, name)))
    if not blocks:
        blocks = [Words("No finished run has lines in metrics.jsonl.")]
    return Section("Learning curves", tuple(blocks))


def _curve(variant: Variant, index: int, key: str, is_noisy: bool) -> Curve | None:
    """Returns the curve of a variant over the steps that all its runs have."""
    series = []
    for run in variant.runs:
        known = [(line["step"], line.get(key)) for line in run.lines]
        points = {step: v for step, v in known if v is not None and np.isfinite(v)}
        series.append(_binned(points) if is_noisy else points)
    steps = sorted(set.intersection(*map(set, series))) if series else []
    if not steps:
        return None
    values = np.array([[points[step] for step in steps] for points in series])
    low, high = values.min(axis=0), values.max(axis=0)
    return Curve(
        label=variant.label,
        index=index,
        steps=np.array(steps),
        middle=values.mean(axis=0),
        low=low,
        high=high,
    )


def _binned(points: dict[int, float]) -> dict[int, float]:
    """Means of stretches of steps, by the last step of each."""
    steps = sorted(points)
    parts = np.array_split(np.array(steps, int), min(_BINS, max(1, len(steps))))
    return {
        int(part[-1]): float(np.mean([points[s] for s in part.tolist()]))
        for part in parts
        if len(part)
    }


def tradeoffs_section(material: Material) -> Section:
    """Makes the section with scores against parameters, FLOPs and training time."""
    title = "Score against cost"
    if len(material.scored) < 2:
        return Section(title, (Words("There is one variant with a score."),))
    costs = {variant.key: mean_cost(variant) for variant in material.scored}
    is_higher = material.headline.kind.higher_is_better
    blocks: list[Block] = [
        Words(
            "On the Pareto front (filled, dashed steps) are variants that no other one beats: none "
            f"is as cheap and has as {'high' if is_higher else 'low'} a mean. Lines: lowest to "
            "highest seed. The front takes the means as they are, without their intervals."
        )
    ]
    kinds = {
        "parameters": "parameters",
        "flops": "FLOPs per image, forward",
        "seconds": "training time of a run, s",
    }
    for kind, name in kinds.items():
        found = [(v, getattr(costs[v.key], kind)) for v in material.scored]
        found = [(variant, value) for variant, value in found if value]
        if len(found) < 2:
            blocks.append(Words(f"Missing: {name}; fewer than two variants have it on record."))
        elif len({value for _, value in found}) == 1:
            blocks.append(Words(f"All variants have the same {name}: {found[0][1]:,.0f}."))
        else:
            blocks.append(_tradeoff(material, kind, name, found))
    return Section(title, tuple(blocks))


def _tradeoff(
    material: Material, kind: str, name: str, found: Sequence[tuple[Variant, float]]
) -> Figure:
    scores = [list(material.values(v).values()) for v, _ in found]
    means = [float(np.mean(values)) for values in scores]
    ranks = [material.headline.kind.rank(mean) for mean in means]
    front = statistics.pareto([value for _, value in found], ranks)
    points = [
        Point(key=v.key, cost=value, score=mean, low=min(s), high=max(s), is_on_front=is_on_front)
        for (v, value), mean, s, is_on_front in zip(found, means, scores, front, strict=True)
    ]
    members = ", ".join(point.key for point in points if point.is_on_front)
    caption = f"{material.score} against {name}. On the front: {members}."
    return Figure(f"cost_{kind}", caption, draw_front(points, name, material.score))


def configs_section(material: Material) -> Section:
    """Makes the section with what differs between the variants' configurations."""
    first = material.baseline or next(iter(material.scored), material.variants[0])
    reference = _config(first)
    blocks: list[Block] = []
    for variant in material.variants:
        own = _config(variant)
        if variant is first or reference is None or own is None:
            continue
        lines = differences(reference, own)
        lines = [line for line in lines if not line.startswith("config.train.seed:")]
        blocks.append(Listing(variant.label, "\n".join(lines) or "no difference"))
    if blocks:
        blocks.insert(0, Words(f"From {first.label}, apart from the seed:"))
    facts = differing_facts([run for v in material.variants for run in v.runs])
    if facts:
        blocks += [Words("Finished runs also differ in:"), Points(tuple(facts))]
    return Section("Configurations", tuple(blocks or [Words("There is one configuration.")]))


def _config(variant: Variant) -> ConfigDict | None:
    runs = (*variant.runs, *variant.missing)
    return next((run.config for run in runs if run.config is not None), None)


def cost_section(table: Table) -> Section:
    """Makes the section with what the study cost."""
    known = [row["total_seconds"] for row in table.rows if row["total_seconds"]]
    count = sum(row["runs"] for row in table.rows)
    words = "No run has logged its speed."
    if known:
        words = (
            f"Training steps of {count} runs took {duration(sum(known))} in all (from the logged "
            "speeds, with compilation, without evaluation; of a packed program each trial's share)."
        )
    return Section("Cost", (Words(words), table))


def failures_section(material: Material, table: Table) -> Section:
    """Makes the section with the trials that are not finished."""
    missing = [run for variant in material.variants for run in variant.missing]
    left_out = [name for sweep in material.sweeps for name in sweep.left_out]
    impossible = tuple(f"{n}: {why}" for s in material.sweeps for n, why in s.impossible.items())
    broken = [line for sweep in material.sweeps for line in sweep.broken]
    blocks: list[Block] = []
    if not missing and not broken:
        count = len(material.runs)
        runs = f"all {count} runs are" if count > 1 else "the run is"
        blocks.append(Words(f"No failures: {runs} finished."))
    for run in missing:
        state = run.state
        if state == "finished":
            state = f"finished, but without scores of {material.split}"
        log = run.log or "(no log.txt)"
        blocks.append(Listing(f"{run.folder.name}: {state}", log))
    if impossible:
        blocks.append(Words("Impossible, and not run:"))
        blocks.append(Points(impossible))
    if broken:
        blocks.append(Words("Trials with a broken file, left out of everything here:"))
        blocks.append(Points(tuple(broken)))
    if left_out:
        blocks.append(Words(f"Folders of trials that {STUDY} does not name, left out here:"))
        blocks.append(Points(tuple(left_out)))
    blocks += [Words("All runs:"), table]
    return Section("Runs, and failures", tuple(blocks))
