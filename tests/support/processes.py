"""Several processes of one run, on this machine."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from experiments.scale.launch import command_lines
from support import forks, xla
from support.paths import ROOT


def start(
    workdir: Path, count: int, flags: Sequence[object], devices: int = 1
) -> list[subprocess.Popen]:
    """Starts `python -m unet_jax.main --multihost` as often as asked for.

    Args:
        workdir: The run's directory.
        count: How many processes.
        flags: Further flags.
        devices: Of every process.

    Returns:
        The processes, whose output is text.
    """
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    env = xla.env(devices)
    lines = command_lines(workdir, count, flags)
    return [forks.Popen(line, cwd=ROOT, env=env, **pipes) for line in lines]


def finish(processes: Sequence[subprocess.Popen], limit: float = 300) -> list[tuple[int, str, str]]:
    """Waits for processes; those that outlive the limit are killed and the test fails.

    Args:
        processes: Of `start`.
        limit: In seconds, for each.

    Returns:
        Exit code, stdout and stderr of each.
    """
    try:
        texts = [process.communicate(timeout=limit) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(p.returncode, *text) for p, text in zip(processes, texts, strict=True)]
