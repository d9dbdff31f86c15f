"""Measures speed, start-up and memory of the real training command.

python -m experiments.bench.speed --config=configs/shapes.py

Prints images/s of the bare compiled step (one batch that stays on the device), of the whole loop of
`unet_jax.main` (data read from disk, logged, clocked), and their ratio; the share of time that the
loop waits for data; seconds from start to the first step with a cold and a warm compilation cache;
and peak memory. The machine's own speed drifts, so one running command is paused and resumed, and
the step is timed in its pauses; medians over these turns are given. Evaluations, figures and
checkpoints come on top.
"""

if __name__ == "__main__":  # before the imports that take long
    from unet_jax.process import signals

    signals.install()

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from absl import flags
from ml_collections import ConfigDict, config_flags
from PIL import Image

from unet_jax import command_line
from unet_jax.errors import UserError
from unet_jax.process import runtime

CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Config page; default: configs/shapes.py.", lock_config=True
)
ROUNDS = flags.DEFINE_integer("rounds", 8, "How often step and loop take turns.", 1, 10**4)
STEPS = flags.DEFINE_integer("steps", 40, "Steps per turn.", 10, 10**6)

LINE = 10  # steps per line of scalars


class Turn(NamedTuple):
    """What a running training command showed between two pauses.

    Attributes:
        images_per_s: Of all its steps.
        data_wait: Share of time spent waiting for data.
    """

    images_per_s: float
    data_wait: float


def write_images(config: ConfigDict, folder: Path) -> ConfigDict:
    """Writes synthetic images as files, so that what is measured reads from disk.

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
        sample = source.read(index)
        Image.fromarray(sample.image).save(folder / "images" / f"{index}.jpg", quality=90)
        Image.fromarray(sample.truth()).save(folder / "masks" / f"{index}.png")
    config = config.copy_and_resolve_references()
    with config.unlocked():
        config.data.source, config.data.path = "folder", str(folder)
        config.data.folder = {"class_names": dataset.class_names}
    return config


class Loop:
    """The training command as its own process, which can be paused."""

    def __init__(self, config: ConfigDict, workdir: Path, cache: Path) -> None:
        """Starts the command, waits for its first step and pauses it.

        Args:
            config: What to run; without an evaluation or a checkpoint in between.
            workdir: A new directory.
            cache: Directory of the compilation cache.

        Raises:
            UserError: The command failed.
        """
        from unet_jax.config import to_json
        from unet_jax.runs import layout

        workdir.mkdir()
        config = config.copy_and_resolve_references()
        with config.unlocked():
            config.train.duration = config.train.eval_every = "1000000 steps"
            config.train.checkpoint_every = "1000000 steps"
            config.train.log_every = f"{LINE} steps"
            config.optim.horizon = ""
        page = workdir / "page.json"
        page.write_text(to_json(config))
        command = [sys.executable, "-m", "unet_jax.main", f"--config={page}"]
        command.append(f"--workdir={workdir}/run")
        # A paused process would outlive this one, and so would its GPU memory.
        env = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(cache), runtime.TIED: str(os.getpid())}
        self._log, self._metrics = workdir / "log", workdir / "run" / layout.METRICS
        began = time.perf_counter()
        with self._log.open("w") as log:
            self._process = subprocess.Popen(command, env=env, stdout=log, stderr=log)
        while "\nstep 1/" not in self._log.read_text():
            self._nap()
        self.first_step_s = time.perf_counter() - began
        self._process.send_signal(signal.SIGSTOP)

    def run(self, steps: int) -> Turn:
        """Resumes the command for at least some steps and pauses it again.

        Args:
            steps: How many are counted; those of the line that the pause fell into are not.

        Returns:
            What the command itself wrote of them.

        Raises:
            UserError: The command failed.
        """
        seen = len(self._lines())
        self._process.send_signal(signal.SIGCONT)
        while len(lines := self._lines()) < seen + 1 + -(-steps // LINE):
            self._nap()
        self._process.send_signal(signal.SIGSTOP)
        whole = lines[seen + 1 :]
        speed = statistics.harmonic_mean(line["images_per_s"] for line in whole)
        return Turn(speed, statistics.mean(line["data_wait"] for line in whole))

    def end(self) -> int:
        """Kills the command.

        Returns:
            Its peak memory on the host, in bytes.
        """
        self._process.kill()
        usage = os.wait4(self._process.pid, 0)[2]
        self._process.returncode = -signal.SIGKILL
        return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)

    def _nap(self) -> None:
        if self._process.poll() is not None:
            lines = self._log.read_text().splitlines() or ["it wrote nothing"]
            raise UserError(f"the training command failed: {lines[-1].removeprefix('error: ')}")
        time.sleep(0.05)

    def _lines(self) -> list[dict[str, float]]:
        from unet_jax.runs.logs import read_lines

        return read_lines(self._metrics)


class BareStep:
    """The compiled train step alone, on one batch that stays on the device."""

    def __init__(self, config: ConfigDict) -> None:
        """Compiles the step and puts a batch on the devices."""
        import jax

        from unet_jax.data.pipeline import train_batches
        from unet_jax.experiment import assemble
        from unet_jax.sharding import put_batch, replicate

        e = assemble(config)
        self._batch_size, self._step = e.plan.batch_size, e.train_step
        self._key = replicate(jax.random.key(0), e.shardings)
        self._state = e.init(jax.random.key(0))
        order = {"batch_size": e.plan.batch_size, "seed": 0, "start": 0, "stop": 1}
        batches = train_batches(e.dataset.splits["train"], e.loading, **order)
        self._batch = put_batch(next(batches), e.shardings)

    def run(self, steps: int) -> float:
        """Takes steps one after the other, fetching each one's scalars when the next is under way.

        Args:
            steps: How many, after as many as one line of the loop has to warm up.

        Returns:
            Images/s.
        """
        import jax

        ends, before = [], None
        for _ in range(LINE + steps + 1):
            self._state, scalars = self._step(self._state, self._batch, self._key)
            if before is not None:
                jax.device_get(before)
                ends.append(time.perf_counter())
            before = scalars
        jax.block_until_ready(self._state)
        return self._batch_size * steps / (ends[-1] - ends[-1 - steps])

    def device_memory(self) -> str:
        """Tells the peak on the first device, where its platform counts it."""
        import jax

        stats = jax.devices()[0].memory_stats() or {}
        peak = stats.get("peak_bytes_in_use")
        return f", {peak / 2**30:.2f} GiB on the device" if peak else ""


def measure() -> None:
    """Measures and prints.

    Raises:
        UserError: The training command failed.
    """
    # Step and loop are two processes on one device, so neither may take all of its memory.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        config = write_images(CONFIG.value, folder)
        cold = Loop(config, folder / "cold", folder / "cache")
        cold_peak = cold.end()
        step = BareStep(config)
        loop = Loop(config, folder / "warm", folder / "cache")
        try:
            turns, speeds = _take_turns(step, loop)
        finally:
            peak = max(cold_peak, loop.end())
    ratio = statistics.median(turn.images_per_s / s for turn, s in zip(turns, speeds, strict=True))
    speed = statistics.median(turn.images_per_s for turn in turns)
    waited = statistics.median(turn.data_wait for turn in turns)
    _print_row("median", statistics.median(speeds), speed, ratio)
    print(f"waiting for data        {waited:.1%} of the loop's time")
    print(f"start to first step     {cold.first_step_s:.1f} s cold, {loop.first_step_s:.1f} s warm")
    print(f"peak memory             {peak / 2**30:.2f} GiB on the host{step.device_memory()}")


def _take_turns(step: BareStep, loop: Loop) -> tuple[list[Turn], list[float]]:
    print(f"{'':24}{'step':>12}{'loop':>12}{'ratio':>8}  (images/s)", flush=True)
    turns, speeds = [], []
    for number in range(ROUNDS.value):
        speeds.append(step.run(STEPS.value))
        turns.append(loop.run(STEPS.value))
        speed = turns[-1].images_per_s
        _print_row(f"turn {number + 1}", speeds[-1], speed, speed / speeds[-1])
    return turns, speeds


def _print_row(name: str, step: float, loop: float, ratio: float) -> None:
    print(f"{name:24}{step:12.1f}{loop:12.1f}{ratio:8.3f}", flush=True)


if __name__ == "__main__":
    sys.exit(command_line.run(sys.argv, measure, sys.modules[__name__]))
