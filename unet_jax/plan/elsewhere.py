"""What a train step needs on TPUs that are not there, compiled for them on this machine."""

import hashlib
import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict
from rich.table import Table

from unet_jax.data.sample import written
from unet_jax.errors import UserError
from unet_jax.experiment import Experiment, assemble
from unet_jax.plan import tpu
from unet_jax.plan.chips import Topology, parse_topology
from unet_jax.plan.memory import FILE, step_shapes
from unet_jax.plan.program import Collective, Program, read_program
from unet_jax.process import target
from unet_jax.process.capacity import (
    bytes_per_device,
    is_out_of_memory,
    parse_memory,
    search,
    write_bytes,
)
from unet_jax.process.console import console
from unet_jax.process.runtime import cache_dir
from unet_jax.process.whole import write_whole
from unet_jax.sharding import MOST_BATCH, ROWS

TRIES = 3  # compilations at most, to find the largest batch


class Held(NamedTuple):
    """What a program holds on each device, in bytes.

    Attributes:
        parameters: Parameters and running statistics.
        optimizer: The optimiser's state, with averaged parameters and the step.
        batch: One batch of images, labels and weights.
        padding: What these take more for being laid out in tiles.
        activations: Activations kept for the backward pass, gradients and workspace.
        code: The program itself.
    """

    parameters: int
    optimizer: int
    batch: int
    padding: int
    activations: int
    code: int

    @property
    def total(self) -> int:
        """Returns the sum."""
        return sum(self)


class Compiled(NamedTuple):
    """What the compiler for the chips made of a train step.

    Attributes:
        batch_size: Images in a batch, over all devices.
        held: What it holds; None where the compiler refused it.
        program: What it does; None where the compiler refused it.
        refused: Bytes on each device that it would need, as the compiler says; None where it
            compiled.
        peak: The most bytes of arrays that are alive at once; less than what they are laid out in.
        seconds: How long compiling took, when it was compiled.
    """

    batch_size: int
    held: Held | None
    program: Program | None
    refused: int | None
    peak: int | None
    seconds: float

    @property
    def total(self) -> int:
        """Returns its bytes on each device, also of what was refused."""
        return self.held.total if self.held else self.refused or 0

    def fits(self, limit: int | None) -> bool:
        """Tells whether the compiler took it, and whether it is within a limit where one is given.

        The compiler takes what it can lay out in the memory that there is, which may be a little
        less than the sum of `held`.
        """
        return self.held is not None and (limit is None or self.held.total <= limit)


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
    devices = tpu.open_devices(topology)
    there = limit or tpu.available(devices[0])
    with target.compiling_for(devices):
        now = assemble(config)
        done = [compile_elsewhere(now, topology)]
        _print(now, topology, done[0], there)
        size, is_exact = largest_batch(config, now, topology, done, there, limit)
    done.sort(key=lambda one: one.batch_size)
    _print_largest(done, size, is_exact, there)
    if workdir is not None:
        record = _record(now, topology, done, there)
        record["largest_batch"] = {"size": size, "is_exact": is_exact}
        workdir.mkdir(parents=True, exist_ok=True)
        write_whole(workdir / FILE, f"{json.dumps(record, indent=2)}\n".encode())


def compile_elsewhere(experiment: Experiment, topology: Topology, last: float = 0.0) -> Compiled:
    """Compiles a train step for a topology, or takes what was found when that was done before.

    Args:
        experiment: Of `assemble`, inside of `target.compiling_for`.
        topology: The topology.
        last: Seconds that the last compilation took; 0 where there was none.

    Returns:
        What the compiler made of it.

    Raises:
        JaxRuntimeError: The compiler failed for another reason than memory.
    """
    step: Any = experiment.train_step
    size = experiment.plan.batch_size
    lowered = step.lower(*step_shapes(experiment))
    parts = (tpu.version(), topology.name, str(target.device_count()), lowered.as_text())
    key = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    file = cache_dir() / "plans" / f"{key}.json"
    if file.is_file():
        found = _from_json(json.loads(file.read_text()))
        console.print(f"a batch of {size}: compiled before, in {found.seconds:.0f} s")
        return found
    about = f"the last one took {last:.0f} s" if last else "a wide net takes minutes"
    console.print(f"a batch of {size}: compiling for {topology.name}; {about}")
    start = time.monotonic()
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        refusal = tpu.read_refusal(str(error))
        if not (is_out_of_memory(error) and refusal):
            raise
        found = Compiled(size, None, None, refusal[0], None, time.monotonic() - start)
    else:
        peak = compiled.memory_analysis().peak_memory_in_bytes
        parts = _held(experiment, compiled), read_program(compiled)
        found = Compiled(size, *parts, None, peak, time.monotonic() - start)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, json.dumps(_to_json(found)).encode())
    return found


def _held(experiment: Experiment, compiled: Any) -> Held:
    (state, batch, _), (_, where, _) = step_shapes(experiment), compiled.input_shardings[0]
    batch = jax.tree.map(lambda x, at: x.update(sharding=at), batch, where)
    parameters = bytes_per_device((state.params, state.batch_stats))
    optimizer = bytes_per_device((state.opt_state, state.average, state.step))
    images, found = bytes_per_device(batch), compiled.memory_analysis()
    arguments = found.argument_size_in_bytes
    results = found.output_size_in_bytes - found.alias_size_in_bytes  # donated: counted once
    return Held(
        parameters=parameters,
        optimizer=optimizer,
        batch=images,
        padding=arguments - parameters - optimizer - images,
        activations=found.temp_size_in_bytes + results,
        code=found.generated_code_size_in_bytes,
    )


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
        last = max(one.seconds for one in done)
        done.append(compile_elsewhere(experiment, topology, last))
        return figure(done[-1])

    known = {0: alone, own.batch_size: figure(own)}
    index, _, is_exact = search(total, lambda i: images_at(i) * share, there, known, TRIES)
    size = max((one.batch_size for one in done if one.fits(limit)), default=0)
    return size, is_exact and size == images_at(index) * share


def _print(now: Experiment, topology: Topology, found: Compiled, limit: int) -> None:
    shardings, chip = now.shardings, topology.chip
    size, pixels = now.plan.batch_size, written(now.loading.image_size)
    mesh = ", ".join(f"{axis}={n}" for axis, n in shardings.mesh.shape.items())
    which = f"{size} images of {pixels}, mesh {mesh}"
    if found.held is None or found.program is None:
        needed = write_bytes(found.refused or 0)
        console.print(f"the compiler refuses {which}: it needs {needed} of {write_bytes(limit)}")
        return
    title = f"the train step on each {chip.kind} of {topology.name}: {which}"
    table = Table(title=title, title_justify="left")
    table.add_column("")
    table.add_column("memory", justify="right")
    names = "parameters", "optimiser state", "batch", "padding of tiles"
    names = (*names, "activations and workspace", "program")
    for name, count in zip(names, found.held, strict=True):
        table.add_row(name, write_bytes(count))
    table.add_section()
    table.add_row("total", write_bytes(found.held.total))
    table.add_row("available", write_bytes(limit))
    console.print(table)
    program, least = found.program, found.program.least_seconds(chip)
    table = Table(title="what it does in a step", title_justify="left")
    for heading in ("", "each chip", "at least"):
        table.add_column(heading, justify="right" if heading else "left")
    amounts = (
        f"{program.flops / 1e9:,.1f} GFLOP",
        write_bytes(program.moved),
        write_bytes(program.sent),
    )
    names = "computing", "to and from memory", "sent to other chips"
    for name, amount, seconds in zip(names, amounts, least.values(), strict=True):
        table.add_row(name, amount, f"{1e3 * seconds:.3g} ms")
    table.add_section()
    for kind, one in program.collectives.items():
        table.add_row(f"{one.count} {kind}", write_bytes(one.size), "")
    console.print(table)
    slowest = max(least, key=lambda part: least[part])
    rate = size / least[slowest] if least[slowest] else 0
    console.print(
        f"by the roofline of {chip.kind} ({chip.peak / 1e12:g} TFLOP/s in bfloat16, "
        f"{chip.bandwidth / 1e9:g} GB/s, links {chip.links / 1e9:g} GB/s) a step takes "
        f"{1e3 * least[slowest]:.3g} ms or more, for {slowest}: at most {rate:,.0f} images/s"
    )


def _print_largest(done: list[Compiled], size: int, is_exact: bool, limit: int) -> None:
    named = "none" if not size else str(size)
    at_least = "" if is_exact or not size else "at least "
    console.print(f"the largest batch that fits {write_bytes(limit)}: {at_least}{named}")
    for one in done:
        if one.held:
            said = f"{write_bytes(one.held.total)}, compiled in {one.seconds:.0f} s"
        else:
            said = f"refused by the compiler, which says it needs {write_bytes(one.refused or 0)}"
            fits = [other for other in done if other.held]
            said += f"; in line with those that compiled {_extrapolate(fits, one.batch_size)}"
        console.print(f"  {one.batch_size}: {said}")


def _extrapolate(fits: list[Compiled], size: int) -> str:
    """Says what a larger batch would need, in line with the two largest that compiled."""
    points = [(one.batch_size, one.held.total) for one in fits if one.held][-2:]
    if len(points) < 2:
        return "it cannot be told"
    (x0, y0), (x1, y1) = points
    return write_bytes(round(y0 + (size - x0) * (y1 - y0) / (x1 - x0)))


def _record(
    now: Experiment, topology: Topology, done: list[Compiled], limit: int
) -> dict[str, Any]:
    chip = topology.chip
    compiled = []
    for one in done:
        more: dict[str, Any] = {} if one.held is None else {"total": one.held.total}
        if one.program:
            more["least_seconds"] = one.program.least_seconds(chip)
        compiled.append(_to_json(one) | more)
    return {
        "topology": topology.name,
        "compiler": tpu.version(),
        "chip": chip._asdict(),
        "mesh": dict(now.shardings.mesh.shape),
        "memory": limit,
        "compiled": compiled,
    }


def _to_json(found: Compiled) -> dict[str, Any]:
    values = found._asdict()
    if found.held and found.program:
        collectives = {kind: one._asdict() for kind, one in found.program.collectives.items()}
        program = found.program._asdict() | {"collectives": collectives}
        values |= {"held": found.held._asdict(), "program": program}
    return values


def _from_json(values: dict[str, Any]) -> Compiled:
    if values["held"] is None:
        return Compiled(**values)
    program = dict(values["program"])
    program["collectives"] = {k: Collective(**one) for k, one in program["collectives"].items()}
    return Compiled(**values | {"held": Held(**values["held"]), "program": Program(**program)})
