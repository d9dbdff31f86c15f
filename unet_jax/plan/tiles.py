"""How images go that are too large for one piece: tile, halo, memory and work."""

import math
from typing import Any

from unet_jax.data.sample import written
from unet_jax.errors import UserError
from unet_jax.network import Network
from unet_jax.predict.eval_step import make_mask_step
from unet_jax.process.capacity import write_bytes


def plan_tiles(network: Network, limit: int) -> tuple[str, dict[str, Any]]:
    """Plans the tiles in which a network takes large images; compiles the program of one batch.

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
    record = {
        "exact": tiling.is_exact,
        "obstacle": tiling.geometry.obstacle,
        "read": list(lengths),
        "halo": halo,
        "at_once": chosen.rows,
        "bytes_per_device": chosen.needed,
        "work": work,
    }
    how = f"tiles of {written(tile)} with a halo of {halo}, which make up the whole result"
    if not tiling.is_exact:
        why = f", as {tiling.geometry.obstacle}" if tiling.geometry.obstacle else ""
        how = f"tiles of {written(lengths)}, blended at an overlap of "
        how += f"{tiling.settings.overlap:g}{why}"
    line = (
        f"images of more than {tiling.settings.whole:,} pixels: {how}; {chosen.rows} at once need "
        f"{write_bytes(chosen.needed)} on each device, whatever the image's size, and large images "
        f"take {work:.2f} times the work of one piece"
    )
    return line, record
