"""Folders of a study and of its trials: what is written there, and how far a trial is."""

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from unet_jax.errors import BrokenFileError
from unet_jax.process import records
from unet_jax.process.whole import write_text
from unet_jax.runs import layout, ours
from unet_jax.runs import workdir as run_dir
from unet_jax.studies.naming import factors_of
from unet_jax.studies.study import Trial

STUDY, TRIAL, LOG = layout.STUDY, "trial.json", "log.txt"
_LABELS = {str: object}
_STUDY = {
    "study": str,
    "baseline": _LABELS,
    "factors": {str: list},
    "trials": [str],
    "impossible": records.Maybe({str: str}),
}
_TRIAL = {"name": str, "factors": _LABELS, "overrides": {str: object}}
_TAIL = 4096  # bytes that hold the last whole line of a metrics.jsonl


class StudyRecord(NamedTuple):
    """What study.json says.

    Attributes:
        study: The study page.
        baseline: Label by factor of the trials that others are compared with.
        factors: All labels of each factor.
        trials: Names of the trials' folders.
        impossible: Why other trials were left out, by name.
    """

    study: str
    baseline: dict[str, str]
    factors: dict[str, list[str]]
    trials: list[str]
    impossible: Mapping[str, str] = {}


def check_place(folder: Path) -> None:
    """Checks that a sweep can write its study.json, before time is spent.

    Args:
        folder: Of the sweep, which need not be there.

    Raises:
        BrokenFileError: A folder, or a link to nothing, is in its place.
    """
    file = folder / STUDY
    if os.path.lexists(file) and not file.is_file():
        raise BrokenFileError(
            f"{file} is no regular file, where a sweep writes one; move it elsewhere."
        )


def write_study(
    folder: Path,
    page: Path,
    baseline: Mapping[str, str],
    trials: Sequence[Trial],
    impossible: Mapping[str, str] | None = None,
) -> None:
    """Writes study.json.

    Args:
        folder: The study's.
        page: The study page.
        baseline: Label by factor of the trials that others are compared with.
        trials: All trials.
        impossible: Why those of them that are left out are impossible, by name.
    """
    impossible = dict(impossible or {})
    names = [trial.name for trial in trials if trial.name not in impossible]
    record = StudyRecord(str(page), dict(baseline), factors_of(trials), names, impossible)
    write_text(folder / STUDY, json.dumps(record._asdict(), indent=2) + "\n")


def read_study(folder: Path) -> StudyRecord | None:
    """Reads study.json; None where there is none."""
    advice = "start the sweep again, which writes it anew"
    found = records.read_json(folder / STUDY, _STUDY, "what a sweep wrote", advice)
    if found is None:
        return None
    return StudyRecord(**{name: found[name] for name in StudyRecord._fields if name in found})


def read_trial(folder: Path) -> Trial | None:
    """Reads the trial.json of a trial's folder; None where there is none.

    Values that were tuples come back as lists.
    """
    advice = "put it back, or delete it and start the sweep again, which writes it anew"
    found = records.read_json(folder / TRIAL, _TRIAL, "what a sweep wrote", advice)
    return None if found is None else Trial(*(found[name] for name in Trial._fields))


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

    Raises:
        UserError: It holds what is not of a run, under a name that a run writes.
    """
    folder.mkdir(exist_ok=True)
    ours.check_names(folder)
    write_text(folder / TRIAL, json.dumps(trial._asdict(), indent=2) + "\n")
    run_dir.begin(folder, config, overwrite=False)


def last_line(folder: Path) -> dict[str, Any]:
    """Returns the last whole line of a run's metrics; {"step": 0} where there is none."""
    file = folder / layout.METRICS
    if not file.is_file():
        return {"step": 0}
    with file.open("rb") as opened:
        size = opened.seek(0, os.SEEK_END)
        opened.seek(max(0, size - _TAIL))
        *lines, _ = opened.read().split(b"\n")  # the last is empty, or still being written
        # The first line may be cut, unless all was read.
        whole = lines if size <= _TAIL else lines[1:]
    return _last_readable(whole)


def _last_readable(lines: Sequence[bytes]) -> dict[str, Any]:
    """Returns the last of some lines that is one of a run: this is for progress, and no error."""
    for line in reversed(lines):
        with suppress(ValueError, RecursionError):
            found = json.loads(line)
            if records.mismatch(found, {"step": records.Count}) is None:
                return found
    return {"step": 0}


def resumes_at(folder: Path) -> int:
    """Returns the step of a run's newest checkpoint, from which it would go on; 0 for none."""
    checkpoints = (folder / layout.CHECKPOINTS).glob("*")
    return max((int(path.name) for path in checkpoints if path.name.isdecimal()), default=0)


def training_seconds(lines: Sequence[Mapping[str, Any]], batch_size: int) -> tuple[float, int]:
    """Adds up the seconds that a run trained, as its metrics tell them.

    Args:
        lines: Of its metrics.jsonl.
        batch_size: Images in a batch.

    Returns:
        The seconds, with compilation and without evaluations and saving, and the images trained
        on in them; steps after the last logged one are not counted. Of a packed program it is the
        run's share.
    """
    seconds, images, before = 0.0, 0, 0
    for line in lines:
        if (line.get("images_per_s") or 0) > 0:
            count = (line["step"] - before) * batch_size
            seconds, images, before = (
                seconds + count / line["images_per_s"],
                images + count,
                line["step"],
            )
    return seconds, images
