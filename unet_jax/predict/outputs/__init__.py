"""What prediction can write: one class each, by the name that --outputs gives it."""

from collections.abc import Sequence

from unet_jax.config import choose
from unet_jax.errors import UserError
from unet_jax.predict.outputs.base import Output
from unet_jax.predict.outputs.coco import Coco
from unet_jax.predict.outputs.geojson import GeoJson
from unet_jax.predict.outputs.imagej import ImageJ
from unet_jax.predict.outputs.images import (
    Colours,
    Disagreement,
    Entropy,
    Ids,
    Masks,
    Overlays,
    Probabilities,
)
from unet_jax.predict.outputs.tables import Tables
from unet_jax.predict.outputs.yolo import Yolo

OUTPUTS: dict[str, type[Output]] = {
    "mask": Masks,
    "overlay": Overlays,
    "ids": Ids,
    "colours": Colours,
    "probability": Probabilities,
    "entropy": Entropy,
    "disagreement": Disagreement,
    "geojson": GeoJson,
    "imagej": ImageJ,
    "coco": Coco,
    "yolo": Yolo,
    "csv": Tables,
}
DEFAULT = ("mask", "overlay")
STREAMED = (DEFAULT, ("mask",))
"""What large images can have without being in memory whole."""


def check_outputs(names: Sequence[str], axes: int) -> tuple[str, ...]:
    """Checks the outputs that are asked for.

    Args:
        names: Of --outputs.
        axes: Of pixels: 2 of images, 3 of volumes.

    Returns:
        Them, each once, in the order of `OUTPUTS`.

    Raises:
        UserError: There is none, one is unknown, or it cannot be written for so many axes.
    """
    if not names:
        raise UserError(f"--outputs is empty; give some of {', '.join(OUTPUTS)}.")
    for name in names:
        if axes not in choose(OUTPUTS, "--outputs", name).axes:
            possible = ", ".join(name for name, kind in OUTPUTS.items() if axes in kind.axes)
            raise UserError(
                f"--outputs={name} is for images of 2 axes, and this run is of volumes, which can "
                f"have {possible}; leave it out."
            )
    return tuple(name for name in OUTPUTS if name in names)
