"""Kills a sweep twice at random moments, continues it, and compares it with one left alone.

python -m experiments.scale.sweep_deaths --seed=0

The study has twelve trials of configs/tiny.py: two ways up, two learning rates, three seeds; those
of one way up are packed into one program. --nopack trains each by itself.
"""

import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from absl import app, flags, logging

from experiments.scale.compare import different_bytes, find_other
from unet_jax.process import runtime
from unet_jax.runs import layout
from unet_jax.studies.trials import TRIAL

ROOT = Path(__file__).parents[2]
SEED = flags.DEFINE_integer("seed", 0, "Of the moments.")
PACK = flags.DEFINE_bool("pack", True, "Train trials that differ in numbers in one program.")
KILLS = 2
STEPS = 40
PAGE = f'''
from unet_jax.studies.study import Study, grid, seeds, values

def get_study():
    return Study(
        page="configs/tiny.py",
        overrides={{"train.duration": "{STEPS} steps", "train.checkpoint_every": "5 steps"}},
        design=grid(
            values("model.up", "transpose", "bilinear"),
            values("optim.learning_rate", 1e-3, 3e-3),
            seeds(3),
        ),
    )
'''


def start(page: Path, folder: Path) -> subprocess.Popen[bytes]:
    """Starts the sweep."""
    line = [sys.executable, "-m", "experiments.sweep", f"--study={page}", f"--workdir={folder}"]
    line.append("--pack" if PACK.value else "--nopack")
    return subprocess.Popen(line, cwd=ROOT, stdout=subprocess.DEVNULL)


def trials(folder: Path) -> list[Path]:
    """Returns the run directories of a study."""
    return sorted(file.parent for file in folder.glob(f"*/{TRIAL}"))


def finished(folder: Path) -> set[str]:
    """Returns the names of the trials that are finished."""
    return {file.parent.name for file in folder.glob(f"*/{layout.RESULTS}")}


def steps_done(folder: Path) -> int:
    """Returns the steps in the metrics of all trials."""
    files = folder.glob(f"*/{layout.METRICS}")
    return sum(file.read_text().count('"train/loss"') for file in files)


def kill_at(process: subprocess.Popen[bytes], folder: Path, steps: int) -> None:
    """Kills the sweep, and its jobs with it, when its trials have taken so many steps."""
    while process.poll() is None and steps_done(folder) < steps:
        time.sleep(0.01)
    process.kill()
    process.wait()
    time.sleep(1.0)  # until the kernel has ended the jobs


def main(argv: list[str]) -> None:
    """Runs both sweeps and prints what was found."""
    del argv
    runtime.prepare()
    logging.set_verbosity(logging.ERROR)
    rng = random.Random(SEED.value)
    with tempfile.TemporaryDirectory() as name:
        page, alone, killed = (Path(name) / part for part in ("study.py", "alone", "killed"))
        page.write_text(PAGE)
        if start(page, alone).wait():
            raise SystemExit("the sweep that nobody disturbed failed")
        total, times = steps_done(alone), {}
        for turn in range(KILLS):
            # One in each half of the sweep.
            steps = int(total * (turn + rng.uniform(0.1, 0.9)) / KILLS)
            kill_at(start(page, killed), killed, steps)
            for trial in finished(killed):
                times.setdefault(trial, (killed / trial / layout.RESULTS).stat().st_mtime_ns)
            print(
                f"killed after {steps_done(killed)} of {total} steps of all trials, "
                f"{len(finished(killed))} of 12 trials finished",
                flush=True,
            )
        code = start(page, killed).wait()
        again = sum(
            (killed / t / layout.RESULTS).stat().st_mtime_ns != at for t, at in times.items()
        )
        pairs = [(one, killed / one.name) for one in trials(alone)]
        different = sum(different_bytes(*pair, STEPS) for pair in pairs)
        others = sum(bool(find_other(*pair)) for pair in pairs)
    print(
        f"{len(pairs)} trials, {KILLS} deaths, exit code {code}; trained again after they had "
        f"finished: {again}; bytes that differ: {different}; trials whose metrics or scores "
        f"differ: {others}"
    )


if __name__ == "__main__":
    app.run(main)
