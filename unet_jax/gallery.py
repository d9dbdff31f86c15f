"""The figures of a run: what the model does on fixed validation pictures, and its curves."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unet_jax import figures
from unet_jax import workdir as run_dir
from unet_jax.data.base import Source
from unet_jax.logs import read_lines

Predictions = Mapping[int, np.ndarray]


class Gallery:
    """Draws the figures of one split into a run's directory."""

    def __init__(
        self, workdir: Path, source: Source, shown: Sequence[int], class_names: tuple[str, ...]
    ) -> None:
        """Takes the run's directory, and which pictures of which source to show."""
        self._workdir, self._source, self._shown = workdir, source, tuple(shown)
        self._class_names = class_names
        self._history = workdir / run_dir.FIGURES / "history"

    def draw(self, step: int, predictions: Predictions, confusion: np.ndarray) -> None:
        """Draws all figures of a training run after an evaluation.

        Args:
            step: Steps taken.
            predictions: uint8 [H, W] by index, of the pictures that are shown.
            confusion: int [K, K] of the split.
        """
        self._history.mkdir(parents=True, exist_ok=True)
        folder = self._history.parent
        self.draw_split(
            folder / f"predictions_{step:08d}.png", f"step {step}", predictions, confusion
        )
        arrays: Any = {str(index): predictions[index] for index in self._shown}
        part = self._history / ".part.npz"  # a run may die while it is written
        np.savez_compressed(part, **arrays)
        part.replace(self._history / f"{step:08d}.npz")
        history = []
        for file in sorted(self._history.glob("[0-9]*.npz")):
            with np.load(file) as saved:
                if all(str(index) in saved for index in self._shown):  # eval.pictures may change
                    history.append((int(file.stem), [saved[str(index)] for index in self._shown]))
        examples = [self._source[index] for index in self._shown]
        figures.prediction_history(
            folder / "predictions_over_time.png",
            [example["image"] for example in examples],
            [example["label"] for example in examples],
            history,
            self._class_names,
            [example["id"] for example in examples],
        )
        lines = read_lines(self._workdir / run_dir.METRICS)
        figures.learning_curves(folder / "learning_curves.png", lines)

    def draw_split(
        self, file: Path, title: str, predictions: Predictions, confusion: np.ndarray
    ) -> None:
        """Draws input, truth, prediction and errors of the pictures, and the confusion matrix.

        Args:
            file: PNG to write; the matrix goes beside it, as confusion_....png.
            title: Above the figure.
            predictions: uint8 [H, W] by index, of the pictures that are shown.
            confusion: int [K, K] of the split.
        """
        file.parent.mkdir(parents=True, exist_ok=True)
        examples = [self._source[index] for index in self._shown]
        figures.prediction_grid(
            file,
            [example["image"] for example in examples],
            [example["label"] for example in examples],
            [predictions[index] for index in self._shown],
            self._class_names,
            title,
            [example["id"] for example in examples],
            None,
        )
        matrix = file.with_name(file.name.replace("predictions", "confusion"))
        figures.confusion_matrix(matrix, confusion, self._class_names)
