"""The figures of a run: what the model does on fixed validation images, and its curves.

They are drawn from what is on the disk, so that whatever a death prevented is drawn on the next
start as it would have been.
"""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from ml_collections import ConfigDict

from unet_jax import figures
from unet_jax.config import call
from unet_jax.data.sample import Source
from unet_jax.errors import UserError
from unet_jax.metrics.base import Counts
from unet_jax.metrics.by_image import choose_extremes, score_by_image
from unet_jax.metrics.make import Headline, read_headline
from unet_jax.metrics.views import View
from unet_jax.process.console import console
from unet_jax.runs import history, layout, ours
from unet_jax.runs.counted import draw_counted
from unet_jax.runs.logs import read_lines
from unet_jax.runs.results import read_results
from unet_jax.runs.splits import open_run
from unet_jax.task import Task, make_task

Predictions = Mapping[int, np.ndarray]


class Result(Protocol):
    """What an evaluation found; see `evaluate.Evaluation`."""

    @property
    def counts(self) -> Counts:
        """Returns what was counted of every image, by "METRIC/COUNT"."""
        ...

    @property
    def predictions(self) -> Predictions:
        """Returns masks uint8 [*n], or [*n, K] by class, of the images that are shown."""
        ...

    @property
    def extremes(self) -> Predictions:
        """Returns those of the images that stand out by their score."""
        ...


class _Stored(NamedTuple):
    """A result that was read from the disk; see `Result`."""

    counts: Counts
    predictions: Predictions
    extremes: Predictions


class Gallery:
    """Draws the figures of one split into a run's directory."""

    def __init__(
        self,
        workdir: Path,
        source: Source,
        class_names: tuple[str, ...],
        task: Task,
        headline: Headline,
        views: Sequence[View] = (),
    ) -> None:
        """Describes the figures; nothing is drawn.

        Args:
            workdir: The run's directory.
            source: The images that its evaluations show some of.
            class_names: Of the labels.
            task: What a label means.
            headline: The score whose curve is drawn, and by which images stand out.
            views: Of the data set.
        """
        self._task, self._views = task, views
        self._workdir, self._source, self._class_names = workdir, source, class_names
        self._folder, self._headline = workdir / layout.FIGURES, headline

    def draw(self, step: int, *, is_last: bool = True) -> None:
        """Draws all figures of a training run after an evaluation.

        Args:
            step: Of the evaluation, whose material is there; see `history.save`.
            is_last: Whether no later evaluation waits to be drawn, which draws the figures of all
                evaluations anew.
        """
        if is_last:
            self._draw_course(step)
        self._draw_evaluation(step)

    def draw_missing(self, until: int | None = None) -> None:
        """Draws the figures that are missing, of all evaluations.

        Args:
            until: The last step that counts, since later ones will be evaluated again.
        """
        if steps := history.missing(self._workdir, until):
            self._draw_course(history.steps(self._workdir, until)[-1])
            for step in steps:
                if not all(file.exists() for file in history.figures_of(self._workdir, step)):
                    self._draw_evaluation(step)

    def draw_end(self, step: int) -> None:
        """Draws the figures that the evaluation of the best step alone has; see `draw_result`."""
        material, counts = self._load(step), history.load_counts(self._workdir, step)
        if material:
            title, name = self._title(step), f"{step:08d}"
            draw_counted(self._folder, name, title, counts, self._task.names)
            result = _Stored(counts, material.predictions, material.extremes)
            self.draw_result(self._folder, name, title, result)

    def _draw_evaluation(self, step: int) -> None:
        """Draws the figures of one evaluation, whose last file tells that all others are there."""
        material = self._load(step)
        if material and material.confusion is not None:
            _, file = history.figures_of(self._workdir, step)
            self.draw_split(file, self._title(step), material.predictions, material.confusion)

    def _draw_course(self, step: int) -> None:
        """Draws the figures of all evaluations up to a step."""
        found = [(s, self._load(s)) for s in history.steps(self._workdir, step)]
        past = [(s, material.predictions) for s, material in found if material]
        shown = list(past[-1][1]) if past else []  # config.eval.shown may change
        if shown:
            images, labels, ids = self._examples(shown)
            figures.prediction_history(
                self._folder / history.OVER_TIME,
                images,
                labels,
                [
                    (s, self._flat(predictions, shown))
                    for s, predictions in past
                    if predictions.keys() >= set(shown)
                ],
                self._class_names,
                ids,
            )
        lines = read_lines(self._workdir / layout.METRICS)
        before = [line for line in lines if line["step"] <= step]
        score, is_higher = self._headline.name, self._headline.kind.higher_is_better
        file = self._folder / history.CURVES
        figures.learning_curves(file, before, score, higher_is_better=is_higher)

    def _load(self, step: int) -> history.Material | None:
        """Loads the material of a step; None where it is broken, or of other images."""
        material = history.load(self._workdir, step)
        shown = {} if material is None else material.predictions | material.extremes
        sizes = {index: x.shape for index, x in shown.items()}
        count = len(self._source)
        fits = all(
            i < count and self._source.shape(i) == size[: self._axes()] for i, size in sizes.items()
        )
        return material if fits else None

    def draw_split(
        self, file: Path, title: str, predictions: Predictions, confusion: np.ndarray
    ) -> None:
        """Draws a confusion matrix, and input, truth, prediction and errors of images.

        Args:
            file: PNG to write; the matrix goes beside it, as confusion_....png.
            title: Above both: the split, the step and the number of images.
            predictions: uint8 [*n], or [*n, K] by class, by index, of the images that are shown.
            confusion: int [K, K] of the split, or [K, 2, 2] of independent classes.
        """
        file.parent.mkdir(parents=True, exist_ok=True)
        matrix = file.with_name(file.name.replace("predictions", "confusion"))
        figures.confusion_matrix(matrix, confusion, self._task.names, title)
        shown = sorted(predictions)
        images, labels, ids = self._examples(shown)
        guesses = self._flat(predictions, shown)
        figures.prediction_grid(file, images, labels, guesses, self._class_names, title, ids)

    def draw_result(self, folder: Path, name: str, title: str, result: Result) -> None:
        """Draws the errors by class, and the images that stand out by their score.

        Args:
            folder: Gets errors_NAME.png and worst_NAME.png.
            name: Of the evaluation.
            title: Above both: the split, the step and the number of images.
            result: What was found.
        """
        folder.mkdir(parents=True, exist_ok=True)
        about = self._headline, self._task.names, self._views
        chosen = choose_extremes(result.counts, *about) if result.extremes else []
        if chosen := [index for index in chosen if index in result.extremes]:
            images, labels, ids = self._examples(chosen)
            own = score_by_image(result.counts, self._headline.name, *about[1:])
            assert own is not None  # they were chosen by it
            headline = self._headline.title
            ids = [f"{x}: {headline} {own[i]:.4f}" for i, x in zip(chosen, ids, strict=True)]
            guesses, file = self._flat(result.extremes, chosen), folder / f"worst_{name}.png"
            said = f"The worst images by {headline}, then the median, {title}"
            figures.prediction_grid(file, images, labels, guesses, self._class_names, said, ids)
        shown = sorted(result.predictions)
        if shown:
            images, labels, ids = self._examples(shown)
            guesses, file = self._flat(result.predictions, shown), folder / f"errors_{name}.png"
            said = f"Errors by class, {title}"
            figures.class_error_grid(file, images, labels, guesses, self._class_names, said, ids)

    def _title(self, step: int) -> str:
        return f"validation, step {step}, {len(self._source)} images"

    def _examples(
        self, shown: Sequence[int]
    ) -> tuple[list[np.ndarray], list[np.ndarray], list[str]]:
        """Returns images and labels as figures show them, and ids."""
        samples = [self._source.read(index) for index in shown]
        images = [figures.flat_image(sample.image) for sample in samples]
        right = [self._task.right_mask(sample.truth()) for sample in samples]
        labels = [figures.flat_label(mask, self._axes()) for mask in right]
        return images, labels, [sample.id for sample in samples]

    def _flat(self, predictions: Predictions, shown: Sequence[int]) -> list[np.ndarray]:
        """Returns predictions as figures show them."""
        return [figures.flat_label(predictions[index], self._axes()) for index in shown]

    def _axes(self) -> int:
        return self._source.spec.axes


def draw_missing(config: ConfigDict, workdir: Path) -> None:
    """Draws the figures that a finished run lacks, if it is to have any; changes nothing else.

    Args:
        config: The run's config.
        workdir: Its directory.

    Raises:
        UserError: A figure is missing, and the run's data are too, or have changed.
    """
    if not config.eval.figures:
        return
    steps, best = history.missing(workdir), read_results(workdir)["val"]["step"]
    if steps:
        console.print(
            f"{workdir}: drawing the figures of {len(steps)} evaluations that are missing.",
            markup=False,
        )
        ours.remove_leftovers(workdir)
        gallery = _open(config, workdir)
        gallery.draw_missing()
        if history.lacks_end(workdir, best):
            gallery.draw_end(best)
    elif history.lacks_end(workdir, best):
        with contextlib.suppress(UserError):  # a run of an older version needs no data
            _open(config, workdir).draw_end(best)


def _open(config: ConfigDict, workdir: Path) -> Gallery:
    """Returns the gallery of a run's validation images."""
    dataset, _ = open_run(config.data, workdir, "val")
    names, headline = dataset.class_names, read_headline(config.eval.headline)
    task = call(make_task, "config.task", config.task, class_names=names)
    return Gallery(workdir, dataset.splits["val"], names, task, headline, dataset.views)
