"""A U-Net as a figure in the shape of a U, from its real shapes."""

import math
import os
from collections.abc import Sequence

from unet_jax.explain.grids import TIMES, Canvas, measure, paler, wrap
from unet_jax.explain.lessons import INPUT, OUTPUT
from unet_jax.explain.unet_layout import MARGIN, Bar, Row, rows_of, shape_text, typeset, way_up
from unet_jax.figures.canvas import INK, MUTED, render
from unet_jax.figures.colours import save_drawing
from unet_jax.models.anatomy import Anatomy

_HEAD, _FOOT = 106, 92
_ROW = 142  # from one level to the next
_BAR = 62  # height of the bars at full resolution

# White behind text, so that no line crosses it.
_GROUND = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}


def _middle(level: int) -> float:
    return _HEAD + level * _ROW + 26 + _BAR / 2


def _size(shape: Sequence[int], anatomy: Anatomy) -> tuple[float, float]:
    """Width and height of a bar: more channels are wider, more pixels higher."""
    height = _BAR * max(0.2, (shape[0] / anatomy.input[0]) ** 0.4)
    return 4 + 3.6 * math.log2(1 + shape[-1]), min(_BAR, height)


def _below(row: Row, anatomy: Anatomy) -> float:
    """The y below a row's last line of text."""
    return _middle(row.block.level) + _size(row.bars[0].shape, anatomy)[1] / 2 + 20


def _draw_bar(canvas: Canvas, bar: Bar, x: float, level: int, anatomy: Anatomy) -> None:
    width, height = _size(bar.shape, anatomy)
    y = _middle(level)
    left, top = x - width / 2, y - height / 2
    canvas.box(left, top, width, height, facecolor=paler(bar.colour, 0.55), linewidth=1.4)
    if bar.joined:  # what came over the skip: striped, so that it shows without colour
        share = width * bar.joined / bar.shape[-1]
        look = {"facecolor": paler(INPUT, 0.35), "hatch": "////", "linewidth": 1.4}
        canvas.box(left, top, share, height, **look)
    canvas.text(x, y + height / 2 + 14, shape_text(bar.shape), 9, ha="center")


def _label(canvas: Canvas, x: float, y: float, text: str) -> None:
    """Writes the label of an arrow, "conv 3x3" in two lines, centred above y."""
    for k, word in enumerate(reversed(typeset(text).split(" ", 1))):
        canvas.text(x, y - 5 - 11 * k, word, 8, ha="center", color=MUTED)


def _draw_row(canvas: Canvas, row: Row, slot: float, anatomy: Anatomy) -> None:
    level = row.block.level
    for k, bar in enumerate(row.bars):
        x = row.left + (k + 0.5) * slot
        if k:
            before = _size(row.bars[k - 1].shape, anatomy)[0] / 2
            here = _size(bar.shape, anatomy)[0] / 2
            y = _middle(level)
            canvas.arrow((x - slot + before + 3, y), (x - here - 3, y))
            _label(canvas, x - slot / 2 + (before - here) / 2, y, bar.label)
        _draw_bar(canvas, bar, x, level, anatomy)
    block, y = row.block, _middle(level)
    name = f"{block.name}: {block.parameters:,}" + " parameters" * (block.role != "node")
    y -= max(30, _size(row.bars[0].shape, anatomy)[1] / 2) + 8
    # Beside the arrow that comes from above; the bottom's below it.
    beside = 0.5 * slot + 10 if level and block.role == "encoder" else 4
    if block.role == "bottom":
        y = _below(row, anatomy) + 14
    style = {"color": MUTED, "weight": "bold", "bbox": _GROUND, "zorder": 5}
    canvas.text(row.left + beside, y, name, 9, **style)


def _elbow(
    canvas: Canvas, start: tuple[float, float], end: tuple[float, float], turn: float
) -> None:
    """Draws an arrow that leaves and arrives vertically, with its horizontal part at y = turn."""
    look = {"color": INK, "linewidth": 1.4}
    canvas.axes.plot([start[0], start[0], end[0]], [start[1], turn, turn], **look)
    canvas.arrow((end[0], turn), end)


def _draw_between(canvas: Canvas, rows: list[Row], slot: float, anatomy: Anatomy) -> None:
    """Draws the ways from level to level."""
    down = {r.block.level: r for r in rows if r.block.role in ("encoder", "bottom")}
    up = {r.block.level: r for r in rows if r.block.role == "decoder"}
    for level, row in down.items():
        if (above := down.get(level - 1)) is None:
            continue
        start = above.left + (len(above.bars) - 0.5) * slot, _below(above, anatomy)
        end = row.left + 0.5 * slot, _middle(level) - _size(row.bars[0].shape, anatomy)[1] / 2 - 3
        _elbow(canvas, start, end, turn := start[1] + 12)
        times = round(above.bars[-1].shape[0] / row.bars[0].shape[0])
        window = TIMES.join([str(times)] * (len(anatomy.input) - 1))
        pool = f"{anatomy.pool} {window}" if times > 1 else "strided conv follows"
        canvas.text(end[0] + 8, turn + 14, pool, 8, color=MUTED, bbox=_GROUND, zorder=5)
    bottom = down.get(max(down))
    for level, row in up.items():
        below = up.get(level + 1) or bottom
        if below is None:
            continue
        height = _size(below.bars[-1].shape, anatomy)[1]
        start = below.left + (len(below.bars) - 0.5) * slot, _middle(below.block.level)
        start = start[0], start[1] - height / 2 - 3
        end = row.left + 0.5 * slot, _below(row, anatomy)
        turn = end[1] + 16
        _elbow(canvas, start, end, turn)
        canvas.text(end[0] + 8, turn - 4, way_up(anatomy, level), 8, color=MUTED)


def _draw_skips(canvas: Canvas, rows: list[Row], slot: float, anatomy: Anatomy) -> None:
    """Draws the skips, and for nested ones the ways up to the nodes."""
    left = {r.block.level: r for r in rows if r.block.role in ("encoder", "bottom")}
    nodes = {(r.block.level, r.block.column): r for r in rows if r.block.role == "node"}
    look = {"linestyle": (0, (5, 3)), "color": MUTED, "linewidth": 1.8}
    for row in rows:
        level, column = row.block.level, row.block.column
        before = nodes.get((level, column - 1)) or left.get(level)
        if row.block.role not in ("decoder", "node") or before is None:
            continue
        y = _middle(level)
        start = before.left + (len(before.bars) - 0.5) * slot
        start += _size(before.bars[-1].shape, anatomy)[0] / 2 + 4
        end = row.left + 0.5 * slot - _size(row.bars[0].shape, anatomy)[0] / 2 - 4
        if level in anatomy.skips:
            canvas.arrow((start, y), (end, y), **look)
            if row.block.role == "decoder":
                text = f"skip: copy {shape_text(before.bars[-1].shape)} and concatenate"
                room = end - start - 8
                text = text if measure(text, 8) < room else "skip: copy"
                canvas.text((start + end) / 2, y - 6, text, 8, ha="center", color=MUTED)
        below = nodes.get((level + 1, column - 1)) or left.get(level + 1)
        if row.block.role == "node" and below is not None:
            x = below.left + (len(below.bars) - 0.5) * slot
            half = _size(below.bars[-1].shape, anatomy)[1] / 2
            # From a bar, or from the name above it; the bottom's name is below.
            y = _middle(level + 1) - (
                half + 3 if below.block.role == "bottom" else max(30, half) + 22
            )
            canvas.arrow((x, y), (row.left + 0.4 * slot, _below(row, anatomy)))


def _draw_head(canvas: Canvas, rows: list[Row], slot: float, anatomy: Anatomy) -> None:
    head = anatomy.find("head", 0)
    if head is None:
        return
    last = max((r for r in rows if r.block.level == 0), key=lambda r: r.left)
    x = last.left + (len(last.bars) - 0.5) * slot
    here, y = _size(last.bars[-1].shape, anatomy)[0] / 2, _middle(0)
    canvas.arrow((x + here + 3, y), (x + slot - 10, y))
    _label(canvas, x + slot / 2, y, head.stages[-1].label if head.stages else "head")
    _draw_bar(canvas, Bar(anatomy.output, OUTPUT), x + slot, 0, anatomy)
    look = {"ha": "center", "color": MUTED, "weight": "bold"}
    canvas.text(x + slot, y - _BAR / 2 - 22, f"head: {head.parameters:,}", 9, **look)


def write_unet(path: str | os.PathLike[str], anatomy: Anatomy, title: str) -> None:
    """Writes a PNG of a model.

    Args:
        path: File to write; missing folders are made.
        anatomy: The model.
        title: One line.
    """
    rows, slot, width = rows_of(anatomy)
    height = _HEAD + (1 + max(row.block.level for row in rows)) * _ROW + _FOOT
    canvas = Canvas(round(width), height)
    canvas.text(MARGIN, MARGIN + 14, title, 15, weight="bold")
    classes, is_volume = anatomy.output[-1], len(anatomy.input) == 4
    whole, part = ("A volume", "voxel") if is_volume else ("An image", "pixel")
    canvas.text(
        MARGIN,
        MARGIN + 38,
        f"{whole} of {shape_text(anatomy.input)} becomes {shape_text(anatomy.output)}: a number "
        f"per {part} for each of {classes} classes. {anatomy.parameters:,} parameters in all.",
    )
    for row in rows:
        _draw_row(canvas, row, slot, anatomy)
    _draw_between(canvas, rows, slot, anatomy)
    _draw_skips(canvas, rows, slot, anatomy)
    _draw_head(canvas, rows, slot, anatomy)
    _draw_legend(canvas, height - _FOOT + 16, {row.block.name for row in rows}, anatomy)
    save_drawing(path, render(canvas.figure))


def _draw_legend(canvas: Canvas, y: float, drawn: set[str], anatomy: Anatomy) -> None:
    roles = ("up", "head")
    others = [
        b for b in anatomy.blocks if b.name not in drawn and b.role not in roles and b.parameters
    ]
    axes = ("depth", "height", "width")[-(len(anatomy.input) - 1) :]
    lines = [
        f"Under every bar {TIMES.join((*axes, 'channels'))}: the higher a bar, the more "
        "resolution; the wider, the more channels.",
        f"conv: a convolution, then {anatomy.convolution}. Dashed arrows are skips; the striped "
        "part of a bar is such a copy, the rest came from below.",
    ]
    if nested := [b for b in anatomy.blocks if b.role == "up" and b.column]:
        total = sum(b.parameters for b in nested)
        lines.append(
            f"Arrows up to a node: {typeset(nested[0].label)} ({total:,} parameters in "
            "all). A node reads all that are left of it on its level, and what comes from below."
        )
    if others:
        names = ", ".join(b.name for b in others[:6]) + ", …" * (len(others) > 6)
        lines.append(f"Not drawn: {names} ({sum(b.parameters for b in others):,} parameters).")
    width = canvas.axes.get_xlim()[1] - 2 * MARGIN
    for k, line in enumerate(wrap("\n".join(lines), 10, width)):
        canvas.text(MARGIN, y + 19 * k, line)
