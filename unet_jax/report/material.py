"""All that a report is about, gathered from the folders."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from unet_jax.defaults import HEADLINE
from unet_jax.errors import BrokenFileError, UserError
from unet_jax.metrics.make import Headline, read_headline
from unet_jax.metrics.names import class_names_of
from unet_jax.metrics.resampling import RESAMPLES
from unet_jax.report.pooled import Pooled, pool
from unet_jax.report.read import Run, Sweep, read_all
from unet_jax.report.variants import Variant, choose_baseline, group, label_runs, varying


class Material(NamedTuple):
    """What the sections of a report are made of.

    Attributes:
        sweeps: What the directories hold.
        runs: All trials, with the factors that they were given.
        variants: Their groups, the baseline first.
        varied: Factors that have more than one label, without the seed.
        split: Whose scores are compared.
        headline: The score that variants are compared by.
        class_names: Of the scores.
        pooled: The evaluations of the same images.
    """

    sweeps: tuple[Sweep, ...]
    runs: tuple[Run, ...]
    variants: tuple[Variant, ...]
    varied: tuple[str, ...]
    split: str
    headline: Headline
    class_names: tuple[str, ...]
    pooled: Pooled

    @property
    def score(self) -> str:
        """Returns what the score is called, after its split."""
        return f"{self.split} {self.headline.title}"

    def values(self, variant: Variant) -> dict[str, float]:
        """Returns the score of a variant's runs, by seed."""
        return variant.values(self.split, self.headline.name)

    def mean(self, variant: Variant) -> float:
        """Returns a variant's mean score over seeds; it has a run."""
        values = self.values(variant).values()
        return sum(values) / len(values)

    def rank(self, variant: Variant) -> float:
        """Returns a number that is higher for variants with a better mean score."""
        return self.headline.kind.rank(self.mean(variant))

    @property
    def best(self) -> Variant:
        """Returns the variant with the best mean score; there is one."""
        return max(self.scored, key=self.rank)

    @property
    def superlative(self) -> str:
        """Returns what the best score is: the highest or the lowest."""
        return "highest" if self.headline.kind.higher_is_better else "lowest"

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
    if broken := [line for sweep in sweeps for line in sweep.broken if not runs]:
        raise BrokenFileError(f"every trial has a broken file, the first is {broken[0]}")
    if not runs:
        raise UserError(f"{', '.join(map(str, folders))}: study.json lists no trial.")
    known = (run.config.eval.headline for run in runs if run.config is not None)
    headline = read_headline(next(known, HEADLINE))
    variants = group(runs, split, headline.name, choose_baseline(sweeps, runs, baseline))
    found = [run.results[split] for variant in variants for run in variant.runs]
    return Material(
        sweeps=tuple(sweeps),
        runs=tuple(runs),
        variants=variants,
        varied=varying(runs),
        split=split,
        headline=headline,
        class_names=tuple(dict.fromkeys(name for x in found for name in class_names_of(x))),
        pooled=pool(variants, split, headline, resamples),
    )
