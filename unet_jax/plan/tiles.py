"""How images go that are too large for one piece: tile, halo, memory, work and time."""

import math
import time
from typing import Any

import jax
import jax.numpy as jnp

from unet_jax.data.sample import written
from unet_jax.errors import UserError
from unet_jax.network import Network
from unet_jax.predict.eval_step import make_mask_step
from unet_jax.predict.tiled import Reading, blank_batch
from unet_jax.process.capacity import device_memory, write_bytes

_LONG = 5  # seconds of a first batch, after which no second one is timed


def plan_tiles(network: Network, limit: int) -> tuple[str, dict[str, Any]]:
    """Plans the tiles in which a network takes large images; compiles and times one batch of them.

    Args:
        network: The network.
        limit: Bytes on each device.

    Returns:
        A line that says it, and the same as values by name; "" and {} where
        config.data.fit="resize" makes all images small.
    """
    if network.loading.fit != "crop":
        return "", {}
    tiling = make_mask_step(network).tiling
    try:
        chosen = tiling.choose(network.variables, network.settings.batch_size, limit)
    except UserError as error:
        return str(error), {}
    lengths, halo = chosen.lengths, tiling.halo
    tile = [n - 2 * halo for n in lengths]
    if not tiling.is_exact:
        tile = [max(1, round(n * (1 - tiling.settings.overlap))) for n in lengths]
    work = math.prod(lengths) / math.prod(tile)
    seconds = None
    if chosen.needed <= device_memory():  # else the memory is that of another device
        zeros = jax.tree.map(
            lambda x: jnp.zeros(x.shape, x.dtype, device=x.sharding), network.variables
        )
        reading = tiling.reading(zeros, network.settings.batch_size, limit)
        seconds = time_batch(reading) / (chosen.rows * math.prod(tile) / 1e6)
    record = {
        "exact": tiling.is_exact,
        "obstacle": tiling.geometry.obstacle,
        "read": list(lengths),
        "halo": halo,
        "at_once": chosen.rows,
        "bytes_per_device": chosen.needed,
        "work": work,
        "seconds_per_megapixel": seconds,
    }
    how = f"tiles of {written(tile)} with a halo of {halo}, which make up the whole result"
    if not tiling.is_exact:
        why = f", as {tiling.geometry.obstacle}" if tiling.geometry.obstacle else ""
        how = f"tiles of {written(lengths)}, blended at an overlap of "
        how += f"{tiling.settings.overlap:g}{why}"
    took = "more than there is here, so that none is timed"
    if seconds is not None:
        took = f"{seconds:.3g} s here for a million pixels of an image, by one batch"
    line = (
        f"images of more than {tiling.settings.whole:,} pixels: {how}; {chosen.rows} at once need "
        f"{write_bytes(chosen.needed)} on each device, whatever the image's size, and large images "
        f"take {work:.2f} times the work of one piece: {took}"
    )
    return line, record


def time_batch(reading: Reading) -> float:
    """Times one batch of reads; the network's values and the images do not matter to that.

    Args:
        reading: How they are computed.

    Returns:
        Seconds, after a first batch that is not counted unless it takes long.
    """
    arrays, seconds = blank_batch(reading), 0.0
    for _ in range(2):
        began = time.perf_counter()
        jax.block_until_ready(reading.program(arrays))
        seconds = time.perf_counter() - began
        if seconds > _LONG:
            break
    return seconds
