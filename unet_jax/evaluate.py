"""Evaluation: every picture once, scored at its label's own resolution."""

import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from unet_jax import workdir as run_dir
from unet_jax.config import call, check_sections, choose
from unet_jax.data.base import Dataset, Source
from unet_jax.data.doctor import check
from unet_jax.data.sources import Loading
from unet_jax.data.splits import open_run
from unet_jax.errors import UserError
from unet_jax.eval_step import EvalStep, cut_predictions
from unet_jax.fits import other_scale
from unet_jax.gallery import Gallery
from unet_jax.logs import console, print_scores
from unet_jax.metrics import Scores, scores, view_confusion
from unet_jax.multihost import is_first
from unet_jax.sharding import check_batch_size
from unet_jax.trained import restore


class Evaluation(NamedTuple):
    """What an evaluation found.

    Attributes:
        confusion: int64 [N, K, K], picture by picture; rows are truth.
        cross_entropy: Mean over the pixels that count; None where none does.
        predictions: uint8 [H, W] by index, for the pictures that were asked for.
    """

    confusion: np.ndarray
    cross_entropy: float | None
    predictions: dict[int, np.ndarray]


class EvalSettings(NamedTuple):
    """The eval section of a config; see `make_eval_settings`."""

    batch_size: int
    pictures: int


def make_eval_settings(batch_size: int = 32, pictures: int = 6) -> EvalSettings:
    """Checks the eval section of a config.

    Args:
        batch_size: B, over all devices.
        pictures: How many fixed pictures are shown in figures.

    Returns:
        The settings.

    Raises:
        UserError: A number is out of range.
    """
    for name, value in {"batch_size": batch_size, "pictures": pictures}.items():
        if value < 1:
            raise UserError(f"config.eval.{name}={value} must be 1 or more.")
    return EvalSettings(batch_size, pictures)


def evaluate(
    step: EvalStep,
    variables: Any,
    source: Source,
    *,
    batch_size: int,
    keep: Collection[int] = (),
) -> Evaluation:
    """Evaluates every picture of a source once.

    Args:
        step: The step, of the model.
        variables: {"params", "batch_stats"} to evaluate.
        source: N pictures.
        batch_size: B.
        keep: Indices of pictures whose predictions are returned.

    Returns:
        What was found; the same whatever B and the mesh are, but for rounding of the logits.
    """
    found, predictions = [], {}
    for batch, result in step.batches(variables, source, batch_size):
        prediction = result.pop("prediction")
        found.append((batch["index"], result))  # fetched when all is under way
        if any(index in keep for index in batch["index"]):
            own = cut_predictions(prediction, batch)
            predictions |= {index: label for index, label in own.items() if index in keep}
    confusions: dict[int, np.ndarray] = {}
    losses: dict[int, float] = {}
    for indices, result in found:
        values = jax.device_get(result)
        for row, index in enumerate(indices):
            confusions[index] = values["confusion"][row].astype(np.int64)
            losses[index] = float(values["loss"][row])
    order = range(len(source))
    confusion = np.stack([confusions[index] for index in order])
    pixels = int(confusion.sum())
    loss = sum(losses[index] for index in order) / pixels if pixels else None
    return Evaluation(confusion, loss, predictions)


def summarise(evaluation: Evaluation, dataset: Dataset) -> Scores:
    """Computes the scores of a split, and those of the data set's views.

    Args:
        evaluation: What was found.
        dataset: Its classes and views.

    Returns:
        "cross_entropy", what `metrics.scores` returns, and "VIEW/..." likewise for every view.
    """
    total = evaluation.confusion.sum(axis=0)
    result: Scores = {
        "cross_entropy": evaluation.cross_entropy,
        **scores(total, dataset.class_names),
    }
    for view in dataset.views:
        values = scores(view_confusion(total, view), view.class_names)
        result |= {f"{view.name}/{key}": value for key, value in values.items()}
    return result


def save_counts(file: Path, evaluation: Evaluation, source: Source) -> None:
    """Writes the counts of every picture, for comparisons picture by picture.

    Args:
        file: An npz file, which is written whole or not at all; its folder is made.
        evaluation: What was found.
        source: The N pictures.
    """
    file.parent.mkdir(exist_ok=True)
    part = file.with_name(f".{file.stem}.part.npz")
    np.savez_compressed(part, confusion=evaluation.confusion, id=np.array(source.ids))
    part.replace(file)


def fixed_pictures(source: Source, count: int) -> list[int]:
    """Chooses up to `count` indices spread evenly over a source, the same ones every time."""
    count = min(count, len(source))
    return [round((i + 0.5) * len(source) / count - 0.5) for i in range(count)]


def say_other_scale(source: Source, loading: Loading, workdir: Path) -> None:
    """Says in one line where a run sees images at another scale than those it was trained on."""
    trained = run_dir.read_run(workdir).get(run_dir.SHRINKAGE)  # older runs do not say
    if line := other_scale(source, loading, trained):
        console.print(line, markup=False)


def evaluate_run(config: ConfigDict, workdir: Path, *, split: str, checkpoint: str) -> None:
    """Scores a checkpoint of a run on one split: results.json, figures and a table.

    The best checkpoint's scores come under the split's name, those of the latest one under
    SPLIT_latest. What an earlier evaluation left is replaced when all is there, and nothing of
    another step is: files are named by the step, which results.json, written last, tells.

    Args:
        config: The run's config; only keys of `config.MAY_DIFFER` may be other.
        workdir: The run's directory.
        split: "val", "test" or "train".
        checkpoint: "best" (by val/mIoU) or "latest".

    Raises:
        UserError: The run, its data or the split are missing, or it is a run of another config.
    """
    check_sections(config)
    for line in run_dir.check_same(workdir, config):
        console.print(line, markup=False)
    dataset, loading = open_run(config.data, workdir, split)
    source = choose(dataset.splits, "--split", split)
    settings = call(make_eval_settings, "config.eval", config.eval)
    trained = restore(config, workdir, checkpoint, loading.image_size)
    check_batch_size("config.eval.batch_size", settings.batch_size, trained.shardings)
    check(source, split)
    say_other_scale(source, loading, workdir)
    shown = fixed_pictures(source, settings.pictures)
    result = evaluate(
        EvalStep(trained.model, loading, trained.shardings),
        trained.variables,
        source,
        batch_size=settings.batch_size,
        keep=shown,
    )
    title = f"{split}, {checkpoint} checkpoint (step {trained.step}), {len(source)} pictures"
    summary = summarise(result, dataset)
    if not is_first():
        return
    entry = run_dir.ENTRIES[split] + ("" if checkpoint == "best" else f"_{checkpoint}")
    name = f"{entry}_{trained.step:08d}"
    gallery = Gallery(workdir, source, shown, dataset.class_names)
    with tempfile.TemporaryDirectory(prefix=".evaluation_", dir=workdir) as folder:
        figure = Path(folder) / f"predictions_{name}.png"
        gallery.draw_split(figure, title, result.predictions, result.confusion.sum(axis=0))
        save_counts(Path(folder) / f"{name}.npz", result, source)
        # All is there.
        run_dir.move(Path(folder).glob("*.png"), workdir / run_dir.FIGURES)
        run_dir.move(Path(folder).glob("*.npz"), workdir / run_dir.EVALUATIONS)
    run_dir.write_results(workdir, **{entry: {"step": trained.step, **summary}})
    print_scores(title, summary, dataset.class_names)
    console.print(f"pictures: {workdir / run_dir.FIGURES / figure.name}")
