"""The training loop: from a config to a checkpoint, the only one there is."""

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar

import jax
from ml_collections import ConfigDict

from unet_jax import workdir as run_dir
from unet_jax.anatomy import forward_flops
from unet_jax.data import splits
from unet_jax.data.doctor import check
from unet_jax.data.pipeline import read_sizes, seen_share, train_batches
from unet_jax.errors import StoppedError
from unet_jax.experiment import Experiment, assemble
from unet_jax.fits import shrinkage
from unet_jax.logs import console, print_header, print_scores
from unet_jax.multihost import is_first, stop_requests, wait_for_all
from unet_jax.run import Run
from unet_jax.sharding import (
    describe_devices,
    describe_split,
    process_rows,
    put_batch,
    replicate,
)
from unet_jax.steps import Plan
from unet_jax.watchdog import Watchdog

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
        train_step: Of `step.make_train_step`.
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
    with stop_requests() as stop, Watchdog() as watchdog, guard:
        for step in range(start + 1, plan.total + 1):
            watchdog.at(f"step {step}, reading the pictures of the batch")
            asked = time.perf_counter()
            batch = next(batches)
            waited = time.perf_counter() - asked
            wait = FIRST_WAITS.get(step - start, "the devices or the other processes")
            watchdog.at(f"step {step}, {wait}")
            state, scalars = train_step(state, batch, key)
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
                raise StoppedError(f"stopped at step {step} of {plan.total}; saved.", stops)
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

    Args:
        config: The whole config.
        workdir: The run's directory.
        overwrite: Whether to delete a run that is there.
        overrides: The config values given on the command line, for the record.

    Raises:
        UserError: Config, data or directory do not fit; nothing was trained.
        NonFiniteLossError: The loss became NaN or infinite.
        StoppedError: A signal asked to stop; the state was saved.
    """
    lines = [] if overwrite else run_dir.check_config(workdir, config, ADVICE)
    for line in lines:
        console.print(line, markup=False)
    if run_dir.is_finished(workdir) and not overwrite:
        console.print(f"{workdir} holds a finished run; --overwrite would train it again.")
        if is_first():
            report(workdir)
        return
    kept = None if overwrite else splits.read(workdir)
    experiment = assemble(config, kept)
    dataset, plan, shardings = experiment.dataset, experiment.plan, experiment.shardings
    run_dir.check_writable(workdir)
    check_data(experiment)
    split = splits.settle(dataset, workdir, kept, overwrite=overwrite)
    wait_for_all("the run may begin")
    if is_first():
        run_dir.begin(workdir, config, overwrite=overwrite, split=split)
    wait_for_all("the run has begun")
    init_key, step_key = jax.random.split(jax.random.key(plan.seed))
    run = Run(experiment, workdir)
    start = run.checkpoints.steps().get("latest", 0)
    if is_first():
        write_run(experiment, workdir, overrides or {}, start)
    state = run.begin_state(start, init_key)
    _print_header(experiment, workdir, start)
    order = {"batch_size": plan.batch_size, "seed": plan.seed, "start": start, "stop": plan.total}
    rows = process_rows(plan.batch_size, shardings).tolist()
    batches = train_batches(dataset.splits["train"], experiment.loading, **order, rows=rows)
    on_devices = (put_batch(batch, shardings) for batch in batches)
    key = replicate(step_key, shardings)
    with run.open(start):
        loop(run, plan, start, state, experiment.train_step, on_devices, key)
        results = run.results()
    if is_first():
        run_dir.write_results(workdir, **results)
        report(workdir)


def check_data(experiment: Experiment) -> None:
    """Checks the images and masks that training and validation read, before time is spent.

    Args:
        experiment: What trains.

    Raises:
        UserError: One does not fit; see `doctor.check` and `EvalStep.check`.
    """
    e = experiment
    for split in ("train", "val"):
        check(e.dataset.splits[split], split)
    known = e.plan.batch_size * math.prod(e.loading.image_size)  # a step takes more memory
    val, variables = e.dataset.splits["val"], e.state_shapes.eval_variables()
    e.eval_step.check(variables, val, e.eval.batch_size, known)


def write_run(experiment: Experiment, workdir: Path, overrides: dict[str, Any], start: int) -> None:
    """Writes run.json: what runs, on what; says where that is other than what the run began with.

    Args:
        experiment: What trains.
        workdir: The run's directory.
        overrides: The config values given on the command line.
        start: Steps that the run has taken.
    """
    for line in run_dir.other_machine(workdir, describe_devices()) if start else []:
        console.print(line, markup=False)
    size: dict[str, float] = {
        "parameters": count_parameters(experiment),
        "flops_per_image": count_flops(experiment),
    }
    if experiment.loading.fit == "resize" and not start:
        size |= {run_dir.SHRINKAGE: largest_shrinkage(experiment)}
    split = describe_split(experiment.state_shapes, experiment.shardings)
    run_dir.write_run(workdir, overrides, describe_devices(), split, size, start=start)


def count_parameters(experiment: Experiment) -> int:
    """Counts the numbers that training changes."""
    return sum(x.size for x in jax.tree.leaves(experiment.state_shapes.params))


def count_flops(experiment: Experiment) -> int:
    """Counts the floating-point operations of one picture's forward pass."""
    shape = (1, *experiment.loading.image_size, 3)
    variables = experiment.state_shapes.eval_variables()
    return round(forward_flops(experiment.model, variables, shape))


def largest_shrinkage(experiment: Experiment) -> float:
    """Returns how much the training images are shrunk at most; see `fits.shrinkage`."""
    loading, train = experiment.loading, experiment.dataset.splits["train"]
    return max(shrinkage(n, loading.image_size) for n in read_sizes(train, loading.workers))


def _print_header(experiment: Experiment, workdir: Path, start: int) -> None:
    e, plan = experiment, experiment.plan
    devices = describe_devices()
    counts = {name: len(split) for name, split in e.dataset.splits.items()}
    facts = {
        "devices": f"{devices['count']} x {devices['kind']} ({devices['platform']})",
        "mesh": dict(e.shardings.mesh.shape),
        "data": ", ".join(f"{name} {count}" for name, count in counts.items()),
        "classes": ", ".join(e.dataset.class_names),
        "parameters": f"{count_parameters(e):,}",
        "FLOPs per image": f"{count_flops(e):,} (forward, {e.loading.image_size})",
        "steps": f"{plan.total} of {plan.batch_size} images, "
        f"{plan.total / plan.epoch_steps:.1f} epochs",
        "workdir": workdir,
    }
    if e.loading.fit == "crop":
        facts["an epoch sees"] = _describe_crops(e)
    for level, warning in enumerate(e.model.checkerboards()):
        if warning:
            facts[f"up_{level}"] = warning
    if start:
        facts["resumes at"] = f"step {start}"
    print_header("unet_jax", facts)


def _describe_crops(e: Experiment) -> str:
    """Says how much of the training images an epoch of random crops sees."""
    loading, train = e.loading, e.dataset.splits["train"]
    share = seen_share(read_sizes(train, loading.workers), loading)
    height, width = loading.image_size
    text = f"{loading.crops} crop{'s' * (loading.crops > 1)} of {height}x{width} an image, "
    enough = math.ceil(loading.crops / share)
    more = f" (as many as there are with config.data.crops={enough})" if share < 0.5 else ""
    return f"{text}{share:.0%} of the pixels of {len(train)} images{more}"


def report(workdir: Path) -> None:
    """Prints the scores of a finished run, whose data need not be there any more."""
    val = run_dir.read_results(workdir)["val"]
    title = f"validation, best checkpoint (step {val['step']})"
    names = [key.removeprefix("IoU/") for key in val if key.startswith("IoU/")]
    print_scores(title, val, tuple(names))
    console.print(f"pictures: {workdir / run_dir.FIGURES}")
