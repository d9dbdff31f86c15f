"""A job's command as a process that does not outlive the one that started it."""

import ctypes
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parents[2]
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)


def start(
    command: Sequence[str], log: Path, env: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Starts a command in the root of the repository.

    On Linux the kernel kills it when this process dies, however it dies, so that the job can be
    started again elsewhere without two of them in one folder.

    Args:
        command: The command line.
        log: File that its output is appended to; its folder is made.
        env: Environment; None for this process's own.

    Returns:
        The process.
    """
    prepare = None
    if sys.platform == "linux":
        # Loaded here, since little is safe between fork and exec.
        prepare = partial(ctypes.CDLL(None).prctl, _DIE_WITH_PARENT, signal.SIGKILL)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            preexec_fn=prepare,
        )


def exit_code(process: subprocess.Popen[bytes]) -> int:
    """Waits for a process and returns its exit code as a shell would: 128 + signal if killed."""
    code = process.wait()
    return code if code >= 0 else 128 - code
