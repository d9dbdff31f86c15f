"""The card of an evaluation of a run: what it says beside the scores."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from unet_jax.cards.card import make_card
from unet_jax.cards.judge import Counted
from unet_jax.cards.rules import INTERVALS, VOID, say_rules
from unet_jax.data.base import Dataset
from unet_jax.data.images import read_sizes
from unet_jax.data.sample import Source, written
from unet_jax.network import Network
from unet_jax.process.runtime import cores
from unet_jax.runs import looks
from unet_jax.runs.provenance import (
    Training,
    read_provenance,
    time_trained,
    versions,
    written_command,
)
from unet_jax.sharding import describe_devices

_FITS = {
    "resize": "Every image is resized to {size}, and its logits, bilinear, to the size of its "
    "label.",
    "crop": "Images are predicted whole, in their own size; training saw parts of {size}.",
}


class Evaluated(NamedTuple):
    """An evaluation of a run.

    Attributes:
        split: Name of the split.
        checkpoint: "best" or "latest".
        step: Of the checkpoint.
        title: All three in a line.
        dataset: The run's data.
        source: The split.
        network: The run's.
        counts: By "METRIC/COUNT", [N, ...].
    """

    split: str
    checkpoint: str
    step: int
    title: str
    dataset: Dataset
    source: Source
    network: Network
    counts: Mapping[str, np.ndarray]


def card_of_run(config: ConfigDict, workdir: Path, evaluated: Evaluated) -> dict[str, Any]:
    """Makes the card of an evaluation.

    Args:
        config: The run's, whole.
        workdir: Its directory, with the line of this evaluation in evaluations.jsonl.
        evaluated: What was evaluated.

    Returns:
        The card.

    Raises:
        UserError: A table that names groups cannot be read.
    """
    e, names = evaluated, evaluated.network.task.names
    groups = tuple(e.dataset.grouping(e.source))
    headline = e.network.settings.headline.name
    counted = Counted(e.source.ids, groups, e.counts, names, e.dataset.views, headline)
    fingerprint = looks.fingerprint(workdir, e.split)
    data = {
        "source": config.data.source,
        "split": e.split,
        "list": fingerprint,
        "sizes": _sizes(read_sizes(e.source, e.network.loading.workers)),
    }
    own, study = looks.count(workdir, fingerprint)
    run = {
        **_of_training(config, workdir),
        "checkpoint": e.checkpoint,
        "step": e.step,
        "evaluated_by": written_command([sys.executable, *sys.argv]),
        "evaluated_on": {
            "devices": describe_devices(),
            "cores": cores(),
            "versions": versions(),
        },
        "evaluations_of_this_list": {"run": own, "study": study},
    }
    rules = [_FITS[config.data.fit].format(size=written(e.network.loading.image_size)), VOID]
    rules += [INTERVALS]
    if groups:
        rules[-1] += f" Drawn are the {len(set(groups))} groups of images, whole."
        rules += ["group_IoU and group_Dice are means over groups of what each has alone."]
    rules += say_rules(counted, e.network.settings.metrics)
    return make_card(counted, title=e.title, data=data, run=run, rules=rules)


def _of_training(config: ConfigDict, workdir: Path) -> dict[str, Any]:
    """Tells what trained, on what, for how long, as far as the run says."""
    said = read_provenance(workdir)
    trained: Training | None = time_trained(said)
    run = {
        "command": written_command(said.get("command", [])),
        "commit": said.get("git_commit"),
        "seed": config.train.seed,
        "devices": said.get("devices"),
        "cores": said.get("cores"),
        "parameters": said.get("parameters"),
        "versions": said.get("versions"),
    }
    if trained:
        # Of a command that was killed nobody knows the time.
        name = "minutes" if trained.is_all else "minutes_at_least"
        run[name] = round(trained.seconds / 60, 1)
    return {name: value for name, value in run.items() if value not in (None, "")}


def _sizes(sizes: list[tuple[int, ...]]) -> str:
    """Says the sizes of images: "128x128", or the smallest and the largest."""
    order = sorted(set(sizes), key=lambda size: (int(np.prod(size)), size))
    ends = [written(size) for size in (order[0], order[-1])]
    return ends[0] if len(order) == 1 else f"{len(order)} sizes from {ends[0]} to {ends[1]}"
