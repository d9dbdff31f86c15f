"""A run's directory: what it holds, whether a run may begin, go on, or is finished."""

import importlib.metadata
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from unet_jax import compare
from unet_jax import config as configs
from unet_jax.errors import BrokenFileError, UserError
from unet_jax.metrics.names import MEANS, PIXEL_ACCURACY, class_names_of
from unet_jax.process import records
from unet_jax.process.owner import turn
from unet_jax.process.runtime import cores
from unet_jax.process.whole import write_whole

CHECKPOINTS, FIGURES, TENSORBOARD = "checkpoints", "figures", "tensorboard"
EVALUATIONS = "evaluations"
CONFIG, RUN, METRICS, RESULTS = "config.json", "run.json", "metrics.jsonl", "results.json"
SPLIT = "split.json"
SHRINKAGE = "largest_shrinkage"  # in run.json: of the training images, with data.fit="resize"
# Names of an evaluation by split: "train" in results.json is what training says of itself.
ENTRIES = {"val": "val", "test": "test", "train": "train_split"}

_SCORES = (PIXEL_ACCURACY, *MEANS.values())
_RESULTS = {str: {"step": records.Count, str: records.Number}}
_FINISHED = {
    "train": {"step": records.Count, "best_step": records.Count},
    "val": {"step": records.Count, **dict.fromkeys(_SCORES, records.Number)},
}
_DEVICES = {"count": records.Count, "kind": str, "platform": str}
_RUN = {
    "devices": records.Maybe(_DEVICES),
    "cores": records.Maybe(records.Count),
    "parameters": records.Maybe(records.Number),
    "flops_per_image": records.Maybe(records.Number),
    SHRINKAGE: records.Maybe(records.Number),
    "versions": records.Maybe({str: str}),
    "resumed": records.Maybe([dict]),
}

ROUNDING = "sums may round otherwise (about 1e-7)."
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


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
    from unet_jax.runs import ours  # which needs this module

    ours.check_names(workdir)
    file = workdir / CONFIG
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
    configs.load(workdir / CONFIG)
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


def begin(workdir: Path, config: ConfigDict, *, overwrite: bool, split: str | None = None) -> None:
    """Writes the config of a run that was checked; with `overwrite` deletes what a run left.

    Args:
        workdir: The directory.
        config: The whole config.
        overwrite: Whether to delete; only what a run wrote is touched.
        split: Text of split.json; None leaves the one that is there.
    """
    from unet_jax.runs import ours  # which needs this module

    if overwrite:
        ours.delete(workdir)
    ours.remove_leftovers(workdir)
    write(workdir / CONFIG, configs.to_json(config))  # first, since it says that all is a run's
    if split is not None:
        write(workdir / SPLIT, split)


def has_steps(workdir: Path) -> bool:
    """Tells whether the directory holds checkpoints, from which a run goes on."""
    return any(path.name.isdecimal() for path in (workdir / CHECKPOINTS).glob("*"))


def is_finished(workdir: Path) -> bool:
    """Tells whether the directory holds a finished training run, of which no figure is missing."""
    from unet_jax.runs import history  # which needs this module

    return says_finished(read_results(workdir)) and not history.missing(workdir)


def says_finished(results: Mapping[str, Any]) -> bool:
    """Tells whether a results.json is that of a run that has taken all its steps."""
    # An evaluation of the training split was once written under this name too.
    return "best_step" in results.get("train", {})


def read_results(workdir: Path) -> dict[str, Any]:
    """Reads results.json.

    Args:
        workdir: The directory.

    Returns:
        The scores by entry; {} where there is no file.

    Raises:
        BrokenFileError: It is not what a run wrote.
    """
    advice = (
        f"put it back, or delete it: training and --mode=eval of --workdir={workdir} write it anew"
    )
    results = records.read_json(workdir / RESULTS, _RESULTS, "what a run wrote", advice) or {}
    if says_finished(results):
        problem = records.mismatch(results, _FINISHED) or _lacks_scores(results["val"])
        if problem:
            raise BrokenFileError(
                f"{workdir / RESULTS} is not what a run wrote ({problem}); {advice}."
            )
    return results


def _lacks_scores(val: Mapping[str, Any]) -> str | None:
    for key in val:
        for name in class_names_of([key]):
            for kind in MEANS:
                if f"{kind}/{name}" not in val:
                    return f"val lacks {f'{kind}/{name}'!r}"
    return None


def write_results(workdir: Path, **results: Any) -> None:
    """Adds entries to results.json, or replaces them; others may do so at the same time."""
    with turn(workdir / RESULTS):
        write(workdir / RESULTS, json.dumps(read_results(workdir) | results, indent=2) + "\n")


def write_run(
    workdir: Path,
    overrides: dict[str, Any],
    devices: dict[str, Any],
    sharding: dict[str, str] | None = None,
    size: Mapping[str, float] | None = None,
    *,
    start: int = 0,
) -> None:
    """Writes run.json: what ran, on what.

    Of a run that goes on, what it began with stays, and an entry of "resumed" says what is other.

    Args:
        workdir: The directory.
        overrides: The config values given on the command line.
        devices: See `sharding.describe_devices`.
        sharding: See `sharding.describe_split`.
        size: "steps" of the whole run, "parameters", "flops_per_image" of a forward pass, and
            `SHRINKAGE`.
        start: Steps that the run has taken.
    """
    run = {
        "command": [sys.executable, *sys.argv],
        "overrides": overrides,
        "git_commit": _git_commit(),
        "python": sys.version.split()[0],
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "devices": devices,
        "cores": cores(),
        "sharding": sharding or {},
        **(size or {}),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
    }
    first = read_run(workdir) if start else {}
    if first:
        other = {key: value for key, value in run.items() if first.get(key) != value}
        run = first | {"resumed": [*first.get("resumed", []), {"step": start, **other}]}
    write(workdir / RUN, json.dumps(run, indent=2) + "\n")


def move(files: Iterable[Path], folder: Path) -> None:
    """Moves files into a folder of the same disk, which is made; others of their names go."""
    folder.mkdir(exist_ok=True)
    for file in sorted(files):
        file.replace(folder / file.name)


def read_run(workdir: Path) -> dict[str, Any]:
    """Reads run.json.

    Args:
        workdir: The directory.

    Returns:
        What ran, on what; {} where there is no file.

    Raises:
        BrokenFileError: It is not what a run wrote.
    """
    advice = "put it back, or delete it: what the run began with is not known then"
    return records.read_json(workdir / RUN, _RUN, "what a run wrote", advice) or {}


def other_machine(workdir: Path, devices: Mapping[str, Any]) -> list[str]:
    """Says where a run goes on with other devices, or on CPU with other cores, than it began with.

    Args:
        workdir: The directory.
        devices: See `sharding.describe_devices`.

    Returns:
        At most one line for each.
    """
    first, lines = read_run(workdir), []
    began = first.get("devices", devices)
    if began != devices:
        one, other = (f"{d['count']} x {d['kind']} ({d['platform']})" for d in (began, devices))
        lines.append(f"began on {one}, goes on with {other}: {ROUNDING}")
    count = first.get("cores", cores())
    if devices["platform"] == "cpu" and count != cores():
        lines.append(
            f"began on {count} cores, goes on with {cores()}: {ROUNDING} NPROC={count} in the "
            "environment would keep the bytes."
        )
    return lines


def write(file: Path, text: str) -> None:
    """Writes a text file whole or not at all."""
    write_whole(file, text.encode())


def _git_commit() -> str | None:
    """Returns the commit of this code; None where it is installed, also inside of a repository."""
    here = Path(__file__)
    is_known = ["ls-files", "--error-unmatch", here.name]
    try:
        for command in (is_known, ["describe", "--always", "--dirty", "--abbrev=40"]):
            line = ["git", "-C", str(here.parent), *command]
            result = subprocess.run(line, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()
