"""What a report says in sentences: what was found, and what it does and does not show."""

from unet_jax.metrics.resampling import LEAST
from unet_jax.report.blocks import Block, Listing, Points, Section, Words
from unet_jax.report.material import Material
from unet_jax.report.numbers import ALPHA
from unet_jax.report.read import read_docstring
from unet_jax.report.tables import Table


def title(material: Material) -> str:
    """Names the report after its studies, or its runs."""
    pages = [sweep.page for sweep in material.sweeps if sweep.page]
    names = pages or [sweep.folder.name for sweep in material.sweeps]
    names = [name.rsplit("/", 1)[-1].removesuffix(".py") for name in dict.fromkeys(names)]
    return ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")


def lead(material: Material, comparisons: Table) -> tuple[str, ...]:
    """Says what was compared and what was found."""
    split = material.split
    done = sum(len(variant.runs) for variant in material.variants)
    images = len(material.pooled.ids)
    on = f" on {images} images" if images else ""
    variants = f"{len(material.variants)} variants, " if len(material.variants) > 1 else ""
    seeds = f", up to {material.seeds} seeds each" if material.seeds > 1 else ""
    text = [f"{variants}{done} of {len(material.runs)} runs finished{seeds}; {split}{on}."]
    if not material.scored:
        return (*text, "No run has scores yet.")
    best, base, name = material.best, material.baseline, material.headline.title
    if len(material.scored) > 1:
        most = material.superlative.capitalize()
        text.append(f"{most} mean {name}: {material.mean(best):.4f}, {best.label}.")
        if base is not None and base is not best:
            text.append(f"Baseline: {material.mean(base):.4f}, {base.label}.")
        elif base is not None:
            text.append("That is the baseline.")
    else:
        name = name if len(best.runs) == 1 else f"Mean {name}"
        text.append(f"{name}: {material.mean(best):.4f}.")
    if comparisons.rows:
        shown = [
            f"{row['key']} ({row['verdict']})"
            for row in comparisons.rows
            if row["verdict"] in ("better", "worse")
        ]
        clear = ", ".join(shown) or "none"
        text.append(
            f"Different from the baseline over seeds (p < {ALPHA:.2g} after Holm's correction) "
            f"and over both seeds and images: {clear}."
        )
    return tuple(text)


def limits_section(material: Material, comparisons: Table) -> Section:
    """Makes the section with what the study can and cannot say."""
    points = []
    if material.split == "val":
        points.append(
            "Every score is at the step that was best on these validation images, so it is "
            "somewhat too high, in all variants alike; a test split has no such bias."
        )
    if len(material.scored) > 1:
        points.append(
            f"The best of {len(material.scored)} variants was chosen by this very score, so its "
            "mean is somewhat too good, the more so the more variants there are; other seeds, or a "
            "test split, say what it is worth."
        )
    if material.seeds < 2:
        points.append("One seed per variant: nothing is known of what training again would change.")
    if 0 < len(material.pooled.ids) < LEAST:
        points.append(
            f"Fewer than {LEAST} images: nothing is known of what other images would change."
        )
    tested = sum(row["p"] is not None for row in comparisons.rows)
    if tested:
        points.append(
            f"Tests: {tested}. Without any true difference at least one of them would be called "
            f"significant in at most {ALPHA:.0%} of such studies."
        )
    if comparisons.rows:
        points.append(
            "No difference shown is not the same as equal: see how wide the intervals are."
        )
    blocks: list[Block] = [Points(tuple(points))] if points else []
    for page in dict.fromkeys(sweep.page for sweep in material.sweeps if sweep.page):
        text = read_docstring(page)
        if text is None:
            blocks.append(Words(f"The study page {page} cannot be read from here."))
        else:
            blocks.append(Listing(f"The study says of itself ({page})", text))
    return Section("What this can and cannot say", tuple(blocks or [Words("See the intervals.")]))
