"""Measures speed, start-up and memory of the real training command.

python -m unet_jax.benchmark --config=configs/shapes.py

Prints images/s of the bare compiled step (one batch that stays on the device), of the whole loop of
`unet_jax.main` (data read from disk, logged, clocked), and their ratio; the share of time that the
loop waits for data; seconds from start to the first step with a cold and a warm compilation cache;
and peak memory. Step and loop are run in turn, and medians are given.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import app, flags
from ml_collections import ConfigDict, config_flags
from PIL import Image

from unet_jax import runtime

PAGE = Path(__file__).parents[1] / "configs" / "shapes.py"

CONFIG = config_flags.DEFINE_config_file("config", str(PAGE), "Config page.", lock_config=True)
ROUNDS = flags.DEFINE_integer("rounds", 3, "How often step and loop take turns.", lower_bound=1)
STEPS = flags.DEFINE_integer("steps", 90, "Steps per turn.", lower_bound=30)

LINE = 10  # steps per line of scalars


class Turn(NamedTuple):
    """What one run of the training command showed.

    Attributes:
        images_per_s: Median over its lines after the first third, which warms up.
        data_wait: Median share of time spent waiting for data, likewise.
        first_step_s: Seconds from its start to its first step's line.
        peak_bytes: Of the process, on the host.
    """

    images_per_s: float
    data_wait: float
    first_step_s: float
    peak_bytes: int


def write_pictures(config: ConfigDict, folder: Path) -> ConfigDict:
    """Writes synthetic pictures as files, so that what is measured reads from disk.

    Args:
        config: Of a synthetic source; others are returned as they are.
        folder: Where to write.

    Returns:
        The config, with these files as its source.
    """
    from unet_jax.config import call
    from unet_jax.data.sources import open_data

    if config.data.source != "synthetic":
        return config
    dataset, _ = call(open_data, "config.data", config.data)
    for kind in ("images", "masks"):
        (folder / kind).mkdir()
    source = dataset.splits["train"]
    for index in range(min(len(source), 512)):
        example = source[index]
        Image.fromarray(example["image"]).save(folder / "images" / f"{index}.jpg", quality=90)
        Image.fromarray(example["label"]).save(folder / "masks" / f"{index}.png")
    config = config.copy_and_resolve_references()
    with config.unlocked():
        config.data.source, config.data.path = "folder", str(folder)
        config.data.folder = {"class_names": dataset.class_names}
    return config


def run_loop(config: ConfigDict, workdir: Path, steps: int, cache: Path) -> Turn:
    """Runs the training command for some steps and reads its metrics.

    Args:
        config: What to run.
        workdir: A new directory.
        steps: Steps.
        cache: Directory of the compilation cache.

    Returns:
        What it showed.

    Raises:
        RuntimeError: The command failed.
    """
    from unet_jax.config import to_json

    workdir.mkdir()
    config = config.copy_and_resolve_references()
    with config.unlocked():
        config.train.duration, config.train.log_every = str(steps), str(LINE)
        config.train.eval_every = config.train.checkpoint_every = str(steps)
    page = workdir / "page.json"
    page.write_text(to_json(config))
    saved = Path(__file__).with_name("saved.py")
    command = [sys.executable, "-m", "unet_jax.main", f"--config={saved}:{page}"]
    command.append(f"--workdir={workdir}/run")
    env = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(cache)}
    began, first = time.perf_counter(), None
    with (workdir / "log").open("w") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT)
        while first is None and os.waitpid(process.pid, os.WNOHANG) == (0, 0):
            if "\nstep 1/" in (workdir / "log").read_text():
                first = time.perf_counter() - began
            time.sleep(0.02)
        status, usage = (1, None) if first is None else os.wait4(process.pid, 0)[1:]
    if status or usage is None or first is None:
        raise RuntimeError(f"the training command failed:\n{(workdir / 'log').read_text()}")
    metrics = (workdir / "run" / "metrics.jsonl").read_text()
    lines = [line for line in map(json.loads, metrics.splitlines()) if "images_per_s" in line]
    warm = lines[len(lines) // 3 :]
    speeds = [line["images_per_s"] for line in warm]
    waits = [line["data_wait"] for line in warm]
    bytes_per_unit = 1 if sys.platform == "darwin" else 1024
    peak = usage.ru_maxrss * bytes_per_unit
    return Turn(statistics.median(speeds), statistics.median(waits), first, peak)


def main(argv: list[str]) -> None:
    """Measures and prints."""
    del argv
    runtime.prepare()
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        config = write_pictures(CONFIG.value, folder)
        print(f"{'':24}{'step':>12}{'loop':>12}{'ratio':>8}  (images/s)", flush=True)
        cold = run_loop(config, folder / "cold", LINE, folder / "cache")
        step = BareStep(config)
        turns, speeds = [], []
        for number in range(ROUNDS.value):
            speeds.append(step.run(STEPS.value))
            turns.append(run_loop(config, folder / f"{number}", STEPS.value, folder / "cache"))
            _print_row(f"turn {number + 1}", speeds[-1], turns[-1].images_per_s)
        _print_row(
            "median",
            statistics.median(speeds),
            statistics.median(turn.images_per_s for turn in turns),
        )
        waited = statistics.median(turn.data_wait for turn in turns)
        warm_s = statistics.median(turn.first_step_s for turn in turns)
        peak = max(turn.peak_bytes for turn in turns)
        print(f"waiting for data        {waited:.1%} of the loop's time")
        print(f"start to first step     {cold.first_step_s:.1f} s cold, {warm_s:.1f} s warm cache")
        print(f"peak memory             {peak / 2**30:.2f} GiB on the host{step.device_memory()}")


class BareStep:
    """The compiled train step alone, on one batch that stays on the device."""

    def __init__(self, config: ConfigDict) -> None:
        """Compiles the step and puts a batch on the devices."""
        import jax

        from unet_jax.data.pipeline import train_batches
        from unet_jax.sharding import put_batch, replicate
        from unet_jax.train import assemble

        e = assemble(config)
        self._batch_size, self._step = e.plan.batch_size, e.train_step
        self._key = replicate(jax.random.key(0), e.shardings)
        self._state = e.init(jax.random.key(0))
        order = {"batch_size": e.plan.batch_size, "seed": 0, "start": 0, "stop": 1}
        batches = train_batches(e.dataset.splits["train"], e.loading, **order)
        self._batch = put_batch(next(batches), e.shardings)
        self.run(3)

    def run(self, steps: int) -> float:
        """Takes steps one after the other, fetching each one's scalars when the next is under way.

        Args:
            steps: How many.

        Returns:
            Images/s, from the median time of a step.
        """
        import jax

        times, before = [], None
        for _ in range(steps + 1):
            self._state, scalars = self._step(self._state, self._batch, self._key)
            if before is not None:
                jax.device_get(before)
            times.append(time.perf_counter())
            before = scalars
        jax.block_until_ready(self._state)
        return self._batch_size / float(np.median(np.diff(times)))

    def device_memory(self) -> str:
        """Tells the peak on the first device, where its platform counts it."""
        import jax

        stats = jax.devices()[0].memory_stats() or {}
        peak = stats.get("peak_bytes_in_use")
        return f", {peak / 2**30:.2f} GiB on the device" if peak else ""


def _print_row(name: str, step: float, loop: float) -> None:
    print(f"{name:24}{step:12.1f}{loop:12.1f}{loop / step:8.3f}", flush=True)


if __name__ == "__main__":
    app.run(main)
