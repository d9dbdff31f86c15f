"""Writes the results of a prediction, as they were planned."""

import contextlib
import errno
from collections.abc import Iterator, Sequence
from pathlib import Path

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
