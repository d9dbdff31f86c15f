"""The faults that the doctor knows: one function each, in files by what they look at."""

from collections.abc import Callable, Iterator

from unet_jax.doctor.finding import Finding
from unet_jax.doctor.survey import Survey

Fault = Callable[[Survey], Iterator[Finding]]
"""Names what is wrong with what a survey saw."""

FAULTS: dict[str, Fault] = {}
"""By name, in the order in which findings are told."""


def find(survey: Survey) -> list[Finding]:
    """Finds what is wrong with a data set.

    Args:
        survey: What was seen of it.

    Returns:
        The findings of opening it, then errors, then warnings, each in the order of `FAULTS`.
    """
    found = [one for fault in FAULTS.values() for one in fault(survey)]
    return [*survey.opening, *sorted(found, key=lambda one: one.level != "error")]
