"""Sections about scores: variants, differences from the baseline, main effects, classes."""

from collections.abc import Mapping, Sequence
from typing import Any

from unet_jax.metrics.resampling import LEAST
from unet_jax.report.blocks import Block, Figure, Points, Section, Words
from unet_jax.report.effects import Effect, effect_table, effects, is_crossed, is_range
from unet_jax.report.fronts import Point, draw_front
from unet_jax.report.material import Material
from unet_jax.report.rows import Interval, draw_classes, draw_intervals
from unet_jax.report.tables import Table
from unet_jax.report.variants import Variant, as_number

MOST_ROWS = 24
INTERVALS_TAKE = (
    f"An interval over seeds takes 2 runs, one over images {LEAST} images with a labelled pixel; "
    "elsewhere there is none. Intervals are cut to what a score can be, {0:g} to {1:g}, or a "
    "difference, {2:g} to {3:g}, which they hold as often as before."
)
IMAGES_COVER = (
    "The interval over images (studentised bootstrap: images are drawn anew {n:,} times, the "
    "same ones for both variants, and the {score} is computed from the sums of their counts) says "
    "how the difference of these very networks could change on other images of the same kind; it "
    "does not cover training again."
)
SEEDS_COVER = (
    "The test and the interval over seeds (Student's t on the runs' scores, paired where both have "
    "the same seeds) say how the mean difference could change with other seeds on these very "
    "images; they do not cover other images. p is corrected by Holm's method for all "
    "comparisons of this table."
)
BOTH_COVER = (
    "The interval over both adds the half-widths of these two in quadrature: it is the one to read "
    "for other seeds and other images together; it is not corrected for the number of "
    "comparisons."
)


def variants_section(material: Material, table: Table) -> Section:
    """Makes the section with the scores of all variants."""
    split, of = material.split, material.headline
    blocks: list[Block] = [
        Words(
            f"Scores on {split} at each run's best step by val {of.title}. Means, standard "
            "deviations (sd) and 95% intervals (Student's t) are over seeds; the interval over "
            "images is that of the mean over these networks. "
            + INTERVALS_TAKE.format(*of.kind.ends, *of.kind.difference)
        ),
        *_other_headlines(material),
        table,
    ]
    shown, left_out = choose(material)
    rows = []
    by_key = {row["key"]: row for row in table.rows}
    for variant in shown:
        row = by_key[variant.key]
        rows.append(
            Interval(
                str(row["label"]),
                row[f"{of.name} mean"],
                thin=_pair(row, f"{of.name} low", f"{of.name} high"),
                thick=_pair(row, f"{of.name} images low", f"{of.name} images high"),
                dots=list(material.values(variant).values()),
                is_bold=variant.is_baseline,
            )
        )
    if rows:
        base = material.baseline
        reference = None if base is None else material.mean(base)
        caption = f"{material.score}. Point: mean; ticks: single runs{_lines(rows)}"
        caption += "; dashed: baseline." if base else "."
        drawing = draw_intervals(rows, material.score, reference)
        blocks.append(Figure("variants", caption + left_out, drawing))
    blocks += [Points(material.pooled.notes)] if material.pooled.notes else []
    return Section("Variants" if len(material.variants) > 1 else "Scores", tuple(blocks))


def _other_headlines(material: Material) -> list[Block]:
    """Says how many runs chose their best step by another score."""
    names = [run.config.eval.headline for run in material.runs if run.config is not None]
    others = [name for name in names if name != material.headline.name]
    if not others:
        return []
    return [
        Words(
            f"{len(others)} runs chose their best step by another score, {others[0]}: their "
            "config.eval.headline differs."
        )
    ]


def _pair(row: Mapping[str, Any], low: str, high: str) -> tuple[float, float] | None:
    return None if row[low] is None else (row[low], row[high])


def _lines(rows: Sequence[Interval]) -> str:
    """Says what the lines and bars of a figure are, of those that it has."""
    thin = "; thin line: 95% interval over seeds (an arrowhead: it goes on)"
    thick = "; bar: 95% interval over images"
    has_thin, has_thick = (any(r.thin for r in rows), any(r.thick for r in rows))
    return thin * has_thin + thick * has_thick


def choose(material: Material, most: int = MOST_ROWS) -> tuple[list[Variant], str]:
    """Chooses the variants that a figure shows: the baseline and the best.

    They stay in the study's order if there is a baseline, and are ranked if there is none.

    Args:
        material: The material.
        most: How many.

    Returns:
        The variants, in order, and a sentence about those left out.
    """
    scored = list(material.scored)
    if material.baseline is None:
        scored.sort(key=lambda v: -material.rank(v))
    if len(scored) <= most:
        return scored, ""
    best = sorted(scored, key=lambda v: (not v.is_baseline, -material.rank(v)))[:most]
    keys = [variant.key for variant in best]
    others = "the baseline and the best others" if material.baseline else "the best"
    return [v for v in scored if v.key in keys], f" Of {len(scored)} variants {most}: {others}."


def comparisons_section(material: Material, table: Table) -> Section:
    """Makes the section with the differences from the baseline."""
    title = "Differences from the baseline"
    if len(material.variants) < 2:
        return Section(title, (Words("There is one variant, so nothing to compare it with."),))
    if not table.rows:
        reason = (
            "No baseline: the study names none (--baseline=FACTOR=LABEL,... sets one), or it has "
            "no finished run; or no other variant has one."
        )
        return Section(title, (Words(reason),))
    tested = sum(row["p"] is not None for row in table.rows)
    blocks: list[Block] = []
    if any(row["images low"] is not None for row in table.rows):
        given = {"n": material.pooled.resamples, "score": material.headline.title}
        blocks.append(Words(IMAGES_COVER.format(**given)))
    else:
        blocks.append(Words(f"No interval over images: {_reasons(table, 'images')}."))
    if tested:
        blocks.append(Words(SEEDS_COVER))
        if any(row["both low"] is not None for row in table.rows):
            blocks.append(Words(BOTH_COVER))
    else:
        blocks.append(
            Words(
                f"There is no test: {_reasons(table, 'seeds')}, which tells nothing of how much "
                "training again changes."
            )
        )
    if tested and material.seeds in (2, 3, 4):
        blocks.append(
            Words(
                f"With {material.seeds} seeds the test finds only differences several times "
                "larger than the spread over seeds; what it does not find may still be there."
            )
        )
    blocks.append(table)
    keys = [variant.key for variant in choose(material)[0]]
    rows = [
        Interval(
            str(row["label"]),
            row["difference"],
            thin=_pair(row, "seeds low", "seeds high"),
            thick=_pair(row, "images low", "images high"),
            form="{:+.4f}",
        )
        for row in table.rows
        if row["key"] in keys
    ]
    score = material.headline.title
    caption = f"Difference of {score} from the baseline; dashed: none{_lines(rows)}."
    drawing = draw_intervals(rows, f"difference of {score} from the baseline", 0.0)
    blocks.append(Figure("differences", caption, drawing))
    return Section(title, tuple(blocks))


def _reasons(table: Table, kind: str) -> str:
    """Joins the reasons why comparisons have no interval of that kind."""
    return ", ".join(dict.fromkeys(row[f"{kind} why"] for row in table.rows))


def effects_section(material: Material) -> tuple[Section, Table | None]:
    """Makes the section with the main effects of all factors, and its table."""
    title = "Main effects"
    if len(material.varied) < 2 or not material.scored:
        only = "one factor, whose effects are" if material.varied else "no factor; the scores are"
        return Section(title, (Words(f"The study varies {only} the table above."),)), None
    ranges = [name for name in material.varied if is_range(material, name)]
    found = {name: effects(material, name) for name in material.varied if name not in ranges}
    figures = [_range_figure(material, name) for name in ranges]
    if not found:
        words = "Every factor is a range; the score of each variant by its value."
        return Section(title, (Words(words), *figures)), None
    score = material.headline.title
    table = effect_table([effect for several in found.values() for effect in several], score)
    words = (
        "A marginal mean is the mean over all variants with a label, each counting the same; a "
        "difference is the mean over pairs of variants that differ in that factor alone. "
        "Intervals are over seeds, on these images, and not corrected for their number."
    )
    blocks: list[Block] = [Words(words)]
    if not is_crossed(material):
        blocks.append(
            Words(
                "Not every combination of labels is there, so marginal means also differ by what "
                "they are combined with; compare by the differences."
            )
        )
    blocks.append(table)
    count = sum(map(len, found.values()))
    groups = [found] if count <= MOST_ROWS else [{name: found[name]} for name in found]
    blocks += [*(_effect_figure(several, score) for several in groups), *figures]
    return Section(title, tuple(blocks)), table


def _range_figure(material: Material, name: str) -> Figure:
    """Draws the score of each variant by its value of a factor, the best one filled."""
    points = []
    for variant in material.scored:
        value = as_number(variant.factors[name])
        values = material.values(variant).values()
        if value is not None:
            ends = min(values), max(values)
            mean = material.mean(variant)
            points.append(Point(variant.key, value, mean, *ends, variant is material.best))
    caption = f"{material.score} by {name}, a point per variant; filled: the best one."
    drawing = draw_front(points, name, material.score, has_steps=False)
    return Figure(f"effect_{name}", caption, drawing)


def _effect_figure(found: Mapping[str, Sequence[Effect]], score: str) -> Figure:
    """Draws factors below each other, on one scale, so that the larger effect looks larger."""
    rows = []
    for name, several in found.items():
        if all(as_number(effect.label) is not None for effect in several):
            several = sorted(several, key=lambda effect: float(effect.label))
        for effect in several:
            mean = effect.mean
            thin = None if mean.low is None or mean.high is None else (mean.low, mean.high)
            rows.append(Interval(f"{name}: {effect.label}", mean.mean or 0.0, thin=thin))
    caption = f"Marginal means of {score}{_lines(rows)}."
    name = "effects" if len(found) > 1 else f"effect_{next(iter(found))}"
    return Figure(name, caption, draw_intervals(rows, f"marginal mean of {score}"))


def classes_section(material: Material, table: Table) -> Section:
    """Makes the section with the IoU of every class."""
    title = "Classes"
    if not table.rows or not material.class_names:
        return Section(title, (Words("No run has scores by class."),))
    names = [c.heading for c in table.shown[1:]]
    words = "IoU by class, mean over seeds"
    if len(names) < len(material.class_names):
        words += f"; of {len(material.class_names)} classes those that differ most (all in the CSV)"
    return Section(title, (Words(words + "."), table, _classes_figure(material, table, names)))


def _classes_figure(material: Material, table: Table, names: list[str]) -> Figure:
    """Draws differences from the baseline, which are small beside those between classes."""
    shown, left_out = choose(material, 6)
    rows = {row["key"]: [row[f"IoU/{name} mean"] for name in names] for row in table.rows}
    labels = {index: variant.label for index, variant in enumerate(shown)}
    scores, base = {i: rows[v.key] for i, v in enumerate(shown)}, material.baseline
    if base is None or len(shown) < 2:
        notes = [""] * len(names)
        if len(shown) == 1:
            notes = ["absent" if value is None else f"{value:.4f}" for value in scores[0]]
        drawing = draw_classes(names, scores, labels, notes, "IoU")
        return Figure("classes", f"IoU by class, mean over seeds.{left_out}", drawing)
    zero = rows[base.key]
    notes = ["absent" if value is None else f"{base.key} {value:.4f}" for value in zero]
    gains = {
        index: [
            None if v is None or z is None else v - z for v, z in zip(values, zero, strict=True)
        ]
        for index, values in scores.items()
    }
    axis = f"IoU minus that of {base.key}"
    drawing = draw_classes(names, gains, labels, notes, axis)
    caption = f"IoU by class minus the baseline's, which is at the right.{left_out}"
    return Figure("classes", caption, drawing)
