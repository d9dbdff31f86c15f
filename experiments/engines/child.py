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


def finish(process: subprocess.Popen[bytes], log: Path) -> int:
    """Waits for a process, and notes in its log how it ended if that was not well.

    Args:
        process: Of `start`.
        log: The same file.

    Returns:
        Its exit code as a shell tells it: 128 + signal if a signal killed it.
    """
    code = process.wait()
    if code:
        with log.open("a") as file:
            how = f"exit code {code}" if code > 0 else signal.Signals(-code).name
            file.write(f"ended with {how}\n")
    return code if code >= 0 else 128 - code
