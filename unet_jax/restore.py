"""A run's trained network, from its directory."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from unet_jax.config import choose
from unet_jax.data.sample import RGB, Spec
from unet_jax.data.sources import read_loading
from unet_jax.errors import UserError
from unet_jax.network import Network, make_network
from unet_jax.runs import layout, statistics
from unet_jax.runs.checkpoint import Checkpoints
from unet_jax.runs.intact import check_found, check_of_run
from unet_jax.task import KINDS, MultiLabel


class Trained(NamedTuple):
    """A trained network, restored from a run's directory.

    Attributes:
        network: The network.
        variables: {"params", "batch_stats"} to evaluate it with, on the mesh.
        class_names: K names.
        step: Of the checkpoint.
        scores: Of the evaluation of val that training made at that step; {} where it made none.
    """

    network: Network
    variables: dict[str, Any]
    class_names: tuple[str, ...]
    step: int
    scores: Mapping[str, float | None] = MappingProxyType({})


def restore(config: ConfigDict, workdir: Path, which: str) -> Trained:
    """Restores the network of a run, without its data and its optimiser.

    Args:
        config: The run's config.
        workdir: The run's directory.
        which: "best" (by `config.eval.headline`) or "latest".

    Returns:
        The trained network.

    Raises:
        UserError: There is no checkpoint, or it is broken, or the config does not fit it.
    """
    checkpoints, step, meta = _open_checkpoint(config, workdir, which)
    class_names = tuple(meta["class_names"])
    spec = _spec_of(meta)
    ends = statistics.read(workdir, spec.channels)
    if read_loading(config.data).normalise.is_of_train and not ends:
        raise UserError(
            f"{workdir / layout.STATISTICS} is not there, and config.data.normalise.of='train' "
            "needs what it says of the training images; put it back, or train again with "
            "--overwrite."
        )
    check_found(meta, {layout.STATISTICS: statistics.to_lists(ends)}, workdir)
    network = make_network(config, class_names, spec, ends)
    variables = checkpoints.restore_variables(step, network.variables)
    checkpoints.close()
    return Trained(network, variables, class_names, step, meta.get("scores", {}))


def mask_classes(config: ConfigDict, workdir: Path, which: str) -> tuple[str, ...]:
    """Tells which classes of a run have a mask each in its predictions, before it is restored.

    Args:
        config: The run's config.
        workdir: The run's directory.
        which: "best" or "latest".

    Returns:
        Their names; () where one mask holds the class of every pixel.

    Raises:
        UserError: There is no such task, or see `restore`.
    """
    if choose(KINDS, "config.task.kind", config.task.kind) is not MultiLabel:
        return ()
    checkpoints, _, meta = _open_checkpoint(config, workdir, which)
    checkpoints.close()
    return tuple(meta["class_names"])


def _open_checkpoint(
    config: ConfigDict, workdir: Path, which: str
) -> tuple[Checkpoints, int, dict[str, Any]]:
    """Opens the checkpoints of a run; returns the step of one, and what it says of itself."""
    folder = workdir / layout.CHECKPOINTS
    checkpoints = Checkpoints(folder, read_only=True) if folder.is_dir() else None
    steps = checkpoints.steps() if checkpoints else {}
    if not checkpoints or not steps:
        raise UserError(f"{folder} holds no checkpoint; train first, or give another --workdir.")
    step = choose(steps, "--checkpoint", which)
    meta = checkpoints.meta(step)
    check_of_run(meta, config, str(folder / str(step)))
    return checkpoints, step, meta


def _spec_of(meta: Mapping[str, Any]) -> Spec:
    """Returns the spec that a checkpoint keeps; older versions had no other than `RGB`."""
    if "spec" not in meta:
        return RGB
    spec = Spec(**meta["spec"])
    return spec._replace(value_range=tuple(spec.value_range))
