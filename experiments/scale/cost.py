"""Measures what saving costs, and what several processes cost against one.

python -m experiments.scale.cost --config=configs/shapes.py

Saving: the train step runs on one batch, each step waits for its scalars, and every tenth is saved.
Shown are the time of a step, of the call that starts a save (the copy to the host and the wait for
the save before), and of the steps after it, while files are written in the background.

Processes: the whole command on two devices, as one process that has both and as two that have one
each, in turns; medians of images/s after the first line of metrics.jsonl.
"""

import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from experiments.scale.launch import command_lines
from unet_jax.process import runtime
from unet_jax.runs import layout

ROOT = Path(__file__).parents[2]
CONFIG = config_flags.DEFINE_config_file("config", str(ROOT / "configs" / "shapes.py"), "Page.")
SAVES = flags.DEFINE_integer("saves", 6, "How many checkpoints.", lower_bound=1)
TURNS = flags.DEFINE_integer("turns", 3, "Turns of each side.", lower_bound=1)
STEPS = flags.DEFINE_integer("steps", 60, "Steps of a turn.", lower_bound=20)
EVERY = 10


def cost_of_saving(config: ConfigDict, folder: Path) -> str:
    """Times steps, saves and the steps after them.

    Args:
        config: The whole config.
        folder: For the checkpoints.

    Returns:
        A line.
    """
    import jax

    from unet_jax.data.pipeline import train_batches
    from unet_jax.experiment import assemble
    from unet_jax.runs.checkpoint import Checkpoints
    from unet_jax.sharding import put_batch, replicate

    e = assemble(config)
    order = {"batch_size": e.plan.batch_size, "seed": 0, "start": 0, "stop": 1}
    batch = next(train_batches(e.dataset.splits["train"], e.loading, **order))
    batch, key = put_batch(batch, e.shardings), replicate(jax.random.key(0), e.shardings)
    state, checkpoints = e.init(jax.random.key(0)), Checkpoints(folder)
    usual, after, blocked = [], [], []
    for step in range(EVERY * (SAVES.value + 1)):
        began = time.perf_counter()
        state, scalars = e.train_step(state, batch, key)
        jax.device_get(scalars)
        seconds = time.perf_counter() - began
        since = step % EVERY
        if step > EVERY and since < 3:
            after.append(seconds)
        elif step > 2:
            usual.append(seconds)
        if since == EVERY - 1:
            began = time.perf_counter()
            checkpoints.save(step, state, {}, None)
            blocked.append(time.perf_counter() - began)
    checkpoints.close()
    size = sum(x.nbytes for x in jax.tree.leaves(state)) / 2**20
    step_s, after_s, save_s = map(statistics.median, (usual, after, blocked))
    return (
        f"saving {size:.1f} MiB: a step takes {1e3 * step_s:.0f} ms, starting a save "
        f"{1e3 * save_s:.0f} ms, each of the three steps after it {1e3 * after_s:.0f} ms "
        f"({after_s / step_s:.2f} of a step)"
    )


def speed(count: int, overrides: Sequence[str], folder: Path) -> float:
    """Runs the command on two devices.

    Args:
        count: Of processes, 1 or 2.
        overrides: Flags.
        folder: For the run.

    Returns:
        Images/s, the median over the lines of metrics.jsonl but the first.
    """
    device_flag = f"--xla_force_host_platform_device_count={2 // count}"
    xla = f"{os.environ.get('XLA_FLAGS', '')} {device_flag}"
    env = os.environ | {"XLA_FLAGS": xla, "JAX_PLATFORMS": "cpu"}
    lines = command_lines(folder, count, overrides)
    pipe = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    processes = [subprocess.Popen(line, cwd=ROOT, env=env, **pipe) for line in lines]
    codes = [process.wait() for process in processes]
    if any(codes):
        raise RuntimeError(f"a process of {lines[0]} failed")
    found = map(json.loads, (folder / layout.METRICS).read_text().splitlines())
    return statistics.median([x["images_per_s"] for x in found if "images_per_s" in x][1:])


def main(argv: list[str]) -> None:
    """Prints a line each."""
    del argv
    logging.set_verbosity(logging.ERROR)
    given = config_flags.get_override_values(flags.FLAGS["config"])
    overrides = [f"--config.{key}={value}" for key, value in given.items()]
    flag: Any = flags.FLAGS["config"]
    page = flag.config_filename
    every = f"--config.train.eval_every={STEPS.value}"
    overrides += [
        f"--config={page}", f"--config.train.duration={STEPS.value}", "--config.train.log_every=5",
        every, f"--config.train.checkpoint_every={STEPS.value}",
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        rates: dict[int, list[float]] = {1: [], 2: []}
        for turn in range(TURNS.value):
            for count, found in rates.items():
                found.append(speed(count, overrides, Path(folder) / f"{turn}_{count}"))
        one, two = (statistics.median(found) for found in rates.values())
        print(
            f"two devices: one process {one:.1f} images/s, two processes {two:.1f}, ratio "
            f"{two / one:.2f} (medians of {TURNS.value} turns)"
        )
        runtime.prepare()
        print(cost_of_saving(CONFIG.value, Path(folder) / layout.CHECKPOINTS))


if __name__ == "__main__":
    app.run(main)
