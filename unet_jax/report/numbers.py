"""The tables of a report."""

from typing import Any

from unet_jax.metrics.base import SHARE
from unet_jax.metrics.make import Headline, tabled
from unet_jax.report import statistics
from unet_jax.report.costs import cost, mean_cost
from unet_jax.report.material import Material
from unet_jax.report.statistics import Ends, Summary
from unet_jax.report.tables import Column, Table, interval
from unet_jax.report.variants import Variant

ALPHA = 1 - statistics.LEVEL
SECONDS = Column("training, s", ("training_seconds",), "{:,.0f}")


def _named(material: Material, wide: bool = True) -> list[Column]:
    """Returns the columns that name a variant; factors only in CSV, since its name holds them."""
    factors = [Column("", (f"factor {name}",)) for name in material.varied] if wide else []
    return [Column("", ("key",)), Column("", ("variant",)), Column("variant", ("label",)), *factors]


def _name(variant: Variant) -> dict[str, Any]:
    label = f"{variant.label} (baseline)" if variant.is_baseline else variant.label
    factors = {f"factor {name}": value for name, value in variant.factors.items()}
    return {"key": variant.key, "variant": variant.name, "label": label, **factors}


def _spread(prefix: str, summary: Summary) -> dict[str, Any]:
    names = ("mean", "sd", "low", "high", "why")
    return {f"{prefix} {name}": getattr(summary, name) for name in names}


def _ends(prefix: str, found: Ends | str | None) -> dict[str, Any]:
    """Returns an interval, or why there is none, as the values of its column."""
    has_ends = isinstance(found, tuple)
    low, high, why = (*found, None) if has_ends else (None, None, found)
    return {f"{prefix} low": low, f"{prefix} high": high, f"{prefix} why": why}


def shown_scores(material: Material) -> dict[str, Headline]:
    """Returns the scores that tables show, by name, the headline first."""
    first = {material.headline.name: material.headline}
    return first | tabled() | first


def variant_table(material: Material) -> Table:
    """Makes the table of scores by variant, as variants.csv."""
    rows, scores = [], shown_scores(material)
    over_images = f"{material.headline.name} images"
    for variant in material.variants:
        costs = mean_cost(variant)
        row = {**_name(variant), "seeds": len(variant.runs), "baseline": variant.is_baseline}
        for score, of in scores.items():
            values = list(variant.values(material.split, score).values())
            row |= _spread(score, statistics.summarise(values, of.kind.ends))
        row |= _ends(over_images, material.pooled.intervals.get(variant.key))
        for name in material.class_names:
            values = list(variant.values(material.split, f"IoU/{name}").values())
            row |= _spread(f"IoU/{name}", statistics.summarise(values, SHARE.ends))
        row |= {"parameters": costs.parameters, "flops_per_image": costs.flops}
        rows.append(row | {"training_seconds": costs.seconds, "device": costs.device})
    columns = [*_named(material), Column("", ("baseline",)), Column("seeds", ("seeds",), "{:d}")]
    for score, of in scores.items():
        columns += [
            Column(of.title, (f"{score} mean",), "{:.4f}"),
            Column("sd", (f"{score} sd",), "{:.4f}"),
            interval("95% over seeds", score, "{:.4f}"),
        ]
        if of is material.headline:
            columns.append(interval("95% over images", over_images, "{:.4f}"))
    for name in material.class_names:
        columns += [Column("", (f"IoU/{name} {part}",)) for part in ("mean", "sd", "low", "high")]
    hidden = ("parameters", "flops_per_image", "training_seconds", "device")
    columns += [Column("", (key,)) for key in hidden]
    marked = frozenset(i for i, v in enumerate(material.variants) if v.is_baseline)
    return Table(tuple(columns), rows, marked, "variants.csv")


def trial_table(material: Material) -> Table:
    """Makes the table of single runs, as trials.csv."""
    rows, shown = [], shown_scores(material)
    per_class = [f"IoU/{name}" for name in material.class_names]
    for variant in material.variants:
        for run in (*variant.runs, *variant.missing):
            scores = run.results.get(material.split, {})
            costs = cost(run)
            row = {"trial": run.folder.name, **_name(variant), "seed": run.seed or None}
            row |= {"state": run.state, "step": scores.get("step")}
            row |= {key: scores.get(key) for key in (*shown, *per_class)}
            row |= {"parameters": costs.parameters, "flops_per_image": costs.flops}
            rows.append(row | {"training_seconds": costs.seconds, "device": costs.device})
    columns = [
        Column("trial", ("trial",)),
        *_named(material),
        Column("seed", ("seed",)),
        Column("state", ("state",)),
        Column("best step", ("step",), "{:,d}"),
        *(Column(of.title, (key,), "{:.4f}") for key, of in shown.items()),
        *(Column("", (key,)) for key in (*per_class, "parameters", "flops_per_image")),
        SECONDS,
        Column("device", ("device",)),
    ]
    return Table(tuple(columns), rows, file="trials.csv")


def comparison_table(material: Material) -> Table:
    """Makes the table of differences from the baseline, as comparisons.csv; empty without one."""
    base, rows, bounds = material.baseline, [], material.headline.kind.difference
    for variant in material.scored:
        if base is None or variant is base:
            continue
        test = statistics.compare(material.values(variant), material.values(base), bounds)
        seeds = test.ends or test.why
        images = material.pooled.differences[variant.key]
        row = {**_name(variant), "baseline": base.name, "seeds": len(variant.runs)}
        row |= {"baseline seeds": len(base.runs), "difference": test.difference}
        row |= {"test": test.name, "t": test.t, "df": test.df, "p": test.p}
        row |= _ends("seeds", seeds) | _ends("images", images)
        both: Ends | str | None = "it takes the other two"
        if isinstance(seeds, tuple) and isinstance(images, tuple):
            both = statistics.over_both(test.difference, images, seeds, bounds)
        rows.append(row | _ends("both", both))
    for row, adjusted in zip(rows, statistics.holm([row["p"] for row in rows]), strict=True):
        row |= {"p Holm": adjusted, "verdict": _verdict(material, row, adjusted)}
    columns = [
        *_named(material),
        Column(f"difference of {material.headline.title}", ("difference",), "{:+.4f}"),
        Column("reading", ("verdict",)),
        interval("95% over images", "images", "{:+.4f}"),
        interval("95% over seeds", "seeds", "{:+.4f}"),
        interval("95% over both", "both", "{:+.4f}"),
        Column("p", ("p",), "{:.2g}"),
        Column("p, Holm", ("p Holm",), "{:.2g}"),
        Column("test", ("test",)),
        *(Column("", (key,)) for key in ("t", "df", "baseline", "seeds", "baseline seeds")),
    ]
    return Table(tuple(columns), rows, file="comparisons.csv")


def _verdict(material: Material, row: dict[str, Any], adjusted: float | None) -> str:
    """Says in words what the intervals and the test over seeds allow to say."""
    word = "better" if material.headline.kind.rank(row["difference"]) > 0 else "worse"

    def excludes_zero(kind: str) -> bool:
        low, high = row[f"{kind} low"], row[f"{kind} high"]
        return low is not None and (low > 0 or high < 0)

    if adjusted is not None and adjusted < ALPHA:
        return word if excludes_zero("both") else f"{word}, but on these images only"
    return f"{word}, but these networks only" if excludes_zero("images") else "no difference shown"


def class_table(material: Material, most: int = 12) -> Table:
    """Makes the table of IoU by class; of many classes those that differ most between variants."""
    rows = []
    for variant in material.scored:
        row = _name(variant)
        for name in material.class_names:
            values = list(variant.values(material.split, f"IoU/{name}").values())
            row[f"IoU/{name} mean"] = statistics.summarise(values, SHARE.ends).mean
        rows.append(row)

    def spread(name: str) -> float:
        known = [v for row in rows if (v := row[f"IoU/{name} mean"]) is not None]
        return max(known) - min(known) if known else -1.0

    shown = sorted(material.class_names, key=spread, reverse=True)[:most]
    columns = [*_named(material, wide=False)]
    for name in material.class_names:
        heading = name if name in shown else ""
        columns.append(Column(heading, (f"IoU/{name} mean",), "{:.4f}"))
    marked = frozenset(i for i, v in enumerate(material.scored) if v.is_baseline)
    return Table(tuple(columns), rows, marked)


def cost_table(material: Material) -> Table:
    """Makes the table of what variants cost, the front of each cost in words."""
    rows = []
    for variant in material.variants:
        costs = mean_cost(variant)
        total = [cost(run).seconds for run in (*variant.runs, *variant.missing)]
        known = [seconds for seconds in total if seconds is not None]
        row = {**_name(variant), "training_seconds": costs.seconds, "runs": len(known)}
        row |= {"total_seconds": sum(known) if known else None, "device": costs.device}
        rows.append(row | {"parameters": costs.parameters, "flops_per_image": costs.flops})
    columns = (
        *_named(material, wide=False),
        Column("parameters", ("parameters",), "{:,d}"),
        Column("FLOPs per image, forward", ("flops_per_image",), "{:,.0f}"),
        Column("training of one run, s", ("training_seconds",), "{:,.0f}"),
        Column("of all its runs, s", ("total_seconds",), "{:,.0f}"),
        Column("device", ("device",)),
    )
    return Table(columns, rows)
