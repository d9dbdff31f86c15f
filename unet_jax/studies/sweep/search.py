"""Searches a study's ranges with Optuna; each of its trials is an ordinary folder.

What was asked for lies in DIR/optuna.db, so a search that was killed goes on: trials that were
under way are resumed in their folders.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from unet_jax.commands import spell
from unet_jax.defaults import HEADLINE
from unet_jax.errors import BrokenFileError, StoppedError, UserError
from unet_jax.metrics.make import Headline
from unet_jax.process.console import console, duration
from unet_jax.process.signals import stop_requests
from unet_jax.runs import layout
from unet_jax.runs import workdir as run_dir
from unet_jax.runs.logs import read_lines
from unet_jax.runs.results import read_results
from unet_jax.studies.engines.base import Engine, Job, Status
from unet_jax.studies.naming import UNNAMED, make_trial
from unet_jax.studies.ranges import Range
from unet_jax.studies.study import Point, Trial, point_of
from unet_jax.studies.sweep.jobs import single
from unet_jax.studies.sweep.launcher import (
    Checked,
    Sweep,
    examine,
    headline_of,
    print_impossible,
    print_scores,
    refuse_impossible,
    unfinished,
)
from unet_jax.studies.sweep.outlook import print_method, time_left, write_overrides
from unet_jax.studies.sweep.probe import Facts, ask
from unet_jax.studies.sweep.running import POLL, Board, FailedTrialsError, print_failures
from unet_jax.studies.trials import check_place, prepare, read_study, write_study

try:
    import optuna
    from sqlalchemy.pool import NullPool  # Optuna keeps a search by it
except ImportError:
    raise UserError("--search needs Optuna: pip install optuna.") from None

STORAGE = "optuna.db"
_STARTUP = 4  # finished trials before any is pruned
_STATES: dict[Any, Status] = {
    optuna.trial.TrialState.COMPLETE: "done",
    optuna.trial.TrialState.PRUNED: "done",
    optuna.trial.TrialState.FAIL: "failed",
}


def search(sweep: Sweep, engine: Engine, sampler: str, count: int) -> None:
    """Runs trials that Optuna asks for, and prints the best.

    Args:
        sweep: What is asked for; its folder is locked.
        engine: Runs the jobs.
        sampler: "tpe" or "random".
        count: Trials of the whole search, earlier ones included.

    Raises:
        UserError: The study does not fit, or another was searched here; nothing has run.
        StoppedError: A signal asked to stop; everything is saved.
        FailedTrialsError: Some trials failed, and the others are finished.
        ImpossibleTrialsError: Some trials were impossible, and the others are finished.
    """
    check_place(sweep.folder)
    facts = next(iter(_check_ends(sweep).facts.values()))
    headline = headline_of(sweep)
    study = _open(sweep, sampler, headline)
    found = _Search(sweep, engine, study, facts, count, headline)
    with stop_requests() as stop, Board(sweep.folder, {}, count) as board:
        while found.step(board):
            if stop.signum:
                console.print("stopping: running trials save their state")
                engine.cancel()
                raise StoppedError("", stop.signum)
            time.sleep(POLL)
    failed = print_failures(found.failed(), found.status)
    print_impossible(found.impossible)
    possible = [trial for trial in found.trials() if trial.name not in found.impossible]
    print_scores(possible, sweep.folder, headline)
    found.print_best()
    console.print(f"report: {spell('unet-jax-report', sweep.folder)}")
    if failed:
        raise FailedTrialsError(f"{len(failed)} trials failed; the others are finished.")
    refuse_impossible(found.impossible)


def print_search_plan(sweep: Sweep, sampler: str, count: int) -> None:
    """Prints what a search will explore and how long it will take; writes nothing.

    Args:
        sweep: What is asked for.
        sampler: "tpe" or "random".
        count: Trials of the whole search.

    Raises:
        UserError: The study does not fit.
    """
    ends = _check_ends(sweep, timed=True)
    assert ends.timing is not None  # asked for
    is_begun = (sweep.folder / STORAGE).exists()
    old = []
    if is_begun:
        old = _open(sweep, sampler, headline_of(sweep)).get_trials(deepcopy=False)
    ended = sum(trial.state.is_finished() for trial in old)
    console.print(f"{sweep.page}: search of {sweep.study.page} by {sampler}")
    for key, span in sweep.study.search.items():
        console.print(f"    {key}  {span.kind} {span.options}")
    console.print(f"{count} trials, {ended} ended, {len(old) - ended} begun")
    print_impossible(ends.impossible)
    facts = next(iter(ends.facts.values()))
    each = time_left(sweep.folder / "new", facts, facts, ends.timing)
    total = each * max(0, count - ended)
    console.print(
        f"time: about {duration(total)} one by one, {duration(each)} each, less where pruned; "
        f"{len(sweep.slots)} at a time",
    )
    print_method("the middle of the ranges", ends.timing)


class _Search:
    """The trials that are under way."""

    def __init__(
        self,
        sweep: Sweep,
        engine: Engine,
        study: optuna.Study,
        facts: Facts,
        count: int,
        headline: Headline,
    ) -> None:
        self._sweep, self._engine, self._study = sweep, engine, study
        self._facts, self._count, self._headline = facts, count, headline
        self._open: dict[int, tuple[optuna.Trial, Trial]] = {}
        self._pruned: set[str] = set()
        self._jobs: list[Job] = []
        record = read_study(sweep.folder)
        self.impossible = dict(record.impossible) if record else {}
        self.status: Mapping[str, Status] = {}
        for frozen in study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
            self._begin(optuna.trial.Trial(study, frozen._trial_id))

    def step(self, board: Board) -> bool:
        """Looks once at every trial under way and begins new ones; returns whether any is left."""
        self.status = self._engine.watch()
        for number, (asked, trial) in list(self._open.items()):
            if self._has_ended(asked, trial):
                del self._open[number]
        asked = len(self._study.get_trials(deepcopy=False))
        while len(self._open) < len(self._sweep.slots) and asked < self._count:
            self._begin(self._study.ask())
            asked += 1
        under_way = {trial.name for _, trial in self._open.values()}
        states: dict[str, Status] = {}
        for frozen in self._study.get_trials(deepcopy=False):
            name = self._trial(frozen.params).name
            states[name] = _STATES.get(frozen.state, "running")
            if name in under_way:
                states[name] = self.status.get(name, "waiting")
            board.facts.setdefault(name, self._facts)
        board.update(states)
        return bool(self._open)

    def trials(self) -> list[Trial]:
        """Returns all trials, in the order in which they were asked for."""
        trials = [self._trial(frozen.params) for frozen in self._study.get_trials(deepcopy=False)]
        return list({trial.name: trial for trial in trials}.values())

    def failed(self) -> list[Job]:
        """Returns the jobs begun here that failed, which the pruned ones did not."""
        return [
            job
            for job in self._jobs
            if self.status.get(job.name) == "failed" and job.name not in self._pruned
        ]

    def print_best(self) -> None:
        """Prints the overrides of the best trial."""
        complete = (optuna.trial.TrialState.COMPLETE,)
        if not self._study.get_trials(deepcopy=False, states=complete):
            console.print("no trial is finished")
            return
        best = self._study.best_trial
        overrides = write_overrides(self._trial(best.params).overrides)
        console.print(f"best: val {self._headline.title} {best.value:.4f} with {overrides}")

    def _trial(self, params: Mapping[str, Any]) -> Trial:
        given = {
            key: _value(span, params[key])
            for key, span in self._sweep.study.search.items()
            if key in params
        }
        return make_trial(self._sweep.study, point_of(given), self._sweep.base)

    def _begin(self, asked: optuna.Trial) -> None:
        for key, span in self._sweep.study.search.items():
            _suggest(asked, key, span)
        trial = self._trial(asked.params)
        self._open[asked.number] = asked, trial
        configs = self._possible(trial)
        write_study(self._sweep.folder, self._sweep.page, {}, self.trials(), self.impossible)
        if configs and trial.name not in self._pruned:
            prepare(self._sweep.folder / trial.name, trial, configs[trial.name])
            job = single(trial.name, self._sweep.folder)
            self._jobs.append(job)
            self._engine.submit([job])

    def _possible(self, trial: Trial) -> dict[str, ConfigDict]:
        """Makes the config of a trial; {} of one that is finished, or impossible and left out."""
        impossible: dict[str, str] = {}
        configs = unfinished(self._sweep, [trial], impossible)
        self.impossible.pop(trial.name, None)
        if configs and self._sweep.skips:
            sweep = self._sweep
            impossible |= ask(configs, sweep.slots[0], sweep.folder, skips=True).impossible
        self.impossible |= impossible
        return {} if impossible else configs

    def _has_ended(self, asked: optuna.Trial, trial: Trial) -> bool:
        """Tells Optuna how far a trial is, and prunes it where Optuna says so."""
        folder = self._sweep.folder / trial.name
        try:
            is_new, is_finished = self._report(asked, folder), run_dir.is_finished(folder)
        except BrokenFileError as error:
            console.print(f"{trial.name}: {error}")
            self._study.tell(asked, state=optuna.trial.TrialState.FAIL)
            return True
        if is_finished:
            self._study.tell(asked, read_results(folder)["val"].get(self._headline.name))
        elif trial.name in self._pruned:
            self._study.tell(asked, state=optuna.trial.TrialState.PRUNED)
        elif trial.name in self.impossible or self.status.get(trial.name) in ("done", "failed"):
            self._study.tell(asked, state=optuna.trial.TrialState.FAIL)
        elif is_new and asked.should_prune():
            self._pruned.add(trial.name)
            self._engine.cancel([trial.name])
            return False  # it may have been at its end
        else:
            return False
        return True

    def _report(self, asked: optuna.Trial, folder: Path) -> bool:
        """Reports what validation found since the last time; returns whether there is any."""
        known = self._study.get_trials(deepcopy=False)[asked.number].intermediate_values
        lines = read_lines(folder / layout.METRICS)
        key = f"val/{self._headline.name}"
        scores = {x["step"]: x[key] for x in lines if x.get(key) is not None}
        new = {step: score for step, score in scores.items() if step not in known}
        for step, score in new.items():
            asked.report(score, step)
        return bool(new)


def storage_of(folder: Path) -> optuna.storages.RDBStorage:
    """Returns what Optuna keeps of the search in a sweep's folder; begins it where there is none.

    No connection outlives its use.
    """
    url = f"sqlite:///{folder.absolute() / STORAGE}"
    return optuna.storages.RDBStorage(url, engine_kwargs={"poolclass": NullPool})


def _open(sweep: Sweep, sampler: str, headline: Headline) -> optuna.Study:
    """Opens the storage of a search, or begins it.

    Raises:
        UserError: It is that of another search.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        storage=storage_of(sweep.folder),
        study_name="search",
        direction="maximize" if headline.kind.higher_is_better else "minimize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=_STARTUP),
        load_if_exists=True,
    )
    # With one seed, a search that goes on would draw again what it drew at its beginning.
    seed = len(study.get_trials(deepcopy=False))
    samplers = {"tpe": optuna.samplers.TPESampler, "random": optuna.samplers.RandomSampler}
    study.sampler = samplers[sampler](seed=seed)
    common = {**sweep.study.overrides, **sweep.base}
    about = {
        "page": sweep.study.page,
        "overrides": write_overrides({k: v for k, v in common.items() if k not in UNNAMED}),
        "ranges": {key: str(span) for key, span in sweep.study.search.items()},
        "headline": headline.name,
    }
    if "page" in study.user_attrs and "headline" not in study.user_attrs:  # of an older version
        study.set_user_attr("headline", HEADLINE)
    for name, value in about.items():
        old = study.user_attrs.get(name, value)
        if old != value:
            raise UserError(
                f"--workdir={sweep.folder} holds a search of another {name}: {old!r}, now "
                f"{value!r}. Undo this change, or choose another directory."
            )
        if name not in study.user_attrs:
            study.set_user_attr(name, value)
    return study


def _check_ends(sweep: Sweep, *, timed: bool = False) -> Checked:
    """Checks the middle of all ranges, and it with each key at each end.

    Raises:
        UserError: There is no range, one is set for all trials, or one does not fit and is not
            left out.
    """
    ranges = sweep.study.search
    if not ranges:
        raise UserError(
            f"--search: {sweep.page} has no ranges; give Study(search={{'optim.learning_rate': "
            "log_uniform(1e-4, 1e-2)})."
        )
    for key in ranges:
        if key in sweep.base:
            raise UserError(f"{key} is searched, so it cannot be set for all trials.")
    middle = {key: span.at(0.5) for key, span in ranges.items()}
    points: list[Point] = [point_of(middle)]
    for key, span in ranges.items():
        points += [point_of({**middle, key: value}) for value in span.options]
    trials = [make_trial(sweep.study, point, sweep.base) for point in points]
    # Not their folders, which may hold finished trials: the first one is what is timed.
    elsewhere = sweep._replace(folder=sweep.folder / "none")
    return examine(elsewhere, trials, timed=timed)


def _suggest(asked: optuna.Trial, key: str, span: Range) -> None:
    low, high = span.options[0], span.options[-1]
    if span.kind == "among":
        asked.suggest_categorical(key, [str(option) for option in span.options])
    elif span.kind == "integers":
        asked.suggest_int(key, low, high)
    else:
        asked.suggest_float(key, low, high, log=span.kind == "log_uniform")


def _value(span: Range, param: Any) -> Any:
    """Returns the config value of one of Optuna's."""
    if span.kind == "among":
        return {str(option): option for option in span.options}[param]
    return span.round(param)
