"""Runs jobs as processes of this machine, each with a device of its own."""

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from unet_jax.studies.engines import child
from unet_jax.studies.engines.base import Job, Status

LIMIT = 120.0  # seconds for a job to save and end; killed later, it goes on from before
# Printed by a process that ends, since whoever asks jax for devices takes hold of them.
_COUNT = """
import jax
chips = {tuple(getattr(device, "coords", (device.id,))) for device in jax.local_devices()}
print(jax.default_backend(), len(chips))
"""


Slots = list[dict[str, str]]  # environment variables of each of the jobs at a time


class _Running(NamedTuple):
    process: subprocess.Popen[bytes]
    slots: tuple[int, ...]


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
                child.note_end(code, self._jobs[name].log)
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
        """Starts jobs in their order while there is room; one of several trials takes all slots."""
        for name, job in list(self._waiting.items()):
            taken = {slot for running in self._running.values() for slot in running.slots}
            free = [slot for slot in range(len(self._slots)) if slot not in taken]
            takes_all = len(job.trials) > 1 and any(self._slots)  # it shares the devices out itself
            if not free or (takes_all and taken):
                return
            slots = tuple(free) if takes_all else (free[0],)
            env = {} if takes_all else self._slots[free[0]]
            del self._waiting[name]
            # Ctrl-C reaches the sweep alone, which then asks each job once.
            process = child.start(job.command, job.log, os.environ | env, apart=True)
            self._running[name] = _Running(process, slots)
            self._status[name] = "running"


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
    text = subprocess.run(line, stdout=subprocess.PIPE, text=True, check=True).stdout
    platform, count = text.split()[-2:]
    return platform, int(count)
