"""Reads the folders of a sweep, or of ordinary runs, as they are: also unfinished or old ones."""

import ast
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from experiments.sweep.jobs import find_log
from experiments.trials import STUDY, TRIAL
from unet_jax import config as configs
from unet_jax import workdir as run_dir
from unet_jax.errors import UserError
from unet_jax.logs import read_lines

_TAIL = 6  # lines of a failed trial's log
_MOST = 4000  # characters of them


class Run(NamedTuple):
    """A trial of a sweep, or an ordinary run.

    Attributes:
        folder: Its directory.
        factors: Label by factor, "seed" among them; of an ordinary run only its seed.
        config: Its config; None where it has none yet.
        facts: run.json; {} where there is none.
        results: results.json; {} where there is none.
        lines: Those of metrics.jsonl.
        log: The last lines of its log, or of its pack's.
    """

    folder: Path
    factors: dict[str, str]
    config: ConfigDict | None
    facts: dict[str, Any]
    results: dict[str, Any]
    lines: list[dict[str, Any]]
    log: str

    @property
    def state(self) -> str:
        """Returns "finished", "unfinished at step N", or "not started"."""
        if run_dir.says_finished(self.results):
            return "finished"
        steps = [line["step"] for line in self.lines]
        return f"unfinished at step {steps[-1]:,}" if steps else "not started"

    @property
    def seed(self) -> str:
        """Returns the label of the factor "seed"; "" where it has none."""
        return self.factors.get("seed", "")


class Sweep(NamedTuple):
    """What one of the given directories holds.

    Attributes:
        folder: The directory.
        is_study: Whether it is a sweep; else an ordinary run.
        page: Path of the study page; "" of an ordinary run.
        baseline: Label by factor; {} where none is named.
        factors: Labels by factor, in the study's order.
        runs: Its trials, in the study's order.
        left_out: Folders with trials that the study no longer has.
    """

    folder: Path
    is_study: bool
    page: str
    baseline: dict[str, str]
    factors: dict[str, list[str]]
    runs: tuple[Run, ...]
    left_out: tuple[str, ...] = ()


class Evaluated(NamedTuple):
    """Counts of one evaluation, picture by picture.

    Attributes:
        ids: N names of pictures.
        confusion: int64 [N, K, K], rows are truth.
    """

    ids: tuple[str, ...]
    confusion: np.ndarray


def read(folder: Path) -> Sweep:
    """Reads a sweep's folder or an ordinary run.

    Args:
        folder: Of a sweep (study.json) or of a run (config.json).

    Returns:
        What it holds.

    Raises:
        UserError: It is neither, or its study.json cannot be read.
    """
    file = folder / STUDY
    if not file.exists():
        if not (folder / run_dir.CONFIG).exists():
            raise UserError(
                f"{folder} holds neither {STUDY} nor {run_dir.CONFIG}; give the --workdir of a "
                "sweep or of a run."
            )
        return Sweep(folder, False, "", {}, {}, (read_run(folder),))
    study = _read_json(file)
    if not study:
        raise UserError(f"{file} is no JSON object; start the sweep again, which writes it.")
    found = sorted(path.parent.name for path in folder.glob(f"*/{TRIAL}"))
    names = study.get("trials", found)
    return Sweep(
        folder,
        True,
        study.get("study", ""),
        study.get("baseline") or {},
        study.get("factors") or {},
        tuple(read_run(folder / name) for name in names),
        tuple(name for name in found if name not in names),
    )


def read_run(folder: Path) -> Run:
    """Reads one run or trial; what is missing is empty."""
    trial = _read_json(folder / TRIAL)
    file = folder / run_dir.CONFIG
    config = configs.load(file) if file.exists() else None
    factors = {name: str(label) for name, label in trial.get("factors", {}).items()}
    if not trial and config is not None:
        factors = {"seed": str(config.train.seed)}
    log = find_log(folder)
    text = log.read_text(errors="replace").rstrip() if log.exists() else ""
    return Run(
        folder,
        factors,
        config,
        _read_json(folder / run_dir.RUN),
        _read_json(folder / run_dir.RESULTS),
        read_lines(folder / run_dir.METRICS),
        "\n".join(text.splitlines()[-_TAIL:])[-_MOST:],
    )


def read_evaluation(run: Run, split: str) -> Evaluated | None:
    """Reads the counts of the evaluation whose scores results.json holds.

    Args:
        run: The run.
        split: "val" or "test".

    Returns:
        The counts; None where the run has none, as runs of older versions.
    """
    step = run.results.get(split, {}).get("step")
    file = run.folder / run_dir.EVALUATIONS / f"{split}_{step or 0:08d}.npz"
    if step is None or not file.exists():
        return None
    with np.load(file) as arrays:
        return Evaluated(tuple(map(str, arrays["id"])), arrays["confusion"].astype(np.int64))


def read_docstring(page: str) -> str | None:
    """Reads what a study page says of itself, without running it.

    Args:
        page: Its path.

    Returns:
        Its docstring; None where it cannot be read.
    """
    try:
        return ast.get_docstring(ast.parse(Path(page).read_text()))
    except (OSError, SyntaxError, ValueError):
        return None


def read_all(folders: Sequence[Path]) -> list[Sweep]:
    """Reads several directories, each once; see `read`."""
    return [read(folder) for folder in {folder.resolve(): folder for folder in folders}.values()]


def _read_json(file: Path) -> dict[str, Any]:
    """Reads a JSON object; {} where it cannot be read, and None for what is NaN or infinite."""
    try:
        value = json.loads(file.read_text(), parse_constant=lambda _: None)
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
