"""What a train step needs in memory, read off the compiled program without running it.

On CPU an estimate of what no program counts is added (`capacity.beside_program`).
"""

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict
from rich.table import Table
from rich.text import Text

from unet_jax.compiling import compile_step
from unet_jax.data.sample import written
from unet_jax.errors import UserError
from unet_jax.experiment import Experiment, assemble, step_shapes
from unet_jax.plan.tiles import plan_tiles
from unet_jax.process.capacity import (
    COMPILES,
    beside_program,
    bytes_per_device,
    device_memory,
    is_out_of_memory,
    parse_memory,
    program_bytes,
    search,
    write_bytes,
)
from unet_jax.process.console import console
from unet_jax.process.whole import write_whole

FILE = "plan.json"


class Memory(NamedTuple):
    """What one train step holds at its peak, in bytes on each device.

    Attributes:
        parameters: Parameters and running statistics.
        optimizer: The optimiser's state, with averaged parameters and the step.
        batch: One batch of images, labels and weights.
        activations: The rest of the compiled program's memory: activations kept for the backward
            pass, gradients and workspace. The new state takes the place of the old one.
        beside: What no program counts: an estimate, of `beside_program`.
    """

    parameters: int
    optimizer: int
    batch: int
    activations: int
    beside: int = 0

    @property
    def total(self) -> int:
        """Returns the sum."""
        return sum(self)


class Largest(NamedTuple):
    """The largest batch or image that fits.

    Attributes:
        size: Images in a batch, or pixels per side; 0 where the smallest does not fit.
        total: Its bytes on each device.
        is_exact: Whether the next size was compiled too and does not fit.
    """

    size: int
    total: int
    is_exact: bool


class Change(NamedTuple):
    """A change of a config that may save memory.

    Attributes:
        label: For people.
        values: Config values by key, such as {"model.dtype": "bfloat16"}; those that the config has
            already are left out.
        obstacle: Why there is nothing to compile; "" where there is.
    """

    label: str
    values: dict[str, Any]
    obstacle: str = ""

    def setting(self) -> str:
        """Writes the values as a user would set them."""
        return ", ".join(f"config.{key}={value!r}" for key, value in self.values.items())


class Measured(NamedTuple):
    """A config, what it describes, and what its train step needs."""

    config: ConfigDict
    experiment: Experiment
    memory: Memory


def plan(config: ConfigDict, memory: str | None = None, workdir: Path | None = None) -> None:
    """Prints what the train step of a config needs, what would save memory and what would fit.

    Args:
        config: The whole config.
        memory: Bytes on each device, such as "16GiB"; None for what the device reports.
        workdir: Where to write plan.json; None for nowhere.

    Raises:
        UserError: A value or the data do not fit, or the compiler tells nothing of memory.
    """
    limit = device_memory() if memory is None else parse_memory("--memory", memory)
    now = measure(config, "as configured")
    _print_memory(now, limit)
    changes = [(change, _total_of(now, change)) for change in list_changes(now)]
    _print_changes(now.memory.total, changes)
    batch, image = largest_batch(now, limit), largest_image(now, limit)
    size = written(now.experiment.loading.image_size)
    what = f"that fits {write_bytes(limit)}"
    console.print(f"the largest batch {what} at {size} pixels: {_say(batch, '')}")
    what = f"{what} at a batch of {now.experiment.plan.batch_size}"
    shape = "square image" if len(now.experiment.loading.image_size) == 2 else "cube"
    console.print(f"the largest {shape} {what}: {_say(image, ' pixels a side')}")
    line, tiles = plan_tiles(now.experiment.network, limit)
    if line:
        console.print(line)
    if workdir is not None and jax.process_index() == 0:
        record = {
            "memory": limit,
            "bytes_per_device": now.memory._asdict() | {"total": now.memory.total},
            "changes": [{**change._asdict(), "total": total} for change, total in changes],
            "largest_batch": batch._asdict(),
            "largest_image": image._asdict(),
            "tiles": tiles,
        }
        workdir.mkdir(parents=True, exist_ok=True)
        write_whole(workdir / FILE, f"{json.dumps(record, indent=2)}\n".encode())


def advise(config: ConfigDict, limit: int | None = None) -> str:
    """Says after an out-of-memory what the step needs, what there is, and what would make it fit.

    Args:
        config: The whole config.
        limit: Bytes on each device; None for what the device reports.

    Returns:
        One line.

    Raises:
        UserError: The compiler tells nothing of memory.
    """
    limit = device_memory() if limit is None else limit
    now = measure(config, "as configured")
    total, size = write_bytes(now.memory.total), now.experiment.plan.batch_size
    text = (
        f"out of memory: by --mode=plan the train step needs {total} per device, and "
        f"there are {write_bytes(limit)}"
    )
    if now.memory.total <= limit:
        return (
            f"{text}, so something else fills the rest: end other programs on the device, or lower "
            f"config.train.batch_size={size} or config.eval.batch_size={config.eval.batch_size}."
        )
    totals = [(change.setting(), _total_of(now, change)) for change in list_changes(now)]
    batch = largest_batch(now, limit)
    if batch.size:
        totals.append((f"config.train.batch_size={batch.size}", batch.total))
    fitting = [f"{what} ({write_bytes(n)})" for what, n in totals if n is not None and n <= limit]
    if fitting:
        return f"{text}; each of these would make it fit: {'; '.join(fitting)}."
    return (
        f"{text}; no single change makes it fit: lower "
        f"config.data.image_size={now.experiment.loading.image_size} or config.model.features, or "
        "set several of config.model.remat, config.model.dtype and config.mesh together."
    )


def read_memory(experiment: Experiment, compiled: Any) -> Memory:
    """Reads what a compiled train step needs.

    Args:
        experiment: The experiment, from `assemble`.
        compiled: The compiled step, from `compile_step`.

    Returns:
        Bytes on each device.

    Raises:
        UserError: The compiler does not tell.
    """
    total = program_bytes(compiled)  # donated: the new state lies where the old one was
    if total is None:
        platform = jax.devices()[0].platform
        raise UserError(f"the compiler for {platform} tells nothing of memory; plan on CPU or GPU.")
    (state, batch, _), (_, where, _) = step_shapes(experiment), compiled.input_shardings[0]
    batch = jax.tree.map(lambda x, at: x.update(sharding=at), batch, where)
    parameters = bytes_per_device((state.params, state.batch_stats))
    optimizer = bytes_per_device((state.opt_state, state.average, state.step))
    in_batch = bytes_per_device(batch)
    rest = total - parameters - optimizer - in_batch
    return Memory(parameters, optimizer, in_batch, rest, beside_program(total))


def measure(config: ConfigDict, label: str) -> Measured:
    """Compiles the train step of a config, and says so on the console meanwhile.

    Args:
        config: The whole config.
        label: What is compiled.

    Returns:
        What it needs.

    Raises:
        UserError: A value or the data do not fit, or the compiler tells nothing of memory.
    """
    text = f"compiling the train step: {label}"
    if not console.is_terminal:
        console.print(text)
    with console.status(Text(text)):
        experiment = assemble(config)
        return Measured(config, experiment, read_memory(experiment, compile_step(experiment)))


def _total_of(now: Measured, change: Change) -> int | None:
    """Returns the bytes of a changed config; None where it is not one, or compiling fails."""
    if change.obstacle:
        return None
    config = now.config.copy_and_resolve_references()
    with config.unlocked():
        for key, value in change.values.items():
            section, name = key.split(".")
            config[section][name] = value
    try:
        return measure(config, change.label).memory.total
    except UserError as error:
        console.print(f"{change.label}: {error}")
    except jax.errors.JaxRuntimeError as error:
        if not is_out_of_memory(error):  # compilers try kernels out, which takes memory too
            raise
    return None


def list_changes(now: Measured) -> list[Change]:
    """Lists what may save memory without another model or batch, also what cannot be done here."""
    config, model, count = now.config, now.experiment.model, jax.device_count()
    levels = tuple(range(len(model.features) - (model.encoder != "blocks")))
    wanted = [
        Change("remat on all levels", {"model.remat": levels}),
        Change("bfloat16", {"model.dtype": "bfloat16"}),
    ]
    for axis, other in (("fsdp", "space"), ("space", "fsdp")):
        values = {"mesh.data": -1, f"mesh.{axis}": count, f"mesh.{other}": 1}
        if count > 1:
            wanted.append(Change(f"{axis}={count}", values))
        else:
            wanted.append(Change(axis, values, "needs more devices than one"))
    old = {
        f"{part}.{key}": value for part in ("model", "mesh") for key, value in config[part].items()
    }
    changes = []
    for label, values, obstacle in wanted:
        new = {key: value for key, value in values.items() if old.get(key) != value}
        changes.append(Change(label, new, obstacle or ("" if new else "as configured")))
    return changes


def largest_batch(now: Measured, limit: int) -> Largest:
    """Finds the largest batch that fits, among those that the mesh divides, by compiling.

    Args:
        now: The config.
        limit: Bytes on each device.

    Returns:
        Images in the batch.
    """
    mesh = now.experiment.shardings.mesh
    share = mesh.size // mesh.shape.get("space", 1)

    def total(index: int) -> int | None:
        values = {"train.batch_size": index * share}
        return _total_of(now, Change(f"a batch of {index * share}", values))

    known = _known(now.memory, now.experiment.plan.batch_size)
    index, bytes_there, is_exact = search(total, lambda index: index * share, limit, known)
    return Largest(index * share, bytes_there, is_exact)


def largest_image(now: Measured, limit: int) -> Largest:
    """Finds the largest square image, or cube, that fits, of those without padding, by compiling.

    Args:
        now: The config.
        limit: Bytes on each device.

    Returns:
        Pixels per side.
    """
    model, size = now.experiment.model, now.experiment.loading.image_size
    height, axes = size[0], len(size)
    step, before = model.multiple() * now.experiment.shardings.mesh.shape.get("space", 1), 0
    if model.padding == "valid":
        path = model.axis_path()
        fits = (n for n in range(height % step, height + 1, step) if path.output_size(n))
        before = next(fits) - step

    def total(index: int) -> int | None:
        side = before + index * step
        wanted = (side,) * axes
        return _total_of(now, Change(f"{written(wanted)} pixels", {"data.image_size": wanted}))

    def pixels(index: int) -> int:
        return max(0, before + index * step) ** axes

    known = _known(now.memory, math.prod(size))
    index, bytes_there, is_exact = search(total, pixels, limit, known)
    return Largest(before + index * step if index else 0, bytes_there, is_exact)


def _known(memory: Memory, amount: int) -> dict[int, int]:
    return {0: memory.parameters + memory.optimizer + memory.beside, amount: memory.total}


def _print_memory(now: Measured, limit: int) -> None:
    e = now.experiment
    size = written(e.loading.image_size)
    mesh = ", ".join(f"{axis}={n}" for axis, n in e.shardings.mesh.shape.items())
    title = f"the train step on each device: {e.plan.batch_size} images of {size}, mesh {mesh}"
    table = Table(title=title, title_justify="left")
    table.add_column("")
    table.add_column("memory", justify="right")
    names = "parameters", "optimiser state", "batch", "activations and workspace"
    for name, count in zip((*names, "beside the program, estimated"), now.memory, strict=True):
        table.add_row(name, write_bytes(count))
    table.add_section()
    table.add_row("total", write_bytes(now.memory.total))
    table.add_row("available", write_bytes(limit))
    console.print(table)


def _print_changes(total: int, changes: list[tuple[Change, int | None]]) -> None:
    table = Table(title="what changes would save", title_justify="left")
    table.add_column("")
    for heading in ("total", "difference"):
        table.add_column(heading, justify="right")
    table.add_column("set")
    table.add_row("as configured", write_bytes(total), "", "")
    for change, there in changes:
        if there is None:
            table.add_row(change.label, "", "", change.obstacle or "does not compile")
        else:
            difference = write_bytes(there - total)
            table.add_row(change.label, write_bytes(there), difference, change.setting())
    console.print(table)


def _say(largest: Largest, unit: str) -> str:
    if not largest.size:
        return "none" if largest.is_exact else f"none found in {COMPILES} compilations"
    at_least = "" if largest.is_exact else "at least "
    return f"{at_least}{largest.size}{unit} ({write_bytes(largest.total)})"
