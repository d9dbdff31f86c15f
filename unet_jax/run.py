"""One run's directory while it trains: checkpoints, scalars, evaluations and figures."""

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np

from unet_jax import workdir as run_dir
from unet_jax.checkpoint import Checkpoints, set_broken_aside
from unet_jax.evaluate import evaluate, fixed_pictures, save_counts, summarise
from unet_jax.experiment import Experiment
from unet_jax.gallery import Gallery
from unet_jax.logs import Logs, Recorder, Silence, console
from unet_jax.metrics import Scores
from unet_jax.multihost import is_first
from unet_jax.step import State


class Run:
    """Writes what one run leaves in its directory.

    Use it as a context while training; leaving it waits for the figures and closes the files.
    """

    def __init__(self, experiment: Experiment, workdir: Path) -> None:
        """Opens the checkpoints, with broken ones set aside.

        Args:
            experiment: What trains.
            workdir: The run's directory, begun.
        """
        self.experiment, self.workdir = experiment, workdir
        for line in set_broken_aside(workdir / run_dir.CHECKPOINTS):
            console.print(line)
        self.checkpoints = Checkpoints(workdir / run_dir.CHECKPOINTS)
        self._validation = Validation(experiment, workdir)

    def begin_state(self, start: int, init_key: jax.Array) -> State:
        """Restores the state of a step, or initialises that of step 0."""
        if start:
            return self.checkpoints.restore(start, self.experiment.state_shapes)
        return self.experiment.init(init_key)

    def open(self, start: int, *, pictures: int = 0, shows: bool = True) -> Self:
        """Opens the logs.

        Args:
            start: Steps taken.
            pictures: Per step of the program, for its speed; 0 for the batch.
            shows: Whether the progress is shown.

        Returns:
            This run, as the context to enter.
        """
        plan = self.experiment.plan
        self._logs: Logs = Silence()
        if is_first():
            files = self.workdir / run_dir.METRICS, self.workdir / run_dir.TENSORBOARD
            self._logs = Logs(*files, start, plan.total, shows=shows)
        sizes = {"log_every": plan.log_every, "batch_size": pictures or plan.batch_size}
        self._recorder = Recorder(self._logs, start, **sizes)
        return self

    def __enter__(self) -> Self:
        """Starts the thread that draws."""
        self._stack = ExitStack()
        self._stack.enter_context(closing(self.checkpoints))
        self._stack.enter_context(closing(self._logs))
        self._stack.enter_context(self._validation)
        return self

    def __exit__(self, *error: Any) -> None:
        """Closes all; a figure that failed is an error unless there is one already."""
        self._stack.__exit__(*error)

    def record(self, step: int, scalars: dict[str, Any], waited: float) -> None:
        """Takes the scalars of a step just dispatched; see `Recorder.add`."""
        self._recorder.add(step, scalars, waited)

    def keep(self, step: int, state: State, *, evaluates: bool) -> None:
        """Brings a step to the disk: its scalars, its evaluation where it is due, its state.

        Args:
            step: Steps taken.
            state: After this step.
            evaluates: Whether to evaluate.

        Raises:
            NonFiniteLossError: The loss of this step, or its gradient, is NaN or infinite.
        """
        self._recorder.flush()
        scores = self._validation.run(step, state) if evaluates else {}
        if evaluates:
            self._logs.scalars(step, {f"val/{name}": value for name, value in scores.items()})
            self._validation.draw(step)  # after its line, which the learning curves show
        self._logs.flush()
        meta = {"class_names": self.experiment.dataset.class_names, "scores": scores}
        self.checkpoints.save(step, state, meta, score=scores.get("mIoU"))

    def wait(self) -> None:
        """Returns when what was kept is on the disk."""
        self.checkpoints.wait()

    def restart_clock(self, step: int) -> None:
        """Leaves what came since this step out of the speed."""
        self._recorder.restart_clock(step)

    def results(self) -> dict[str, Any]:
        """Returns what results.json says of a run that has taken all its steps.

        To be asked for in the run's context, and written after it, when the figures are there.
        """
        best = self.checkpoints.steps()["best"]
        scores = self.checkpoints.meta(best)["scores"]
        train = {"step": self.experiment.plan.total, "best_step": best}
        return {"val": {"step": best, **scores}, "train": train}


class Validation:
    """Evaluates on the validation split and draws its figures, in a thread that nobody waits for.

    Use it as a context; leaving it waits for the figures.
    """

    def __init__(self, experiment: Experiment, workdir: Path) -> None:
        """Chooses the pictures that are shown."""
        self._experiment, self._workdir = experiment, workdir
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
        """Evaluates the state after a step, and leaves the counts of every picture.

        Args:
            step: Steps taken.
            state: The state.

        Returns:
            The scores of `evaluate.summarise`.
        """
        e = self._experiment
        self._result = evaluate(
            e.eval_step,
            state.eval_variables(),
            self._source,
            batch_size=e.eval.batch_size,
            keep=self._shown,
        )
        if is_first():
            file = self._workdir / run_dir.EVALUATIONS / f"val_{step:08d}.npz"
            save_counts(file, self._result, self._source)
        return summarise(self._result, e.dataset)

    def draw(self, step: int) -> None:
        """Starts to draw the figures of the last evaluation, which was of this step."""
        if not is_first():
            return
        confusion = self._result.confusion.sum(axis=0)
        predictions: dict[int, np.ndarray] = self._result.predictions
        self._drawings.append(self._thread.submit(self._gallery.draw, step, predictions, confusion))
