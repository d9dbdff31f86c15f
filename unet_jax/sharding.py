"""The only file that knows devices: the mesh, and where arrays lie on it."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from unet_jax.errors import UserError


class Shardings(NamedTuple):
    """Where arrays lie: state is replicated, a batch is split by pictures."""

    mesh: jax.sharding.Mesh
    state: NamedSharding
    batch: NamedSharding


def make_shardings(data: int = -1) -> Shardings:
    """Makes the mesh of a config over the devices that jax sees.

    Args:
        data: Devices over which the pictures of a batch are split; -1 for all.

    Returns:
        The mesh with its shardings.

    Raises:
        UserError: The mesh does not fit the devices.
    """
    count = jax.device_count()
    if data != -1 and not 1 <= data <= count:
        raise UserError(f"config.mesh.data={data} does not fit: there are {count} devices; use -1.")
    size = count if data == -1 else data
    # Auto axes: make_mesh's default of Explicit would ask for a sharding at every contraction.
    devices = jax.devices()[:size]
    mesh = jax.make_mesh((size,), ("data",), axis_types=(AxisType.Auto,), devices=devices)
    return Shardings(
        mesh, NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec("data"))
    )


def check_batch_size(key: str, batch_size: int, shardings: Shardings) -> None:
    """Checks that the mesh divides a batch size.

    Args:
        key: The config key of the batch size.
        batch_size: Pictures in a batch, over all devices.
        shardings: The mesh.

    Raises:
        UserError: It does not.
    """
    size = shardings.mesh.size
    if batch_size < 1 or batch_size % size:
        below, above = batch_size // size * size, (max(0, batch_size) // size + 1) * size
        nearest = f"{below} or {above}" if below > 0 else f"{above}"
        raise UserError(
            f"{key}={batch_size} cannot be split over the {size} devices of config.mesh; "
            f"use {nearest}."
        )


def put_batch(batch: Mapping[str, np.ndarray], shardings: Shardings) -> dict[str, jax.Array]:
    """Sends a batch to the devices, split by pictures.

    Args:
        batch: Arrays [b, ...] with this process's share of the batch.
        shardings: The mesh.

    Returns:
        Global arrays [B, ...].
    """
    return {
        key: jax.make_array_from_process_local_data(shardings.batch, array)
        for key, array in batch.items()
    }


def replicate(tree: Any, shardings: Shardings) -> Any:
    """Sends a pytree whole to every device."""
    return jax.device_put(tree, shardings.state)


def describe_devices() -> dict[str, Any]:
    """Names the devices that jax sees, for the run's record."""
    first = jax.devices()[0]
    return {
        "platform": first.platform,
        "kind": first.device_kind,
        "count": jax.device_count(),
        "processes": jax.process_count(),
    }
