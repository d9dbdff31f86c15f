"""What a compiled program computes, moves and sends, read off its text (XLA's HLO)."""

import math
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from unet_jax.plan.chips import Chip

KINDS = (
    "all-reduce", "all-gather", "reduce-scatter", "collective-permute", "all-to-all",
)  # fmt: skip
# What moves nothing, or is counted where it starts.
_STILL = {
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id",
    "while", "call", "conditional", "opt-barrier",
}  # fmt: skip
_PART_MOVES = {"copy-start", "slice-start"}  # of the larger of two arrays as much as of the smaller
_SHAPE = re.compile(r"([a-z]\w*)\[([\d,]*)\](?:\{([^}]*)\})?")
_NAME = re.compile(r"\s+(?:ROOT )?%?([\w.-]+) = ")
_RUNS = re.compile(r"(?:body|condition|true_computation|false_computation|calls)=%?([\w.-]+)")
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")


class Shape(NamedTuple):
    """An array of a program.

    Attributes:
        size: Bytes of its numbers.
        padded: Bytes with what tiles add, which is what it takes.
        space: Where it lies: 0 is the device's memory, others are on the chip.
    """

    size: int
    padded: int
    space: int


class Instruction(NamedTuple):
    """A line of a program.

    Attributes:
        name: Of its result.
        kind: What it does, such as "fusion".
        shapes: Of its result.
        operands: Names of what it reads.
        rest: The line after its operands.
    """

    name: str
    kind: str
    shapes: tuple[Shape, ...]
    operands: tuple[str, ...]
    rest: str


class Collective(NamedTuple):
    """What devices send each other by one kind of instruction.

    Attributes:
        count: How many instructions.
        size: Bytes of their results on each device; of a reduce-scatter's operands.
        sent: Bytes that each device sends, with the fewest that a ring needs.
    """

    count: int
    size: int
    sent: int


class Program(NamedTuple):
    """What a program does on each device.

    Attributes:
        flops: Floating-point operations, as the compiler counts them.
        moved: Bytes to and from the device's memory: operands and results of every instruction that
            lie there.
        collectives: By kind of instruction; those that there are.
        cycles: What the compiler estimates that its instructions take, one after the other; 0
            where it does not tell.
    """

    flops: float
    moved: int
    collectives: dict[str, Collective]
    cycles: int

    @property
    def sent(self) -> int:
        """Returns the bytes that each device sends."""
        return sum(found.sent for found in self.collectives.values())

    def least_seconds(self, chip: Chip) -> dict[str, float]:
        """Returns how long a chip takes at least over each of its parts (the roofline model).

        Williams et al., 2009; where all parts work at once, a step takes as long as the slowest.

        Args:
            chip: The chip's figures.

        Returns:
            Seconds of "computing", "memory" and "links".
        """
        return {
            "computing": self.flops / chip.peak,
            "memory": self.moved / chip.bandwidth,
            "links": self.sent / chip.links if self.sent else 0.0,
        }


def read_program(compiled: Any) -> Program:
    """Reads what a compiled program does.

    Args:
        compiled: A `jax.stages.Compiled`.

    Returns:
        What it does on each device.
    """
    costs = compiled.cost_analysis() or {}
    return read_text(compiled.as_text(), costs.get("flops", 0.0))


def read_text(text: str, flops: float) -> Program:
    """Reads what a program does off its text; see `Program`.

    Args:
        text: HLO after optimisation, of one device of all.
        flops: Floating-point operations.

    Returns:
        What it does. Of a loop its body counts once.
    """
    bodies, running = _computations(text)
    moved = cycles = 0
    for name in running:
        shapes = {line.name: line.shapes for line in bodies[name]}
        moved += sum(_moved(line, shapes) for line in bodies[name])
        cycles += sum(int(n) for line in bodies[name] for n in _CYCLES.findall(line.rest))
    found = {kind: Collective(0, 0, 0) for kind in KINDS}
    for kind, new in _collectives(bodies):
        found[kind] = Collective(*(a + b for a, b in zip(found[kind], new, strict=True)))
    return Program(flops, moved, {kind: c for kind, c in found.items() if c.count}, cycles)


def _moved(line: Instruction, shapes: dict[str, tuple[Shape, ...]]) -> int:
    if line.kind in _STILL or line.kind.endswith("-done"):
        return 0
    if line.kind in _PART_MOVES:
        ends = line.shapes[:2]
        return min(end.padded for end in ends) * sum(end.space == 0 for end in ends)
    read = () if _holds_operands(line) else line.operands
    touched = [*line.shapes, *(shape for name in read for shape in shapes.get(name, ()))]
    return sum(shape.padded for shape in touched if shape.space == 0)


def _holds_operands(line: Instruction) -> bool:
    """Tells whether the result of an instruction names its operands before what it makes."""
    return line.kind.endswith("-start") and line.kind != "all-reduce-start"


def _collectives(bodies: dict[str, list[Instruction]]) -> Iterator[tuple[str, Collective]]:
    """Yields kind and figures of every collective instruction of a program."""
    # One that goes on while others run stands in a fusion with each, under the same channel.
    seen = set()
    for body in bodies.values():
        shapes = {line.name: line.shapes for line in body}
        for line in body:
            kind = line.kind.removesuffix("-start")
            channel = re.search(r"channel_id=(\d+)", line.rest)
            key = kind, channel[1] if channel else object()
            if kind in KINDS and key not in seen:
                seen.add(key)
                yield kind, _collective(kind, line, shapes)


def _collective(kind: str, line: Instruction, shapes: dict[str, tuple[Shape, ...]]) -> Collective:
    operands = [shape.size for name in line.operands for shape in shapes.get(name, ())]
    results = [shape.size for shape in line.shapes]
    if _holds_operands(line):  # and after them perhaps numbers of its own
        first = len(line.operands)
        results = results[first : 2 * first]
    size = sum(operands if kind == "reduce-scatter" else results)
    n = _group_size(line.rest)
    share = {"all-reduce": 2 * (n - 1) / n, "collective-permute": 1.0}.get(kind, (n - 1) / n)
    return Collective(1, size, round(size * share))


def _group_size(rest: str) -> int:
    """Returns how many devices take part in each group of a collective instruction."""
    if found := re.search(r"replica_groups=mesh\[([^\]]*)\]\s*\{([^}]*)\}", rest):
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", found[1]))
        axes = re.findall(r"'(\w+)'(?::\(\d+\)(\d+))?", found[2])
        return math.prod(int(part or sizes[axis]) for axis, part in axes)
    if found := re.search(r"replica_groups=\[\d+,(\d+)\]<=", rest):
        return int(found[1])
    if found := re.search(r"replica_groups=\{\{([\d,]+)\}", rest):
        return found[1].count(",") + 1
    return 1


def _computations(text: str) -> tuple[dict[str, list[Instruction]], list[str]]:
    """Returns all computations by name, and names of those that run; fusions are parts of lines."""
    bodies: dict[str, list[Instruction]] = {}
    entry, lines = "", []
    for line in text.splitlines():
        if line and not line[0].isspace() and line.rstrip().endswith("{"):
            name = re.sub(r"^ENTRY\s+", "", line).split(" ")[0].lstrip("%")
            entry = name if line.startswith("ENTRY") else entry
            lines = bodies.setdefault(name, [])
        elif found := _NAME.match(line):
            lines.append(_instruction(found[1], line[found.end() :]))
    running = [entry]
    for name in running:
        called = [other for line in bodies[name] for other in _called(line)]
        running += [other for other in dict.fromkeys(called) if other not in running]
    return bodies, running


def _called(line: Instruction) -> list[str]:
    """Returns the computations that an instruction runs as they are."""
    if line.kind == "call":
        return re.findall(r"to_apply=%?([\w.-]+)", line.rest)
    if line.kind not in ("while", "conditional", "async-start"):
        return []
    branches = [re.findall(r"[\w.-]+", names) for names in _BRANCHES.findall(line.rest)]
    return _RUNS.findall(line.rest) + [name for names in branches for name in names]


def _instruction(name: str, text: str) -> Instruction:
    """Reads what stands after "=" of a line."""
    end = _closing(text, 0) if text.startswith("(") else text.index(" ")
    result, text = text[:end], text[end:].lstrip()
    opening = text.index("(")
    closing = _closing(text, opening)
    operands = re.findall(r"%([\w.-]+)", text[opening:closing])
    shapes = tuple(_shape(*found) for found in _SHAPE.findall(result))
    return Instruction(name, text[:opening], shapes, tuple(operands), text[closing:])


def _closing(text: str, opening: int) -> int:
    """Returns where what a parenthesis encloses has ended."""
    depth = 0
    for found in re.compile(r"[()]").finditer(text, opening):
        depth += 1 if found[0] == "(" else -1
        if depth == 0:
            return found.end()
    return len(text)


def _shape(dtype: str, dimensions: str, layout: str) -> Shape:
    """Reads an array such as f32[3,3,4,8]{3,2,1,0:T(4,128)S(1)}."""
    sizes = [int(n) for n in dimensions.split(",") if n]
    numbers = math.prod(sizes)
    order, _, tiling = layout.partition(":")
    if order:  # from the last axis in memory to the first
        sizes = [sizes[int(axis)] for axis in reversed(order.split(","))]
    if found := re.search(r"T\(([\d,]+)\)", tiling):
        tile = [int(n) for n in found[1].split(",")]
        sizes = [1] * (len(tile) - len(sizes)) + sizes
        first = len(sizes) - len(tile)
        sizes[first:] = [-(-n // t) * t for n, t in zip(sizes[first:], tile, strict=True)]
    space = re.search(r"S\((\d+)\)", tiling)
    bits = re.search(r"\d+", dtype)
    width = 8 if dtype == "pred" else int(bits[0]) if bits else 0  # a token takes nothing
    padded = math.prod(sizes) * width // 8
    return Shape(numbers * width // 8, padded, int(space[1]) if space else 0)
