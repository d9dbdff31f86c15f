"""What the compiler for other devices made of a train step, and how that is kept."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from unet_jax.plan.program import Collective, Program
from unet_jax.process.capacity import bytes_per_device


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


def read_held(shapes: Sequence[Any], compiled: Any) -> Held:
    """Reads what a compiled train step holds.

    Args:
        shapes: Of its arguments: state, with shardings, batch, and others.
        compiled: The `jax.stages.Compiled`.

    Returns:
        Bytes on each device.
    """
    (state, batch, _), (_, where, _) = shapes, compiled.input_shardings[0]
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


def to_json(found: Compiled) -> dict[str, Any]:
    """Returns what `from_json` reads."""
    values = found._asdict()
    if found.held and found.program:
        collectives = {kind: one._asdict() for kind, one in found.program.collectives.items()}
        program = found.program._asdict() | {"collectives": collectives}
        values |= {"held": found.held._asdict(), "program": program}
    return values


def from_json(values: dict[str, Any]) -> Compiled:
    """Reads what `to_json` wrote."""
    if values["held"] is None:
        return Compiled(**values)
    program = dict(values["program"])
    program["collectives"] = {k: Collective(**one) for k, one in program["collectives"].items()}
    return Compiled(**values | {"held": Held(**values["held"]), "program": Program(**program)})
