"""What trials side by side take on a TPU chip that is not there, beside as many runs alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ml_collections import ConfigDict
from rich.table import Table

from unet_jax.errors import UserError
from unet_jax.experiment import Experiment, assemble
from unet_jax.plan import tpu
from unet_jax.plan.chips import Chip, Topology
from unet_jax.plan.compiled import Compiled
from unet_jax.plan.elsewhere import compile_elsewhere, compile_lowered
from unet_jax.process import target
from unet_jax.process.capacity import write_bytes
from unet_jax.process.console import console
from unet_jax.studies.pack.side_by_side import SideBySide
from unet_jax.studies.pack.step import Member

Cells = tuple[str, ...]


def plan_packs(config: ConfigDict, topology: Topology, counts: Sequence[int]) -> None:
    """Prints what steps of trials side by side take on one chip, and how many fit.

    Args:
        config: The whole config.
        topology: The topology, one chip of which is compiled for.
        counts: Numbers of trials.

    Raises:
        UserError: A value or the data do not fit, or libtpu is missing.
    """
    if topology.is_estimated:
        raise UserError(
            f"--topology={topology.name} is only estimated, by programs for CPU, where trials are "
            "not side by side; give TPUs, such as v5e:2x2."
        )
    devices, chip = tpu.open_devices(topology)[:1], topology.chip
    with target.compiling_for(devices):
        there = tpu.available(devices[0])
        alone, *packs = compile_packs(config, topology, counts)
    rows = {"alone": (1, alone)}
    rows |= {f"{n} as one": (n, one) for n, one in zip(counts, packs, strict=True)}
    _print(
        f"what a step holds of the {write_bytes(there)} of a {chip.kind}",
        ("arguments", "temporaries", "program", "total", "each", "ratio"),
        {name: write_held(n, one, alone) for name, (n, one) in rows.items()},
    )
    _print(
        "what it does",
        ("GFLOP", "ratio", "to and from memory", "ratio"),
        {name: write_work(n, one, alone) for name, (n, one) in rows.items()},
    )
    _print(
        "what that takes each trial: at least, and by the compiler's estimate",
        ("computing", "memory", "the longer", "ratio", "1000 cycles", "ratio"),
        {name: write_times(n, one, alone, chip) for name, (n, one) in rows.items()},
    )
    seconds = ", ".join(f"{name} {one.seconds:.0f} s" for name, (_, one) in rows.items())
    console.print(f"compiled by {tpu.version()}: {seconds}")
    totals = {n: one.held.total for n, one in zip(counts, packs, strict=True) if one.held}
    if len(totals) > 1:
        console.print(f"in line with the two largest that compiled, {most(totals, there)} fit")


def compile_packs(config: ConfigDict, topology: Topology, counts: Sequence[int]) -> list[Compiled]:
    """Compiles the step of a run alone and of trials side by side, in `target.compiling_for`.

    Args:
        config: The whole config.
        topology: The topology.
        counts: Numbers of trials.

    Returns:
        What the compiler made of the one, and of each of the others.
    """
    now = assemble(config)
    done = [compile_elsewhere(now, topology, lambda: "a wide net takes minutes")]
    for count in counts:
        way = SideBySide(make_trials(config, now, count))
        said = f"the longest so far took {max(one.seconds for one in done):.0f} s"
        begin, what = (lambda said=said: said), f"{count} side by side"
        found = compile_lowered(way.lower(), way.shapes(), topology, begin, what)
        done.append(found._replace(batch_size=now.plan.batch_size))
    return done


def make_trials(config: ConfigDict, now: Experiment, count: int) -> list[Member]:
    """Makes trials of one seed, and so of the same batches, with a learning rate each.

    Args:
        config: The whole config of the first.
        now: What it describes.
        count: T.

    Returns:
        The trials.
    """
    members = []
    for row in range(count):
        other = config.copy_and_resolve_references()
        other.optim.learning_rate *= 1 - row / (2 * count)
        members.append(Member(Path(f"trial_{row}"), other, assemble(other, like=now)))
    return members


def write_held(count: int, found: Compiled, alone: Compiled) -> Cells:
    """Writes what a step holds.

    Args:
        count: T, of its trials.
        found: What the compiler made of it.
        alone: The same of a run alone.

    Returns:
        Bytes of arguments, temporaries, the program and all; of all for each trial; and the ratio
        of all to T runs alone.
    """
    if not found.held:
        return "", "", "refused", *_write_total(count, found, alone)
    held = found.held
    arguments = held.total - held.activations - held.code
    parts = map(write_bytes, (arguments, held.activations, held.code))
    return *parts, *_write_total(count, found, alone)


def _write_total(count: int, found: Compiled, alone: Compiled) -> Cells:
    total = found.total
    return write_bytes(total), write_bytes(total // count), f"{total / (count * alone.total):.2f}"


def write_work(count: int, found: Compiled, alone: Compiled) -> Cells:
    """Writes what a step does; see `write_held`.

    Returns:
        Operations, and bytes to and from memory, each with the ratio to T runs alone.
    """
    program, one = found.program, alone.program
    if not (program and one):
        return ("",) * 4
    return (
        f"{program.flops / 1e9:,.1f}",
        f"{program.flops / (count * one.flops):.2f}",
        write_bytes(program.moved),
        f"{program.moved / (count * one.moved):.2f}",
    )


def write_times(count: int, found: Compiled, alone: Compiled, chip: Chip) -> Cells:
    """Writes how long a step takes for each trial; see `write_held`.

    Returns:
        By the chip's published figures the least time of computing, of memory, and of the longer,
        with its ratio to that of a run alone; the compiler's estimate, with the same ratio.
    """
    program, one = found.program, alone.program
    if not (program and one):
        return ("",) * 6
    least = [program.least_seconds(chip)[part] / count for part in ("computing", "memory")]
    whole = max(one.least_seconds(chip).values())
    return (
        *(f"{1e3 * seconds:.3g} ms" for seconds in (*least, max(least))),
        f"{max(least) / whole:.2f}",
        f"{program.cycles / count / 1e3:,.0f}",
        f"{program.cycles / (count * one.cycles):.2f}",
    )


def most(totals: Mapping[int, int], there: int) -> int:
    """Returns how many trials fit, in line with the two largest numbers of them.

    Args:
        totals: Bytes that steps hold, by the number of their trials; two or more.
        there: Bytes of the chip's memory.

    Returns:
        The largest number that takes no more in line.
    """
    (x0, y0), (x1, y1) = sorted(totals.items())[-2:]
    return int(x0 + (there - y0) * (x1 - x0) / (y1 - y0))


def _print(title: str, headings: Cells, rows: Mapping[str, Cells]) -> None:
    table = Table(title=title, title_justify="left")
    for heading in ("trials", *headings):
        table.add_column(heading, justify="right")
    for name, cells in rows.items():
        table.add_row(name, *cells)
    console.print(table)
