"""Expanding paths: functions from the encoder's activations to those that heads read."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from unet_jax.models.blocks import PlainBlock, crop
from unet_jax.models.fast import max_pool
from unet_jax.models.gates import AttentionGate
from unet_jax.models.levels import Levels
from unet_jax.models.up.resize import resize_bilinear

Skips = Sequence[jax.Array | None]
Outputs = dict[str, jax.Array]
Decoder = Callable[[Levels, Skips, jax.Array], Outputs]


def plain(levels: Levels, skips: Skips, bottom: jax.Array) -> Outputs:
    """Goes up level by level, each concatenated with its skip (Ronneberger et al., 2015).

    Args:
        levels: The levels.
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
        if skip is not None and levels.has_skip(level):
            if levels.options.attention:
                skip = _gate(levels, skip, deeper, level, f"attention_{level}")
            x = jnp.concatenate([crop(skip, x.shape[1:-1]), x], axis=-1)
        x = levels.decode(x, level, f"decoder_{level}")
        if 0 < level <= levels.options.deep_supervision:
            outputs[f"head_{level}"] = x
    return {**outputs, "head": x}


def nested(levels: Levels, skips: Skips, bottom: jax.Array) -> Outputs:
    """Fills the U with nodes: node (l, j) sees all before it on its level and the one below.

    X(l, j) = block([X(l, 0), ..., X(l, j - 1), up(X(l + 1, j - 1))]) (Zhou et al., 2018, eq. 1).
    Column j of level 0 needs no level below j, so that a head there can be used alone.

    Args:
        levels: The levels.
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
            seen = [y for y in columns[level] if y is not None and levels.has_skip(level)]
            if levels.options.attention:
                seen = [
                    _gate(levels, y, below, level, f"attention_{level}_{j}_{i}")
                    for i, y in enumerate(seen)
                ]
            x = jnp.concatenate([*seen, x], axis=-1)
            columns[level].append(levels.decode(x, level, f"node_{level}_{j}"))
        if end - levels.options.deep_supervision <= j <= end:
            outputs["head" if j == end else f"head_{j}"] = columns[0][j]
    return outputs


def full_scale(levels: Levels, skips: Skips, bottom: jax.Array) -> Outputs:
    """Lets every level see all levels: shallower ones pooled, deeper ones interpolated.

    Each is brought to features[0] channels by a 3x3 convolution, and one more convolution mixes all
    of them (Huang et al., 2020, eq. 1).

    Args:
        levels: The levels.
        skips: See `plain`.
        bottom: See `plain`.

    Returns:
        See `plain`.
    """
    end = len(skips)
    channels = levels.features[0]

    def convolve(x: jax.Array, features: int, name: str) -> jax.Array:
        train = levels.trains(name)
        return PlainBlock(features, levels.options, train, dilations=(1,), name=name)(x)

    done, outputs = {end: bottom}, {}
    for level in reversed(range(end)):
        seen = []
        for other, x in enumerate([*skips[: level + 1], *(done[i] for i in sorted(done))]):
            if x is None or (other <= level and not levels.has_skip(other)):
                continue
            for step in range(other, level):
                x = max_pool(x, levels.strides(step))
            for step in reversed(range(level, other)):
                x = resize_bilinear(x, levels.strides(step))
            name = f"decoder_{level}_from_{other}"
            seen.append(convolve(x, channels, name))
        x = jnp.concatenate(seen, axis=-1)
        done[level] = convolve(x, channels * len(seen), f"decoder_{level}")
        if 0 < level <= levels.options.deep_supervision:
            outputs[f"head_{level}"] = done[level]
    return {**outputs, "head": done[0]}


DECODERS: dict[str, Decoder] = {"unet": plain, "unet++": nested, "unet3+": full_scale}


def _gate(levels: Levels, skip: jax.Array, deeper: jax.Array, level: int, name: str) -> jax.Array:
    hidden = max(1, levels.features[level] // 2)
    return AttentionGate(hidden, levels.options.dtype, levels.strides(level), name=name)(
        skip, deeper
    )
