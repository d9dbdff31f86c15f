"""Compares the train step of two processes with that of one, in turns, on this machine.

python -m experiments.scale.processes --config=configs/shapes.py --turns=20

Sides: one process that has both devices; two that have one each; two that leave every sum to the
compiler, as meshes of "fsdp" and "space" do (see `sharding.by_parts`); and one process with one
device, which is what a machine is faster with anyway. All are compiled first; then each takes some
steps in its turn, on one batch, while the others sleep. Ratios are of the medians of the same turn,
so that what else the machine does is on both sides, and their median and range are printed.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from absl import app, flags, logging
from ml_collections import config_flags

from experiments.scale.launch import free_port
from unet_jax.process import multihost, runtime

ROOT = Path(__file__).parents[2]
CONFIG = config_flags.DEFINE_config_file("config", str(ROOT / "configs" / "shapes.py"), "Page.")
TURNS = flags.DEFINE_integer("turns", 20, "Turns of each side.", lower_bound=1)
STEPS = flags.DEFINE_integer("steps", 5, "Steps of a turn, after one that is not timed.")
WORKER = flags.DEFINE_list("worker", [], "Of this command alone: its own processes.")
SECONDS = "seconds"  # what the lines of a worker begin with


class Side(NamedTuple):
    """One way to take the step.

    Attributes:
        name: As it is printed.
        processes: How many.
        devices: Of every process.
        leaves: Whether every sum is left to the compiler.
    """

    name: str
    processes: int
    devices: int
    leaves: bool = False


SIDES = (
    Side("one process, two devices", 1, 2),
    Side("two processes", 2, 1),
    Side("two processes, sums left to the compiler", 2, 1, leaves=True),
    Side("one process, one device", 1, 1),
)


def start(side: Side, stack: ExitStack) -> list[subprocess.Popen[str]]:
    """Starts the processes of a side, and waits until they have taken a step.

    Args:
        side: The side.
        stack: At whose end they are killed.

    Returns:
        The processes, which take steps for every line of input; see `serve`.
    """
    device_flag = f"--xla_force_host_platform_device_count={side.devices}"
    xla = f"{os.environ.get('XLA_FLAGS', '')} {device_flag}"
    env = os.environ | {"XLA_FLAGS": xla, "JAX_PLATFORMS": "cpu"}
    port, own = free_port(), [sys.executable, "-m", "experiments.scale.processes", *sys.argv[1:]]
    workers = []
    for index in range(side.processes):
        line = [*own, f"--worker={port},{side.processes},{index},{int(side.leaves)}"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        workers.append(subprocess.Popen(line, cwd=ROOT, env=env, **pipes))
        stack.callback(workers[-1].kill)
    for worker in workers:
        read(worker)
    return workers


def read(worker: subprocess.Popen[str]) -> list[float]:
    """Reads the seconds of a worker's steps, past what Gloo writes."""
    assert worker.stdout
    for line in worker.stdout:
        if line.startswith(SECONDS):
            return json.loads(line.removeprefix(SECONDS))
    raise SystemExit(f"{worker.args} failed.")


def turn(workers: list[subprocess.Popen[str]]) -> float:
    """Lets a side take its steps.

    Args:
        workers: Of `start`.

    Returns:
        Seconds, the median of its steps.
    """
    for worker in workers:
        assert worker.stdin
        worker.stdin.write(f"{STEPS.value}\n")
        worker.stdin.flush()
    first, *_ = [read(worker) for worker in workers]  # all are read, and wait for each other anyway
    return statistics.median(first)


def serve(port: str, processes: str, index: str, leaves: str) -> None:
    """Takes steps for every line of input, as many as it says, and writes their seconds.

    Args:
        port: At which the first process listens.
        processes: How many.
        index: Of this one.
        leaves: "1" where every sum is left to the compiler.
    """
    runtime.prepare()
    if int(processes) > 1:
        multihost.join(f"127.0.0.1:{port}", int(processes), int(index))
    import jax

    from unet_jax import step as steps
    from unet_jax.data.pipeline import train_batches
    from unet_jax.experiment import assemble
    from unet_jax.sharding import process_rows, put_batch, replicate

    left = mock.patch.object(steps, "goes_by_parts", return_value=False)
    with left if int(leaves) else nullcontext():
        e = assemble(CONFIG.value)
    rows = process_rows(e.plan.batch_size, e.shardings)
    order: Any = {"batch_size": e.plan.batch_size, "seed": 0, "start": 0, "stop": 1, "rows": rows}
    batch = next(train_batches(e.dataset.splits["train"], e.loading, **order))
    batch, key = put_batch(batch, e.shardings), replicate(jax.random.key(0), e.shardings)
    state = e.init(jax.random.key(0))

    def take(count: int) -> list[float]:
        nonlocal state
        found = []
        for _ in range(count + 1):
            began = time.perf_counter()
            state, scalars = e.train_step(state, batch, key)
            jax.device_get(scalars)
            found.append(time.perf_counter() - began)
        return found[1:]

    print(SECONDS, take(1), flush=True)
    for line in sys.stdin:
        print(SECONDS, take(int(line)), flush=True)


def main(argv: list[str]) -> None:
    """Prints a row for each side, as Markdown."""
    del argv
    logging.set_verbosity(logging.ERROR)
    if WORKER.value:
        serve(*WORKER.value)
        return
    with ExitStack() as stack:
        workers = [start(side, stack) for side in SIDES]
        times = []
        for _ in range(TURNS.value):
            times.append([turn(each) for each in workers])
            took = ", ".join(f"{seconds:.3f}" for seconds in times[-1])
            print(f"seconds a step: {took}", file=sys.stderr, flush=True)
    size, load = CONFIG.value.train.batch_size, os.getloadavg()[0]
    print(f"{TURNS.value} turns of {STEPS.value} steps, load {load:.1f}\n")
    print("| side | images/s | of one process with two devices, by turn |\n|---|---|---|")
    for side, found in zip(SIDES, zip(*times, strict=True), strict=True):
        ratios = [one / own for (one, *_), own in zip(times, found, strict=True)]
        rate, ratio = size / statistics.median(found), statistics.median(ratios)
        print(
            f"| {side.name} | {rate:.1f} | {ratio:.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |"
        )


if __name__ == "__main__":
    app.run(main)
