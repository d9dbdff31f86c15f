"""Predictions averaged in probability: of several runs, and of mirrored and turned images."""

import collections
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from unet_jax.config import load
from unet_jax.data.images import Batch, read_sizes
from unet_jax.data.sample import Source
from unet_jax.defaults import complete
from unet_jax.errors import UserError
from unet_jax.network import Network
from unet_jax.predict.eval_step import make_mask_step
from unet_jax.predict.predictor import Predictor, cut
from unet_jax.predict.turns import Turn, Turned
from unet_jax.process.paths import local_path
from unet_jax.restore import Trained, restore
from unet_jax.runs import layout
from unet_jax.task import Task

Results = dict[str, Any]
MAPS = {"probability", "entropy", "disagreement"}
"""What a batch may have of every pixel beside the class; see `outputs.base.Predicted`."""


class Predicts(Protocol):
    """What predicts the images of a source, with its variables."""

    def check(self, source: Source, batch_size: int) -> None:
        """Checks that no image is too small or too large; see `Predictor.check`."""
        ...

    def batches(self, source: Source, batch_size: int) -> Iterator[tuple[Batch, Results]]:
        """Runs over a source; see `Predictor.batches`."""
        ...


class Member(NamedTuple):
    """A network that predicts.

    Attributes:
        step: Computes its probabilities.
        variables: {"params", "batch_stats"}.
    """

    step: Predictor
    variables: Any

    def check(self, source: Source, batch_size: int) -> None:
        """Checks the images; see `Predicts`."""
        self.step.check(self.variables, source, batch_size)

    def batches(self, source: Source, batch_size: int) -> Iterator[tuple[Batch, Results]]:
        """Runs over a source; see `Predicts`."""
        return self.step.batches(self.variables, source, batch_size)


class Averaged:
    """Several predictions of each image, averaged in probability.

    Every image is read and predicted once for each member and each turn; sums are on the host,
    float32 in one order, 4 K bytes for each pixel of a batch. The class is that of the mean
    probability.
    """

    def __init__(self, members: Sequence[Member], turns: Sequence[Turn], task: Task) -> None:
        """Takes the networks, the ways to turn images, and what labels mean."""
        self._members, self._turns, self._task = tuple(members), tuple(turns), task

    def check(self, source: Source, batch_size: int) -> None:
        """Checks the images, as they are and turned; see `Predicts`."""
        every = range(len(source))
        shown = {turn.quarters % 2: turn for turn in self._turns}  # by which axis is the longer
        for member in self._members:
            for turn in shown.values():
                member.check(Turned(source, every, turn), batch_size)

    def batches(self, source: Source, batch_size: int) -> Iterator[tuple[Batch, Results]]:
        """Runs over a source; see `Predicts`.

        Yields:
            Batches with "index", "sizes", "samples" and "errors", and results that hold a row for
            each image: "prediction", "is_read", and the maps of `Predicted`.
        """
        sizes = read_sizes(source, self._members[0].step.loading.workers)
        for indices in _group(sizes, self._members[0].step, batch_size):
            sums = [_Sums(self._task) for _ in indices]
            samples, errors = {}, {}
            for member in self._members:
                for turn in self._turns:
                    part = Turned(source, indices, turn)
                    for batch, result in member.batches(part, batch_size):
                        found = cut(result["probability"], batch)
                        is_read = np.asarray(result["is_read"])
                        errors |= {indices[i]: why for i, why in batch["errors"].items()}
                        if turn == self._turns[0]:
                            samples |= {indices[i]: one for i, one in batch["samples"].items()}
                        for row, place in enumerate(batch["index"]):
                            axes = len(batch["sizes"][row])
                            sums[place].add(turn.undo(found[place], axes), bool(is_read[row]))
            own = [sizes[index] for index in indices]
            rows = [one.result() for one in sums]
            batch = {"index": indices, "sizes": own, "samples": samples, "errors": errors}
            yield batch, {name: [row[name] for row in rows] for name in rows[0]}


class _Sums:
    """Adds up the predictions of an image."""

    def __init__(self, task: Task) -> None:
        self._task, self._count, self._is_read = task, 0, True
        self._probability: Any = 0
        self._entropy: Any = 0

    def add(self, probability: np.ndarray, is_read: bool) -> None:
        self._probability = self._probability + probability
        self._entropy = self._entropy + self._task.entropy(probability)
        self._count += 1
        self._is_read &= is_read

    def result(self) -> Results:
        mean = self._probability / np.float32(self._count)
        entropy = self._task.entropy(mean)
        # It is 0 or more, but for rounding.
        disagreement = np.maximum(entropy - self._entropy / np.float32(self._count), 0)
        return {
            "prediction": np.asarray(self._task.mask(jnp.asarray(self._task.choose(mean)))),
            "is_read": self._is_read,
            "probability": mean,
            "entropy": entropy,
            "disagreement": disagreement,
        }


def _group(sizes: Sequence[tuple[int, ...]], step: Predictor, batch_size: int) -> list[list[int]]:
    """Gathers indices of one canvas each, so that each group is a batch."""
    by_canvas = collections.defaultdict(list)
    for index, size in enumerate(sizes):
        by_canvas[step.fit.canvas(size)].append(index)
    return [
        indices[start : start + batch_size]
        for indices in by_canvas.values()
        for start in range(0, len(indices), batch_size)
    ]


def make_predicts(trained: Sequence[Trained], turns: Sequence[Turn], needs: set[str]) -> Predicts:
    """Makes what predicts; nothing is compiled.

    Args:
        trained: The networks, one or more.
        turns: The ways to turn images, the first of which leaves them as they are.
        needs: Maps of `Predicted` that are wanted beside the class.

    Returns:
        One network alone, where nothing is averaged and no map but the probability is wanted.

    Raises:
        UserError: Disagreement is asked for of one prediction.
    """
    several = len(trained) * len(turns) > 1
    if "disagreement" in needs and not several:
        raise UserError(
            "--outputs=disagreement takes several predictions of an image; give other runs with "
            "--ensemble, or --tta, or leave it out."
        )
    averages = several or bool(needs - {"probability"})
    members = [
        Member(make_mask_step(one.network, averages or bool(needs)), one.variables)
        for one in trained
    ]
    return Averaged(members, turns, trained[0].network.task) if averages else members[0]


def find_members(folders: Sequence[str]) -> list[Path]:
    """Finds the runs that --ensemble names, before any is restored.

    Raises:
        UserError: One is no run.
    """
    found = [local_path(text, "--ensemble") for text in folders]
    for folder in found:
        if not (folder / layout.CONFIG).is_file():
            raise UserError(
                f"--ensemble={folder} is no run: {folder / layout.CONFIG} is not there."
            )
    return found


def open_members(
    folders: Sequence[Path], first: Network, config: ConfigDict, checkpoint: str
) -> list[Trained]:
    """Restores the runs whose probabilities are averaged with those of another.

    Args:
        folders: Of `find_members`.
        first: The network of the other.
        config: Of the other, whose mesh they take.
        checkpoint: "best" or "latest".

    Returns:
        The trained networks.

    Raises:
        UserError: One is of other classes or images; see `restore`.
    """
    found = []
    for folder in folders:
        own = complete(load(folder / layout.CONFIG))
        own.mesh = config.mesh
        found.append(restore(own, folder, checkpoint))
        check_alike(first, found[-1].network, str(folder))
    return found


def check_alike(first: Network, other: Network, where: str) -> None:
    """Checks that the probabilities of two networks can be averaged.

    Raises:
        UserError: They are of other classes, or of images of another kind.
    """
    for what, one, two in (
        ("classes", first.task.names, other.task.names),
        ("kind of labels", type(first.task).__name__, type(other.task).__name__),
        ("images", str(first.spec), str(other.spec)),
    ):
        if one != two:
            raise UserError(
                f"--ensemble={where} has other {what} than --workdir: {two} instead of {one}; runs "
                "that are averaged must agree in that."
            )


def describe(runs: int, turns: int) -> str:
    """Says in one line how many predictions of each image were averaged."""
    more = "" if turns > 1 else "; none is mirrored or turned"
    return f"probabilities are means over {runs} runs x {turns} turns{more}"
