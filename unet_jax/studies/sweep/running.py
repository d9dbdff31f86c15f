"""Running the jobs of a sweep: progress over all trials, stopping, and what failed."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from unet_jax.errors import StoppedError
from unet_jax.process.console import console, duration
from unet_jax.process.signals import stop_requests
from unet_jax.runs import workdir as run_dir
from unet_jax.runs.logs import PLAIN_SECONDS
from unet_jax.studies.engines.base import Engine, Job, Status
from unet_jax.studies.sweep.jobs import find_log
from unet_jax.studies.sweep.probe import Facts
from unet_jax.studies.trials import last_line

POLL = 0.3  # seconds between looks at the jobs
_TAIL_LINES = 6


class FailedTrialsError(Exception):
    """Trials of a sweep failed; the command exits with code 1."""

    exit_code = 1


class ImpossibleTrialsError(Exception):
    """Trials of a sweep are impossible, and all others finished; the command exits with code 5."""

    exit_code = 5


class Board:
    """Shows how far all trials are; use it as a context."""

    def __init__(self, folder: Path, facts: Mapping[str, Facts], expected: int) -> None:
        """Takes the study's folder, what trials come to, and how many there will be."""
        self._folder, self._expected = folder, expected
        self.facts = dict(facts)
        self._begin, self._last = time.monotonic(), time.monotonic() - PLAIN_SECONDS
        self._at_start: float | None = None
        self._seen, self._end = (0.0, 0.0), 0.0  # work done and left; when the rest will be done
        self._begun: dict[str, int] = {}  # steps of trials when they were first seen to run
        self._bar = Progress(
            TextColumn("trials {task.fields[finished]}/{task.fields[expected]}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[now]}  left {task.fields[left]}", markup=False),
            console=console,
            disable=not console.is_terminal,
        )
        fields = {"finished": 0, "expected": expected, "now": "", "left": "-:--"}
        self._task = self._bar.add_task("", total=1.0, **fields)

    def __enter__(self) -> "Board":
        """Shows the bar, on a terminal."""
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Takes the bar away."""
        self._bar.stop()

    def update(self, status: Mapping[str, Status]) -> None:
        """Moves the bar, or prints a line now and then where there is no terminal.

        Args:
            status: Of every trial that a job was made for, by name.
        """
        steps = {name: self._steps(name, state) for name, state in status.items()}
        done = sum(self.facts[name].work(taken) for name, taken in steps.items())
        # What failed is not waited for; what will be asked for yet is like what was.
        under_way = [name for name, state in status.items() if state in ("waiting", "running")]
        left = sum(self.facts[x].work() - self.facts[x].work(steps[x]) for x in under_way)
        mean = sum(self.facts[name].work() for name in status) / max(1, len(status))
        left += mean * max(0, self._expected - len(status))
        if self._at_start is None:
            self._at_start = done
        now, moved = time.monotonic(), done - self._at_start
        if (done, left) != self._seen:  # else what compiles would make the rest longer
            self._seen = done, left
            self._end = now + (now - self._begin) / max(moved, 1e-9) * left
        time_left = duration(max(0.0, self._end - now)) if moved > 0 else "-:--"
        finished = list(status.values()).count("done")
        words, share = self._describe(status, steps), done / max(done + left, 1e-9)
        if console.is_terminal:
            fields = {"finished": finished, "now": words, "left": time_left}
            self._bar.update(self._task, completed=share, **fields)
        elif now - self._last >= PLAIN_SECONDS:
            self._last = now
            console.print(
                f"{finished}/{self._expected} trials finished, {words}; {share:.0%} of the work, "
                f"{time_left} left",
            )

    def _describe(self, status: Mapping[str, Status], steps: Mapping[str, int]) -> str:
        running = [name for name, state in status.items() if state == "running"]
        failed = list(status.values()).count("failed")
        text = f"{len(running)} running" + (f", {failed} failed" if failed else "")
        for name in running:
            self._begun[name] = min(steps[name], self._begun.get(name, steps[name]))
        compiling = [name for name in running if steps[name] == self._begun[name]]
        if compiling:
            log = find_log(self._folder / compiling[0])
            return f"{text}, {len(compiling)} of them starting or compiling (see {log})"
        if console.is_terminal and running:
            first = running[0]
            text += f": {first[:40]} {steps[first]}/{self.facts[first].steps}"
        return text

    def _steps(self, name: str, state: Status) -> int:
        total = self.facts[name].steps
        return total if state == "done" else min(total, last_line(self._folder / name)["step"])


def run_jobs(engine: Engine, jobs: Sequence[Job], board: Board) -> dict[str, Status]:
    """Runs jobs to their ends.

    Args:
        engine: What runs them.
        jobs: The jobs.
        board: Shows how far they are.

    Returns:
        "done" or "failed" for every job, by name.

    Raises:
        StoppedError: A signal asked to stop; every job has saved and ended.
    """
    with stop_requests() as stop, board:
        engine.submit(jobs)
        while True:
            status = engine.watch()
            board.update({run.name: status[job.name] for job in jobs for run in job.trials})
            if stop.signum:
                console.print("stopping: running trials save their state")
                engine.cancel()
                raise StoppedError("", stop.signum)
            if not {"waiting", "running"} & set(status.values()):
                return dict(status)
            time.sleep(POLL)


def print_failures(jobs: Sequence[Job], status: Mapping[str, Status]) -> list[str]:
    """Prints failed jobs with the last lines of their logs, the exit code among them.

    Args:
        jobs: The jobs.
        status: How each ended.

    Returns:
        Names of trials that are not finished.
    """
    for job in jobs:
        if status[job.name] == "failed":
            console.print(f"failed: {job.name} ({job.log})")
            for line in tail(job.log):
                console.print(f"  | {line}")
    return [run.name for job in jobs for run in job.trials if not run_dir.is_finished(run)]


def tail(log: Path) -> list[str]:
    """Returns the last lines of a log that are not empty."""
    text = log.read_text(errors="replace") if log.exists() else ""
    return [line.rstrip() for line in text.splitlines() if line.strip()][-_TAIL_LINES:]
