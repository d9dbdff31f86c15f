"""run.json of a run: what ran, on what."""

import importlib.metadata
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from unet_jax.process import records
from unet_jax.process.runtime import cores
from unet_jax.process.whole import write_text
from unet_jax.runs.layout import RUN

SHRINKAGE = "largest_shrinkage"  # in run.json: of the training images, with data.fit="resize"
_DEVICES = {"count": records.Count, "kind": str, "platform": str}
_RUN = {
    "devices": records.Maybe(_DEVICES),
    "cores": records.Maybe(records.Count),
    "kernels": records.Maybe(str),
    "parameters": records.Maybe(records.Number),
    "flops_per_image": records.Maybe(records.Number),
    SHRINKAGE: records.Maybe(records.Number),
    "versions": records.Maybe({str: str}),
    "resumed": records.Maybe([dict]),
    "trained": records.Maybe(
        [{"from": records.Count, "to": records.Count, "seconds": records.Number}]
    ),
}

ROUNDING = "sums may round otherwise (about 1e-7)."
_MAIN = ("main.py", "unet-jax")  # ends of sys.argv[0] of the command
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


def versions() -> dict[str, str]:
    """Returns the versions of the packages that results depend on."""
    return {name: importlib.metadata.version(name) for name in _PACKAGES}


class Training(NamedTuple):
    """How long a run trained.

    Attributes:
        seconds: From the start of each command to its end, of all that came to one.
        is_all: Whether these took all steps; of a command that was killed the time is not known.
    """

    seconds: float
    is_all: bool


def add_time(workdir: Path, start: int, stop: int, seconds: float) -> None:
    """Adds to run.json how long a command trained.

    Args:
        workdir: The directory.
        start: Steps that were taken when it began.
        stop: And when it ended.
        seconds: From its start on, with evaluations and compilation.
    """
    run = read_provenance(workdir)
    part = {"from": start, "to": stop, "seconds": round(seconds, 1)}
    run["trained"] = [*run.get("trained", []), part]
    write_text(workdir / RUN, json.dumps(run, indent=2) + "\n")


def time_trained(run: Mapping[str, Any]) -> Training | None:
    """Tells how long a run trained; None where it does not say, as those of older versions.

    Args:
        run: See `read_provenance`.
    """
    parts = run.get("trained", [])
    if not parts:
        return None
    starts = [0, *(part["to"] for part in parts)]
    is_all = all(part["from"] == start for part, start in zip(parts, starts, strict=False))
    return Training(sum(part["seconds"] for part in parts), is_all)


def write_provenance(
    workdir: Path,
    overrides: dict[str, Any],
    devices: dict[str, Any],
    sharding: dict[str, str] | None = None,
    size: Mapping[str, float] | None = None,
    *,
    kernels: str = "",
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
        kernels: Their form; see `models.fast.describe`.
        start: Steps that the run has taken.
    """
    run = {
        "command": [sys.executable, *sys.argv],
        "overrides": overrides,
        "git_commit": _git_commit(),
        "python": sys.version.split()[0],
        "versions": versions(),
        "devices": devices,
        "cores": cores(),
        "kernels": kernels,
        "sharding": sharding or {},
        **(size or {}),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
    }
    first = read_provenance(workdir) if start else {}
    if first:
        other = {key: value for key, value in run.items() if first.get(key) != value}
        run = first | {"resumed": [*first.get("resumed", []), {"step": start, **other}]}
    write_text(workdir / RUN, json.dumps(run, indent=2) + "\n")


def read_provenance(workdir: Path) -> dict[str, Any]:
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


def other_machine(workdir: Path, devices: Mapping[str, Any], kernels: str) -> list[str]:
    """Says where a run goes on with other devices than it began with, or on CPU with other cores.

    Args:
        workdir: The directory.
        devices: See `sharding.describe_devices`.
        kernels: Their form, before a colon; see `models.fast.describe`.

    Returns:
        At most one line for each.
    """
    first, lines = read_provenance(workdir), []
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
    form = first.get("kernels", kernels)
    if devices == began and form.split(":")[0] != kernels.split(":")[0]:
        lines.append(f"began with these kernels: {form}; goes on with: {kernels}. {ROUNDING}")
    return lines


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


def written_command(line: Sequence[str]) -> str:
    """Writes a command that is kept, as anybody can start it: without the places of this machine.

    Args:
        line: The interpreter, the program, and what it was given.

    Returns:
        The command; of another program only its name.
    """
    if len(line) > 1 and line[1].endswith(_MAIN):
        return shlex.join(["python", "-m", "unet_jax.main", *line[2:]])
    return shlex.join([Path(part).name for part in line[1:2]])
