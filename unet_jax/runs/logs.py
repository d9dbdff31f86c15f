"""What a run tells while it runs: metrics.jsonl, its trackers, and its progress."""

import json
import math
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from unet_jax.errors import NonFiniteLossError
from unet_jax.metrics.names import MEANS, PIXEL_ACCURACY
from unet_jax.process import records
from unet_jax.process.console import console, duration
from unet_jax.process.whole import write_whole
from unet_jax.runs.trackers.make import Trackers

LINE = {"step": records.Count, str: records.Number}  # of a metrics.jsonl
PLAIN_SECONDS = 15.0  # between progress lines where the output is no terminal


class Logs:
    """Scalars of a run, written as they come."""

    def __init__(
        self,
        metrics_file: Path,
        trackers: Trackers,
        start: int,
        total: int,
        *,
        shows: bool = True,
    ) -> None:
        """Opens the file; lines of steps after `start` are dropped, since they come again.

        Args:
            metrics_file: metrics.jsonl.
            trackers: Get the same scalars.
            start: Step from which the run goes on.
            total: Last step.
            shows: Whether the console shows the progress.
        """
        kept = [line for line in read_lines(metrics_file) if line["step"] <= start]
        text = "".join(json.dumps(line) + "\n" for line in kept)
        write_whole(metrics_file, text.encode())
        self._file = metrics_file.open("a")
        self._trackers = trackers
        self._progress = _Progress(start, total) if shows else None

    def scalars(self, step: int, values: Mapping[str, float | None]) -> None:
        """Writes one line of scalars; None (an absent class) is null there, and not for trackers.

        Args:
            step: Steps taken.
            values: The scalars by name.
        """
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        self._trackers.scalars(step, values)

    def progress(self, step: int, images_per_s: float, loss: float) -> None:
        """Moves the progress bar, or prints a line now and then where there is no terminal."""
        if self._progress:
            self._progress.update(step, images_per_s, loss)

    def score(self, step: int, name: str, value: float | None) -> None:
        """Prints the score of an evaluation of the validation split; None of an absent class."""
        if self._progress:
            self._progress.say(step, f"validation {name} {_percent(value)}")

    def flush(self) -> None:
        """Brings metrics.jsonl to the disk, before a checkpoint that counts on its lines."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Closes the file and the progress bar, and lets the trackers end."""
        if self._progress:
            self._progress.close()
        self._file.close()
        self._trackers.close()


class Silence(Logs):
    """Logs of a process that leaves writing to the first one."""

    def __init__(self) -> None:
        """Opens nothing."""

    def scalars(self, step: int, values: Mapping[str, float | None]) -> None:
        """Writes nothing."""

    def progress(self, step: int, images_per_s: float, loss: float) -> None:
        """Shows nothing."""

    def score(self, step: int, name: str, value: float | None) -> None:
        """Prints nothing."""

    def flush(self) -> None:
        """Flushes nothing."""

    def close(self) -> None:
        """Closes nothing."""


class Arrivals:
    """Hands on the scalars of steps, one step behind the device, with the time they were there.

    A thread notes that time: the loop looks only when it comes by, so to the loop a step that ended
    meanwhile, while it read images, would seem to take no time at all.
    """

    def __init__(
        self,
        hand_on: Callable[[int, Any, float, float], None],
        fetch: Callable[[Any], Any] = jax.device_get,
    ) -> None:
        """Takes who gets them.

        Args:
            hand_on: Takes a step, its scalars on the host, the seconds that the loop waited for its
                batch, and the `time.perf_counter` at which the scalars were there.
            fetch: Brings scalars to the host.
        """
        self._hand_on, self._fetch = hand_on, fetch
        self._pending: tuple[int, Any, float, Future[float]] | None = None
        self._thread = ThreadPoolExecutor(1)

    def add(self, step: int, on_devices: Any, waited: float) -> None:
        """Takes the scalars of a step just dispatched, and hands on those of the step before."""
        self.flush()
        self._pending = step, on_devices, waited, self._thread.submit(_time_of, on_devices)

    def flush(self) -> None:
        """Waits for the last step's scalars and hands them on."""
        if self._pending is None:
            return
        step, on_devices, waited, there = self._pending
        self._pending = None
        self._hand_on(step, self._fetch(on_devices), waited, there.result())

    def close(self) -> None:
        """Lets the thread end."""
        self._thread.shutdown(wait=False)


def _time_of(on_devices: Any) -> float:
    jax.block_until_ready(on_devices)
    return time.perf_counter()


class Recorder:
    """Writes the scalars of finished steps to the logs where they are due, with their speed."""

    def __init__(self, logs: Logs, start: int, *, log_every: int, batch_size: int) -> None:
        """Takes the logs, the step the run begins at, and how often to write a line."""
        self._logs, self._log_every, self._batch_size = logs, log_every, batch_size
        self.restart_clock(start)

    def restart_clock(self, step: int) -> None:
        """Leaves what came before out of the speed, such as an evaluation."""
        self._restart(step, time.perf_counter())

    def _restart(self, step: int, at: float) -> None:
        self._begin, self._since, self._waited = at, step, 0.0

    def write(self, step: int, on_host: Mapping[str, Any], waited: float, at: float) -> None:
        """Shows a step's progress, and writes its line where one is due.

        Args:
            step: Steps taken.
            on_host: Its scalars.
            waited: Seconds the loop waited for its batch.
            at: The `time.perf_counter` at which it was done.

        Raises:
            NonFiniteLossError: The loss of that step, or its gradient, is NaN or infinite.
        """
        scalars = {name: float(value) for name, value in on_host.items()}
        loss, norm = scalars["train/loss"], scalars.get("train/gradient_norm", 0.0)
        if not math.isfinite(loss + norm):
            raise NonFiniteLossError(
                f"the loss is {loss} and its gradient's norm {norm} at step {step}; lower "
                "config.optim.learning_rate, or set config.optim.clip_norm, or look at the data. "
                "Earlier checkpoints are kept."
            )
        self._waited += waited
        elapsed = max(at - self._begin, 1e-9)
        images_per_s = (step - self._since) * self._batch_size / elapsed
        self._logs.progress(step, images_per_s, loss)
        if step % self._log_every == 0:
            # The wait for a batch may begin while the step before it still runs.
            share = min(1.0, self._waited / elapsed)
            speed = {"images_per_s": images_per_s, "data_wait": share}
            self._logs.scalars(step, scalars | speed)
            self._restart(step, at)


class _Progress:
    def __init__(self, start: int, total: int) -> None:
        self._total, self._last = total, -PLAIN_SECONDS  # the first step prints
        self._first: tuple[int, float] | None = None  # the first step, which compiles, and its end
        self._bar = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(
                "steps  {task.fields[rate]:.1f} images/s  loss {task.fields[loss]:.4f}  left"
            ),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=total, completed=start, rate=0.0, loss=0.0)
        self._bar.start()

    def update(self, step: int, rate: float, loss: float) -> None:
        self._bar.update(self._task, completed=step, rate=rate, loss=loss)
        now = time.monotonic()
        self._first = first, began = self._first or (step, now)
        if console.is_terminal or (now - self._last < PLAIN_SECONDS and step < self._total):
            return
        self._last = now
        line = f"loss {loss:.4f}  {rate:.1f} images/s"
        if step > first:
            left = (now - began) / (step - first) * (self._total - step)
            line += f"  {duration(left)} left"
        self.say(step, line)

    def say(self, step: int, what: str) -> None:
        console.print(f"step {step}/{self._total}  {what}")

    def close(self) -> None:
        self._bar.stop()


def print_scores(title: str, scores: dict[str, float | None], class_names: tuple[str, ...]) -> None:
    """Prints the scores of a split: a table of the classes, then all others, and views.

    A split without a labelled pixel has none, and the line says so.

    Args:
        title: Above the table.
        scores: See `evaluate.evaluate`; entries of views have the view's name before a "/".
        class_names: K names.
    """
    if scores[PIXEL_ACCURACY] is None:
        console.print(f"{title}: no pixel is labelled, so there is no score.")
        return
    table = Table(title=title, title_justify="left")
    for heading in ("class", *MEANS):
        table.add_column(heading, justify="left" if heading == "class" else "right")
    for name in class_names:
        table.add_row(name, *(_percent(scores[f"{kind}/{name}"]) for kind in MEANS))
    table.add_section()
    table.add_row("mean", *(_percent(scores[mean]) for mean in MEANS.values()))
    console.print(table)
    console.print(f"pixel accuracy {_percent(scores[PIXEL_ACCURACY])}")
    shown = {PIXEL_ACCURACY, *MEANS.values(), "step"}
    for key, value in scores.items():
        if "/" not in key and key not in shown:
            console.print(f"{key.replace('_', ' ')} {_percent(value)}")
        view, is_view, name = key.partition("/IoU/")
        if is_view:
            console.print(f"{view}: IoU of {name} {_percent(value)}")


def _percent(value: float | None) -> str:
    return "absent" if value is None else f"{value:.4f}"


def read_lines(file: Path) -> list[dict[str, Any]]:
    """Reads the whole lines of a metrics.jsonl.

    Args:
        file: The file; half a line at its end, still being written or cut off by a kill, is left
            out.

    Returns:
        The scalars of each line; [] where there is no file.

    Raises:
        UserError: It is no file, or a line is not what a run wrote.
    """
    advice = "put the file back, or take that line out"
    return records.read_lines(file, LINE, "what a run wrote", advice)
