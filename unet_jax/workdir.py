"""A run's directory: what it holds, whether a run may begin, go on, or is finished."""

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from unet_jax import config as configs
from unet_jax.errors import UserError

CHECKPOINTS, FIGURES, TENSORBOARD = "checkpoints", "figures", "tensorboard"
EVALUATIONS = "evaluations"
CONFIG, RUN, METRICS, RESULTS = "config.json", "run.json", "metrics.jsonl", "results.json"
_OURS = (CHECKPOINTS, FIGURES, TENSORBOARD, EVALUATIONS, CONFIG, RUN, METRICS, RESULTS)

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


def check(workdir: Path, config: ConfigDict, *, overwrite: bool) -> None:
    """Checks that a run may begin or go on in a directory; makes it, and writes nothing into it.

    Args:
        workdir: The directory.
        config: The whole config.
        overwrite: Whether a run that is there may be deleted, whatever its config.

    Raises:
        UserError: It cannot be written, or holds a run of another config.
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
    file = workdir / CONFIG
    changed = configs.differences(configs.load(file), config) if file.exists() else []
    if changed and not overwrite:
        raise UserError(
            f"--workdir={workdir} holds a run of another config: {'; '.join(changed)}. Choose "
            "another directory, undo these changes, or delete that run with --overwrite."
        )


def begin(workdir: Path, config: ConfigDict, *, overwrite: bool) -> None:
    """Writes the config of a run that was checked; with `overwrite` deletes what a run left.

    Args:
        workdir: The directory.
        config: The whole config.
        overwrite: Whether to delete; only files that runs write are touched.
    """
    for name in _OURS if overwrite else ():
        path = workdir / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    write(workdir / CONFIG, configs.to_json(config))


def is_finished(workdir: Path) -> bool:
    """Tells whether the directory holds a finished training run."""
    return "train" in read_results(workdir)


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
    size: dict[str, int] | None = None,
) -> None:
    """Writes run.json: what ran, on what.

    Args:
        workdir: The directory.
        overrides: The config values given on the command line.
        devices: See `sharding.describe_devices`.
        sharding: See `sharding.describe_split`.
        size: "parameters", and "flops_per_image" of a forward pass.
    """
    run = {
        "command": [sys.executable, *sys.argv],
        "overrides": overrides,
        "git_commit": _git_commit(),
        "python": sys.version.split()[0],
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "devices": devices,
        "sharding": sharding or {},
        **(size or {}),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
    }
    write(workdir / RUN, json.dumps(run, indent=2) + "\n")


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
