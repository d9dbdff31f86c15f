"""The weights of a run, for another network to start from."""

from pathlib import Path

import numpy as np

from unet_jax.errors import UserError
from unet_jax.runs import layout
from unet_jax.runs.checkpoint import Checkpoints, place_of_params, read_arrays


def read_variables(workdir: Path) -> dict[tuple[str, ...], np.ndarray]:
    """Reads what the best checkpoint of a run is evaluated with.

    Args:
        workdir: The run's directory.

    Returns:
        By path, such as ("params", "encoder_0", "Conv_0", "kernel"): the averaged parameters where
        they were kept, else the parameters, and the running statistics.

    Raises:
        UserError: There is no checkpoint, or it is broken.
    """
    folder = workdir / layout.CHECKPOINTS
    checkpoints = Checkpoints(folder, read_only=True) if folder.is_dir() else None
    steps = checkpoints.steps() if checkpoints else {}
    if not checkpoints or not steps:
        raise UserError(f"{workdir} is no run with a checkpoint.")
    arrays = read_arrays(checkpoints.check(steps["best"]))
    checkpoints.close()
    places = {"params": place_of_params(arrays), "batch_stats": "batch_stats"}
    return {
        (name, *path.removeprefix(f"{place}/").split("/")): array
        for name, place in places.items()
        for path, array in arrays.items()
        if path.startswith(f"{place}/")
    }
