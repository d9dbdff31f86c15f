"""Runs of the real command, and what two of them have alike."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from support import forks, xla
from support.paths import ROOT
from unet_jax.runs.checkpoint import read_arrays

TINY = "--config=tests/support/quick.py"
DRAWN = "--config.eval.figures=True"
WALL_CLOCK = ("images_per_s", "data_wait")


def metrics(workdir: Path) -> list[dict]:
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(x).items() if k not in WALL_CLOCK} for x in lines]


def final_state(workdir: Path, step: int = 40) -> dict[str, np.ndarray]:
    return read_arrays(workdir / "checkpoints" / str(step))


def assert_same_run(first: Path, second: Path) -> None:
    assert metrics(first) == metrics(second)
    a, b = final_state(first), final_state(second)
    assert a.keys() == b.keys()
    kinds = ("params", "batch_stats", "average", "opt_state", "step")
    assert {path.split("/")[0] for path in a} == set(kinds)
    for path in a:
        assert a[path].tobytes() == b[path].tobytes(), path
    assert (first / "results.json").read_text() == (second / "results.json").read_text()


def start(workdir: Path, *flags: str) -> subprocess.Popen:
    line = [sys.executable, "-m", "unet_jax.main", TINY, f"--workdir={workdir}", *flags]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return forks.Popen(line, cwd=ROOT, env=xla.env(), **pipes)


def wait_for(process: subprocess.Popen, is_there: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        if is_there():
            return
        time.sleep(0.005)
    raise AssertionError(f"it did not come: {process.communicate()}")
