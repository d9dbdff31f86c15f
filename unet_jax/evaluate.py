"""Evaluation: every picture once, scored at its label's own resolution."""

from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.lax import with_sharding_constraint
from ml_collections import ConfigDict

from unet_jax import workdir as run_dir
from unet_jax.augment import standardise, to_unit
from unet_jax.config import call, check_sections, choose
from unet_jax.data.base import Dataset, Source
from unet_jax.data.doctor import check
from unet_jax.data.pipeline import eval_batches
from unet_jax.data.sources import Loading, open_data
from unet_jax.errors import UserError
from unet_jax.gallery import Gallery
from unet_jax.logs import console, print_scores
from unet_jax.metrics import Scores, confusion_matrices, scores, view_confusion
from unet_jax.models.unet import UNet, whole_logits
from unet_jax.multihost import is_first
from unet_jax.sharding import Shardings, check_batch_size, process_rows, put_batch
from unet_jax.trained import restore

EvalStep = Callable[[Any, dict[str, jax.Array]], dict[str, jax.Array]]


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


def resize_logits(logits: jax.Array, size: jax.Array, canvas: tuple[int, int]) -> jax.Array:
    """Resizes each picture's logits, bilinear, to its own size in the corner of a canvas.

    Args:
        logits: float32 [B, h, w, K].
        size: float32 [B, 2], (height, width) to resize to.
        canvas: (H, W), at least as large as every size.

    Returns:
        float32 [B, H, W, K]; what lies outside a picture's size means nothing.
    """

    def one(picture: jax.Array, own_size: jax.Array) -> jax.Array:
        scale = own_size / jnp.array(picture.shape[:2], jnp.float32)
        shape = (*canvas, picture.shape[-1])
        shift = jnp.zeros(2)
        return jax.image.scale_and_translate(
            picture, shape, (0, 1), scale, shift, method="linear", antialias=False
        )

    return jax.vmap(one)(logits, size)


def make_eval_step(model: UNet, shardings: Shardings) -> EvalStep:
    """Makes the compiled step of evaluation.

    Args:
        model: The model.
        shardings: The mesh.

    Returns:
        step(variables, batch) -> {"confusion": int32 [B, K, K], "loss": float32 [B] (sums of the
        pixels' cross-entropy), "prediction": uint8 [B, H, W]}, for batches of
        `pipeline.eval_batches`.
    """

    def eval_step(variables: Any, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
        image, label, weight = batch["image"], batch["label"].astype(jnp.int32), batch["weight"]
        height, width = label.shape[1:]
        variables = with_sharding_constraint(variables, shardings.replicated)
        logits = whole_logits(model, variables, standardise(to_unit(image)))
        # Whole pictures, so that resizing sums over their rows in one order on every mesh.
        logits = with_sharding_constraint(logits, shardings.rows)
        logits = resize_logits(logits, batch["size"], (height, width))
        prediction = jnp.argmax(logits, axis=-1)
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, label)
        return {
            "confusion": confusion_matrices(prediction, label, weight, logits.shape[-1]),
            "loss": jnp.sum(loss * weight, axis=(1, 2)),
            "prediction": prediction.astype(jnp.uint8),
        }

    # Every process fetches the counts of all pictures.
    return jax.jit(eval_step, out_shardings=shardings.replicated)


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


def run_batches(
    step: EvalStep,
    variables: Any,
    source: Source,
    loading: Loading,
    batch_size: int,
    shardings: Shardings,
) -> Iterator[tuple[dict[str, Any], dict[str, jax.Array]]]:
    """Runs the step over a source; a result comes when the next batch is under way.

    Args:
        step: Of `make_eval_step`.
        variables: {"params", "batch_stats"}.
        source: Pictures.
        loading: How they are loaded.
        batch_size: B.
        shardings: The mesh.

    Yields:
        Batches of `pipeline.eval_batches` with what the step returned for them.
    """
    before = None
    rows, multiple = process_rows(batch_size, shardings), shardings.size("space")
    share = {"batch_size": batch_size, "rows": rows.tolist(), "multiple": multiple}
    for batch in eval_batches(source, loading, **share):
        arrays = {key: batch[key] for key in ("image", "label", "weight", "size")}
        under_way = batch, step(variables, put_batch(arrays, shardings))
        if before is not None:
            yield before
        before = under_way
    if before is not None:
        yield before


def crop_predictions(prediction: jax.Array, batch: dict[str, Any]) -> dict[int, np.ndarray]:
    """Fetches a batch's predictions and cuts each to its label's own size.

    Args:
        prediction: uint8 [B, H, W].
        batch: Of `pipeline.eval_batches`.

    Returns:
        uint8 [h, w] by index.
    """
    labels, pictures = jax.device_get(prediction), zip(batch["index"], batch["sizes"], strict=True)
    return {index: labels[row, :h, :w] for row, (index, (h, w)) in enumerate(pictures)}


def evaluate(
    step: EvalStep,
    variables: Any,
    source: Source,
    loading: Loading,
    *,
    batch_size: int,
    shardings: Shardings,
    keep: Collection[int] = (),
) -> Evaluation:
    """Evaluates every picture of a source once.

    Args:
        step: Of `make_eval_step`.
        variables: {"params", "batch_stats"} to evaluate.
        source: N pictures.
        loading: How they are loaded.
        batch_size: B.
        shardings: The mesh.
        keep: Indices of pictures whose predictions are returned.

    Returns:
        What was found; the same whatever B and the mesh are, but for rounding of the logits.
    """
    found, predictions = [], {}
    for batch, result in run_batches(step, variables, source, loading, batch_size, shardings):
        prediction = result.pop("prediction")
        found.append((batch["index"], result))  # fetched when all is under way
        if any(index in keep for index in batch["index"]):
            own = crop_predictions(prediction, batch)
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


def save_counts(
    workdir: Path, split: str, step: int, evaluation: Evaluation, source: Source
) -> None:
    """Writes the counts of every picture, for comparisons picture by picture.

    Args:
        workdir: The run's directory.
        split: Name of the source.
        step: Of the state that was evaluated.
        evaluation: What was found.
        source: The N pictures.
    """
    folder = workdir / run_dir.EVALUATIONS
    folder.mkdir(exist_ok=True)
    part = folder / f".{split}.part.npz"  # a run may die while it is written
    np.savez_compressed(part, confusion=evaluation.confusion, id=np.array(source.ids))
    part.replace(folder / f"{split}_{step:08d}.npz")


def fixed_pictures(source: Source, count: int) -> list[int]:
    """Chooses up to `count` indices spread evenly over a source, the same ones every time."""
    count = min(count, len(source))
    return [round((i + 0.5) * len(source) / count - 0.5) for i in range(count)]


def evaluate_run(config: ConfigDict, workdir: Path, *, split: str, checkpoint: str) -> None:
    """Scores a checkpoint of a run on one split: results.json, figures and a table.

    Args:
        config: The run's config.
        workdir: The run's directory.
        split: "val", "test" or "train".
        checkpoint: "best" (by val/mIoU) or "latest".

    Raises:
        UserError: The run, its data or the split are missing.
    """
    check_sections(config)
    dataset, loading = call(open_data, "config.data", config.data)
    source = choose(dataset.splits, "--split", split)
    settings = call(make_eval_settings, "config.eval", config.eval)
    trained = restore(config, workdir, checkpoint, loading.image_size)
    check_batch_size("config.eval.batch_size", settings.batch_size, trained.shardings)
    check(source, split)
    shown = fixed_pictures(source, settings.pictures)
    result = evaluate(
        make_eval_step(trained.model, trained.shardings),
        trained.variables,
        source,
        loading,
        batch_size=settings.batch_size,
        shardings=trained.shardings,
        keep=shown,
    )
    title = f"{split}, {checkpoint} checkpoint (step {trained.step}), {len(source)} pictures"
    file = workdir / run_dir.FIGURES / f"predictions_{split}.png"
    summary = summarise(result, dataset)
    if not is_first():
        return
    save_counts(workdir, split, trained.step, result, source)
    gallery = Gallery(workdir, source, shown, dataset.class_names)
    gallery.draw_split(file, title, result.predictions, result.confusion.sum(axis=0))
    run_dir.write_results(workdir, **{split: {"step": trained.step, **summary}})
    print_scores(title, summary, dataset.class_names)
    console.print(f"pictures: {file}")
