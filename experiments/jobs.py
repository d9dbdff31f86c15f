"""Which trials run in one process."""

import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.engines.base import Job
from experiments.study import Trial
from experiments.trials import LOG


def plan_jobs(trials: Sequence[Trial], folder: Path, mode: str) -> list[Job]:
    """Makes the jobs of trials.

    Args:
        trials: Those to run.
        folder: The study's.
        mode: "single" for a process per trial.

    Returns:
        The jobs.
    """
    return [single(trial, folder) for trial in trials]


def single(trial: Trial, folder: Path) -> Job:
    """Makes the job that trains one trial, by the ordinary command in its folder.

    Args:
        trial: The trial.
        folder: The study's.

    Returns:
        The job.
    """
    run = folder.absolute() / trial.name
    command = (sys.executable, "-m", "unet_jax.main", f"--workdir={run}")
    return Job(trial.name, command, run / LOG, (run,))
