"""What a task of a job array does on its node: it runs one job of the array's folder.

python -m unet_jax.studies.engines.slurm_task FOLDER

Slurm sends USR1 to this process alone before the time limit; then the command saves, and the task
is put back into the queue. `engines.slurm` sends USR2; then the command saves and the task ends.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

from unet_jax.process.signals import asking
from unet_jax.studies.engines import child

MAX_RESTARTS = 100
_SAVED = 128 + signal.SIGTERM


def run(folder: Path, index: int) -> int:
    """Runs a job and writes its exit code into INDEX.exit, unless it is to go on later.

    Args:
        folder: Of the array.
        index: Of the job in its jobs.json.

    Returns:
        The exit code.
    """
    job = json.loads((folder / "jobs.json").read_text())[index]
    result = folder / f"{index}.exit"
    result.unlink(missing_ok=True)  # of an earlier start
    asked = set()

    def stop(signum: int, frame: FrameType | None) -> None:
        if not asked:
            process.terminate()
        asked.add(signum)

    log = Path(job["log"])
    process = child.start(job["command"], log)
    hangup = set(asking()) - {signal.SIGTERM, signal.SIGINT}
    for signum in (signal.SIGUSR1, signal.SIGUSR2, *hangup):
        signal.signal(signum, stop)
    # Slurm sends this one to the command as well, and a second one would not let it save.
    signal.signal(signal.SIGTERM, lambda *_: None)
    code = child.note_end(process.wait(), log)
    if not (asked == {signal.SIGUSR1} and code == _SAVED and _requeue()):
        part = result.with_suffix(".part")
        part.write_text(f"{code}\n")
        part.replace(result)
    return code


def _requeue() -> bool:
    """Puts this task back into the queue and tells whether it is there."""
    if int(os.environ.get("SLURM_RESTART_COUNT", "0")) >= MAX_RESTARTS:
        print(f"Stopped with its state saved; not requeued after {MAX_RESTARTS} times.")
        return False
    with contextlib.suppress(OSError):
        return subprocess.run(["scontrol", "requeue", os.environ["SLURM_JOB_ID"]]).returncode == 0
    return False


if __name__ == "__main__":
    sys.exit(run(Path(sys.argv[1]), int(os.environ["SLURM_ARRAY_TASK_ID"])))
