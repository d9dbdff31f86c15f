"""Whether what a run will read and replace, also at its end, is what a run left."""

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from unet_jax import compare
from unet_jax.errors import BrokenFileError
from unet_jax.metrics import make as metrics
from unet_jax.metrics.names import class_names_of
from unet_jax.process import records
from unet_jax.process.parsing import parse_alone
from unet_jax.runs import layout
from unet_jax.runs.logs import read_lines
from unet_jax.runs.provenance import read_provenance
from unet_jax.runs.results import read_results

_TOLERANCE = 1e-6
# What NumPy raises for an npz file that is none, is damaged, or lacks an array.
_UNREADABLE = (
    *(AttributeError, EOFError, LookupError, MemoryError, OSError, OverflowError, RuntimeError),
    *(SyntaxError, TypeError, ValueError, zipfile.BadZipFile, zlib.error),
)
_OLD = {"confusion": "overlap/confusion"}  # names of counts of older versions
# Folders that runs write, and the files in them.
_FOLDERS = {
    layout.CHECKPOINTS: (),
    "broken_checkpoints": (),
    layout.TENSORBOARD: (),
    layout.TRACKERS: (),
    layout.EVALUATIONS: ("*.npz",),
    layout.CARDS: ("*.json", "*.md", "*.html"),
    layout.FIGURES: ("*.png",),
    f"{layout.FIGURES}/history": ("*.npz",),
}


def check_intact(workdir: Path, anew: str = "") -> None:
    """Checks what a training, or an evaluation, will read or replace, before time is spent.

    Args:
        workdir: The run's directory, which need not be there.
        anew: Entry of results.json that is going to be written anew.

    Raises:
        BrokenFileError: A file is broken, or a folder where a file is meant, or the other way
            round.
    """
    check_places(workdir)
    results = read_results(workdir)
    check_scores(workdir, {entry: said for entry, said in results.items() if entry != anew})
    read_provenance(workdir)
    read_lines(workdir / layout.METRICS)


def check_places(workdir: Path) -> None:
    """Checks that folders are where runs write folders, and files where they write files.

    Args:
        workdir: The run's directory.

    Raises:
        BrokenFileError: Something else is in the place of one.
    """
    for name, patterns in _FOLDERS.items():
        folder = workdir / name
        if (folder.exists() or folder.is_symlink()) and not folder.is_dir():
            kind = "a file" if folder.is_file() else "a link to nothing"
            raise BrokenFileError(
                f"{folder} is {kind}, where a run writes a folder; move it elsewhere."
            )
        for file in (file for pattern in patterns for file in folder.glob(pattern)):
            if not file.is_file():
                kind = "a link to nothing" if file.is_symlink() else "a folder"
                raise BrokenFileError(
                    f"{file} is {kind}, where a run writes a file; move it elsewhere."
                )


def check_scores(workdir: Path, results: Mapping[str, Any]) -> None:
    """Compares a run's results with the counts that they were computed from.

    Args:
        workdir: The run's directory.
        results: Its results.json.

    Raises:
        BrokenFileError: They are other scores: one of the files was changed, or is that of another
            run.
    """
    for entry, said in results.items():
        file = workdir / layout.EVALUATIONS / f"{entry}_{said['step']:08d}.npz"
        names = class_names_of(said)
        if not names or not file.is_file():
            continue  # runs of older versions left no counts
        try:
            counts = read_counts(file)[1]
        except ValueError:
            continue  # the scores are there all the same
        known = {}
        if metrics.are_of(counts, len(names)):
            known = metrics.values(metrics.scores(metrics.of_counts(counts, names), counts))
        wrong = [key for key, value in known.items() if not _is_close(said.get(key), value)]
        if wrong or not known:
            first = f"{entry}.{wrong[0]}={said.get(wrong[0])}" if wrong else f"{len(names)} classes"
            raise BrokenFileError(
                f"{workdir / layout.RESULTS} has {first}, which {file} does not give: one of them "
                "was changed, or is that of another run; put it back, or let "
                "--mode=eval write both anew."
            )


def _is_close(one: Any, other: Any) -> bool:
    are_numbers = records.is_finite(one), records.is_finite(other)
    # Of a network that diverged the cross-entropy is no number either.
    return abs(one - other) <= _TOLERANCE if all(are_numbers) else not any(are_numbers)


def read_arrays(
    file: Path, shapes: Mapping[str, tuple[int | None, ...]] | None = None
) -> dict[str, np.ndarray]:
    """Reads arrays of an npz file that a run wrote.

    Args:
        file: The file, which exists.
        shapes: Of the arrays that it must have, by name, a length None for any; without, all that
            it has are read.

    Returns:
        These arrays by name.

    Raises:
        ValueError: It is broken or holds something else; the message says what.
    """
    if not file.is_file():
        raise ValueError("it is no regular file")

    def read() -> dict[str, np.ndarray]:
        with np.load(file, allow_pickle=False) as saved:
            return {name: saved[name] for name in (saved if shapes is None else shapes)}

    try:
        arrays = parse_alone(read)
    except _UNREADABLE as error:
        raise ValueError(f"it cannot be read: {error or type(error).__name__}") from None
    for name, shape in (shapes or {}).items():
        found = arrays[name].shape
        fits = len(found) == len(shape) and all(
            b in (None, a) for a, b in zip(found, shape, strict=True)
        )
        if not fits:
            raise ValueError(f"{name} has shape {found}")
    return arrays


def read_counts(file: Path) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
    """Reads the counts of an evaluation, which are there.

    Args:
        file: Of the folder evaluations.

    Returns:
        N names of images; and by "METRIC/COUNT" int64 or float64 [N, ...], see `Metric.axes`, of
        the metrics that there are.

    Raises:
        ValueError: It is not what a run wrote; the message says why.
    """
    arrays = read_arrays(file)
    ids = arrays.pop("id", np.zeros(()))
    if ids.ndim != 1:
        raise ValueError("it has no names of images")
    arrays = {_OLD.get(name, name): array for name, array in arrays.items()}
    metrics.check_counts(arrays, len(ids))
    counts = {}
    for key, metric in metrics.of_counts(arrays, ()).items():
        for name in metric.axes:
            counts[f"{key}/{name}"] = _check_counts(arrays[f"{key}/{name}"])
    if not counts:
        raise ValueError("it has no counts")
    return tuple(map(str, ids)), counts


def _check_counts(array: np.ndarray) -> np.ndarray:
    """Returns counts as int64 or float64."""
    is_whole = array.dtype.kind in "iu"
    if array.size == 0 or not (is_whole or array.dtype.kind == "f"):
        raise ValueError(f"counts of shape {array.shape} and type {array.dtype}")
    if is_whole and array.min() < 0:
        raise ValueError("negative counts")
    return array.astype(np.int64 if is_whole else np.float64)


def check_of_run(meta: Mapping[str, Any], config: ConfigDict, where: str) -> None:
    """Checks that a checkpoint is that of a config.

    Args:
        meta: Of the checkpoint; those of older versions do not tell.
        config: The whole config.
        where: Its folder, for the error.

    Raises:
        BrokenFileError: It is that of another run.
    """
    if changed := compare.other_identity(meta["config"], config) if "config" in meta else []:
        raise BrokenFileError(
            f"{where} is not of this run's config: {'; '.join(changed)}. Put back the checkpoints "
            f"and the {layout.CONFIG} of one run."
        )


def check_found(meta: Mapping[str, Any], found: Mapping[str, Any], workdir: Path) -> None:
    """Checks that a run goes on with what its data said when it began.

    Args:
        meta: Of a checkpoint; those of older versions do not tell.
        found: By name of the file that keeps it, what is there now.
        workdir: The run's directory.

    Raises:
        BrokenFileError: It is something else.
    """
    then = meta.get("found", {})
    for name in found.keys() & then.keys():
        if then[name] != found[name]:
            raise BrokenFileError(
                f"{workdir / name} is not what this run's checkpoints were trained with, "
                f"{then[name]}; put it back, or train again with --overwrite."
            )
