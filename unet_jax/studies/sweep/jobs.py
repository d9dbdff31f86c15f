"""Which trials run in one process."""

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ml_collections import ConfigDict

from unet_jax.process import records
from unet_jax.process.whole import write_text
from unet_jax.studies.engines.base import Job
from unet_jax.studies.pack.grouping import pack, program_of
from unet_jax.studies.trials import LOG, resumes_at

PACKS, MEMBERS = "packs", "pack.json"
MOST = 16  # trials in a pack; fewer train at once where memory is short


def plan_jobs(configs: Mapping[str, ConfigDict], folder: Path, mode: str) -> list[Job]:
    """Makes the jobs of trials.

    Trials that began as a pack go on as that pack, so that a death changes nothing of what they
    compute; those that began alone go on alone.

    Args:
        configs: Of the trials to run, by name.
        folder: The study's.
        mode: "packed" to train new trials that differ in numbers alone in one process, "single"
            for a process each.

    Returns:
        The jobs.
    """
    waiting, jobs = dict(configs), []
    for names in _begun(folder):
        members = [name for name in names if name in waiting]
        if members:
            jobs.append(_packed(names, members, folder))
        for name in members:
            del waiting[name]
    new = {
        name: program_of(config)
        for name, config in waiting.items()
        if mode == "packed" and not resumes_at(folder / name)
    }
    packs = [names for names in pack(new, MOST) if len(names) > 1]
    packed = {name for names in packs for name in names}
    jobs += [_packed(names, names, folder) for names in packs]
    return jobs + [single(name, folder) for name in waiting if name not in packed]


def single(name: str, folder: Path) -> Job:
    """Makes the job that trains one trial, by the ordinary command in its folder.

    Args:
        name: The trial's.
        folder: The study's.

    Returns:
        The job.
    """
    run = folder.absolute() / name
    command = (sys.executable, "-m", "unet_jax.main", f"--workdir={run}")
    return Job(name, command, run / LOG, (run,))


def write_packs(jobs: Sequence[Job]) -> None:
    """Writes which trials are packed together, before they begin.

    Args:
        jobs: The jobs, from `plan_jobs`.
    """
    for job in jobs:
        members = job.log.parent / MEMBERS
        if job.name.startswith(f"{PACKS}/") and not members.exists():
            members.parent.mkdir(parents=True, exist_ok=True)
            names = [run.name for run in job.trials]
            write_text(members, json.dumps(names, indent=1) + "\n")


def find_log(run: Path) -> Path:
    """Finds the log of a trial, which that of its pack is where it has none of its own.

    Args:
        run: The trial's folder.

    Returns:
        The file, which may not exist.
    """
    own = run / LOG
    packs = [] if own.exists() else run.parent.glob(f"{PACKS}/*/{MEMBERS}")
    logs = (file.with_name(LOG) for file in packs if run.name in read_members(file))
    return next(logs, own)


def _packed(names: Sequence[str], members: Sequence[str], folder: Path) -> Job:
    """Makes the job of a pack, of which some members may be finished."""
    name = f"{PACKS}/{hashlib.sha256(json.dumps(list(names)).encode()).hexdigest()[:8]}"
    runs = tuple(folder.absolute() / member for member in members)
    trials = tuple(f"--trial={run}" for run in runs)
    command = (sys.executable, "-m", "unet_jax.studies.pack", *trials)
    return Job(name, command, folder.absolute() / name / LOG, runs)


def _begun(folder: Path) -> list[list[str]]:
    """Returns the members of the packs that were begun."""
    return [read_members(pack / MEMBERS) for pack in sorted(folder.glob(f"{PACKS}/*"))]


def read_members(file: Path) -> list[str]:
    """Reads which trials are packed together.

    Args:
        file: Their pack.json.

    Returns:
        The names of their folders; [] where there is no file.

    Raises:
        UserError: It is not what a sweep wrote.
    """
    advice = "put it back, or delete the pack's folder: its trials go on alone then"
    return records.read_json(file, [str], "what a sweep wrote", advice) or []
