"""A job's command as a process that does not outlive the one that started it."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)
_LOST = 125  # exit code of a process whose parent is gone before it began
_NO_PROGRAM = 127  # as a shell has it


def tied(command: Iterable[str]) -> list[str]:
    """Returns a command that does the same, and whose process dies with this one.

    On Linux the kernel sees to that, however this process dies, so that the job can be started
    again elsewhere without two of them in one folder.
    """
    return [sys.executable, "-m", "unet_jax.studies.engines.child", str(os.getpid()), *command]


def start(
    command: Sequence[str],
    log: Path,
    env: Mapping[str, str] | None = None,
    *,
    folder: Path | None = None,
    apart: bool = False,
) -> subprocess.Popen[bytes]:
    """Starts a command, tied to this process.

    Args:
        command: The command line.
        log: File that its output is appended to; its folder is made.
        env: Environment; None for this process's own.
        folder: Its working directory; None for this process's own.
        apart: Whether signals to this process's group, such as Ctrl-C, do not reach it.

    Returns:
        The process.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        return subprocess.Popen(
            tied(command),
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=apart,
        )


def note_end(code: int, log: Path) -> int:
    """Notes in a log how a process ended, if that was not well.

    Args:
        code: Of `subprocess.Popen.returncode`.
        log: The log.

    Returns:
        Its exit code as a shell tells it: 128 + signal if a signal killed it.
    """
    if code:
        with log.open("a") as file:
            how = f"exit code {code}" if code > 0 else signal.Signals(-code).name
            file.write(f"ended with {how}\n")
    return code if code >= 0 else 128 - code


def _become(parent: int, command: Sequence[str]) -> None:
    """Turns this process into another that dies with its parent; that survives exec."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(_LOST)
    try:
        os.execvp(command[0], list(command))
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr, flush=True)
        os._exit(_NO_PROGRAM)


if __name__ == "__main__":
    _become(int(sys.argv[1]), sys.argv[2:])
