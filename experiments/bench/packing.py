"""Compares trials that train as one program with the same trials trained one after the other.

python -m experiments.bench.packing --config=configs/shapes.py --trials=8 --steps=400

Half of the trials have one learning rate and half another, with as many seeds. Both ways run the
ordinary commands, in turns; start-up, evaluation, figures and checkpoints are part of the time.
Shown are the ratio of the times, and how far losses and scores of the two ways are apart.

python -m experiments.bench.packing --config=configs/shapes.py --trials=8 --topology=v5e:2x2

Nothing runs: 1, 2, 4 and 8 trials side by side are compiled for one TPU chip of the topology, on
this machine, and what their steps hold, do and take is shown beside as many runs alone; see
`unet_jax.studies.pack.elsewhere`.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from absl import app, flags
from ml_collections import ConfigDict, config_flags

from unet_jax.runs import layout

ROOT = Path(__file__).parents[2]
CONFIG = config_flags.DEFINE_config_file("config", str(ROOT / "configs" / "shapes.py"), "Page.")
TRIALS = flags.DEFINE_integer("trials", 8, "How many.", lower_bound=2)
STEPS = flags.DEFINE_integer("steps", 400, "Steps of each.", lower_bound=20)
TURNS = flags.DEFINE_integer("turns", 1, "Turns of each way.", lower_bound=1)
TOPOLOGY = flags.DEFINE_string("topology", None, "TPUs that are not there, such as v5e:2x2.")
FIRST = 10  # steps in which rounding has not grown yet


def write_trials(folder: Path) -> list[Path]:
    """Writes the configs of the trials into their run directories."""
    from unet_jax.config import to_json

    trials = []
    for index in range(TRIALS.value):
        config = ConfigDict(CONFIG.value.to_dict())
        config.train.duration = f"{STEPS.value} steps"
        config.train.log_every = "1 steps"
        config.train.seed = index // 2
        config.optim.learning_rate *= 1.0 if index % 2 else 0.5
        trial = folder / f"trial_{index}"
        trial.mkdir(parents=True)
        (trial / layout.CONFIG).write_text(to_json(config))
        trials.append(trial)
    return trials


def train(command: list[str]) -> float:
    """Runs a command of this project; returns its seconds."""
    began = time.perf_counter()
    line = [sys.executable, "-m", *command]
    subprocess.run(line, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def turn(folder: Path) -> tuple[float, float, list[Path], list[Path]]:
    """Trains all trials both ways; returns the seconds and the run directories of each."""
    together, alone = write_trials(folder / "together"), write_trials(folder / "alone")
    packed = train(["unet_jax.studies.pack", *(f"--trial={trial}" for trial in together)])
    single = sum(train(["unet_jax.main", f"--workdir={trial}"]) for trial in alone)
    return packed, single, together, alone


def losses(trial: Path) -> list[float]:
    """Returns the training loss of every step."""
    lines = map(json.loads, (trial / layout.METRICS).read_text().splitlines())
    return [line["train/loss"] for line in lines if "train/loss" in line]


def score(trial: Path) -> float:
    """Returns the validation mIoU of the best checkpoint."""
    return json.loads((trial / layout.RESULTS).read_text())["val"]["mIoU"]


def plan_elsewhere(name: str) -> None:
    """Prints what 1, 2, 4, ... trials side by side take on one chip of a topology."""
    from unet_jax.errors import UserError
    from unet_jax.plan.chips import parse_topology
    from unet_jax.studies.pack.elsewhere import plan_packs

    counts = sorted({*(2**n for n in range(TRIALS.value.bit_length())), TRIALS.value})
    try:
        plan_packs(CONFIG.value, parse_topology(name), counts)
    except UserError as error:
        sys.exit(f"error: {error}")


def main(argv: list[str]) -> None:
    """Takes the turns, or compiles for a chip, and prints what was found."""
    del argv
    if TOPOLOGY.value is not None:
        plan_elsewhere(TOPOLOGY.value)
        return
    ratios = []
    for index in range(TURNS.value):
        with tempfile.TemporaryDirectory() as folder:
            packed, single, together, alone = turn(Path(folder))
            first = max(
                abs(a / b - 1)
                for one, other in zip(together, alone, strict=True)
                for a, b in list(zip(losses(one), losses(other), strict=True))[:FIRST]
            )
            scores = [(score(a), score(b)) for a, b in zip(together, alone, strict=True)]
        ratios.append(packed / single)
        apart = [a - b for a, b in scores]
        spread = statistics.stdev(b for _, b in scores[1::2])
        print(
            f"turn {index + 1}: {TRIALS.value} trials of {STEPS.value} steps: one program "
            f"{packed:.0f} s, one after the other {single:.0f} s, ratio {packed / single:.2f}; "
            f"losses of the first {FIRST} steps within {first:.1e}; val mIoU "
            f"{max(apart, key=abs):+.4f} apart at most, {statistics.mean(apart):+.4f} on average; "
            f"standard deviation over seeds {spread:.4f}",
            flush=True,
        )
    print(f"median ratio of the times: {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    app.run(main)
