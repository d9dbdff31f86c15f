"""Puts the sections of a report together."""

from experiments.report import course, numbers, scores, words
from experiments.report.blocks import Report
from experiments.report.material import Material
from experiments.report.pictures import pictures_section


def assemble(material: Material, pictures: int) -> Report:
    """Makes a report.

    Args:
        material: What it is about.
        pictures: How many pictures to show.

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
        pictures_section(material, pictures),
        course.configs_section(material),
        course.cost_section(material, numbers.cost_table(material)),
        course.failures_section(material, trials),
        words.limits_section(material, comparisons),
    )
    tables = (variants, trials, comparisons, *([effect_table] if effect_table else ()))
    lead = words.lead(material, comparisons)
    return Report(words.title(material), lead, sections, tables)
