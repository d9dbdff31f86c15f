"""Where the blocks of a U-Net lie on its figure, from left to right."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from unet_jax.explain.grids import TIMES, measure
from unet_jax.explain.lessons import FILTER, INPUT, OUTPUT
from unet_jax.models.anatomy import Anatomy, Block

MARGIN = 24
_INDENT = 46  # how much further in every level lies
_MOST = 3  # convolutions drawn one by one


class Bar(NamedTuple):
    """Activations of one shape.

    Attributes:
        shape: [H, W, F].
        colour: "#rrggbb".
        label: Of the arrow that leads to it from the left; "" for no arrow.
        joined: Channels of it that came over the skip.
    """

    shape: Sequence[int]
    colour: str
    label: str = ""
    joined: int = 0


class Row(NamedTuple):
    """Bars of one block beside each other.

    Attributes:
        block: Whose they are.
        bars: From left to right.
        left: Where the first bar's slot begins, in pixels.
    """

    block: Block
    bars: list[Bar]
    left: float


def shape_text(shape: Sequence[int]) -> str:
    """Writes a shape, such as 128x128x64."""
    return TIMES.join(map(str, shape))


def typeset(label: str) -> str:
    """Writes the x of sizes such as 3x3 as a multiplication sign."""
    return re.sub(r"(?<=\d)x(?=\d)", TIMES, label)


def rows_of(anatomy: Anatomy) -> tuple[list[Row], float, float]:
    """Lays the blocks out.

    Args:
        anatomy: The model.

    Returns:
        A row of bars per block that is drawn, the width of a bar's slot and that of the page.
    """
    blocks = [b for b in anatomy.blocks if b.role in ("encoder", "bottom", "node", "decoder")]
    shapes = [shape for b in blocks for shape in (b.input, b.output)]
    slot = max(78.0, max(measure(shape_text(s), 9) for s in shapes) + 14)
    bars = {block.name: _bars(block, anatomy) for block in blocks}
    ends: dict[int, float] = {}
    rows = []
    for block in blocks:
        if block.role in ("encoder", "bottom"):
            row = Row(block, bars[block.name], MARGIN + block.level * _INDENT)
            rows.append(row)
            ends[block.level] = row.left + len(row.bars) * slot
    first, deepest = ends[0], max(ends)
    for block in blocks:
        if block.role == "node":
            left = first + block.level * _INDENT + (1.9 * block.column - 1.1) * slot
            rows.append(Row(block, bars[block.name], left))
            ends[block.level] = max(ends.get(block.level, 0), left + slot)
    decoders = [b for b in blocks if b.role == "decoder"]
    edge = max(
        [
            ends.get(b.level, 0) + 120 + len(bars[b.name]) * slot + b.level * _INDENT
            for b in decoders
        ]
        + [ends[deepest], ends[0]]
    )
    for block in decoders:
        left = edge - block.level * _INDENT - len(bars[block.name]) * slot
        rows.append(Row(block, bars[block.name], left))
    if anatomy.find("head", 0):
        edge += slot
    for row in rows:
        if row.block.role == "decoder":
            text = measure(way_up(anatomy, row.block.level), 8)
            edge = max(edge, row.left + slot / 2 + 8 + text)
    return rows, slot, max(900, edge + MARGIN)


def way_up(anatomy: Anatomy, level: int) -> str:
    """Says how a level is reached from the one below."""
    way = anatomy.find("up", level)
    if way is None:
        return "interpolation"
    return typeset(f"{way.label} ({way.parameters:,} parameters)")


def _bars(block: Block, anatomy: Anatomy) -> list[Bar]:
    colour = {"encoder": INPUT, "bottom": FILTER}.get(block.role, OUTPUT)
    if block.role == "node":
        return [Bar(block.output, colour)]
    up = anatomy.find("up", block.level)
    joined = block.input[-1] - up.output[-1] if block.role == "decoder" and up else 0
    bars = [Bar(block.input, colour, joined=max(0, joined))]
    if len(block.stages) > _MOST or not block.stages:
        label = f"{len(block.stages)} convs" if block.stages else block.name
        return [*bars, Bar(block.output, colour, label)]
    return [*bars, *(Bar(stage.shape, colour, stage.label) for stage in block.stages)]
