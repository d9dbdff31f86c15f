"""What the page of a run is made of: what the run left on the disk."""

import contextlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from unet_jax import config as configs
from unet_jax.defaults import complete
from unet_jax.metrics.make import Headline, read_headline
from unet_jax.metrics.names import class_names_of
from unet_jax.runs import layout, splits
from unet_jax.runs.intact import read_counts
from unet_jax.runs.logs import read_lines
from unet_jax.runs.provenance import read_provenance
from unet_jax.runs.results import read_results

SHOWN = ("test", "val")
"""Entries of results.json whose figures are shown, the first one at once."""


class Evaluated(NamedTuple):
    """An evaluation of a run.

    Attributes:
        entry: Its name in results.json, such as "val".
        step: Of the checkpoint.
        scores: By name; None of what is absent.
        ids: Of its N images; () where no counts are kept.
        counts: By "METRIC/COUNT", [N, ...]; {} where none are kept.
        figures: By kind, such as "errors", those that are there.
    """

    entry: str
    step: int
    scores: dict[str, float | None]
    ids: tuple[str, ...]
    counts: dict[str, np.ndarray]
    figures: dict[str, Path]

    @property
    def class_names(self) -> tuple[str, ...]:
        """Returns the classes that its scores are of."""
        return class_names_of(self.scores)


class Material(NamedTuple):
    """A run as the disk has it.

    Attributes:
        workdir: Its directory.
        config: Its whole config.
        provenance: run.json.
        images: By split, how many there are; {} where the run keeps no splits.
        lines: metrics.jsonl.
        headline: The score that decides.
        evaluated: Its evaluations, those of `SHOWN` first.
        train: The entry "train" of results.json of a finished run.
    """

    workdir: Path
    config: ConfigDict
    provenance: dict[str, Any]
    images: dict[str, int]
    lines: list[dict[str, Any]]
    headline: Headline
    evaluated: tuple[Evaluated, ...]
    train: dict[str, Any]


def gather(workdir: Path) -> Material:
    """Reads what a run left.

    Args:
        workdir: Its directory.

    Returns:
        The material.

    Raises:
        UserError: A file is missing, or is not what a run wrote.
    """
    config = complete(configs.load(workdir / layout.CONFIG))
    results = read_results(workdir)
    train = results.pop("train", {})
    names = [name for name in SHOWN if name in results]
    names += [name for name in results if name not in SHOWN]
    return Material(
        workdir,
        config,
        read_provenance(workdir),
        {name: len(kept) for name, kept in (splits.read(workdir) or {}).items()},
        read_lines(workdir / layout.METRICS),
        read_headline(config.eval.headline),
        tuple(_evaluated(workdir, name, results[name]) for name in names),
        train,
    )


def _evaluated(workdir: Path, entry: str, said: dict[str, Any]) -> Evaluated:
    scores, step = {key: value for key, value in said.items() if key != "step"}, said["step"]
    name, ids, counts = f"{entry}_{step:08d}", (), {}
    with contextlib.suppress(ValueError):  # the scores are there all the same
        ids, counts = read_counts(workdir / layout.EVALUATIONS / f"{name}.npz")
    figures = {}
    for kind in ("predictions", "errors", "worst", "confusion", "curves", "sizes"):
        # Of the run itself, and of --mode=eval, which may have counted more.
        own = [f"{kind}_{name}.png", *([f"{kind}_{step:08d}.png"] if entry == "val" else [])]
        there = [file for file in (workdir / layout.FIGURES / x for x in own) if file.is_file()]
        figures |= {kind: there[0]} if there else {}
    return Evaluated(entry, step, scores, ids, counts, figures)
