"""Runs jobs as processes of this machine, each with a device of its own."""

import ctypes
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from experiments.engines.base import Job, Status

ROOT = Path(__file__).parents[2]
LIMIT = 120.0  # seconds for a job to save and end; killed later, it goes on from before
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)
_LOST = 125  # exit code of a process whose parent is gone before it began
# Printed by a process that ends, since whoever asks jax for devices takes hold of them.
_COUNT = """
import jax
chips = {tuple(getattr(device, "coords", (device.id,))) for device in jax.local_devices()}
print(jax.default_backend(), len(chips))
"""


Slots = list[dict[str, str]]  # environment variables of each of the jobs at a time


class _Running(NamedTuple):
    process: subprocess.Popen[bytes]
    slot: int


class Local:
    """The engine of this machine; use it from one thread, the jobs die with it."""

    def __init__(self, slots: Slots) -> None:
        """Takes what `make_slots` made."""
        self._slots = slots
        self._status: dict[str, Status] = {}
        self._waiting: dict[str, Job] = {}
        self._running: dict[str, _Running] = {}
        self._jobs: dict[str, Job] = {}

    def submit(self, jobs: Sequence[Job]) -> None:
        """See `base.Engine`; a job that has ended is started again."""
        for job in jobs:
            if self._status.get(job.name) not in ("waiting", "running"):
                self._status[job.name] = "waiting"
                self._waiting[job.name] = self._jobs[job.name] = job
        self._fill()

    def watch(self) -> Mapping[str, Status]:
        """See `base.Engine`; jobs that wait start in here, where another has ended."""
        for name, running in list(self._running.items()):
            code = running.process.poll()
            if code is not None:
                del self._running[name]
                self._status[name] = "failed" if code else "done"
                self._note(self._jobs[name], code)
        self._fill()
        return dict(self._status)

    def cancel(self, names: Sequence[str] | None = None) -> None:
        """See `base.Engine`; a job that does not end is killed after `LIMIT` seconds."""
        names = list(self._status) if names is None else names
        for name in names:
            if self._waiting.pop(name, None):
                self._status[name] = "failed"
        ending = [self._running[name].process for name in names if name in self._running]
        for process in ending:
            process.terminate()
        deadline = time.monotonic() + LIMIT
        for process in ending:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if names:
            self.watch()

    def _fill(self) -> None:
        taken = {running.slot for running in self._running.values()}
        free = [slot for slot in range(len(self._slots)) if slot not in taken]
        for name, slot in zip(list(self._waiting), free, strict=False):
            job = self._waiting.pop(name)
            job.log.parent.mkdir(parents=True, exist_ok=True)
            with job.log.open("ab") as log:
                process = subprocess.Popen(
                    tied(job.command),
                    cwd=ROOT,
                    env=os.environ | self._slots[slot],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    # Ctrl-C reaches the sweep alone, which then asks each job once.
                    start_new_session=True,
                )
            self._running[name] = _Running(process, slot)
            self._status[name] = "running"

    @staticmethod
    def _note(job: Job, code: int) -> None:
        if code:
            with job.log.open("a") as log:
                log.write(f"ended with {describe(code)}\n")


def describe(code: int) -> str:
    """Writes how a process ended: "exit code 2", or "SIGKILL"."""
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name


def make_slots(max_parallel: int | None) -> Slots:
    """Shares the devices of this machine out.

    Args:
        max_parallel: Jobs at a time; None for one per device, which is 1 on CPU. More jobs than
            devices share them, and a GPU's memory.

    Returns:
        The environment variables of each of the jobs at a time.
    """
    platform, count = count_devices()
    jobs = max_parallel or (1 if platform == "cpu" else count)
    if platform == "cpu":
        return [{} for _ in range(jobs)]
    if platform == "tpu":
        one = {"TPU_CHIPS_PER_PROCESS_BOUNDS": "1,1,1", "TPU_PROCESS_BOUNDS": "1,1,1"}
        return [one | {"TPU_VISIBLE_CHIPS": str(index % count)} for index in range(jobs)]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    names = visible.split(",") if visible else [str(index) for index in range(count)]
    slots = [
        {"CUDA_VISIBLE_DEVICES": name} for name in itertools.islice(itertools.cycle(names), jobs)
    ]
    each = -(-jobs // count)
    if each > 1 and "XLA_PYTHON_CLIENT_MEM_FRACTION" not in os.environ:
        share = {"XLA_PYTHON_CLIENT_MEM_FRACTION": f"{0.9 / each:.2f}"}
        slots = [slot | share for slot in slots]
    return slots


def count_devices() -> tuple[str, int]:
    """Returns jax's platform on this machine, and its number of GPUs or of a TPU's chips."""
    if os.environ.get("JAX_PLATFORMS") == "cpu":
        return "cpu", 1
    line = [sys.executable, "-c", _COUNT]
    text = subprocess.run(line, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
    platform, count = text.split()[-2:]
    return platform, int(count)


def tied(command: Iterable[str]) -> list[str]:
    """Returns a command that does the same, and whose process dies with this one."""
    return [sys.executable, "-m", "experiments.engines.local", str(os.getpid()), *command]


def _become(parent: int, command: Sequence[str]) -> None:
    """Turns this process into another that dies with its parent; it survives execv."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(_LOST)
    os.execv(command[0], list(command))


if __name__ == "__main__":
    _become(int(sys.argv[1]), sys.argv[2:])
