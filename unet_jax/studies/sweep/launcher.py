"""A sweep over a design: what is checked before any time is spent, the jobs, and the end."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict
from rich.table import Table

from unet_jax.commands import spell
from unet_jax.config import load
from unet_jax.errors import BrokenFileError, UserError
from unet_jax.metrics.make import Headline, read_headline
from unet_jax.process.console import console
from unet_jax.runs import layout
from unet_jax.runs import workdir as run_dir
from unet_jax.runs.intact import check_intact
from unet_jax.runs.results import read_results, says_finished
from unet_jax.studies.engines.base import Engine
from unet_jax.studies.engines.local import Slots
from unet_jax.studies.naming import factors_of, make_trials
from unet_jax.studies.pages import make_config
from unet_jax.studies.study import Study, Trial
from unet_jax.studies.sweep import outlook
from unet_jax.studies.sweep.jobs import plan_jobs, write_packs
from unet_jax.studies.sweep.probe import SKIP, Facts, Timing, ask
from unet_jax.studies.sweep.running import (
    Board,
    FailedTrialsError,
    ImpossibleTrialsError,
    print_failures,
    run_jobs,
)
from unet_jax.studies.trials import check, check_place, prepare, read_trial, write_study


class Sweep(NamedTuple):
    """What the command line asks for.

    Attributes:
        page: The study page.
        study: What it makes.
        base: Config values of every trial, by key.
        folder: The study's.
        mode: The mode; see `jobs.plan_jobs`.
        slots: Environment variables of each of the jobs at a time.
        is_local: Whether jobs run on this machine, in these slots.
        skips: Whether impossible trials are left out.
    """

    page: Path
    study: Study
    base: Mapping[str, Any]
    folder: Path
    mode: str
    slots: Slots
    is_local: bool
    skips: bool = False


class Checked(NamedTuple):
    """Trials that were checked.

    Attributes:
        configs: Of those that are possible and not finished, by name.
        facts: Of these, by name.
        timing: Of the first of these, where it was asked for.
        impossible: Why others are not possible, by name.
    """

    configs: dict[str, ConfigDict]
    facts: dict[str, Facts]
    timing: Timing | None
    impossible: dict[str, str]


def print_plan(sweep: Sweep) -> None:
    """Prints every trial of a design and the jobs that it will run in; writes nothing.

    Args:
        sweep: What is asked for.

    Raises:
        UserError: The study or a trial does not fit.
    """
    trials = make_trials(sweep.study, sweep.base)
    configs, facts, timing, impossible = examine(sweep, trials, timed=True)
    console.print(f"{sweep.page}: {len(trials)} trials of {sweep.study.page}")
    seconds = {}
    if timing is not None:
        first = next(iter(facts.values()))
        for name in configs:
            seconds[name] = outlook.time_left(sweep.folder / name, facts[name], first, timing)
    outlook.print_trials(trials, sweep.folder, facts, seconds, impossible)
    if timing is not None:
        jobs = plan_jobs(configs, sweep.folder, sweep.mode)
        outlook.print_jobs(jobs, seconds, len(sweep.slots) if sweep.is_local else None)
        outlook.print_method(next(iter(configs)), timing)


def run_design(sweep: Sweep, engine: Engine) -> None:
    """Runs the trials of a design that are not finished, and prints the scores of all.

    Args:
        sweep: What is asked for; its folder is locked.
        engine: Runs the jobs.

    Raises:
        UserError: The study or a trial does not fit; nothing has run.
        StoppedError: A signal asked to stop; everything is saved.
        FailedTrialsError: Some trials failed, and the others are finished.
        ImpossibleTrialsError: Some trials are impossible, and the others are finished.
    """
    check_place(sweep.folder)
    trials = make_trials(sweep.study, sweep.base)
    broken = find_broken(sweep.folder, trials)
    for line in broken.values():
        console.print(f"left out: {line}")
    whole = [trial for trial in trials if trial.name not in broken]
    configs, facts, _, impossible = examine(sweep, whole)
    headline = headline_of(sweep)
    write_study(sweep.folder, sweep.page, sweep.study.baseline, trials, impossible)
    print_impossible(impossible)
    trials = [trial for trial in trials if trial.name not in impossible]
    failed = len(broken)
    if configs:
        todo = [trial for trial in trials if trial.name in configs]
        for trial in todo:
            prepare(sweep.folder / trial.name, trial, configs[trial.name])
        console.print(f"{len(trials)} trials, {len(trials) - len(todo)} finished before")
        jobs = plan_jobs(configs, sweep.folder, sweep.mode)
        write_packs(jobs)
        board = Board(sweep.folder, facts, len(todo))
        failed += len(print_failures(jobs, run_jobs(engine, jobs, board)))
    print_scores(trials, sweep.folder, headline)
    console.print(f"report: {spell('unet-jax-report', sweep.folder)}")
    if failed:
        raise FailedTrialsError(
            f"{failed} of {len(trials)} trials failed; the same command tries them again."
        )
    refuse_impossible(impossible)


def headline_of(sweep: Sweep) -> Headline:
    """Returns the score by which the trials of a study are compared.

    Args:
        sweep: What is asked for.

    Returns:
        That of its config page with what all trials override.

    Raises:
        UserError: The page cannot be read, or there is no such score.
    """
    common = {**sweep.study.overrides, **sweep.base}
    return read_headline(make_config(sweep.study.page, common).eval.headline)


def examine(sweep: Sweep, trials: Sequence[Trial], *, timed: bool = False) -> Checked:
    """Checks trials before any time is spent.

    Args:
        sweep: What is asked for.
        trials: Its trials.
        timed: Whether to time a few steps of the first one that is possible.

    Returns:
        What was found.

    Raises:
        UserError: A trial does not fit and is not left out, or none is possible: then it is the
            page that is wrong.
    """
    impossible: dict[str, str] = {}
    configs = unfinished(sweep, trials, impossible)
    facts, timing = {}, None
    if configs:
        _check_headlines(sweep, configs)
        answer = ask(configs, sweep.slots[0], sweep.folder, timed=timed, skips=sweep.skips)
        impossible |= answer.impossible
        configs = {name: config for name, config in configs.items() if name not in impossible}
        facts, timing = dict(zip(configs, answer.facts, strict=True)), answer.timing
    if trials and len(impossible) == len(trials):
        name, reason = next(iter(impossible.items()))
        who = (
            "every trial" if len(set(impossible.values())) == 1 else f"no trial is possible: {name}"
        )
        raise UserError(f"{who}: {reason}")
    return Checked(configs, facts, timing, impossible)


def _check_headlines(sweep: Sweep, configs: Mapping[str, ConfigDict]) -> None:
    """Checks that one score decides in all trials."""
    headline = headline_of(sweep).name
    for name, config in configs.items():
        if config.eval.headline != headline:
            raise UserError(
                f"{name}: config.eval.headline={config.eval.headline!r} is another than the "
                f"study's, {headline!r}: trials of one study are compared by one score."
            )


def print_impossible(impossible: Mapping[str, str]) -> None:
    """Prints trials that are left out, each with its reason."""
    for name, reason in impossible.items():
        console.print(f"impossible: {name}: {reason}")


def refuse_impossible(impossible: Mapping[str, str]) -> None:
    """Ends a sweep whose other trials are finished.

    Args:
        impossible: Why trials were left out, by name.

    Raises:
        ImpossibleTrialsError: There is one.
    """
    if impossible:
        raise ImpossibleTrialsError(
            f"impossible, and left out: {', '.join(impossible)}; all other trials are finished."
        )


def find_broken(folder: Path, trials: Sequence[Trial]) -> dict[str, str]:
    """Finds trials whose folders hold a broken file, which the others do not wait for.

    Args:
        folder: The study's.
        trials: The trials.

    Returns:
        By name, which file it is and what to do.
    """
    found = {}
    for trial in trials:
        run = folder / trial.name
        try:
            read_trial(run)
            if (run / layout.CONFIG).exists():
                load(run / layout.CONFIG)
            check_intact(run)
        except BrokenFileError as error:
            found[trial.name] = f"{trial.name}: {error}"
    return found


def unfinished(
    sweep: Sweep, trials: Sequence[Trial], impossible: dict[str, str] | None = None
) -> dict[str, ConfigDict]:
    """Makes the configs of trials and checks their folders.

    Args:
        sweep: What is asked for.
        trials: Its trials.
        impossible: Takes why a config cannot be made, by name, where such trials are left out.

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
            if impossible is not None and sweep.skips:
                impossible[trial.name] = str(error)
                continue
            raise UserError(f"{trial.name}: {error}{SKIP if len(trials) > 1 else ''}") from None
        folder = sweep.folder / trial.name
        lines = check(folder, config)
        if not run_dir.is_finished(folder):
            configs[trial.name] = config
            for line in lines:
                console.print(f"{trial.name}: {line}")
    return configs


def print_scores(trials: Sequence[Trial], folder: Path, headline: Headline) -> None:
    """Prints a table of trials with their factors and their score on the validation split.

    Args:
        trials: The trials.
        folder: The study's.
        headline: The score.
    """
    factors = factors_of(trials)
    table = Table()
    for name in factors:
        table.add_column(name)
    for name in (f"val {headline.title}", "best step"):
        table.add_column(name, justify="right")
    for trial in trials:
        try:
            results = read_results(folder / trial.name)
        except BrokenFileError:
            results = {}
        val = results.get("val", {}) if says_finished(results) else {}
        score = "not finished"
        if val:
            value = val.get(headline.name)
            score = "absent" if value is None else f"{value:.4f}"
        labels = [trial.factors.get(name, "") for name in factors]
        table.add_row(*labels, score, str(val.get("step", "")))
    console.print(table)
