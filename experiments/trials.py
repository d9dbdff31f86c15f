"""Folders of a study and of its trials: what is written there, and how far a trial is."""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from experiments.naming import factors_of
from experiments.study import Trial
from unet_jax import workdir as run_dir
from unet_jax.errors import UserError

STUDY, TRIAL, LOG, LOCK = "study.json", "trial.json", "log.txt", ".lock"
_TAIL = 4096  # bytes that hold the last whole line of a metrics.jsonl


class StudyRecord(NamedTuple):
    """What study.json says.

    Attributes:
        study: The study page.
        baseline: Label by factor of the trials that others are compared with.
        factors: All labels of each factor.
        trials: Names of the trials' folders.
    """

    study: str
    baseline: dict[str, str]
    factors: dict[str, list[str]]
    trials: list[str]


def write_study(
    folder: Path, page: Path, baseline: Mapping[str, str], trials: Sequence[Trial]
) -> None:
    """Writes study.json.

    Args:
        folder: The study's.
        page: The study page.
        baseline: Label by factor of the trials that others are compared with.
        trials: All trials.
    """
    names = [trial.name for trial in trials]
    record = StudyRecord(str(page), dict(baseline), factors_of(trials), names)
    run_dir.write(folder / STUDY, json.dumps(record._asdict(), indent=2) + "\n")


def read_study(folder: Path) -> StudyRecord | None:
    """Reads study.json; None where there is none."""
    found = _read(folder / STUDY)
    return None if found is None else StudyRecord(**found)


def read_trial(folder: Path) -> Trial | None:
    """Reads the trial.json of a trial's folder; None where there is none.

    Values that were tuples come back as lists.
    """
    found = _read(folder / TRIAL)
    return None if found is None else Trial(**found)


def _read(file: Path) -> dict[str, Any] | None:
    if not file.exists():
        return None
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{file} is not what a sweep wrote: {error}.") from None


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps every other sweep out of a study's folder, which is made, for a while.

    Args:
        folder: The folder.

    Raises:
        UserError: Another sweep is in it, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK).open("w")
    except OSError as error:
        raise UserError(
            f"--workdir={folder} cannot be written: {error.strerror}; choose another directory."
        ) from None
    with file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(
                f"another sweep runs in --workdir={folder}; wait for its end, stop it, or choose "
                "another directory."
            ) from None
        yield


def check(folder: Path, config: ConfigDict) -> list[str]:
    """Checks that a trial's folder is new or holds a run of its config; writes nothing.

    Args:
        folder: The trial's.
        config: The whole config.

    Returns:
        A line that says so where only the mesh is another.

    Raises:
        UserError: It holds a run of a config that differs in what changes results.
    """
    return run_dir.check_config(
        folder,
        config,
        "The page has changed since: undo that, delete this folder, or choose another --workdir.",
    )


def prepare(folder: Path, trial: Trial, config: ConfigDict) -> None:
    """Writes what makes a folder one of a trial, which the ordinary command then runs alone.

    Args:
        folder: The trial's; it was checked.
        trial: The trial.
        config: The whole config.
    """
    folder.mkdir(exist_ok=True)
    run_dir.write(folder / TRIAL, json.dumps(trial._asdict(), indent=2) + "\n")
    run_dir.begin(folder, config, overwrite=False)


def last_line(folder: Path) -> dict[str, Any]:
    """Returns the last whole line of a run's metrics; {"step": 0} where there is none."""
    file = folder / run_dir.METRICS
    if not file.exists():
        return {"step": 0}
    with file.open("rb") as opened:
        size = opened.seek(0, os.SEEK_END)
        opened.seek(max(0, size - _TAIL))
        *lines, _ = opened.read().split(b"\n")  # the last is empty, or still being written
        # The first line may be cut, unless all was read.
        whole = lines if size <= _TAIL else lines[1:]
    return json.loads(whole[-1]) if whole else {"step": 0}


def resumes_at(folder: Path) -> int:
    """Returns the step of a run's newest checkpoint, from which it would go on; 0 for none."""
    checkpoints = (folder / run_dir.CHECKPOINTS).glob("*")
    return max((int(path.name) for path in checkpoints if path.name.isdecimal()), default=0)


def training_seconds(lines: Sequence[Mapping[str, Any]], batch_size: int) -> tuple[float, int]:
    """Adds up the seconds that a run trained, as its metrics tell them.

    Args:
        lines: Of its metrics.jsonl.
        batch_size: Pictures in a batch.

    Returns:
        The seconds, without evaluations and saving, and the pictures trained on in them.
    """
    seconds, images, before = 0.0, 0, 0
    for line in lines:
        if "images_per_s" in line:
            count = (line["step"] - before) * batch_size
            seconds, images, before = (
                seconds + count / line["images_per_s"],
                images + count,
                line["step"],
            )
    return seconds, images
