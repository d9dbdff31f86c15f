"""Runs jobs as Slurm job arrays: one array per submission, one task per job."""

import json
import shlex
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from unet_jax.errors import UserError
from unet_jax.process.whole import write_text
from unet_jax.studies.engines.base import Job, Status

LARGEST_ARRAY = 1000  # Slurm's own MaxArraySize is 1001
PATIENCE_S = 600.0  # for a controller that does not answer
GRACE_S = 120.0  # for saving
_WAITING = {
    *("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD"),
    *("SPECIAL_EXIT", "STOPPED", "SUSPENDED"),
}
# A task that is completing may still write.
_RUNNING = {"RUNNING", "COMPLETING", "RESIZING", "SIGNALING", "STAGE_OUT"}


class _Place(NamedTuple):
    """A job's array, by the name of its folder, and its index there."""

    array: str
    index: int


class _Task(NamedTuple):
    """What squeue says of a task."""

    id: str
    state: str


class Slurm:
    """An engine that hands jobs to sbatch.

    Every array has a folder in DIR/engine/slurm, made before it is submitted, with its jobs; the
    array's name in Slurm ends with the folder's. So a sweep that is started again finds what it
    submitted before, even if it died right after. Tasks leave their exit codes there, since Slurm
    forgets them after minutes where it keeps no accounts.
    """

    def __init__(
        self, folder: Path, options: str = "", max_parallel: int = 0, every: float = 10.0
    ) -> None:
        """Looks at what is on the disk only.

        Args:
            folder: DIR/engine, on a disk that all nodes share.
            options: Further options of sbatch, such as "--partition=gpu --gres=gpu:1 --time=4:0:0".
            max_parallel: How many tasks of an array run at once; 0 for no limit.
            every: Seconds between two questions to Slurm.
        """
        self._folder = (folder / "slurm").resolve()
        self._options, self._limit, self._every = shlex.split(options), max_parallel, every
        self._mine: dict[str, _Place] = {}
        self._logs: dict[str, Path] = {}
        self._queue: dict[_Place, _Task] = {}
        self._asked = self._answered = float("-inf")

    def submit(self, jobs: Sequence[Job]) -> None:
        """Submits the jobs that are not in the queue; see `base.Engine`."""
        before = dict(self._remembered())
        self._ask(every=0.0, patience=0.0)
        new = []
        for job in jobs:
            self._logs[job.name] = job.log
            place = before.get(job.name)
            if place and self._status(place) in ("waiting", "running"):
                self._mine[job.name] = place
            else:
                new.append(job)
        for start in range(0, len(new), LARGEST_ARRAY):
            self._submit_array(new[start : start + LARGEST_ARRAY], len(self._arrays()))

    def watch(self) -> Mapping[str, Status]:
        """Returns the status of every job submitted; see `base.Engine`."""
        self._ask()
        found = {name: self._status(place) for name, place in self._mine.items()}
        for name, status in found.items():
            if status == "failed" and name in self._logs:
                self._explain(self._mine[name], self._logs.pop(name))
        return found

    def cancel(self, names: Sequence[str] | None = None) -> None:
        """Asks jobs to save and end, and waits for them; see `base.Engine`."""
        names = list(self._mine) if names is None else names
        deadline = time.monotonic() + GRACE_S
        self._ask(every=0.0)
        while ids := self._ids(names):
            # Again every time: a task may have started or gone back into the queue in between.
            _call("scancel", "--quiet", "--state=PENDING", *ids)
            if time.monotonic() < deadline:
                _call("scancel", "--quiet", "--batch", "--signal=USR2", *ids)
            else:
                _call("scancel", "--quiet", *ids)
            time.sleep(min(2.0, self._every))
            self._ask(every=0.0)

    def _submit_array(self, jobs: Sequence[Job], number: int) -> None:
        array = f"{number:04}_{uuid.uuid4().hex[:8]}"
        folder = self._folder / array
        folder.mkdir(parents=True)
        lines = [
            {"name": job.name, "command": job.command, "log": str(job.log.resolve())}
            for job in jobs
        ]
        write_text(folder / "jobs.json", json.dumps(lines, indent=1) + "\n")
        limit = f"%{self._limit}" if self._limit else ""
        task = [sys.executable, "-m", "unet_jax.studies.engines.slurm_task", str(folder)]
        done = _call(
            "sbatch",
            "--parsable",
            f"--job-name={self._folder.parent.parent.name}/{array}",
            f"--array=0-{len(jobs) - 1}{limit}",
            "--requeue",
            "--signal=B:USR1@120",  # B: to slurm_task alone
            "--open-mode=append",
            f"--output={str(folder).replace('%', '%%')}/%a.out",
            f"--chdir={Path.cwd()}",
            *self._options,
            f"--wrap=exec {shlex.join(task)}",
        )
        if done.returncode:
            raise UserError(
                f"sbatch refused {len(jobs)} jobs with the options {shlex.join(self._options)!r}: "
                f"{_message(done)}"
            )
        self._asked = float("-inf")
        self._mine |= {job.name: _Place(array, index) for index, job in enumerate(jobs)}

    def _arrays(self) -> list[Path]:
        return sorted(self._folder.glob("*/jobs.json"))

    def _remembered(self) -> Iterator[tuple[str, _Place]]:
        """Yields where the jobs of all arrays are, the latest last."""
        for file in self._arrays():
            for index, job in enumerate(json.loads(file.read_text())):
                yield job["name"], _Place(file.parent.name, index)

    def _ask(self, every: float | None = None, patience: float = PATIENCE_S) -> None:
        """Asks Slurm for the queue, if the last time is long enough ago.

        Args:
            every: Seconds between two questions; None for those of the engine.
            patience: Seconds for which the last answer is good enough where there is no new one.

        Raises:
            UserError: There is no Slurm, or it has not answered for long.
        """
        now = time.monotonic()
        if now < self._asked + (self._every if every is None else every):
            return
        self._asked = now
        done = _call("squeue", "--me", "--noheader", "--array", "--states=all", "--format=%i %T %j")
        if done.returncode:
            if now < self._answered + patience:
                return
            raise UserError(
                f"squeue does not answer: {_message(done)}. Jobs in the queue go on; start the "
                "same sweep again when Slurm is back."
            )
        self._answered = now
        self._queue = dict(_read_queue(done.stdout))

    def _status(self, place: _Place) -> Status:
        task = self._queue.get(place)
        state = task.state if task else ""
        if state in _WAITING:
            return "waiting"
        if state in _RUNNING:
            return "running"
        result = self._folder / place.array / f"{place.index}.exit"
        # The file can be seen later than the state where the disk is a network's.
        code = result.read_text().strip() if result.exists() else None
        return "done" if code == "0" or (code is None and state == "COMPLETED") else "failed"

    def _explain(self, place: _Place, log: Path) -> None:
        """Notes in a job's log how it ended, if its command has not lived to leave an exit code."""
        folder = self._folder / place.array
        if (folder / f"{place.index}.exit").exists():
            return
        state = self._queue[place].state if place in self._queue else "no longer in the queue"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a") as file:
            file.write(f"Slurm: {state}; see {folder / f'{place.index}.out'}\n")

    def _ids(self, names: Sequence[str]) -> list[str]:
        """Returns Slurm's ids of the jobs that have not ended."""
        places = [self._mine[name] for name in names if name in self._mine]
        alive = [
            p for p in places if p in self._queue and self._status(p) in ("waiting", "running")
        ]
        return [self._queue[place].id for place in alive]


def _read_queue(text: str) -> Iterator[tuple[_Place, _Task]]:
    """Reads lines `17_3 RUNNING study/0000_1a2b3c4d`."""
    for line in text.splitlines():
        task, state, name = line.split(maxsplit=2)
        index = task.partition("_")[2]
        if index.isdecimal():
            yield _Place(name.rpartition("/")[2], int(index)), _Task(task, state)


def _call(program: str, *args: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run([program, *args], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise UserError(
            f"there is no {program} on this machine; start the sweep on a login node of a Slurm "
            "cluster, or use another engine."
        ) from None


def _message(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line.partition("error: ")[2] or line for line in done.stderr.splitlines()]
    return "; ".join(line for line in lines if line.strip()) or f"exit code {done.returncode}"
