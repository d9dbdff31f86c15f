"""Sweeps of tiny trials, as a user runs them."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from support import forks, xla
from support.paths import ROOT
from support.runs import metrics
from unet_jax.runs.checkpoint import read_arrays

STEPS = 12
PAGE = '''"""A study for tests."""

from unet_jax.studies.study import *


def get_study():
    return Study(
        page="tests/support/quick.py",
        overrides={{
            "train.duration": "{steps} steps",
            "train.eval_every": "{every} steps",
            "train.checkpoint_every": "3 steps",
        }},
        design={design},
        baseline={baseline},
        search={search},
    )
'''


def write_page(
    file: Path,
    design: str = "seeds(2)",
    *,
    baseline: str = "{}",
    search: str = "{}",
    steps: int = STEPS,
    every: int = STEPS,
) -> Path:
    """Writes a study page of support/quick.py and returns its file."""
    values = {"design": design, "baseline": baseline, "search": search}
    file.write_text(PAGE.format(**values, steps=steps, every=every))
    return file


def start(page: Path, folder: Path, *flags: str) -> subprocess.Popen[str]:
    """Starts `python -m experiments.sweep`, which packs no trials unless a flag says so."""
    line = [sys.executable, "-m", "experiments.sweep", f"--study={page}", f"--workdir={folder}"]
    line.append("--nopack")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return forks.Popen([*line, *flags], cwd=ROOT, env=xla.env(), **pipes)


def run(page: Path, folder: Path, *flags: str) -> tuple[int, str, str]:
    """Runs it to its end; returns exit code, stdout and stderr."""
    with start(page, folder, *flags) as process:
        texts = process.communicate(timeout=900)
    return process.returncode, *texts


def wait_for(process: subprocess.Popen[str], is_there: Callable[[], bool]) -> None:
    """Waits until something is so, which it must be before the process ends."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        if is_there():
            return
        time.sleep(0.005)
    process.kill()
    raise AssertionError(f"it did not come: {process.communicate()}")


def files(folder: Path) -> dict[str, tuple[int, int]]:
    """Returns size and time of every file below a folder."""
    found = [path for path in folder.rglob("*") if path.is_file()]
    return {str(p.relative_to(folder)): (p.stat().st_size, p.stat().st_mtime_ns) for p in found}


def assert_same(first, second):
    a, b = (read_arrays(run / "checkpoints" / str(STEPS)) for run in (first, second))
    assert a.keys() == b.keys()
    assert all(a[path].tobytes() == b[path].tobytes() for path in a)
    assert metrics(first) == metrics(second)
    assert (first / "results.json").read_text() == (second / "results.json").read_text()
