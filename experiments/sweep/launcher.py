"""A sweep over a design: what is checked before any time is spent, the jobs, and the end."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict
from rich.table import Table

from experiments.engines.base import Engine
from experiments.engines.local import Slots
from experiments.naming import factors_of, make_trials
from experiments.pages import make_config
from experiments.study import Study, Trial
from experiments.sweep import outlook
from experiments.sweep.jobs import plan_jobs, write_packs
from experiments.sweep.probe import ask
from experiments.sweep.running import Board, FailedTrialsError, print_failures, run_jobs
from experiments.trials import check, prepare, write_study
from unet_jax import workdir as run_dir
from unet_jax.errors import UserError
from unet_jax.logs import console


class Sweep(NamedTuple):
    """What the command line asks for.

    Attributes:
        page: The study page.
        study: What it makes.
        base: Config values of every trial, by key.
        folder: The study's.
        mode: Of `jobs.plan_jobs`.
        slots: Environment variables of each of the jobs at a time.
        is_local: Whether jobs run on this machine, in these slots.
    """

    page: Path
    study: Study
    base: Mapping[str, Any]
    folder: Path
    mode: str
    slots: Slots
    is_local: bool


def print_plan(sweep: Sweep) -> None:
    """Prints every trial of a design and the jobs that it will run in; writes nothing.

    Args:
        sweep: What is asked for.

    Raises:
        UserError: The study or a trial does not fit.
    """
    trials = make_trials(sweep.study, sweep.base)
    configs = unfinished(sweep, trials)
    console.print(f"{sweep.page}: {len(trials)} trials of {sweep.study.page}", markup=False)
    if not configs:
        outlook.print_trials(trials, sweep.folder, {}, {})
        return
    answer = ask(configs, sweep.slots[0], sweep.folder, timed=True)
    assert answer.timing is not None  # asked for
    facts = dict(zip(configs, answer.facts, strict=True))
    seconds = {
        name: outlook.time_left(sweep.folder / name, facts[name], answer.facts[0], answer.timing)
        for name in configs
    }
    outlook.print_trials(trials, sweep.folder, facts, seconds)
    jobs = plan_jobs(configs, sweep.folder, sweep.mode)
    outlook.print_jobs(jobs, seconds, len(sweep.slots) if sweep.is_local else None)
    outlook.print_method(next(iter(configs)), answer.timing)


def run_design(sweep: Sweep, engine: Engine) -> None:
    """Runs the trials of a design that are not finished, and prints the scores of all.

    Args:
        sweep: What is asked for; its folder is locked.
        engine: Runs the jobs.

    Raises:
        UserError: The study or a trial does not fit; nothing has run.
        StoppedError: A signal asked to stop; everything is saved.
        FailedTrialsError: Some trials failed, and the others are finished.
    """
    trials = make_trials(sweep.study, sweep.base)
    configs = unfinished(sweep, trials)
    answer = ask(configs, sweep.slots[0], sweep.folder) if configs else None
    write_study(sweep.folder, sweep.page, sweep.study.baseline, trials)
    failed = 0
    if answer is not None:
        todo = [trial for trial in trials if trial.name in configs]
        for trial in todo:
            prepare(sweep.folder / trial.name, trial, configs[trial.name])
        console.print(
            f"{len(trials)} trials, {len(trials) - len(todo)} finished before", markup=False
        )
        jobs = plan_jobs(configs, sweep.folder, sweep.mode)
        write_packs(jobs)
        facts = dict(zip(configs, answer.facts, strict=True))
        board = Board(sweep.folder, facts, len(todo))
        failed = len(print_failures(jobs, run_jobs(engine, jobs, board)))
    print_scores(trials, sweep.folder)
    console.print(f"report: python -m experiments.report {sweep.folder}", markup=False)
    if failed:
        raise FailedTrialsError(
            f"{failed} of {len(trials)} trials failed; the same command tries them again."
        )


def unfinished(sweep: Sweep, trials: Sequence[Trial]) -> dict[str, ConfigDict]:
    """Makes the configs of trials and checks their folders.

    Args:
        sweep: What is asked for.
        trials: Its trials.

    Returns:
        The configs of those that are not finished, by name.

    Raises:
        UserError: A config cannot be made, or a folder holds a run of another one.
    """
    configs = {}
    for trial in trials:
        try:
            config = make_config(sweep.study.page, trial.overrides)
        except UserError as error:
            raise UserError(f"{trial.name}: {error}") from None
        folder = sweep.folder / trial.name
        lines = check(folder, config)
        if not run_dir.is_finished(folder):
            configs[trial.name] = config
            for line in lines:
                console.print(f"{trial.name}: {line}", markup=False)
    return configs


def print_scores(trials: Sequence[Trial], folder: Path) -> None:
    """Prints a table of trials with their factors and val/mIoU.

    Args:
        trials: The trials.
        folder: The study's.
    """
    factors = factors_of(trials)
    table = Table()
    for name in factors:
        table.add_column(name)
    for name in ("val mIoU", "best step"):
        table.add_column(name, justify="right")
    for trial in trials:
        results = run_dir.read_results(folder / trial.name)
        val = results.get("val", {}) if run_dir.says_finished(results) else {}
        score = "not finished" if not val else f"{val['mIoU']:.4f}"
        labels = [trial.factors.get(name, "") for name in factors]
        table.add_row(*labels, score, str(val.get("step", "")))
    console.print(table, markup=False)
