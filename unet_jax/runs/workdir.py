"""A run's directory: what it holds, whether a run may begin, go on, or is finished."""

import os
from collections.abc import Iterable
from pathlib import Path

from ml_collections import ConfigDict

from unet_jax import compare
from unet_jax import config as configs
from unet_jax.defaults import complete
from unet_jax.errors import BrokenFileError, UserError
from unet_jax.process.whole import write_text
from unet_jax.runs import history, layout, ours
from unet_jax.runs.provenance import ROUNDING
from unet_jax.runs.results import read_results, says_finished


def check_config(workdir: Path, config: ConfigDict, advice: str) -> list[str]:
    """Checks that a directory holds no run of another config; writes nothing.

    Args:
        workdir: The directory.
        config: The whole config.
        advice: What to do where it does, for the error.

    Returns:
        A line that says so where only the mesh is another.

    Raises:
        UserError: It holds a run whose config differs in more than `compare.MAY_DIFFER`, or what is
            not a run's; see `ours.check_names`.
    """
    ours.check_names(workdir)
    file = workdir / layout.CONFIG
    if not (file.exists() or file.is_symlink()):
        return []
    saved = configs.load(file)
    try:
        configs.check_sections(saved)
    except UserError as error:
        raise BrokenFileError(f"{file} is not a config that a run wrote: {error}") from None
    if changed := compare.other_results(saved, config):
        raise UserError(
            f"--workdir={workdir} holds a run of another config: {'; '.join(changed)}. {advice}"
        )
    mesh = [line for line in compare.differences(saved, config) if line.startswith("config.mesh")]
    return [f"another mesh than the run's: {'; '.join(mesh)}; {ROUNDING}"] if mesh else []


def check_same(workdir: Path, config: ConfigDict) -> list[str]:
    """Checks that a config is that of the run in a directory, but for `compare.MAY_DIFFER`.

    Args:
        workdir: The directory.
        config: The whole config.

    Returns:
        A line that says so where only the mesh is another.

    Raises:
        UserError: There is no run, or it is one of another config.
    """
    configs.load(workdir / layout.CONFIG)
    return check_config(
        workdir,
        config,
        "What a run is, is read from the run: undo these changes, or train what they say in "
        "another directory.",
    )


def check_writable(workdir: Path) -> None:
    """Checks that a run may write into a directory; makes it, and leaves nothing in it.

    Args:
        workdir: The directory.

    Raises:
        UserError: It cannot be written.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        probe = workdir / f".probe_{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(
            f"--workdir={workdir} cannot be written: {error.strerror}; choose another directory."
        ) from None


def begin(
    workdir: Path,
    config: ConfigDict,
    *,
    overwrite: bool,
    split: str | None = None,
    statistics: str | None = None,
    duration: str | None = None,
) -> None:
    """Writes the config of a run that was checked; with `overwrite` deletes what a run left.

    Args:
        workdir: The directory.
        config: The whole config.
        overwrite: Whether to delete; only what a run wrote is touched.
        split: Text of split.json; None leaves the one that is there.
        statistics: Text of statistics.json; None for none.
        duration: Text of duration.json; None for none.
    """
    if overwrite:
        ours.delete(workdir)
    ours.remove_leftovers(workdir)
    write_text(
        workdir / layout.CONFIG, configs.to_json(config)
    )  # first, since it says that all is a run's
    if split is not None:
        write_text(workdir / layout.SPLIT, split)
    if statistics is not None:
        write_text(workdir / layout.STATISTICS, statistics)
    if duration is not None:
        write_text(workdir / layout.DURATION, duration)


def has_steps(workdir: Path) -> bool:
    """Tells whether the directory holds checkpoints, from which a run goes on."""
    return any(path.name.isdecimal() for path in (workdir / layout.CHECKPOINTS).glob("*"))


def is_finished(workdir: Path) -> bool:
    """Tells whether the directory holds a finished training run that has its figures, if any."""
    if not says_finished(read_results(workdir)):
        return False
    if not history.missing(workdir):
        return True
    return not complete(configs.load(workdir / layout.CONFIG)).eval.figures


def move(files: Iterable[Path], folder: Path) -> None:
    """Moves files into a folder of the same disk, which is made; others of their names go."""
    folder.mkdir(exist_ok=True)
    for file in sorted(files):
        file.replace(folder / file.name)
