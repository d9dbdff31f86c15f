"""Evaluation: every image once, scored at its label's own resolution."""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from unet_jax.cards.of_run import Evaluated, card_of_run
from unet_jax.cards.pages import headline, write_files
from unet_jax.config import check_sections
from unet_jax.data.check import check
from unet_jax.data.sample import Source
from unet_jax.defaults import complete
from unet_jax.errors import UserError
from unet_jax.glance.page import leave_page
from unet_jax.metrics import make as metrics
from unet_jax.metrics.by_image import choose_extremes
from unet_jax.metrics.views import View
from unet_jax.network import check_labels
from unet_jax.predict.eval_step import make_eval_step
from unet_jax.predict.fits import say_other_scale
from unet_jax.predict.on_host import HostCounts
from unet_jax.predict.predictor import Predictor, cut
from unet_jax.process.console import console
from unet_jax.process.multihost import is_first
from unet_jax.process.whole import remove_leftovers, temporary_folder
from unet_jax.restore import restore
from unet_jax.runs import cleaned, layout, looks, of_val
from unet_jax.runs import workdir as run_dir
from unet_jax.runs.counted import draw_counted
from unet_jax.runs.gallery import Gallery
from unet_jax.runs.history import write_arrays
from unet_jax.runs.intact import check_intact
from unet_jax.runs.logs import print_scores
from unet_jax.runs.results import write_results
from unet_jax.runs.splits import open_run, pick_split
from unet_jax.task import Task

HELD = 64 * 2**20  # bytes of predictions that are held until it is known which are wanted


class Evaluation(NamedTuple):
    """What an evaluation found.

    Attributes:
        counts: By "METRIC/COUNT", int64 or float64 [N, ...]; see `metrics.make.METRICS`.
        predictions: Masks uint8 [*n], or [*n, K], by index, for the images that were asked for.
        extremes: Likewise, for those that were chosen by their counts.
    """

    counts: Mapping[str, np.ndarray]
    predictions: dict[int, np.ndarray]
    extremes: Mapping[int, np.ndarray] = MappingProxyType({})

    @property
    def confusion(self) -> np.ndarray:
        """Returns the confusion matrix int64 [K, K] of the split; rows are truth.

        Of independent classes each one's own, [K, 2, 2], off and on.
        """
        if "overlap/confusion" in self.counts:
            return self.counts["overlap/confusion"].sum(axis=0)
        order = "true_negative", "false_positive", "false_negative", "true_positive"
        sums = [self.counts[f"binary_overlap/{name}"].sum(axis=0) for name in order]
        return np.stack(sums, axis=-1).reshape(-1, 2, 2)


def evaluate(
    step: Predictor,
    variables: Any,
    source: Source,
    *,
    batch_size: int,
    keep: Collection[int] = (),
    choose: Callable[[Mapping[str, np.ndarray]], Collection[int]] | None = None,
    says: bool = False,
) -> Evaluation:
    """Evaluates every image of a source once.

    Args:
        step: The step, of the model.
        variables: {"params", "batch_stats"} to evaluate.
        source: N images.
        batch_size: B.
        keep: Indices of images whose predictions are returned.
        choose: (counts) -> indices of more images whose predictions are returned, where they are
            among the first of the split, whose predictions are held until then: `HELD` bytes.
        says: Whether the console says how large images go.

    Returns:
        What was found; the same whatever B and the mesh are, but for rounding of the logits.
    """
    if says:
        step.say_tiles(variables, source, batch_size)
    found, predictions, held, room = [], {}, [], HELD if choose else 0
    with HostCounts(step.metrics, source, step.loading.workers) as on_host:
        for batch, result in step.batches(variables, source, batch_size):
            found.append((batch["index"], result["counts"]))  # fetched when all is under way
            if "outcome" in result:
                on_host.add(batch, result["outcome"])
            if any(index in keep for index in batch["index"]):
                own = cut(result["prediction"], batch)
                predictions |= {index: label for index, label in own.items() if index in keep}
            if (room := room - result["prediction"].nbytes) >= 0:
                places = {name: batch[name] for name in ("index", "sizes")}
                held.append((places, result["prediction"]))
        counted = on_host.result()
    rows = {index: counted.get(index, {}) for index in range(len(source))}
    for indices, counts in found:
        values = jax.device_get(counts)
        for row, index in enumerate(indices):
            rows[index] |= {name: array[row] for name, array in values.items()}
    counts = _stack(rows)
    return Evaluation(counts, predictions, _cut_held(held, choose(counts) if choose else ()))


def _cut_held(
    held: Sequence[tuple[dict[str, Any], jax.Array]], chosen: Collection[int]
) -> dict[int, np.ndarray]:
    """Returns the predictions of the chosen images, in their order, that are held."""
    found = {}
    for places, predictions in held:
        if any(index in chosen for index in places["index"]):
            found |= cut(predictions, places)
    return {index: found[index] for index in chosen if index in found}


def _stack(rows: Mapping[int, Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Joins the counts of images 0..N-1, whole numbers as int64, others as float64."""
    arrays = {name: np.stack([rows[i][name] for i in range(len(rows))]) for name in rows[0]}
    types = {name: np.float64 if x.dtype.kind == "f" else np.int64 for name, x in arrays.items()}
    return {name: array.astype(types[name]) for name, array in arrays.items()}


def summarise(
    evaluation: Evaluation, task: Task, views: Sequence[View] = ()
) -> dict[str, float | None]:
    """Computes the scores of a split, and those of the data set's views.

    Args:
        evaluation: What was found.
        task: What a label means.
        views: Of the data set.

    Returns:
        By name, the scores of all metrics; None of what is absent.
    """
    of_data = metrics.of_counts(evaluation.counts, task.names, views)
    return metrics.values(metrics.scores(of_data, evaluation.counts))


def save_counts(file: Path, counts: Mapping[str, np.ndarray], source: Source) -> None:
    """Writes the counts of every image, for comparisons image by image.

    Args:
        file: An npz file, which is written whole or not at all; its folder is made.
        counts: By "METRIC/COUNT", [N, ...].
        source: The N images.
    """
    write_arrays(file, counts, id=np.array(source.ids))


def fixed_images(source: Source, count: int) -> list[int]:
    """Chooses up to `count` indices spread evenly over a source, the same ones every time."""
    count = min(count, len(source))
    return [round((i + 0.5) * len(source) / count - 0.5) for i in range(count)]


class OfRun(NamedTuple):
    """What an evaluation of a checkpoint of a run found, before anything is written.

    Attributes:
        evaluated: What was evaluated, and its counts.
        result: All of it.
        scores: See `summarise`.
    """

    evaluated: Evaluated
    result: Evaluation
    scores: dict[str, float | None]


def score_run(config: ConfigDict, workdir: Path, *, split: str, checkpoint: str) -> OfRun:
    """Evaluates a checkpoint of a run on one split, and writes nothing.

    Args:
        config: The run's config, whole; only keys of `compare.MAY_DIFFER` may be other.
        workdir: The run's directory.
        split: "val", "test" or "train".
        checkpoint: "best" (by `config.eval.headline`) or "latest".

    Returns:
        What was found.

    Raises:
        UserError: The run, its data or the split are missing, or it is a run of another config or
            of data of other classes; or a metric needs what is chosen on val, where no evaluation
            of this checkpoint says it, see `of_val.settle`.
    """
    dataset, _ = open_run(config.data, workdir, split)
    source = pick_split(dataset, split)
    trained = restore(config, workdir, checkpoint)
    network = trained.network
    if len(dataset.class_names) != len(trained.class_names):
        raise UserError(
            f"config.data has the {len(dataset.class_names)} classes "
            f"{', '.join(dataset.class_names)}, and the checkpoint in {workdir} was trained on "
            f"{len(trained.class_names)}: {', '.join(trained.class_names)}; give the data that the "
            "run was trained on."
        )
    check_labels(config, network.task, dataset)
    told = of_val.settle(network.settings.metrics, workdir, split, checkpoint, trained)
    network = network._replace(settings=network.settings._replace(metrics=told.metrics))
    check(source, split, len(dataset.class_names), network.known_range)
    say_other_scale(source, network.loading, workdir)
    names, headline = network.task.names, network.settings.headline
    result = evaluate(
        make_eval_step(network),
        trained.variables,
        source,
        batch_size=network.settings.batch_size,
        says=True,
        keep=fixed_images(source, network.settings.shown),
        choose=partial(choose_extremes, headline=headline, class_names=names, views=dataset.views),
    )
    title = f"{split}, {checkpoint} checkpoint (step {trained.step}), {len(source)} images"
    counted = dataset, source, network, result.counts
    evaluated = Evaluated(split, checkpoint, trained.step, title, *counted)
    scores = summarise(result, network.task, dataset.views) | told.said
    return OfRun(evaluated, result, scores)


def evaluate_run(config: ConfigDict, workdir: Path, *, split: str, checkpoint: str) -> None:
    """Scores a checkpoint of a run on one split: results.json, figures, a card and a table.

    The best checkpoint's scores come under the split's name, those of the latest one under
    SPLIT_latest. What an earlier evaluation left is replaced when all is there, and nothing of
    another step is: files are named by the step, which results.json, written last, tells.

    Args:
        config: See `score_run`.
        workdir: Likewise.
        split: Likewise.
        checkpoint: Likewise.

    Raises:
        UserError: See `score_run`.
    """
    for line in run_dir.check_same(workdir, config):
        console.print(line)
    check_sections(config)
    config = complete(config)
    entry = layout.ENTRIES[split] + ("" if checkpoint == "best" else f"_{checkpoint}")
    check_intact(workdir, entry)
    found = score_run(config, workdir, split=split, checkpoint=checkpoint)
    if not is_first():
        return
    evaluated, network = found.evaluated, found.evaluated.network
    step, title, source = evaluated.step, evaluated.title, evaluated.source
    name, dataset = f"{entry}_{step:08d}", evaluated.dataset
    given = dataset.class_names, network.task, network.settings.headline, dataset.views
    gallery = Gallery(workdir, source, *given)
    remove_leftovers(workdir / layout.FIGURES)
    told = {"metrics": network.settings.metrics}
    told |= {"of_val": of_val.choose(told["metrics"], found.scores)} if split == "val" else {}
    listed = looks.add(workdir, split, checkpoint, step, **told)
    with temporary_folder(workdir, ".evaluation_") as folder:
        figure = folder / f"predictions_{name}.png"
        gallery.draw_split(figure, title, found.result.predictions, found.result.confusion)
        draw_counted(folder, name, title, evaluated.counts, network.task.names)
        if network.settings.figures:
            gallery.draw_result(folder, name, title, found.result)
        save_counts(folder / f"{name}.npz", evaluated.counts, source)
        card = card_of_run(config, workdir, evaluated)
        write_files(folder / layout.CARDS, name, card, sorted(folder.glob("*.png")))
        # All is there.
        run_dir.move(folder.glob("*.png"), workdir / layout.FIGURES)
        run_dir.move(folder.glob("*.npz"), workdir / layout.EVALUATIONS)
        run_dir.move((folder / layout.CARDS).glob("*"), workdir / layout.CARDS)
    write_results(workdir, **{entry: {"step": step, **found.scores}})
    if network.settings.figures:
        leave_page(workdir)
    print_scores(title, found.scores, network.task.names)
    told_rules = network.settings.metrics.get(cleaned.METRIC, {}).get("rules", ())
    for line in cleaned.describe(evaluated.counts, network.task.names, told_rules):
        console.print(line)
    console.print(headline(card))
    console.print(f"figures: {workdir / layout.FIGURES / figure.name}")
    console.print(f"card: {workdir / layout.CARDS / name}.html, .md and .json")
    console.print(looks.describe(workdir, split, listed))
