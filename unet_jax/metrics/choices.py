"""The metrics that an evaluation has where its config names them."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from unet_jax.config import check_parts
from unet_jax.metrics.base import Metric
from unet_jax.metrics.boundary import Boundary, check_boundary
from unet_jax.metrics.calibration import Calibration, check_calibration
from unet_jax.metrics.cleaned import Cleaning, check_cleaning
from unet_jax.metrics.curves import Curves, check_curves
from unet_jax.metrics.objects import Objects, check_objects
from unet_jax.metrics.per_image import PerImage, check_per_image
from unet_jax.metrics.segments import Segments, check_segments
from unet_jax.metrics.sizes import Sizes, check_sizes
from unet_jax.metrics.surface import Surface, check_surface
from unet_jax.metrics.tubes import ClDice, check_cldice

Chosen = Mapping[str, Mapping[str, Any]]
"""Of `check_metrics`."""


class Choice(NamedTuple):
    """A metric that an evaluation has where its config names it.

    Attributes:
        make: (class names, **its section) -> the metric.
        check: (values by key, number of classes) -> None; raises a UserError where they do not fit.
        of_val: By key, 0.0 of which is for the value that is chosen on val, the score that says it.
    """

    make: Callable[..., Metric]
    check: Callable[[Mapping[str, Any], int], None] = lambda values, num_classes: None
    of_val: Mapping[str, str] = MappingProxyType({})


CHOICES: dict[str, Choice] = {
    "per_image": Choice(PerImage, check_per_image),
    "surface": Choice(Surface, check_surface),
    "boundary": Choice(Boundary, check_boundary),
    "cldice": Choice(ClDice, check_cldice),
    "objects": Choice(Objects, check_objects),
    "sizes": Choice(Sizes, check_sizes),
    "cleaning": Choice(Cleaning, check_cleaning),
    "segments": Choice(Segments, check_segments, {"threshold": "V_rand_threshold"}),
    "curves": Choice(Curves, check_curves),
    "calibration": Choice(Calibration, check_calibration, {"temperature": "temperature"}),
}
"""By name in config.eval.metrics; the defaults of a metric's keys stand in `parts.PARTS`."""


def check_metrics(section: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Checks a config's section of metrics.

    Args:
        section: By metric, its keys.

    Returns:
        The metrics as `make_metrics` takes them, with a value for every key.

    Raises:
        UserError: A metric is unknown, or a value is of another type.
    """
    makers = {name: choice.make for name, choice in CHOICES.items()}
    return check_parts(makers, "config.eval.metrics", section, hidden=("class_names",))
