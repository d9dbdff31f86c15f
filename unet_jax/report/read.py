"""Reads the folders of a sweep, or of ordinary runs, as they are: also unfinished or old ones."""

import ast
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from unet_jax import config as configs
from unet_jax.defaults import HEADLINE
from unet_jax.errors import BrokenFileError, UserError
from unet_jax.process import records
from unet_jax.runs import layout
from unet_jax.runs.intact import check_scores, read_counts
from unet_jax.runs.logs import read_lines
from unet_jax.runs.provenance import read_provenance
from unet_jax.runs.results import read_results, says_finished
from unet_jax.studies.sweep.jobs import find_log
from unet_jax.studies.trials import STUDY, TRIAL, read_study, read_trial

_CONFIG = {
    "train": {"seed": object, "batch_size": records.Count},
    "eval": {"batch_size": records.Count, "headline": str},
}
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
        if says_finished(self.results):
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
        left_out: Folders with trials that study.json does not name.
        impossible: Why trials were not run, by name.
        broken: Which trials have a broken file, and what is wrong with it.
    """

    folder: Path
    is_study: bool
    page: str
    baseline: dict[str, str]
    factors: dict[str, list[str]]
    runs: tuple[Run, ...]
    left_out: tuple[str, ...] = ()
    impossible: Mapping[str, str] = {}
    broken: tuple[str, ...] = ()


class Evaluated(NamedTuple):
    """Counts of one evaluation, image by image.

    Attributes:
        ids: N names of images.
        counts: By "METRIC/COUNT", [N, ...].
    """

    ids: tuple[str, ...]
    counts: Mapping[str, np.ndarray]


def read(folder: Path) -> Sweep:
    """Reads a sweep's folder or an ordinary run.

    Args:
        folder: Of a sweep (study.json) or of a run (config.json).

    Returns:
        What it holds.

    Raises:
        UserError: It is neither, or its study.json cannot be read.
    """
    study = read_study(folder)
    if study is None:
        if not (folder / layout.CONFIG).exists():
            raise UserError(
                f"{folder} holds neither {STUDY} nor {layout.CONFIG}; give the --workdir of a "
                "sweep or of a run."
            )
        return Sweep(folder, False, "", {}, {}, (read_run(folder),))
    found = sorted(path.parent.name for path in folder.glob(f"*/{TRIAL}"))
    runs, broken = _read_trials(folder / name for name in study.trials)
    return Sweep(
        folder,
        True,
        study.study,
        study.baseline,
        study.factors,
        tuple(runs),
        tuple(name for name in found if name not in (*study.trials, *study.impossible)),
        study.impossible,
        tuple(broken),
    )


def _read_trials(folders: Iterable[Path]) -> tuple[list[Run], list[str]]:
    """Reads trials; says of those with a broken file which one it is."""
    runs, broken = [], []
    for folder in folders:
        try:
            runs.append(read_run(folder))
        except BrokenFileError as error:
            broken.append(f"{folder.name}: {error}")
            print(f"left out of the report: {broken[-1]}", file=sys.stderr)
    return runs, broken


def read_run(folder: Path) -> Run:
    """Reads one run or trial; what is missing is empty.

    Args:
        folder: Its directory.

    Returns:
        What it holds.

    Raises:
        BrokenFileError: A file is not what was written.
    """
    trial = read_trial(folder)
    config = _read_config(folder / layout.CONFIG)
    factors = {name: str(label) for name, label in trial.factors.items()} if trial else {}
    if not trial and config is not None:
        factors = {"seed": str(config.train.seed)}
    results = _without_nan(read_results(folder))
    headline = HEADLINE if config is None else config.eval.headline
    scored = {entry: said for entry, said in results.items() if said.get(headline) is not None}
    check_scores(folder, scored)
    return Run(
        folder,
        factors,
        config,
        _read_facts(folder),
        results,
        read_lines(folder / layout.METRICS),
        _read_log(folder),
    )


def _read_config(file: Path) -> ConfigDict | None:
    if not (file.exists() or file.is_symlink()):
        return None
    config = configs.load(file)
    if problem := records.mismatch(config.to_dict(), _CONFIG):
        raise BrokenFileError(f"{file} is not a config that a run wrote ({problem}); put it back.")
    return config


def _read_facts(folder: Path) -> dict[str, Any]:
    """Reads run.json; where it is broken it is said, and a cost is missing but no score."""
    try:
        return _without_nan(read_provenance(folder))
    except BrokenFileError as error:
        print(f"without its cost: {folder.name}: {error}", file=sys.stderr)
        return {}


def _read_log(folder: Path) -> str:
    """Returns the last lines of a run's log, or why they cannot be read."""
    try:
        log = find_log(folder)
        text = log.read_text(errors="replace").rstrip() if log.exists() else ""
    except (BrokenFileError, OSError) as error:
        text = str(error)
    return "\n".join(text.splitlines()[-_TAIL:])[-_MOST:]


def read_evaluation(run: Run, split: str) -> Evaluated | None:
    """Reads the counts of the evaluation whose scores results.json holds.

    Args:
        run: The run.
        split: "val" or "test".

    Returns:
        The counts; None where the run has none, as runs of older versions.

    Raises:
        BrokenFileError: They are not what was written.
    """
    step = run.results.get(split, {}).get("step")
    file = run.folder / layout.EVALUATIONS / f"{split}_{step or 0:08d}.npz"
    if step is None or not file.exists():
        return None
    try:
        return Evaluated(*read_counts(file))
    except ValueError as error:
        raise BrokenFileError(f"{file} is not what a run wrote ({error}).") from None


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


def _without_nan(value: Any) -> Any:
    """Returns a JSON value with None for numbers that are not finite."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    return value if not isinstance(value, float) or records.is_finite(value) else None
