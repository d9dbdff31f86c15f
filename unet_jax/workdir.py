"""A run's directory: what it holds, whether a run may begin, go on, or is finished."""

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from unet_jax import config as configs
from unet_jax.errors import UserError
from unet_jax.runtime import cores

CHECKPOINTS, FIGURES, TENSORBOARD = "checkpoints", "figures", "tensorboard"
EVALUATIONS = "evaluations"
CONFIG, RUN, METRICS, RESULTS = "config.json", "run.json", "metrics.jsonl", "results.json"
SPLIT = "split.json"
SHRINKAGE = "largest_shrinkage"  # in run.json: of the training images, with data.fit="resize"
# Names of an evaluation by split: "train" in results.json is what training says of itself.
ENTRIES = {"val": "val", "test": "test", "train": "train_split"}
_OURS = (CHECKPOINTS, FIGURES, TENSORBOARD, EVALUATIONS, CONFIG, RUN, SPLIT, METRICS, RESULTS)

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
        UserError: It holds a run whose config differs in more than `config.MAY_DIFFER`.
    """
    file = workdir / CONFIG
    if not file.exists():
        return []
    saved = configs.load(file)
    if changed := configs.other_results(saved, config):
        raise UserError(
            f"--workdir={workdir} holds a run of another config: {'; '.join(changed)}. {advice}"
        )
    mesh = [line for line in configs.differences(saved, config) if line.startswith("config.mesh")]
    return [f"another mesh than the run's: {'; '.join(mesh)}; {ROUNDING}"] if mesh else []


def check_same(workdir: Path, config: ConfigDict) -> list[str]:
    """Checks that a config is that of the run in a directory, but for `config.MAY_DIFFER`.

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
        overwrite: Whether to delete; only files that runs write are touched.
        split: Text of split.json; None leaves the one that is there.
    """
    for name in _OURS if overwrite else ():
        path = workdir / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    if split is not None:
        write(workdir / SPLIT, split)
    write(workdir / CONFIG, configs.to_json(config))


def has_steps(workdir: Path) -> bool:
    """Tells whether the directory holds checkpoints, from which a run goes on."""
    return any(path.name.isdecimal() for path in (workdir / CHECKPOINTS).glob("*"))


def is_finished(workdir: Path) -> bool:
    """Tells whether the directory holds a finished training run."""
    return says_finished(read_results(workdir))


def says_finished(results: Mapping[str, Any]) -> bool:
    """Tells whether a results.json is that of a finished training run."""
    # An evaluation of the training split was once written under this name too.
    return "best_step" in results.get("train", {})


def read_results(workdir: Path) -> dict[str, Any]:
    """Reads results.json; {} where there is none."""
    file = workdir / RESULTS
    return json.loads(file.read_text()) if file.exists() else {}


def write_results(workdir: Path, **results: Any) -> None:
    """Adds entries to results.json, or replaces them."""
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
        size: "parameters", "flops_per_image" of a forward pass, and `SHRINKAGE`.
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
    """Reads run.json; {} where there is none."""
    file = workdir / RUN
    return json.loads(file.read_text()) if file.exists() else {}


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
    part = file.with_name(f".{file.name}.part")
    part.write_text(text)
    part.replace(file)


def _git_commit() -> str | None:
    here = Path(__file__).parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()
