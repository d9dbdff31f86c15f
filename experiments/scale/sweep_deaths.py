"""Kills a sweep twice at random moments, continues it, and compares it with one left alone.

python -m experiments.scale.sweep_deaths --seed=0

The study has twelve trials of configs/tiny.py: two ways up, two learning rates, three seeds; those
of one way up are packed into one program. --nopack trains each by itself.
"""

import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from absl import app, flags

from unet_jax import runtime

ROOT = Path(__file__).parents[2]
SEED = flags.DEFINE_integer("seed", 0, "Of the moments.")
PACK = flags.DEFINE_bool("pack", True, "Train trials that differ in numbers in one program.")
KILLS = 2
STEPS = 40
PAGE = f'''
from experiments.study import Study, grid, seeds, values

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
    return sorted(file.parent for file in folder.glob("*/trial.json"))


def finished(folder: Path) -> set[str]:
    """Returns the names of the trials that are finished."""
    return {file.parent.name for file in folder.glob("*/results.json")}


def steps_done(folder: Path) -> int:
    """Returns the steps in the metrics of all trials."""
    files = folder.glob("*/metrics.jsonl")
    return sum(file.read_text().count('"train/loss"') for file in files)


def kill_at(process: subprocess.Popen[bytes], folder: Path, steps: int) -> None:
    """Kills the sweep, and its jobs with it, when its trials have taken so many steps."""
    while process.poll() is None and steps_done(folder) < steps:
        time.sleep(0.01)
    process.kill()
    process.wait()
    time.sleep(1.0)  # until the kernel has ended the jobs


def differences(first: Path, second: Path) -> tuple[int, int]:
    """Counts the bytes of the final states, and the lines and scores, in which two runs differ."""
    from unet_jax.checkpoint import read_arrays

    a, b = (read_arrays(run / "checkpoints" / str(STEPS)) for run in (first, second))
    different = sum(x.tobytes() != b[path].tobytes() for path, x in a.items())
    texts = [(run / "results.json").read_text() for run in (first, second)]
    lines = [
        [
            {k: v for k, v in json.loads(line).items() if k not in ("images_per_s", "data_wait")}
            for line in (run / "metrics.jsonl").read_text().splitlines()
        ]
        for run in (first, second)
    ]
    return different, int(lines[0] != lines[1]) + int(texts[0] != texts[1])


def main(argv: list[str]) -> None:
    """Runs both sweeps and prints what was found."""
    del argv
    runtime.prepare()
    rng = random.Random(SEED.value)
    with tempfile.TemporaryDirectory() as name:
        page, alone, killed = (Path(name) / part for part in ("study.py", "alone", "killed"))
        page.write_text(PAGE)
        if start(page, alone).wait():
            raise SystemExit("the sweep that nobody disturbed failed")
        log_every = json.loads((trials(alone)[0] / "config.json").read_text())["train"]["log_every"]
        total, times = steps_done(alone), {}
        for turn in range(KILLS):
            # One in each half of the sweep.
            steps = int(total * (turn + rng.uniform(0.1, 0.9)) / KILLS)
            kill_at(start(page, killed), killed, steps)
            for trial in finished(killed):
                times.setdefault(trial, (killed / trial / "results.json").stat().st_mtime_ns)
            print(
                f"killed when {steps_done(killed)} of {total} lines of steps were there "
                f"({log_every}), {len(finished(killed))} of 12 trials finished",
                flush=True,
            )
        code = start(page, killed).wait()
        again = sum(
            (killed / t / "results.json").stat().st_mtime_ns != at for t, at in times.items()
        )
        found = [differences(one, killed / one.name) for one in trials(alone)]
    print(
        f"{len(found)} trials, {KILLS} deaths, exit code {code}; trained again after they had "
        f"finished: {again}; arrays that differ: {sum(a for a, _ in found)}; metrics or scores "
        f"that differ: {sum(b for _, b in found)}"
    )


if __name__ == "__main__":
    app.run(main)
