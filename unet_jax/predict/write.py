"""Writes the results of a prediction, as they were planned."""

import contextlib
import errno
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from unet_jax.data.sample import Sample, Window
from unet_jax.errors import UserError
from unet_jax.predict.outputs import OUTPUTS
from unet_jax.predict.outputs.base import Predicted
from unet_jax.predict.planned import Plan
from unet_jax.process.whole import remove_leftovers


class Writer:
    """Writes the results of a prediction, each file whole or not at all."""

    def __init__(self, output: Path, plan: Plan, class_names: Sequence[str]) -> None:
        """Takes what was planned; removes what a killed prediction left there."""
        self._output, self._plan, self._written = output, plan, 0
        self._outputs = {name: OUTPUTS[name](class_names) for name in plan.common.by_output}
        for folder in {file.parent for file in plan.files}:
            remove_leftovers(folder)

    def open(
        self, name: str, file: str, sample: Sample, maps: Mapping[str, np.ndarray]
    ) -> "MaskSink":
        """Begins the results of an image.

        Args:
            name: Its id.
            file: What lists call it; see `Predicted`.
            sample: The image.
            maps: What outputs need; see `Predicted`.

        Returns:
            What takes the classes of its pixels, and writes the files when it is closed.
        """
        label = np.zeros(sample.image.shape[:-1], np.uint8)
        return MaskSink(self, Predicted(name, file, sample.image, label, sample.spacing, maps))

    def write(self, found: Predicted) -> None:
        """Writes the results of an image.

        Args:
            found: What is predicted.

        Raises:
            UserError: They cannot be written, such as on a full disk.
        """
        result = self._plan.results[found.name]
        with self._said((*result.files, *self._plan.common.files)[0]):
            for name, output in self._outputs.items():
                output.add(found, result.by_output[name])
        self._written += 1

    def close(self) -> list[str]:
        """Writes the results of the whole prediction; returns lines for the user.

        Raises:
            UserError: They cannot be written, such as on a full disk.
        """
        lines = []
        for name, output in self._outputs.items():
            files = self._plan.common.by_output[name]
            with self._said((*files, self._output)[0]):
                lines += output.close(files)
        return lines

    @contextlib.contextmanager
    def _said(self, file: Path) -> Iterator[None]:
        """Says what a result that cannot be written means."""
        try:
            yield
        except OSError as error:
            is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            cure = "Free some space" if is_full else "Mend it"
            raise UserError(
                f"{'the disk is full' if is_full else 'a result cannot be written'} "
                f"({file}: {error.strerror}): {self._written} of {len(self._plan.results)} "
                f"images have their results in {self._output}. {cure} and predict again with "
                "--replace, or give another --output."
            ) from error


class MaskSink:
    """Gathers the classes of an image's pixels in memory; a `predictor.Sink`."""

    def __init__(self, writer: Writer, found: Predicted) -> None:
        """Takes who writes, and what is known but for the label."""
        self._writer, self._found = writer, found
        self._parts: list[tuple[Window, np.ndarray]] = []

    def add(self, window: Window, decision: np.ndarray) -> None:
        """Takes the classes of a window's pixels; see `Sink`."""
        self._parts.append((window, decision))

    def close(self) -> None:
        """Writes the results; see `Writer.write`."""
        image = self._found.image
        by_class = self._parts[0][1].shape[image.ndim - 1 :]
        label = np.zeros((*image.shape[:-1], *by_class), np.uint8)
        for window, decision in self._parts:
            label[window] = decision
        self._writer.write(self._found._replace(label=label))
