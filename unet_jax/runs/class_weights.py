"""The class weights that a run found in its training split, in class_weights.json."""

import json
from pathlib import Path

from unet_jax.data.class_weights import Weights
from unet_jax.process import records
from unet_jax.process.whole import write_text
from unet_jax.runs import layout


def read(workdir: Path) -> Weights | None:
    """Reads the class weights that a run keeps.

    Args:
        workdir: The run's directory.

    Returns:
        The weights; None of a run that has found none.

    Raises:
        BrokenFileError: The file is not what a run wrote.
    """
    advice = "put it back, or delete it: the pixels are counted anew then"
    shape = {"rule": str, "weights": [records.Number], "pixels": [records.Count]}
    file = workdir / layout.CLASS_WEIGHTS
    found = records.read_json(file, shape, "what a run wrote", advice)
    if found is None:
        return None
    return Weights(found["rule"], tuple(found["weights"]), tuple(found["pixels"]))


def write(workdir: Path, weights: Weights | None) -> None:
    """Writes the class weights of a run that has any.

    Args:
        workdir: The run's directory.
        weights: What they are.
    """
    if weights is not None:
        write_text(workdir / layout.CLASS_WEIGHTS, json.dumps(weights._asdict(), indent=2) + "\n")
