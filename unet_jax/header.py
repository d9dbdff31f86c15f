"""What a run says and writes of itself at its start."""

import functools
import math
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from unet_jax.data.images import read_sizes
from unet_jax.data.pipeline import seen_share
from unet_jax.data.sample import written
from unet_jax.experiment import Experiment, reach
from unet_jax.losses.make import find_ratios
from unet_jax.models import fast
from unet_jax.models.anatomy import forward_flops
from unet_jax.models.unet import UNet
from unet_jax.predict.fits import shrinkage
from unet_jax.process.console import console, print_header
from unet_jax.runs import class_weights
from unet_jax.runs.provenance import SHRINKAGE, other_machine, write_provenance
from unet_jax.sharding import describe_devices, describe_split
from unet_jax.step import variable_shapes


def write_run(experiment: Experiment, workdir: Path, overrides: dict[str, Any], start: int) -> None:
    """Writes what runs, on what, with which class weights; says what is other than at its begin.

    Args:
        experiment: What trains.
        workdir: The run's directory.
        overrides: The config values given on the command line.
        start: Steps that the run has taken.
    """
    form = fast.describe()
    for line in other_machine(workdir, describe_devices(), form) if start else []:
        console.print(line)
    size: dict[str, float] = {
        "steps": experiment.plan.total,
        "parameters": count_parameters(experiment),
        "flops_per_image": count_flops(experiment),
    }
    if experiment.loading.fit == "resize" and not start:
        size |= {SHRINKAGE: largest_shrinkage(experiment)}
    split = describe_split(experiment.state_shapes, experiment.shardings)
    write_provenance(workdir, overrides, describe_devices(), split, size, kernels=form, start=start)
    class_weights.write(workdir, experiment.class_weights)


def count_parameters(experiment: Experiment) -> int:
    """Counts the numbers that training changes."""
    return sum(x.size for x in jax.tree.leaves(experiment.state_shapes.params))


def count_flops(experiment: Experiment) -> int:
    """Counts the floating-point operations of one image's forward pass."""
    network = experiment.network
    return _count_flops(network.model, network.image_shape)  # pyrefly: ignore[bad-argument-type]


@functools.lru_cache(64)  # a run asks twice, and a pack for every trial
def _count_flops(model: UNet, image_shape: tuple[int, ...]) -> int:
    shapes = variable_shapes(model, image_shape)  # pyrefly: ignore[bad-argument-type]
    return round(forward_flops(model, shapes, (1, *image_shape)))


def largest_shrinkage(experiment: Experiment) -> float:
    """Returns how much the training images are shrunk at most; see `fits.shrinkage`."""
    loading, train = experiment.loading, experiment.dataset.splits["train"]
    return max(shrinkage(n, loading.image_size) for n in read_sizes(train, loading.workers))


def print_start(experiment: Experiment, workdir: Path, start: int) -> None:
    """Prints what trains, on what.

    Args:
        experiment: What trains.
        workdir: The run's directory.
        start: Steps that the run has taken.
    """
    e, plan = experiment, experiment.plan
    devices = describe_devices()
    counts = {name: len(split) for name, split in e.dataset.splits.items()}
    facts = {
        "devices": f"{devices['count']} x {devices['kind']} ({devices['platform']})",
        **({"kernels": form} if (form := fast.describe()) else {}),
        "mesh": dict(e.shardings.mesh.shape),
        "data": ", ".join(f"{name} {count}" for name, count in counts.items()),
        **({"splits": e.dataset.split_by} if e.dataset.split_by else {}),
        "classes": ", ".join(e.dataset.class_names),
        "values": e.loading.normalise.describe(e.network.spec),
        "parameters": f"{count_parameters(e):,}",
        "FLOPs per image": f"{count_flops(e):,} (forward, {e.loading.image_size})",
        "steps": f"{plan.total} of {plan.batch_size} images, "
        f"{plan.total / plan.epoch_steps:.1f} epochs",
        "workdir": workdir,
    }
    if e.network.task.names != e.dataset.class_names:
        facts["regions"] = ", ".join(e.network.task.names)
    if line := describe_accumulation(e.config, has_batch_stats=bool(e.state_shapes.batch_stats)):
        facts["accumulation"] = line
    if e.class_weights:
        facts["class weights"] = e.class_weights.describe(e.network.task.names)
    if e.loading.fit == "crop":
        facts["an epoch sees"] = _describe_crops(e)
    if e.loading.foreground:
        facts["foreground"] = _describe_foreground(e)
    for level, warning in enumerate(e.model.checkerboards()):
        if warning:
            facts[f"up_{level}"] = warning
    if start:
        facts["resumes at"] = f"step {start}"
    print_header("unet_jax", facts)


def describe_accumulation(config: ConfigDict, *, has_batch_stats: bool) -> str:
    """Says what several batches with one update do not make as one large batch would.

    Args:
        config: The whole config.
        has_batch_stats: Whether the model has batch normalisation.

    Returns:
        One line; "" where a batch is an update, or nothing differs.
    """
    count, ratios = config.optim.accumulate, find_ratios(config.loss)
    differs = [f"config.loss.{name}" for name in ratios]
    differs += ["batch normalisation"] * has_batch_stats
    if count == 1 or not differs:
        return ""
    return (
        f"{count} batches make one update, that of one large batch but for {', '.join(differs)}, "
        "which see each batch alone"
    )


def _describe_crops(e: Experiment) -> str:
    """Says how much of the training images an epoch of random crops sees."""
    loading, train = e.loading, e.dataset.splits["train"]
    share = seen_share(read_sizes(train, loading.workers), loading)
    size = written(loading.image_size)
    text = f"{loading.crops} crop{'s' * (loading.crops > 1)} of {size} an image, "
    enough = math.ceil(loading.crops / share)
    more = f" (as many as there are with config.data.crops={enough})" if share < 0.5 else ""
    return f"{text}{share:.0%} of the pixels of {len(train)} images{more}"


def _describe_foreground(e: Experiment) -> str:
    """Says which share of the crops is put on which classes."""
    reached, names = reach(e), e.dataset.class_names
    listed = ", ".join(names[k] for k in e.loading.foreground_classes)
    text = f"{reached:.1%} of the crops are put on a pixel of {listed}"
    if reached < e.loading.foreground:
        share = reached / e.loading.foreground
        text += f": of {e.loading.foreground:.1%}, since {share:.1%} of the images hold one"
    return text
