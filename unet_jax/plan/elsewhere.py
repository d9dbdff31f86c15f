"""What a train step needs on TPUs that are not there, compiled for them on this machine."""

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from unet_jax.errors import UserError
from unet_jax.experiment import Experiment, assemble, step_shapes
from unet_jax.plan import tpu
from unet_jax.plan.chips import Topology, parse_topology
from unet_jax.plan.compiled import Compiled, from_json, read_held, to_json
from unet_jax.plan.memory import FILE
from unet_jax.plan.program import read_program
from unet_jax.plan.tables import print_largest, print_step
from unet_jax.process import target
from unet_jax.process.capacity import (
    bytes_per_device,
    is_out_of_memory,
    parse_memory,
    search,
)
from unet_jax.process.console import console
from unet_jax.process.runtime import cache_dir
from unet_jax.process.whole import write_whole
from unet_jax.sharding import MOST_BATCH, ROWS

TRIES = 3  # compilations at most, to find the largest batch
GUESSES = 64  # of it at most, most of which were compiled before


class _SpentError(Exception):
    """There were as many compilations as may be."""


def plan_elsewhere(
    config: ConfigDict, name: str, memory: str | None = None, workdir: Path | None = None
) -> None:
    """Prints what the train step of a config needs on a topology, and the largest batch that fits.

    Args:
        config: The whole config.
        name: Of the topology, such as "v5e:2x4".
        memory: Bytes on each device, such as "16GiB"; None for what the compiler has.
        workdir: Where to write plan.json; None for nowhere.

    Raises:
        UserError: A value or the data do not fit, or libtpu is missing.
    """
    topology = parse_topology(name)
    limit = None if memory is None else parse_memory("--memory", memory)
    devices = _cpus(topology) if topology.is_estimated else tpu.open_devices(topology)
    largest = None
    with target.compiling_for(devices, "gpu" if topology.is_estimated else ""):
        now = assemble(config)
        if topology.is_estimated:
            there = limit or topology.chip.memory
            done = [estimate(now)]
            print_step(now, topology, done[0], there)
            console.print("an estimate: the program is that for CPU, with other fusions and forms")
        else:
            there = limit or tpu.available(devices[0])
            done = [compile_elsewhere(now, topology, lambda: "a wide net takes minutes")]
            print_step(now, topology, done[0], there)
            size, is_exact = largest_batch(config, now, topology, done, there, limit)
            largest = {"size": size, "is_exact": is_exact}
            done.sort(key=lambda one: one.batch_size)
            print_largest(done, size, is_exact, there)
    if workdir is not None:
        record = _record(now, topology, done, there) | {"largest_batch": largest}
        workdir.mkdir(parents=True, exist_ok=True)
        write_whole(workdir / FILE, f"{json.dumps(record, indent=2)}\n".encode())


def _cpus(topology: Topology) -> list[Any]:
    """Returns as many devices of this machine's CPU as a topology has."""
    count = topology.shape[0]
    with contextlib.suppress(RuntimeError):  # where jax has started, such as in a notebook
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", count)
    return jax.devices("cpu")[:count]


def estimate(experiment: Experiment) -> Compiled:
    """Estimates what a train step does on GPUs, off the program for CPU on as many devices.

    Args:
        experiment: Of `assemble`, inside of `target.compiling_for`.

    Returns:
        What the program is made of; operations are those of the step before any compiler.
    """
    step: Any = experiment.train_step
    size, start = experiment.plan.batch_size, time.monotonic()
    shapes = step_shapes(experiment)
    lowered = step.lower(*shapes)
    compiled = lowered.compile()
    flops = (lowered.cost_analysis() or {}).get("flops", 0.0) / target.device_count()
    program = read_program(compiled)._replace(flops=flops)
    held = read_held(shapes, compiled)
    return Compiled(size, held, program, None, None, time.monotonic() - start)


def compile_elsewhere(
    experiment: Experiment, topology: Topology, begin: Callable[[], str]
) -> Compiled:
    """Compiles a train step for a topology; see `compile_lowered`.

    Args:
        experiment: Of `assemble`, inside of `target.compiling_for`.
        topology: The topology.
        begin: Called before a compilation, for what is said of how long it may take.

    Returns:
        What the compiler made of it.
    """
    step: Any = experiment.train_step
    size, shapes = experiment.plan.batch_size, step_shapes(experiment)
    lowered, what = step.lower(*shapes), f"a batch of {size}"
    return compile_lowered(lowered, shapes, topology, begin, what)._replace(batch_size=size)


def compile_lowered(
    lowered: Any, shapes: Sequence[Any], topology: Topology, begin: Callable[[], str], what: str
) -> Compiled:
    """Compiles a step for a topology, or takes what was found when that was done before.

    Args:
        lowered: The `jax.stages.Lowered`, traced inside of `target.compiling_for`.
        shapes: Of its arguments; see `read_held`.
        topology: The topology.
        begin: Called before a compilation, for what is said of how long it may take.
        what: What it is a step of, for people.

    Returns:
        What the compiler made of it, with 0 images.

    Raises:
        JaxRuntimeError: The compiler failed for another reason than memory.
    """
    parts = (tpu.version(), topology.name, str(target.device_count()), lowered.as_text())
    key = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    file = cache_dir() / "plans" / f"{key}.json"
    # Whole or not there; one that an older version wrote may have other fields.
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        found = from_json(json.loads(file.read_text()))
        console.print(f"{what}: compiled before, in {found.seconds:.0f} s")
        return found
    console.print(f"{what}: compiling for {topology.name}; {begin()}")
    start = time.monotonic()
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        refusal = tpu.read_refusal(str(error))
        if not (is_out_of_memory(error) and refusal):
            raise
        found = Compiled(0, None, None, refusal[0], None, time.monotonic() - start)
    else:
        peak = compiled.memory_analysis().peak_memory_in_bytes
        parts = read_held(shapes, compiled), read_program(compiled)
        found = Compiled(0, *parts, None, peak, time.monotonic() - start)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, json.dumps(to_json(found)).encode())
    return found


def images_at(index: int) -> int:
    """Returns the images on each device that are tried: 1 to 8, then four sizes in every octave."""
    if index <= 4:
        return index
    octave, place = divmod(index - 5, 4)
    return (5 + place) * 2 ** min(octave, 40)


def largest_batch(
    config: ConfigDict,
    now: Experiment,
    topology: Topology,
    done: list[Compiled],
    there: int,
    limit: int | None,
) -> tuple[int, bool]:
    """Finds the largest batch that fits, of those of `images_at`, by at most `TRIES` compilations.

    What was compiled before is not counted, so that the same search again goes on.

    Args:
        config: The whole config.
        now: What it describes.
        topology: The topology.
        done: What was compiled, the config's own step first; what is compiled here comes behind.
        there: Bytes on each device.
        limit: Bytes that no step may need more than; None for what the compiler takes.

    Returns:
        Images in the batch, 0 where none is known to fit; whether the next one is known not to.
    """
    shardings, own = now.shardings, done[0]
    share = shardings.size(*ROWS)
    alone = bytes_per_device(now.state_shapes)

    def figure(one: Compiled) -> int:
        return min(one.total, there) if one.fits(limit) else max(one.total, there + 1)

    left = TRIES

    def begin() -> str:
        nonlocal left
        if not left:
            raise _SpentError
        left -= 1
        return f"the longest so far took {max(one.seconds for one in done):.0f} s"

    def total(index: int) -> int | None:
        size = images_at(index) * share
        for one in done:
            if one.batch_size == size:
                return figure(one)
        if size > MOST_BATCH:
            return None
        other = config.copy_and_resolve_references()
        with other.unlocked():
            other.train.batch_size = size
        try:
            experiment = assemble(other, like=now)
        except UserError as error:
            console.print(f"a batch of {size}: {error}")
            return None
        done.append(compile_elsewhere(experiment, topology, begin))
        return figure(done[-1])

    known = {0: alone, own.batch_size: figure(own)}
    index, is_exact = 0, False
    with contextlib.suppress(_SpentError):
        index, _, is_exact = search(total, lambda i: images_at(i) * share, there, known, GUESSES)
    size = max((one.batch_size for one in done if one.fits(limit)), default=0)
    return size, is_exact and size == images_at(index) * share


def _record(
    now: Experiment, topology: Topology, done: list[Compiled], limit: int
) -> dict[str, Any]:
    chip = topology.chip
    compiled = []
    for one in done:
        more: dict[str, Any] = {} if one.held is None else {"total": one.held.total}
        if one.program:
            more["least_seconds"] = one.program.least_seconds(chip)
        compiled.append(to_json(one) | more)
    return {
        "topology": topology.name,
        "compiler": "an estimate" if topology.is_estimated else tpu.version(),
        "chip": chip._asdict(),
        "mesh": dict(now.shardings.mesh.shape),
        "memory": limit,
        "compiled": compiled,
    }
