"""The training loop: from a config to a checkpoint, the only one there is."""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from unet_jax import workdir as run_dir
from unet_jax.anatomy import forward_flops
from unet_jax.augment import make_augment
from unet_jax.checkpoint import Checkpoints, set_broken_aside
from unet_jax.config import call, check_sections
from unet_jax.data.base import Dataset
from unet_jax.data.doctor import check
from unet_jax.data.pipeline import train_batches
from unet_jax.data.sources import Loading, open_data
from unet_jax.errors import StoppedError
from unet_jax.evaluate import (
    EvalSettings,
    EvalStep,
    evaluate,
    fixed_pictures,
    make_eval_settings,
    make_eval_step,
    summarise,
)
from unet_jax.gallery import Gallery
from unet_jax.logs import Logs, Recorder, Silence, console, print_header, print_scores
from unet_jax.losses import make_loss
from unet_jax.metrics import Scores
from unet_jax.models.unet import UNet
from unet_jax.multihost import is_first, wait_for_all
from unet_jax.optim import make_optimizer
from unet_jax.sharding import (
    Shardings,
    check_batch_size,
    check_height,
    describe_devices,
    describe_split,
    make_shardings,
    process_rows,
    put_batch,
    replicate,
)
from unet_jax.signals import stop_requests
from unet_jax.step import (
    Init,
    State,
    Step,
    abstract_state,
    make_init,
    make_pretrained_init,
    make_train_step,
)
from unet_jax.steps import Plan, make_plan
from unet_jax.watchdog import Watchdog
from unet_jax.weights import make_pretrained


class Experiment(NamedTuple):
    """What a config describes, put together; nothing has run yet."""

    dataset: Dataset
    loading: Loading
    plan: Plan
    eval: EvalSettings
    shardings: Shardings
    model: UNet
    init: Init
    state_shapes: State
    train_step: Step
    eval_step: EvalStep


def assemble(config: ConfigDict) -> Experiment:
    """Puts together what a config describes.

    Args:
        config: The whole config.

    Returns:
        The parts.

    Raises:
        UserError: A value or the data do not fit.
    """
    check_sections(config)
    dataset, loading = call(open_data, "config.data", config.data)
    pictures, classes = len(dataset.splits["train"]), len(dataset.class_names)
    plan = call(make_plan, "config.train", config.train, pictures=pictures)
    settings = call(make_eval_settings, "config.eval", config.eval)
    shardings = call(make_shardings, "config.mesh", config.mesh)
    check_batch_size("config.train.batch_size", plan.batch_size, shardings)
    check_batch_size("config.eval.batch_size", settings.batch_size, shardings)
    model = call(UNet, "config.model", config.model, num_classes=classes)
    check_height(loading.image_size[0], model.multiple(), model.padding, shardings)
    load = call(make_pretrained, "config.pretrained", config.pretrained)
    loss = call(make_loss, "config.loss", config.loss, num_classes=classes)
    augment = call(make_augment, "config.augment", config.augment)
    steps = {"total_steps": plan.total, "epoch_steps": plan.epoch_steps}
    optimizer, schedule = call(make_optimizer, "config.optim", config.optim, **steps)
    init = make_init(model, optimizer, loading.image_size, shardings)
    state_shapes = abstract_state(init, shardings)  # also checks what only the model can check
    if load:
        init = make_pretrained_init(init, load, optimizer, shardings)
    train_step = make_train_step(model, loss, optimizer, schedule, augment, shardings, state_shapes)
    eval_step = make_eval_step(model, shardings)
    return Experiment(
        dataset,
        loading,
        plan,
        settings,
        shardings,
        model,
        init,
        state_shapes,
        train_step,
        eval_step,
    )


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
    experiment = assemble(config)
    dataset, plan, shardings = experiment.dataset, experiment.plan, experiment.shardings
    run_dir.check(workdir, config, overwrite=overwrite)
    if run_dir.is_finished(workdir) and not overwrite:
        console.print(f"{workdir} holds a finished run; --overwrite would train it again.")
        if is_first():
            _report(workdir, dataset)
        return
    for split in ("train", "val"):
        check(dataset.splits[split], split)
    wait_for_all("the run may begin")
    if is_first():
        run_dir.begin(workdir, config, overwrite=overwrite)
        split = describe_split(experiment.state_shapes, shardings)
        run_dir.write_run(workdir, overrides or {}, describe_devices(), split)
    wait_for_all("the run has begun")
    init_key, step_key = jax.random.split(jax.random.key(plan.seed))
    step_key = replicate(step_key, shardings)
    for line in set_broken_aside(workdir / run_dir.CHECKPOINTS):
        console.print(line)
    checkpoints = Checkpoints(workdir / run_dir.CHECKPOINTS)
    start = checkpoints.steps().get("latest", 0)
    if start:
        state = checkpoints.restore(start, experiment.state_shapes)
    else:
        state = experiment.init(init_key)
    _print_header(experiment, state, workdir, start)
    train_set = dataset.splits["train"]
    order = {"batch_size": plan.batch_size, "seed": plan.seed, "start": start, "stop": plan.total}
    rows = process_rows(plan.batch_size, shardings).tolist()
    batches = train_batches(train_set, experiment.loading, **order, rows=rows)
    validation = Validation(experiment, workdir)
    logs = _open_logs(workdir, start, plan.total)
    recorder = Recorder(logs, start, log_every=plan.log_every, batch_size=plan.batch_size)
    guard = jax.transfer_guard("disallow")
    with (
        closing(checkpoints),
        closing(logs),
        validation,
        stop_requests() as stop,
        Watchdog() as watchdog,
        guard,
    ):
        for step in range(start + 1, plan.total + 1):
            watchdog.at(f"step {step}, reading the pictures of the batch")
            asked = time.perf_counter()
            batch = put_batch(next(batches), shardings)
            waited = time.perf_counter() - asked
            watchdog.at(f"step {step}, the devices or the other processes")
            state, scalars = experiment.train_step(state, batch, step_key)
            recorder.add(step, scalars, waited)
            stops = stop.after(step)
            evaluates = step % plan.eval_every == 0 or step == plan.total
            if not (evaluates or step % plan.checkpoint_every == 0 or stops):
                continue
            recorder.flush()
            watchdog.at(f"step {step}, the evaluation")
            scores = validation.run(step, state) if evaluates else {}
            if evaluates:
                logs.scalars(step, {f"val/{name}": value for name, value in scores.items()})
                validation.draw(step)  # after its line, which the learning curves show
            logs.flush()
            watchdog.at(f"step {step}, saving the checkpoint")
            meta = {"class_names": dataset.class_names, "scores": scores}
            checkpoints.save(step, state, meta, score=scores.get("mIoU"))
            if stops:
                checkpoints.wait()
                raise StoppedError(f"stopped at step {step} of {plan.total}; saved.", stops)
            recorder.restart_clock(step)
        watchdog.at("the end, saving the last checkpoint")
        checkpoints.wait()
        best = checkpoints.steps()["best"]
        scores = checkpoints.meta(best)["scores"]
    if is_first():
        val = {"step": best, **scores}
        run_dir.write_results(workdir, val=val, train={"step": plan.total, "best_step": best})
        _report(workdir, dataset)


def _open_logs(workdir: Path, start: int, total: int) -> Logs:
    if not is_first():
        return Silence()
    return Logs(workdir / run_dir.METRICS, workdir / run_dir.TENSORBOARD, start, total)


class Validation:
    """Evaluates on the validation split and draws its figures, in a thread that nobody waits for.

    Use it as a context; leaving it waits for the figures.
    """

    def __init__(self, experiment: Experiment, workdir: Path) -> None:
        """Chooses the pictures that are shown."""
        self._experiment = experiment
        self._source = experiment.dataset.splits["val"]
        self._shown = fixed_pictures(self._source, experiment.eval.pictures)
        self._gallery = Gallery(workdir, self._source, self._shown, experiment.dataset.class_names)

    def __enter__(self) -> "Validation":
        """Starts the thread."""
        self._thread = ThreadPoolExecutor(1)
        self._drawings: list[Future[None]] = []
        return self

    def __exit__(self, *error: object) -> None:
        """Waits for the figures; a figure that failed is an error unless there is one already."""
        self._thread.shutdown()
        if error[0] is None:
            for drawing in self._drawings:
                drawing.result()

    def run(self, step: int, state: State) -> Scores:
        """Evaluates the state after a step.

        Args:
            step: Steps taken.
            state: The state.

        Returns:
            The scores of `evaluate.summarise`.
        """
        e = self._experiment
        result = evaluate(
            e.eval_step,
            state.eval_variables(),
            self._source,
            e.loading,
            batch_size=e.eval.batch_size,
            shardings=e.shardings,
            keep=self._shown,
        )
        self._result = result
        return summarise(result, e.dataset)

    def draw(self, step: int) -> None:
        """Starts to draw the figures of the last evaluation, which was of this step."""
        if not is_first():
            return
        confusion = self._result.confusion.sum(axis=0)
        predictions = self._result.predictions
        self._drawings.append(self._thread.submit(self._gallery.draw, step, predictions, confusion))


def _print_header(experiment: Experiment, state: State, workdir: Path, start: int) -> None:
    e, plan = experiment, experiment.plan
    devices = describe_devices()
    counts = {name: len(split) for name, split in e.dataset.splits.items()}
    parameters = sum(x.size for x in jax.tree.leaves(state.params))
    epochs = plan.total / plan.epoch_steps
    size = e.loading.image_size
    flops = forward_flops(e.model, e.state_shapes.eval_variables(), (1, *size, 3))
    facts = {
        "devices": f"{devices['count']} x {devices['kind']} ({devices['platform']})",
        "mesh": dict(e.shardings.mesh.shape),
        "data": ", ".join(f"{name} {count}" for name, count in counts.items()),
        "classes": ", ".join(e.dataset.class_names),
        "parameters": f"{parameters:,}",
        "FLOPs per image": f"{flops:,.0f} (forward, {size})",
        "steps": f"{plan.total} of {plan.batch_size} images, {epochs:.1f} epochs",
        "workdir": workdir,
    }
    for level, warning in enumerate(e.model.checkerboards()):
        if warning:
            facts[f"up_{level}"] = warning
    if start:
        facts["resumes at"] = f"step {start}"
    print_header("unet_jax", facts)


def _report(workdir: Path, dataset: Dataset) -> None:
    val = run_dir.read_results(workdir)["val"]
    title = f"validation, best checkpoint (step {val['step']})"
    print_scores(title, val, dataset.class_names)
    console.print(f"pictures: {workdir / run_dir.FIGURES}")
