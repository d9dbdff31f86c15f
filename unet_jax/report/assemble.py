"""Puts the sections of a report together."""

from unet_jax.report import course, numbers, scores, words
from unet_jax.report.blocks import Report
from unet_jax.report.images import images_section
from unet_jax.report.material import Material


def assemble(material: Material, images: int) -> Report:
    """Makes a report.

    Args:
        material: What it is about.
        images: How many images to show.

    Returns:
        The report; its sections show the very tables that are written as CSV.
    """
    variants, trials = numbers.variant_table(material), numbers.trial_table(material)
    comparisons = numbers.comparison_table(material)
    effects, effect_table = scores.effects_section(material)
    sections = (
        scores.variants_section(material, variants),
        scores.comparisons_section(material, comparisons),
        effects,
        course.curves_section(material),
        course.tradeoffs_section(material),
        scores.classes_section(material, numbers.class_table(material)),
        images_section(material, images),
        course.configs_section(material),
        course.cost_section(numbers.cost_table(material)),
        course.failures_section(material, trials),
        words.limits_section(material, comparisons),
    )
    tables = (variants, trials, comparisons, *([effect_table] if effect_table else ()))
    lead = words.lead(material, comparisons)
    return Report(words.title(material), lead, sections, tables)
