"""The figures of a run: what the model does on fixed validation images, and its curves.

They are drawn from what is on the disk, so that whatever a death prevented is drawn on the next
start as it would have been.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from unet_jax import figures
from unet_jax.config import call
from unet_jax.data.sample import Source
from unet_jax.metrics.make import Headline, read_headline
from unet_jax.process.console import console
from unet_jax.runs import history, layout, ours
from unet_jax.runs.logs import read_lines
from unet_jax.runs.splits import open_run
from unet_jax.task import Task, make_task

Predictions = Mapping[int, np.ndarray]


class Gallery:
    """Draws the figures of one split into a run's directory."""

    def __init__(
        self,
        workdir: Path,
        source: Source,
        class_names: tuple[str, ...],
        task: Task,
        headline: Headline,
    ) -> None:
        """Describes the figures; nothing is drawn.

        Args:
            workdir: The run's directory.
            source: The images that its evaluations show some of.
            class_names: Of the labels.
            task: What a label means.
            headline: The score whose curve is drawn.
        """
        self._task = task
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

    def _draw_evaluation(self, step: int) -> None:
        """Draws the figures of one evaluation, whose last file tells that all others are there."""
        material = self._load(step)
        if material and material.confusion is not None:
            _, file = history.figures_of(self._workdir, step)
            title = f"validation, step {step}, {len(self._source)} images"
            self.draw_split(file, title, material.predictions, material.confusion)

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
        sizes = {} if material is None else {i: x.shape for i, x in material.predictions.items()}
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
    steps = history.missing(workdir) if config.eval.figures else []
    if steps:
        console.print(
            f"{workdir}: drawing the figures of {len(steps)} evaluations that are missing.",
            markup=False,
        )
        dataset, _ = open_run(config.data, workdir, "val")
        ours.remove_leftovers(workdir)
        names, headline = dataset.class_names, read_headline(config.eval.headline)
        task = call(make_task, "config.task", config.task, class_names=names)
        Gallery(workdir, dataset.splits["val"], names, task, headline).draw_missing()
