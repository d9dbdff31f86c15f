"""What a run keeps of its training split: the values that became black and white.

They are found once, when a run begins; it goes on, is evaluated and predicts with what it keeps.
"""

import json
from pathlib import Path

from unet_jax.data.normalise import Normalise
from unet_jax.data.sample import Ends
from unet_jax.data.statistics import as_ends
from unet_jax.errors import BrokenFileError
from unet_jax.process import records
from unet_jax.runs import layout


def read(workdir: Path, channels: int | None = None) -> Ends | None:
    """Reads black and white of each channel of the training split.

    Args:
        workdir: The run's directory.
        channels: Of its images, where that is known.

    Returns:
        The two; None where the run keeps none.

    Raises:
        BrokenFileError: The file is not what a run wrote.
    """
    advice = "put it back, or train again with --overwrite"
    shape = {"black": [(float, int)], "white": [(float, int)]}
    file = workdir / layout.STATISTICS
    found = records.read_json(file, shape, "what a run wrote", advice)
    if not found:
        return None
    counts = {len(found["black"]), len(found["white"]), channels or len(found["black"])}
    if len(counts) > 1:
        images = f", and the images have {channels}" if channels else ""
        raise BrokenFileError(
            f"{file} is not what a run wrote (black and white of {len(found['black'])} and "
            f"{len(found['white'])} channels{images}); {advice}."
        )
    return as_ends([found["black"], found["white"]])


def to_lists(ends: Ends | None) -> list[list[float]] | None:
    """Returns black and white as JSON has them."""
    return [list(end) for end in ends] if ends else None


def write(normalise: Normalise) -> str | None:
    """Writes what a run keeps.

    Args:
        normalise: With the black and the white that were found.

    Returns:
        Text of statistics.json; None where there is nothing to keep.
    """
    if not normalise.ends:
        return None
    black, white = normalise.ends
    return json.dumps({"black": black, "white": white}, indent=0) + "\n"
