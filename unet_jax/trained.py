"""A trained model, restored from a run's directory."""

from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from unet_jax import workdir as run_dir
from unet_jax.checkpoint import Checkpoints
from unet_jax.config import call, choose
from unet_jax.errors import UserError
from unet_jax.models.unet import UNet
from unet_jax.optim import make_optimizer
from unet_jax.sharding import Shardings, check_height, make_shardings
from unet_jax.step import abstract_state, make_init
from unet_jax.steps import MOST_STEPS


class Trained(NamedTuple):
    """A trained model, restored from a run's directory.

    Attributes:
        model: The model.
        variables: What to evaluate it with, on the mesh.
        class_names: K names.
        step: Of the checkpoint.
        shardings: The mesh.
    """

    model: UNet
    variables: Any
    class_names: tuple[str, ...]
    step: int
    shardings: Shardings


def restore(config: ConfigDict, workdir: Path, which: str, image_size: tuple[int, int]) -> Trained:
    """Restores the model of a run, without its data.

    Args:
        config: The run's config.
        workdir: The run's directory.
        which: "best" (by val/mIoU) or "latest".
        image_size: (height, width) of training pictures.

    Returns:
        The trained model.

    Raises:
        UserError: There is no checkpoint, or it is broken.
    """
    folder = workdir / run_dir.CHECKPOINTS
    checkpoints = Checkpoints(folder, read_only=True) if folder.is_dir() else None
    steps = checkpoints.steps() if checkpoints else {}
    if not checkpoints or not steps:
        raise UserError(f"{folder} holds no checkpoint; train first, or give another --workdir.")
    step = choose(steps, "--checkpoint", which)
    class_names = tuple(checkpoints.meta(step)["class_names"])
    shardings = call(make_shardings, "config.mesh", config.mesh)
    model = call(UNet, "config.model", config.model, num_classes=len(class_names))
    check_height(image_size[0], model.multiple(), model.padding, shardings)
    # The state's tree does not depend on the length of the run; no warm-up is longer than this.
    length = {"total_steps": MOST_STEPS, "epoch_steps": 1.0}
    optimizer, _ = call(make_optimizer, "config.optim", config.optim, **length, heads=model.heads())
    like = abstract_state(make_init(model, optimizer, image_size, shardings), shardings)
    state = checkpoints.restore(step, like)
    checkpoints.close()
    return Trained(model, state.eval_variables(), class_names, step, shardings)
