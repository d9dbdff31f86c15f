"""One run's directory while it trains: checkpoints, scalars, evaluations and figures."""

import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any, Self

import jax

from unet_jax import compare
from unet_jax import config as configs
from unet_jax.errors import StoppedError
from unet_jax.evaluate import evaluate, fixed_images, save_counts, summarise
from unet_jax.experiment import Experiment
from unet_jax.metrics.by_image import choose_extremes
from unet_jax.predict.predictor import Predictor
from unet_jax.process.console import console
from unet_jax.process.multihost import is_first
from unet_jax.runs import history, layout, statistics
from unet_jax.runs.checkpoint import Checkpoints
from unet_jax.runs.damage import set_broken_aside
from unet_jax.runs.gallery import Gallery
from unet_jax.runs.intact import check_found, check_of_run
from unet_jax.runs.logs import Arrivals, Logs, Recorder, Silence
from unet_jax.runs.provenance import add_time
from unet_jax.runs.trackers.make import Trackers
from unet_jax.step import State


class Run:
    """Writes what one run leaves in its directory.

    Use it as a context while training; leaving it waits for the figures and closes the files.
    """

    def __init__(self, experiment: Experiment, eval_step: Predictor, workdir: Path) -> None:
        """Opens the checkpoints, with broken ones set aside.

        Args:
            experiment: What trains.
            eval_step: Evaluates its network.
            workdir: The run's directory, begun.
        """
        self.experiment, self.workdir = experiment, workdir
        for line in set_broken_aside(workdir / layout.CHECKPOINTS):
            console.print(line)
        self.checkpoints = Checkpoints(workdir / layout.CHECKPOINTS)
        self._config = configs.load(workdir / layout.CONFIG)
        self._validation = Validation(experiment, eval_step, workdir)

    def begin_state(self, start: int, init_key: jax.Array) -> State:
        """Restores the state of a step, or initialises that of step 0."""
        if start:
            for step in self.checkpoints.all_steps():
                where = str(self.workdir / layout.CHECKPOINTS / str(step))
                meta = self.checkpoints.meta(step)
                check_of_run(meta, self._config, where)
                check_found(meta, _found(self.experiment), self.workdir)
            state = self.checkpoints.restore(start, self.experiment.state_shapes)
            self.checkpoints.delete_others()
            return state
        return self.experiment.init(init_key)

    def open(
        self, start: int, *, images: int = 0, shows: bool = True, began: float | None = None
    ) -> Self:
        """Opens the logs.

        Args:
            start: Steps taken.
            images: Per step of the program, for its speed; 0 for the batch.
            shows: Whether the progress is shown.
            began: `time.monotonic()` when the command that trains this run alone began, from which
                run.json tells how long it trained; None to tell nothing.

        Returns:
            This run, as the context to enter.
        """
        self._start, self._began, plan = start, began, self.experiment.plan
        self._logs: Logs = Silence()
        if is_first():
            values = dict(compare.flatten(self._config))
            trackers = Trackers(plan.trackers, self.workdir, values, start)
            file = self.workdir / layout.METRICS
            self._logs = Logs(file, trackers, start, plan.total, shows=shows)
        sizes = {"log_every": plan.log_every, "batch_size": images or plan.batch_size}
        self._recorder = Recorder(self._logs, start, **sizes)
        self._arrivals = Arrivals(self.write)
        return self

    def __enter__(self) -> Self:
        """Starts the thread that draws, first what a run that died did not come to."""
        self._stack = ExitStack()
        self._stack.enter_context(closing(self.checkpoints))
        self._stack.enter_context(closing(self._logs))
        self._stack.enter_context(closing(self._arrivals))
        self._stack.enter_context(self._validation)
        self._validation.draw_missing(self._start)
        return self

    def __exit__(self, *error: Any) -> None:
        """Closes all; a figure that failed is an error unless there is one already."""
        until = self.checkpoints.steps().get("latest", self._start)
        self._stack.__exit__(*error)
        if self._began is not None and is_first() and error[0] in (None, StoppedError):
            add_time(self.workdir, self._start, until, time.monotonic() - self._began)

    def record(self, step: int, scalars: dict[str, Any], waited: float) -> None:
        """Takes the scalars of a step just dispatched; see `Arrivals.add`."""
        self._arrivals.add(step, scalars, waited)

    def write(self, step: int, scalars: Mapping[str, Any], waited: float, at: float) -> None:
        """Takes the scalars of a step that is done; see `Recorder.write`."""
        self._recorder.write(step, scalars, waited, at)

    def keep(self, step: int, state: State, *, evaluates: bool) -> None:
        """Brings a step to the disk: its scalars, its evaluation where it is due, its state.

        Args:
            step: Steps taken.
            state: After this step.
            evaluates: Whether to evaluate.

        Raises:
            NonFiniteLossError: The loss of this step, or its gradient, is NaN or infinite.
        """
        self._arrivals.flush()
        scores = self._validation.run(step, state) if evaluates else {}
        headline = self.experiment.network.settings.headline
        if evaluates:
            self._logs.scalars(step, {f"val/{name}": value for name, value in scores.items()})
            self._logs.score(step, headline.title, scores.get(headline.name))
            self._validation.draw(step)  # after its line, which the learning curves show
        self._logs.flush()
        class_names, config = self.experiment.dataset.class_names, compare.identity(self._config)
        meta = {
            "class_names": class_names,
            "spec": self.experiment.network.spec._asdict(),
            "scores": scores,
            "config": config,
            "found": _found(self.experiment),
        }
        plan = self.experiment.plan
        marks = {"is_planned": plan.is_planned(step), "is_lasting": plan.is_lasting(step)}
        self.checkpoints.save(step, state, meta, headline.rank(scores), **marks)

    def has_ended(self, step: int) -> bool:
        """Tells whether the run ends here, before its last step; see `Plan.patience`."""
        plan, steps = self.experiment.plan, self.checkpoints.steps()
        is_due = step % plan.eval_every == 0 and step % plan.group == 0
        if not (plan.patience and steps and is_due and step < plan.total):
            return False
        return step - steps["best"] >= plan.patience

    def wait(self) -> None:
        """Returns when what was kept is on the disk."""
        self.checkpoints.wait()

    def restart_clock(self, step: int) -> None:
        """Leaves what came since this step out of the speed."""
        self._recorder.restart_clock(step)

    def results(self) -> dict[str, Any]:
        """Returns what results.json says of a run that has ended, and starts its last figures.

        To be asked for in the run's context, and written after it, when the figures are there.
        """
        steps = self.checkpoints.steps()
        best = steps["best"]
        self._validation.draw_end(best)
        scores = self.checkpoints.meta(best)["scores"]
        train = {"step": steps["latest"], "best_step": best}
        return {"val": {"step": best, **scores}, "train": train}


class Validation:
    """Evaluates on the validation split and draws its figures, in a thread that nobody waits for.

    Use it as a context; leaving it waits for the figures.
    """

    def __init__(self, experiment: Experiment, eval_step: Predictor, workdir: Path) -> None:
        """Chooses the images that are shown."""
        self._experiment, self._eval_step, self._workdir = experiment, eval_step, workdir
        self._source = experiment.dataset.splits["val"]
        self._shown = fixed_images(self._source, experiment.network.settings.shown)
        names, network = experiment.dataset.class_names, experiment.network
        settings = network.settings
        self._draws = settings.figures
        views, headline = experiment.dataset.views, settings.headline
        self._gallery = Gallery(workdir, self._source, names, network.task, headline, views)
        about = {"headline": headline, "class_names": network.task.names, "views": views}
        self._choose = partial(choose_extremes, **about)

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

    def run(self, step: int, state: State) -> dict[str, float | None]:
        """Evaluates the state after a step; leaves the counts and what figures are drawn from.

        Args:
            step: Steps taken.
            state: The state.

        Returns:
            The scores of `evaluate.summarise`.
        """
        e = self._experiment
        result = evaluate(
            self._eval_step,
            state.eval_variables(),
            self._source,
            batch_size=e.network.settings.batch_size,
            keep=self._shown,
            choose=self._choose,
        )
        if is_first():
            file = self._workdir / layout.EVALUATIONS / f"val_{step:08d}.npz"
            save_counts(file, result.counts, self._source)
            found = result.predictions, result.confusion, result.extremes
            history.save(self._workdir, step, *found)
        return summarise(result, e.network.task, e.dataset.views)

    def draw(self, step: int) -> None:
        """Starts to draw the figures of the evaluation of a step."""
        if self._draws and is_first():
            self._last = step
            self._drawings.append(self._thread.submit(self._draw, step))

    def draw_end(self, step: int) -> None:
        """Starts to draw what the evaluation of the best step alone has."""
        if self._draws and is_first():
            self._drawings.append(self._thread.submit(self._gallery.draw_end, step))

    def _draw(self, step: int) -> None:
        self._gallery.draw(step, is_last=step == self._last)

    def draw_missing(self, start: int) -> None:
        """Starts to draw what is missing of the evaluations up to the step a run goes on from."""
        if self._draws and is_first():
            self._drawings.append(self._thread.submit(self._gallery.draw_missing, start))


def _found(experiment: Experiment) -> dict[str, Any]:
    """Returns what a run found in its training split, by the file that keeps it, as JSON has it."""
    weights = experiment.class_weights
    return {
        layout.STATISTICS: statistics.to_lists(experiment.loading.normalise.ends),
        layout.CLASS_WEIGHTS: list(weights.weights) if weights else None,
    }
