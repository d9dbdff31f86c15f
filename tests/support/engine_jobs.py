"""Jobs for engines, and a check that one that lost its worker ends as if it had not."""

import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from support import xla
from support.runs import TINY
from unet_jax.runs.workdir import is_finished
from unet_jax.studies.engines.base import Engine, Job

STEPS, EVERY = 80, 10
FLAGS = [
    TINY,
    f"--config.train.duration={STEPS}",
    f"--config.train.checkpoint_every={EVERY}",
    f"--config.train.eval_every={STEPS // 2}",
]
# As the command of conftest.py trains.
ONE_DEVICE = {"XLA_FLAGS": xla.flags()}
SAVED = "started\nsaved\nended with exit code 143\n"  # what it then leaves in its log
_STOPPABLE = """
import signal, sys, time
def stop(*_):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # as in unet_jax.process.signals
    time.sleep({saving})
    print("saved", flush=True)
    sys.exit({code})
signal.signal(signal.SIGTERM, stop)
print("started", flush=True)
while True:  # a signal just before a long sleep would not end it
    time.sleep(0.05)
"""


def stoppable(saving: float, code: int = 143) -> tuple[str, ...]:
    """Returns a command that takes some seconds to save when it is told to stop."""
    return (sys.executable, "-c", _STOPPABLE.format(saving=saving, code=code))


def training(folder: Path, seed: int) -> Job:
    """Returns a job that really trains, in FOLDER/study/SEED."""
    workdir = folder / "study" / str(seed)
    line = [sys.executable, "-m", "unet_jax.main", *FLAGS, f"--config.train.seed={seed}"]
    return Job(str(seed), (*line, f"--workdir={workdir}"), workdir / "job.log", (workdir,))


def wait_until(is_so: Callable[[], object], limit: float = 300.0) -> None:
    """Waits until something is so; an error after some seconds."""
    deadline = time.monotonic() + limit
    while not is_so():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.1)


def last_saved(workdir: Path) -> int:
    """Returns the step of a run's latest checkpoint; 0 for none."""
    folders = (workdir / "checkpoints").glob("*")
    return max((int(f.name) for f in folders if f.name.isdecimal()), default=0)


def continue_after_a_loss(
    engine: Engine, jobs: Sequence[Job], there: Callable[[], Job | None], kill: Callable[[], None]
) -> Job:
    """Kills a worker when its job has saved, and waits until all jobs are done.

    Args:
        engine: Runs the jobs.
        jobs: The jobs, from `training`.
        there: Returns the job that runs on the worker; None if there is none as yet.
        kill: Kills the worker.

    Returns:
        The job that was lost.
    """
    wait_until(lambda: (job := there()) and last_saved(job.trials[0]))
    lost = there()
    kill()
    assert not is_finished(lost.trials[0]), "it ended before its worker was killed"
    wait_until(lambda: set(engine.watch().values()) == {"done"})
    return lost


def check_trained(command, folder: Path, jobs: Sequence[Job], lost: Job) -> None:
    """Checks that the lost job went on from a checkpoint and ended as an undisturbed run does.

    Args:
        command: The fixture.
        folder: For the undisturbed run.
        jobs: All of them.
        lost: The one whose worker was killed.
    """
    from unet_jax.runs.checkpoint import read_arrays  # takes seconds

    resumed = {job.name: re.findall(r"resumes at +step (\d+)", job.log.read_text()) for job in jobs}
    assert [name for name, steps in resumed.items() if steps] == [lost.name]
    [step] = resumed[lost.name]
    assert EVERY <= int(step) < STEPS
    alone = folder / "alone"
    seed = f"--config.train.seed={lost.name}"
    done = command(*FLAGS, seed, f"--workdir={alone}")
    assert done.returncode == 0, done.stderr
    a, b = (read_arrays(run / "checkpoints" / str(STEPS)) for run in (alone, lost.trials[0]))
    assert a.keys() == b.keys()
    for path, array in a.items():
        assert np.ravel(array).tobytes() == np.ravel(b[path]).tobytes(), path
