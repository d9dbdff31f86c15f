"""All that a report is about, gathered from the folders."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from experiments.report.pooled import Pooled, pool
from experiments.report.read import Run, Sweep, read_all
from experiments.report.resampling import RESAMPLES
from experiments.report.variants import Variant, choose_baseline, group, label_runs, varying
from unet_jax.errors import UserError


class Material(NamedTuple):
    """What the sections of a report are made of.

    Attributes:
        sweeps: What the directories hold.
        runs: All trials, with the factors that they were given.
        variants: Their groups, the baseline first.
        varied: Factors that have more than one label, without the seed.
        split: Whose scores are compared.
        class_names: Of the scores.
        pooled: The evaluations of the same pictures.
    """

    sweeps: tuple[Sweep, ...]
    runs: tuple[Run, ...]
    variants: tuple[Variant, ...]
    varied: tuple[str, ...]
    split: str
    class_names: tuple[str, ...]
    pooled: Pooled

    @property
    def scored(self) -> tuple[Variant, ...]:
        """Returns the variants with a finished run."""
        return tuple(variant for variant in self.variants if variant.runs)

    @property
    def baseline(self) -> Variant | None:
        """Returns the baseline; None without one, or where it has no finished run."""
        return next((variant for variant in self.scored if variant.is_baseline), None)

    @property
    def seeds(self) -> int:
        """Returns the largest number of finished runs of a variant."""
        return max((len(variant.runs) for variant in self.variants), default=0)


def gather(
    folders: Sequence[Path], split: str, baseline: dict[str, str], resamples: int = RESAMPLES
) -> Material:
    """Reads directories and groups what they hold.

    Args:
        folders: Of sweeps and runs.
        split: "val" or "test".
        baseline: Labels that the user gave; {} for the study's own.
        resamples: Of the bootstrap.

    Returns:
        The material.

    Raises:
        UserError: A directory is none of a sweep or run, or holds no trial; or the baseline does
            not fit.
    """
    sweeps = read_all(folders)
    runs = label_runs(sweeps)
    if not runs:
        raise UserError(f"{', '.join(map(str, folders))}: study.json lists no trial.")
    variants = group(runs, split, choose_baseline(sweeps, runs, baseline))
    found = [run.results[split] for variant in variants for run in variant.runs]
    names = dict.fromkeys(
        key.removeprefix("IoU/") for scores in found for key in scores if key.startswith("IoU/")
    )
    pooled = pool(variants, split, resamples)
    varied = varying(runs)
    return Material(tuple(sweeps), tuple(runs), variants, varied, split, tuple(names), pooled)
