"""What a plan for other devices prints."""

from rich.table import Table

from unet_jax.data.sample import written
from unet_jax.experiment import Experiment
from unet_jax.plan.chips import Chip, Topology
from unet_jax.plan.compiled import Compiled
from unet_jax.plan.program import Program
from unet_jax.process.capacity import write_bytes
from unet_jax.process.console import console


def print_step(now: Experiment, topology: Topology, found: Compiled, limit: int) -> None:
    """Prints what a train step holds and does, and the least time that takes.

    Args:
        now: The experiment.
        topology: The topology.
        found: What was found of its step.
        limit: Bytes on each device.
    """
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
    _print_work(found.program, topology.chip, size)


def _print_work(program: Program, chip: Chip, size: int) -> None:
    least = program.least_seconds(chip)
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


def print_largest(done: list[Compiled], size: int, is_exact: bool, limit: int) -> None:
    """Prints the largest batch that fits, and what was found of each that was compiled.

    Args:
        done: What was compiled, from the smallest batch.
        size: Images in the largest that fits; 0 for none.
        is_exact: Whether the next one is known not to fit.
        limit: Bytes on each device.
    """
    named = "none" if not size else str(size)
    at_least = "" if is_exact or not size else "at least "
    console.print(f"the largest batch that fits {write_bytes(limit)}: {at_least}{named}")
    for one in done:
        if one.held:
            at_once = f", {write_bytes(one.peak)} of it at once" if one.peak else ""
            said = f"{write_bytes(one.held.total)}{at_once}, compiled in {one.seconds:.0f} s"
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
