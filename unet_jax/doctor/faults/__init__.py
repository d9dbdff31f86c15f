"""The faults that the doctor knows: one function each, in files by what they look at."""

from collections.abc import Callable, Iterator

from unet_jax.doctor.faults import (
    alignment,
    classes,
    files,
    intensities,
    labels,
    objects,
    splits,
    stacks,
)
from unet_jax.doctor.finding import Finding
from unet_jax.doctor.survey import Survey

Fault = Callable[[Survey], Iterator[Finding]]
"""Names what is wrong with what a survey saw."""

FAULTS: dict[str, Fault] = {
    "opening": files.opening,
    "pairs": files.pairs,
    "unreadable": files.unreadable,
    "sizes": files.sizes,
    "orientation": files.orientation,
    "not_finite": files.not_finite,
    "kinds": intensities.kinds,
    "unnamed": labels.unnamed,
    "values": labels.values,
    "colours": labels.colours,
    "palettes": labels.palettes,
    "one_class": labels.one_class,
    "all_ignored": labels.all_ignored,
    "absent": classes.absent,
    "imbalance": classes.imbalance,
    "mirrored": classes.mirrored,
    "turned": alignment.turned,
    "moved": alignment.moved,
    "twice": splits.twice,
    "near": splits.near,
    "groups": splits.groups,
    "pages": stacks.pages,
    "shift": splits.shift,
    "value_range": intensities.value_range,
    "constant": intensities.constant,
    "faint": intensities.faint,
    "inverted": intensities.inverted,
    "clipped": intensities.clipped,
    "small": intensities.small,
    "squeezed": intensities.squeezed,
    "small_objects": objects.small_objects,
}
"""By name, in the order in which findings are told."""


def find(survey: Survey) -> list[Finding]:
    """Finds what is wrong with a data set.

    Args:
        survey: What was seen of it.

    Returns:
        Errors, then warnings, each in the order of `FAULTS`.
    """
    found = [one for fault in FAULTS.values() for one in fault(survey)]
    return sorted(found, key=lambda one: one.level != "error")
