"""Expanding paths: functions from the encoder's activations to those that heads read."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from unet_jax.models.blocks import AttentionGate, PlainBlock, crop, max_pool
from unet_jax.models.levels import Levels
from unet_jax.models.ways_up import resize_bilinear

Skips = Sequence[jax.Array | None]


class Wiring(NamedTuple):
    """How an expanding path is wired; see `UNet`.

    Attributes:
        block: A key of `blocks.BLOCKS`.
        repeats: Convolutions or units per level, one per level but the bottom.
        skips: Per level, whether it has a skip.
        attention: Whether skips pass attention gates.
        heads: Heads of deep supervision.
    """

    block: str
    repeats: tuple[int, ...]
    skips: tuple[bool, ...]
    attention: bool
    heads: int


Outputs = dict[str, jax.Array]
Decoder = Callable[[Levels, Wiring, Skips, jax.Array], Outputs]


def plain(levels: Levels, wiring: Wiring, skips: Skips, bottom: jax.Array) -> Outputs:
    """Goes up level by level, each concatenated with its skip (Ronneberger et al., 2015).

    Args:
        levels: The levels.
        wiring: See `Wiring`.
        skips: The encoder's activations, [B, *n_l, C_l] per level but the bottom; None where a
            level has none.
        bottom: Those of the bottom.

    Returns:
        [B, *n, F] by the name of the head that reads it; "head" is the result's.
    """
    outputs = {}
    x = bottom
    for level in reversed(range(len(skips))):
        deeper, skip = x, skips[level]
        x = levels.go_up(deeper, level, f"up_{level}", skip)
        if skip is not None and wiring.skips[level]:
            if wiring.attention:
                skip = _gate(levels, skip, deeper, level, f"attention_{level}")
            x = jnp.concatenate([crop(skip, x.shape[1:-1]), x], axis=-1)
        x = _block(levels, wiring, x, level, f"decoder_{level}")
        if 0 < level <= wiring.heads:
            outputs[f"head_{level}"] = x
    return {**outputs, "head": x}


def nested(levels: Levels, wiring: Wiring, skips: Skips, bottom: jax.Array) -> Outputs:
    """Fills the U with nodes: node (l, j) sees all before it on its level and the one below.

    X(l, j) = block([X(l, 0), ..., X(l, j - 1), up(X(l + 1, j - 1))]) (Zhou et al., 2018, eq. 1).
    Column j of level 0 needs no level below j, so that a head there can be used alone.

    Args:
        levels: The levels.
        wiring: See `Wiring`.
        skips: See `plain`; without the deepest levels, columns that need them are left out.
        bottom: See `plain`.

    Returns:
        See `plain`; "head_j" reads X(0, j).
    """
    columns = [[x] for x in (*skips, bottom)]  # the nodes of each level
    end, outputs = len(levels.ups), {}
    for j in range(1, len(columns)):
        for level in range(len(columns) - j):
            below = columns[level + 1][j - 1]
            assert below is not None  # only an encoder's shallow levels lack activations
            x = levels.go_up(below, level, f"up_{level}_{j}", skips[level])
            seen = [y for y in columns[level] if y is not None and wiring.skips[level]]
            if wiring.attention:
                seen = [
                    _gate(levels, y, below, level, f"attention_{level}_{j}_{i}")
                    for i, y in enumerate(seen)
                ]
            x = jnp.concatenate([*seen, x], axis=-1)
            columns[level].append(_block(levels, wiring, x, level, f"node_{level}_{j}"))
        if end - wiring.heads <= j <= end:
            outputs["head" if j == end else f"head_{j}"] = columns[0][j]
    return outputs


def full_scale(
    levels: Levels, wiring: Wiring, skips: Skips, bottom: jax.Array
) -> dict[str, jax.Array]:
    """Lets every level see all levels: shallower ones pooled, deeper ones interpolated.

    Each is brought to features[0] channels by a 3x3 convolution, and one more convolution mixes all
    of them (Huang et al., 2020, eq. 1).

    Args:
        levels: The levels.
        wiring: See `Wiring`.
        skips: See `plain`.
        bottom: See `plain`.

    Returns:
        See `plain`.
    """
    end = len(skips)
    channels, style = levels.features[0], levels.style
    ones = (1,) * style.axes
    done, outputs = {end: bottom}, {}
    for level in reversed(range(end)):
        seen = []
        for other, x in enumerate([*skips[: level + 1], *(done[i] for i in sorted(done))]):
            if x is None or (other <= level and not wiring.skips[other]):
                continue
            for step in range(other, level):
                x = max_pool(x, levels.strides(step))
            for step in reversed(range(level, other)):
                x = resize_bilinear(x, levels.strides(step))
            name = f"decoder_{level}_from_{other}"
            seen.append(PlainBlock(channels, style, ones, (1,), name=name)(x))
        x = jnp.concatenate(seen, axis=-1)
        wide = channels * len(seen)
        done[level] = PlainBlock(wide, style, ones, (1,), name=f"decoder_{level}")(x)
        if 0 < level <= wiring.heads:
            outputs[f"head_{level}"] = done[level]
    return {**outputs, "head": done[0]}


DECODERS: dict[str, Decoder] = {"unet": plain, "unet++": nested, "unet3+": full_scale}


def _block(levels: Levels, wiring: Wiring, x: jax.Array, level: int, name: str) -> jax.Array:
    return levels.run_block(x, level, name, wiring.block, (1,) * wiring.repeats[level])


def _gate(levels: Levels, skip: jax.Array, deeper: jax.Array, level: int, name: str) -> jax.Array:
    hidden = max(1, levels.features[level] // 2)
    return AttentionGate(hidden, levels.style.dtype, levels.strides(level), name=name)(skip, deeper)
