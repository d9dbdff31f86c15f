"""What a sweep is about to do: its trials, how long they will take, and in which jobs."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unet_jax.process.console import console, duration
from unet_jax.runs import layout
from unet_jax.runs.logs import read_lines
from unet_jax.studies.engines.base import Job
from unet_jax.studies.study import Trial
from unet_jax.studies.sweep.probe import Facts, Timing
from unet_jax.studies.trials import last_line, resumes_at, training_seconds


def print_trials(
    trials: Sequence[Trial],
    folder: Path,
    facts: Mapping[str, Facts],
    seconds: Mapping[str, float],
    impossible: Mapping[str, str],
) -> None:
    """Prints every trial with its overrides, its state and its time; what all have in common once.

    Args:
        trials: The trials.
        folder: The study's, which may not exist.
        facts: Of those that are not finished, by name.
        seconds: How long they will take, by name.
        impossible: Why others are left out, by name.
    """
    first = trials[0].overrides
    common = {k: v for k, v in first.items() if all(t.overrides.get(k) == v for t in trials)}
    if common:
        console.print(f"all: {write_overrides(common)}")
    for trial in trials:
        state = "finished"
        if trial.name in facts:
            state = _state(folder / trial.name, facts[trial.name])
        if trial.name in seconds:
            state += f", about {duration(seconds[trial.name])}"
        if trial.name in impossible:
            state = f"impossible: {impossible[trial.name]}"
        console.print(f"{trial.name}  {state}")
        own = {key: value for key, value in trial.overrides.items() if key not in common}
        console.print(f"    {write_overrides(own)}")


def time_left(run: Path, facts: Facts, first: Facts, timing: Timing) -> float:
    """Estimates how long a trial that is not finished will take.

    Args:
        run: Its folder.
        facts: Its facts.
        first: Those of the trial that was timed.
        timing: Of its steps.

    Returns:
        Seconds, with the start of its process and evaluations, without saving and figures.
    """
    begun = resumes_at(run)
    share = 1 - begun / facts.steps
    measured, images = training_seconds(read_lines(run / layout.METRICS), facts.batch_size)
    if images:
        per_work = measured / images / facts.flops
    else:
        per_work = timing.step / (first.flops * first.batch_size)
    return timing.start + per_work * share * facts.work()


def write_overrides(overrides: Mapping[str, Any]) -> str:
    """Writes config values as a shell takes them."""
    return shlex.join(
        f"--config.{key}={value}".replace(", ", ",") for key, value in overrides.items()
    )


def _state(run: Path, facts: Facts) -> str:
    begun = resumes_at(run)
    if not begun and last_line(run)["step"] == 0:
        return "new"
    return f"at step {begun} of {facts.steps}"


def print_jobs(jobs: Sequence[Job], seconds: Mapping[str, float], at_once: int | None) -> None:
    """Prints the jobs of trials, and how long all take.

    Args:
        jobs: The jobs.
        seconds: Of each trial, by name.
        at_once: Jobs at a time; None where the engine decides.
    """
    packs = [job for job in jobs if len(job.trials) > 1]
    alone = len(jobs) - len(packs)
    console.print(f"jobs: {len(packs)} packed, {alone} of one trial each")
    for job in packs:
        names = ", ".join(run.name for run in job.trials)
        console.print(f"  {job.name}: {len(job.trials)} trials: {names}")
    total, longest = sum(seconds.values()), max(seconds.values())
    side_by_side = ""
    if at_once and at_once > 1:
        least = duration(max(longest, total / at_once))
        side_by_side = f", {least} on {at_once} devices"
    console.print(f"time: about {duration(total)} one by one{side_by_side}")


def print_method(name: str, timing: Timing) -> None:
    """Prints how times were estimated.

    Args:
        name: Of the trial whose steps were timed.
        timing: Of its steps.
    """
    console.print(
        f"estimated from {timing.count} train steps of {name}, {timing.step:.3f} s each (median), "
        f"and {timing.start:.0f} s of start and compilation before them, on {timing.device}. "
        "Other trials: by forward FLOPs x images, an evaluated image for a third of a trained "
        "one; trials that have begun: by their own images/s. Saving, figures and waiting for data "
        "come on top; what packing saves is not counted.",
    )
