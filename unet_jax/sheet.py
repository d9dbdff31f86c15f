"""A sheet of what the augmentation of a config does to the first images of its training."""

import math
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from unet_jax import figures
from unet_jax.augment.scale import to_unit
from unet_jax.data.pipeline import train_batches
from unet_jax.errors import UserError
from unet_jax.experiment import Experiment, assemble, step_parts
from unet_jax.process.console import console

FILE = "augment.png"
ROWS = 6
MOST_MAPS = 3  # of several channels, the first ones


def draw_sheet(config: ConfigDict, workdir: Path) -> Path:
    """Draws augment.png: image, mask, weight and maps before and after their augmentation.

    They are the first images of the training of that config, with what is drawn for them there.

    Args:
        config: The whole config.
        workdir: Where to.

    Returns:
        The file.

    Raises:
        UserError: A value or the data do not fit, or the file cannot be written.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"--workdir={workdir} cannot be written: {error.strerror}; choose another directory."
        ) from None
    experiment = assemble(config)
    pairs = _pairs(experiment)
    steps = ", ".join(experiment.config.augment) or "none"
    file, names = workdir / FILE, experiment.dataset.class_names
    title = f"augmentation ({steps}) of the first images of a training"
    ids = [f"step {step}, row {row}" for step, row, *_ in pairs]
    figures.augmentation_sheet(file, [pair for *_, pair in pairs], names, title, ids)
    console.print(f"{len(pairs)} images before and after {steps}: {file}")
    return file


def _pairs(
    experiment: Experiment,
) -> list[tuple[int, int, tuple[figures.Example, figures.Example]]]:
    """Returns step, row, and the example before and after, of `ROWS` images."""
    e, plan, network = experiment, experiment.plan, experiment.network
    augment = jax.jit(step_parts(e.config, network, plan)["augment"])
    how, count = network.loading.normalise, min(plan.total, math.ceil(ROWS / plan.batch_size))
    _, key = jax.random.split(jax.random.key(plan.seed))  # as training splits it
    order = {"batch_size": plan.batch_size, "seed": plan.seed, "start": 0, "stop": count}
    pairs = []
    for step, batch in enumerate(train_batches(e.dataset.splits["train"], e.loading, **order)):
        extras = batch.get("extras", {})
        image, *others = (batch[name] for name in ("image", "label", "weight"))
        after = augment(image, *others, jax.random.fold_in(key, step), *extras.values())
        unit = to_unit(image, how.value_range(network.spec), cuts=how.cuts)
        before = unit, *others, *extras.values()
        for row in range(min(ROWS - len(pairs), plan.batch_size)):
            one, other = ([np.asarray(x[row]) for x in each] for each in (before, after))
            ends = (0.0, 1.0) if how.is_bounded else (float(one[0].min()), float(one[0].max()))
            pair = _example(one, ends, list(extras)), _example(other, ends, list(extras))
            pairs.append((step, row, pair))
    return pairs


def _example(
    arrays: list[np.ndarray], ends: tuple[float, float], names: list[str]
) -> figures.Example:
    """Makes an image, its label, weight and extras what a figure shows: of volumes a slice."""
    (image, label, weight, *extras), (low, high) = arrays, ends
    axes = weight.ndim
    grey = np.rint(np.clip((image - low) / (high - low or 1), 0, 1) * 255).astype(np.uint8)
    maps = {}
    for name, values in zip(names, extras, strict=True):
        flat = figures.flat_label(values, axes)
        several = flat[..., None] if flat.ndim == 2 else flat
        for k in range(min(MOST_MAPS, several.shape[-1])):
            maps[name if flat.ndim == 2 else f"{name} {k}"] = several[..., k]
    return figures.Example(
        figures.flat_image(grey),
        figures.flat_label(label, axes).astype(np.uint8),
        figures.flat_label(weight, axes).astype(np.float32),
        maps,
    )
