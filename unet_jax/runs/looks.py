"""How often the images of a split were looked at: a line for every evaluation of a run."""

import datetime
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from unet_jax.process import records
from unet_jax.process.owner import turn
from unet_jax.process.records import Maybe
from unet_jax.runs import layout, splits

_TOLD = {"metrics": Maybe({str: dict}), "of_val": Maybe({str: records.Number})}
_LINE = {"list": str, **_TOLD, str: object}
_ADVICE = "put the file back, or take that line out"


def fingerprint(workdir: Path, split: str) -> str:
    """Computes the fingerprint of a split.

    It is that of the names of its images, in their order, with those of their contents.

    Args:
        workdir: The run's directory.
        split: Its name, such as "test".

    Returns:
        16 hexadecimal digits.

    Raises:
        BrokenFileError: The splits that the run keeps cannot be read.
    """
    kept = (splits.read(workdir) or {}).get(split, {})
    return hashlib.sha256(json.dumps(list(kept.items())).encode()).hexdigest()[:16]


def add(workdir: Path, split: str, checkpoint: str, step: int, **told: Mapping[str, Any]) -> str:
    """Adds a line for an evaluation whose scores are known.

    Args:
        workdir: The run's directory.
        split: Its name, such as "test".
        checkpoint: "best" or "latest".
        step: Of the checkpoint.
        **told: "metrics", what the metrics of `config.eval.metrics` were told, and of val "of_val",
            what was chosen there; see `of_val.choose`.

    Returns:
        The fingerprint of the split.

    Raises:
        BrokenFileError: The splits that the run keeps cannot be read.
    """
    kept = (splits.read(workdir) or {}).get(split, {})
    listed = fingerprint(workdir, split)
    line = {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "split": split,
        "list": listed,
        "images": len(kept),
        "checkpoint": checkpoint,
        "step": step,
        **told,
        "command": [sys.executable, *sys.argv],
    }
    file = workdir / layout.LOOKS
    with turn(file), file.open("a") as out:  # whole, whoever else evaluates at the time
        out.write(json.dumps(line) + "\n")
        out.flush()
        os.fsync(out.fileno())
    return listed


def count(workdir: Path, fingerprint: str) -> tuple[int, int]:
    """Counts the evaluations of a split.

    Args:
        workdir: The run's directory.
        fingerprint: Of the split, see `add`.

    Returns:
        Those of the run, and those of all trials of its study; the run's where it has none.

    Raises:
        BrokenFileError: A line is not what an evaluation wrote.
    """
    own = sum(found == fingerprint for found in _lists(workdir))
    if not (workdir.absolute().parent / layout.STUDY).is_file():
        return own, own
    trials = workdir.absolute().parent.glob(f"*/{layout.LOOKS}")
    return own, sum(found == fingerprint for file in trials for found in _lists(file.parent))


def describe(workdir: Path, split: str, fingerprint: str) -> str:
    """Says in a line how often the images of a split were looked at."""
    own, of_study = count(workdir, fingerprint)
    times = "once" if own == 1 else f"{own} times"
    more = f", and its study {of_study} times" if of_study > own else ""
    return f"evaluations of this list of {split} images: this run {times}{more} ({layout.LOOKS})"


def read(workdir: Path) -> list[dict[str, Any]]:
    """Reads the lines of a run's evaluations, the oldest first.

    Raises:
        BrokenFileError: One is not what an evaluation wrote.
    """
    return records.read_lines(workdir / layout.LOOKS, _LINE, "what a run wrote", _ADVICE)


def _lists(workdir: Path) -> Iterator[str]:
    return (line["list"] for line in read(workdir))
