"""Checkpoints whose files are not what was saved, found by checksums; knows nothing of Orbax.

Orbax restores flipped bits without a word.
"""

import hashlib
from pathlib import Path

from unet_jax.errors import UserError
from unet_jax.process import records
from unet_jax.process.multihost import is_first, wait_for_all

BROKEN = "broken_checkpoints"  # beside the folder of checkpoints
CHECKSUMS = "sha256.json"
# Orbax writes these after the checksums; the second is JSON.
_METADATA = "_CHECKPOINT_METADATA"
_LATER = ("commit_success.txt", _METADATA)
SMALL = ("meta/", "metrics/")  # of the files of a checkpoint


def set_broken_aside(directory: Path) -> list[str]:
    """Moves checkpoints whose files are not what was saved to the folder `BROKEN` beside theirs.

    Args:
        directory: The run's `checkpoints` folder, which need not exist.

    Returns:
        A line for each, that names it and what is wrong.
    """
    lines = []
    for folder in step_folders(directory) if is_first() else []:
        if problem := find_damage(folder):
            aside = _unused(directory.parent / BROKEN / folder.name)
            aside.parent.mkdir(exist_ok=True)
            folder.rename(aside)
            lines.append(f"{folder} is broken ({problem}); it was moved to {aside}.")
    wait_for_all("broken checkpoints are set aside")
    return lines


def check_small_files(directory: Path) -> None:
    """Checks what Orbax reads of every checkpoint when it opens them, before any checksum.

    Args:
        directory: The run's `checkpoints` folder.

    Raises:
        UserError: A checkpoint is broken, so that it is not known which one is the best.
    """
    for folder in step_folders(directory):
        problem = find_damage(folder, of=SMALL)
        if problem and folder.exists():  # a training that runs may just have deleted it
            raise UserError(say_broken(folder, problem))


def step_folders(directory: Path) -> list[Path]:
    """Returns what lies in the place of steps, by number, in a folder of checkpoints."""
    steps = [folder for folder in directory.glob("*") if folder.name.isdecimal()]
    return sorted(steps, key=lambda folder: int(folder.name))


def say_broken(folder: Path, problem: str) -> str:
    """Says that a checkpoint is broken, and which others are whole."""
    others = [f for f in step_folders(folder.parent) if f.name != folder.name]
    whole = [other.name for other in others if find_damage(other) is None]
    if not whole:
        return f"{folder} is broken ({problem}), and no other is whole; put its files back."
    return (
        f"{folder} is broken ({problem}); whole are those of the steps {', '.join(whole)}: move "
        "this folder elsewhere to use them, or start the training again, which does so."
    )


def find_damage(folder: Path, of: str | tuple[str, ...] = "") -> str | None:
    """Compares a checkpoint with its checksums.

    Args:
        folder: Of one step.
        of: Beginnings of the names of the files to compare, below the folder.

    Returns:
        What is wrong, with the file's name; None if nothing is.
    """
    shapes = {_METADATA: {"item_handlers": {"state": str}}, CHECKSUMS: {str: str}}
    read = {name: records.recall(folder / name, shape) for name, shape in shapes.items()}
    for name, content in read.items():
        if not content:
            return f"{name} is missing or unreadable"
    found = checksums(folder, of)
    for name, checksum in read[CHECKSUMS].items():
        if not name.startswith(of):
            continue
        if name not in found:
            return f"{name} is missing"
        if found[name] != checksum:
            return f"{name} is not what was saved"
    return None


def checksums(folder: Path, of: str | tuple[str, ...] = "") -> dict[str, str]:
    """Computes the checksums of a checkpoint's files.

    Args:
        folder: Of one step.
        of: Beginnings of the names of the files, below the folder.

    Returns:
        sha256 by name; the file of checksums and what is written after it are left out.
    """
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    sums = {}
    for file in files:
        is_asked = file.relative_to(folder).as_posix().startswith(of)
        if is_asked and file.name not in (CHECKSUMS, *_LATER):
            with file.open("rb") as opened:
                digest = hashlib.file_digest(opened, "sha256")
            sums[file.relative_to(folder).as_posix()] = digest.hexdigest()
    return sums


def _unused(path: Path) -> Path:
    names = [path, *(path.with_name(f"{path.name}_{n}") for n in range(2, 100))]
    return next(name for name in names if not name.exists())
