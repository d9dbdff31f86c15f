"""Command lines for several processes of one run on this machine."""

import socket
import sys
from collections.abc import Sequence
from pathlib import Path


def free_port() -> int:
    """Returns a port of this machine that nothing listens to."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def command_lines(workdir: Path, count: int, flags: Sequence[object]) -> list[list[str]]:
    """Writes the commands of a run's processes, which find each other over the loopback.

    Args:
        workdir: The run's directory.
        count: How many processes; 1 for an ordinary run.
        flags: Further flags.

    Returns:
        One command line per process.
    """
    line = [sys.executable, "-m", "unet_jax.main", f"--workdir={workdir}", *map(str, flags)]
    if count == 1:
        return [line]
    line += ["--multihost", f"--coordinator=127.0.0.1:{free_port()}", f"--num_processes={count}"]
    return [[*line, f"--process_id={index}"] for index in range(count)]
