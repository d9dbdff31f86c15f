"""The training loop: from a config to a checkpoint, the only one there is."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar

import jax
from ml_collections import ConfigDict

from unet_jax import budget, extension
from unet_jax.checks import check_data, check_memory
from unet_jax.compiling import compile_ahead
from unet_jax.data import cache
from unet_jax.data.pipeline import train_batches
from unet_jax.defaults import complete
from unet_jax.durations import Plan, to_seconds
from unet_jax.errors import StoppedError
from unet_jax.experiment import assemble
from unet_jax.glance.page import leave_page
from unet_jax.header import print_start, write_run
from unet_jax.metrics.names import class_names_of
from unet_jax.models import fast
from unet_jax.predict.eval_step import make_eval_step
from unet_jax.process import runtime
from unet_jax.process.console import console
from unet_jax.process.multihost import is_first, owned, stop_requests, wait_for_all
from unet_jax.process.owner import TRAINING
from unet_jax.process.watchdog import Watchdog
from unet_jax.run import Run
from unet_jax.runs import class_weights, history, layout, ours, splits, statistics
from unet_jax.runs import workdir as run_dir
from unet_jax.runs.gallery import draw_missing
from unet_jax.runs.intact import check_intact
from unet_jax.runs.logs import print_scores
from unet_jax.runs.results import read_results, says_finished, write_results
from unet_jax.sharding import (
    process_rows,
    put_batch,
    replicate,
)

S = TypeVar("S")
ADVICE = "Choose another directory, undo these changes, or delete that run with --overwrite."

# What the first steps of a command wait for; all others wait for the devices.
FIRST_WAITS = {
    1: "compiling the train step",
    2: "the step before, which waits until every process has compiled it",
}


class Keeper(Protocol[S]):
    """Whoever brings what the loop does to the disk; see `run.Run`."""

    def record(self, step: int, scalars: dict[str, Any], waited: float) -> None:
        """Takes the scalars of a step just dispatched."""
        ...

    def keep(self, step: int, state: S, *, evaluates: bool) -> None:
        """Evaluates where it is due, and starts to save."""
        ...

    def has_ended(self, step: int) -> bool:
        """Tells whether the run ends at a step that was kept, before its last."""
        ...

    def wait(self) -> None:
        """Returns when what was kept is on the disk."""
        ...

    def restart_clock(self, step: int) -> None:
        """Leaves what came since this step out of the speed."""
        ...


def loop(
    keeper: Keeper[S],
    plan: Plan,
    start: int,
    state: S,
    train_step: Callable[[S, Any, Any], tuple[S, dict[str, jax.Array]]],
    batches: Iterator[Any],
    key: Any,
) -> S:
    """Takes the steps from `start` + 1 to the last.

    Args:
        keeper: Of the run, or of several that train as one.
        plan: When to do what.
        start: Steps taken.
        state: After them; it is donated.
        train_step: The compiled step, from `step.make_train_step`.
        batches: One for every step, on the devices.
        key: Of the steps, or what else they take, on the devices.

    Returns:
        The last state.

    Raises:
        NonFiniteLossError: The loss became NaN or infinite.
        StoppedError: A signal asked to stop; the state was saved.
    """
    guard = jax.transfer_guard("disallow")
    evaluation = "compiling the evaluation, here or on another process"
    last = start if keeper.has_ended(start) else plan.total
    with stop_requests() as stop, Watchdog() as watchdog, guard:
        for step in range(start + 1, last + 1):
            watchdog.at(f"step {step}, reading the images of the batch")
            asked = time.perf_counter()
            batch = next(batches)
            waited = time.perf_counter() - asked
            wait = FIRST_WAITS.get(step - start, "the devices or the other processes")
            watchdog.at(f"step {step}, {wait}")
            state, scalars = train_step(state, batch, key)
            if step == start + 1:
                runtime.has_started()
            keeper.record(step, scalars, waited)
            stops = stop.after(step)
            evaluates = step % plan.eval_every == 0 or step == plan.total
            if not (evaluates or step % plan.checkpoint_every == 0 or stops):
                continue
            watchdog.at(f"step {step}, {evaluation if evaluates else 'the checkpoint'}")
            keeper.keep(step, state, evaluates=evaluates)
            evaluation = "the evaluation and the checkpoint" if evaluates else evaluation
            if stops:
                keeper.wait()
                raise StoppedError(
                    f"stopped at step {step} of {plan.total}; saved. The same command goes on, "
                    "without --overwrite.",
                    stops,
                )
            if keeper.has_ended(step):
                why = f"no evaluation of the last {plan.patience} steps was as good as the best"
                console.print(f"step {step}/{plan.total}  {why}; the run ends here")
                break
            keeper.restart_clock(step)
        watchdog.at("the end, saving the last checkpoint")
        keeper.wait()
    return state


def train_and_evaluate(
    config: ConfigDict,
    workdir: Path,
    *,
    overwrite: bool = False,
    overrides: dict[str, Any] | None = None,
) -> None:
    """Trains the model of a config, or goes on where an earlier run of it stopped.

    The run's directory is owned meanwhile, so that no other training writes there. A run that was
    shorter goes on too, where that is exact; see `extension`.

    Args:
        config: The whole config.
        workdir: The run's directory.
        overwrite: Whether to delete a run that is there.
        overrides: The config values given on the command line, for the record.

    Raises:
        UserError: The directory is in use, or see `train_owned`; nothing was trained.
        NonFiniteLossError: The loss became NaN or infinite.
        StoppedError: A signal asked to stop; the state was saved.
    """
    with owned(workdir, TRAINING):
        train_owned(config, workdir, overwrite=overwrite, overrides=overrides)


def train_owned(
    config: ConfigDict,
    workdir: Path,
    *,
    overwrite: bool = False,
    overrides: dict[str, Any] | None = None,
) -> None:
    """Does what `train_and_evaluate` does, in a directory that the caller owns already."""
    began, config = time.monotonic(), complete(config)
    fast.prepare()
    ours.check_names(workdir, overwrite=overwrite)
    shorter, lines = None, []
    if not overwrite:
        shorter = extension.find_shorter(workdir, config, ADVICE)
        lines = run_dir.check_config(workdir, shorter or config, ADVICE)
        check_intact(workdir)
    for line in lines:
        console.print(line)
    if not (overwrite or shorter) and says_finished(read_results(workdir)):
        console.print(f"{workdir} holds a finished run; --overwrite would train it again.")
        if is_first():
            draw_missing(config, workdir)
            if config.eval.figures:
                leave_page(workdir)
            report(workdir)
        wait_for_all("the run has all its figures")
        return
    kept = None if overwrite else splits.read(workdir)
    ends = None if overwrite else statistics.read(workdir)
    weights = None if overwrite else class_weights.read(workdir)
    found = None if overwrite else budget.read(workdir)
    experiment = assemble(budget.settle(config, found), kept, ends=ends, weights=weights)
    before = None
    if shorter is not None:
        before = extension.plan_shorter(workdir, shorter, config, experiment, ADVICE)
    run_dir.check_writable(workdir)
    check_memory(experiment)
    eval_step = make_eval_step(experiment.network)
    check_data(experiment, eval_step)
    train_step = compile_ahead(experiment)
    if to_seconds(config.train.duration) is not None:
        if found is None:
            parts = experiment, train_step, eval_step
            found = budget.measure(config.train.duration, *parts, began)
            again = budget.with_steps(config, found.steps)
            experiment = assemble(again, kept, experiment, weights=experiment.class_weights)
            train_step = compile_ahead(experiment)
        console.print(found.describe())
    dataset, plan, shardings = experiment.dataset, experiment.plan, experiment.shardings
    split = splits.settle(dataset, workdir, kept, overwrite=overwrite)
    wait_for_all("the run may begin")
    if is_first():
        if before:
            extension.take_back(workdir, before, plan)
        text = found.write() if found else None
        normalise = statistics.write(experiment.loading.normalise)
        texts = {"split": split, "statistics": normalise, "duration": text}
        run_dir.begin(workdir, config, overwrite=overwrite, **texts)
    wait_for_all("the run has begun")
    init_key, step_key = jax.random.split(jax.random.key(plan.seed))
    run = Run(experiment, eval_step, workdir)
    start = run.checkpoints.steps().get("latest", 0)
    state = run.begin_state(start, init_key)
    if is_first():  # now that the checkpoint is known to be this run's
        write_run(experiment, workdir, overrides or {}, start)
    print_start(experiment, workdir, start)
    order = {"batch_size": plan.batch_size, "seed": plan.seed, "start": start, "stop": plan.total}
    rows = process_rows(plan.batch_size, shardings).tolist()
    train, loading = cache.keep(dataset.splits["train"], experiment.loading)
    batches = train_batches(train, loading, **order, rows=rows)
    on_devices = (put_batch(batch, shardings) for batch in batches)
    key = replicate(step_key, shardings)
    with run.open(start, began=began):
        loop(run, plan, start, state, train_step, on_devices, key)
        results = run.results()
    if is_first():
        write_results(workdir, **results)
        if config.eval.figures:
            leave_page(workdir)
        report(workdir)


def report(workdir: Path) -> None:
    """Prints the scores of a finished run, whose data need not be there any more."""
    val = read_results(workdir)["val"]
    title = f"validation, best checkpoint (step {val['step']})"
    print_scores(title, val, class_names_of(val))
    if found := [file for file in history.figures_of(workdir, val["step"]) if file.exists()]:
        console.print(f"figures: {workdir / layout.FIGURES}")
    for figure in found:
        console.print(f"  of the best checkpoint: {figure.name}")
