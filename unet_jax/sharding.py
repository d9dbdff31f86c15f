"""The only file that knows devices: the mesh, and where arrays lie on it."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from unet_jax.config import check_range
from unet_jax.errors import UserError
from unet_jax.process import target

AXES = ("data", "fsdp", "space")
ROWS = ("data", "fsdp")  # the axes that split the images of a batch
MOST_BATCH = 2**16  # images
LEAST_SPLIT = 2**14  # numbers in an array that is worth splitting over "fsdp"


class Shardings(NamedTuple):
    """A mesh, and the ways in which arrays lie on it.

    Every axis splits the activations: "data" and "fsdp" by images, "space" by height (volumes by
    depth). No convolution then runs twice on the same numbers, for which XLA may count its kernel's
    gradient twice.

    Attributes:
        mesh: Axes "data", "fsdp" and "space".
        replicated: Whole on every device.
        rows: Split by the first axis, the images of a batch.
        images: Split by images and by height: [B, H, ...].
    """

    mesh: jax.sharding.Mesh
    replicated: NamedSharding
    rows: NamedSharding
    images: NamedSharding

    def size(self, *axes: str) -> int:
        """Returns how many devices lie along some axes."""
        return math.prod(self.mesh.shape[axis] for axis in axes)


def make_shardings(data: int = -1, fsdp: int = 1, space: int = 1) -> Shardings:
    """Makes the mesh of a config over the devices of `process.target`.

    Args:
        data: Devices over which the images of a batch are split; -1, here or below, for all that
            the others leave.
        fsdp: Devices that split the images as well, and between them parameters and the
            optimiser's state (fully sharded data parallel; Zhao et al., 2023).
        space: Devices that split every image by height, every volume by depth.

    Returns:
        The mesh with its shardings.

    Raises:
        UserError: The mesh does not fit the devices.
    """
    sizes, count = {"data": data, "fsdp": fsdp, "space": space}, target.device_count()
    text = ", ".join(f"{axis}={size}" for axis, size in sizes.items())
    if any(size < 1 and size != -1 for size in sizes.values()):
        raise UserError(f"config.mesh ({text}): sizes must be 1 or more, or -1 for what is left.")
    open_axes = [axis for axis, size in sizes.items() if size == -1]
    if len(open_axes) > 1:
        raise UserError(f"config.mesh ({text}): only one size can be -1, for what is left.")
    fixed = math.prod(size for size in sizes.values() if size != -1)
    fits = count % fixed == 0 if open_axes else fixed <= count
    if not fits:
        raise UserError(f"config.mesh ({text}) does not fit {count} devices; {_nearest(count)}.")
    sizes |= dict.fromkeys(open_axes, count // fixed)
    used = math.prod(sizes.values())
    processes = target.process_count()
    if used < count and processes > 1:
        raise UserError(
            f"config.mesh ({text}) uses {used} of the {count} devices of {processes} processes, "
            f"and each must take part; {_nearest(count)}."
        )
    # Auto axes: make_mesh's default of Explicit would ask for a sharding at every contraction.
    mesh = jax.make_mesh(
        tuple(sizes.values()),
        AXES,
        axis_types=(AxisType.Auto,) * len(AXES),
        devices=target.devices()[:used],
    )
    specs = PartitionSpec(), PartitionSpec(ROWS), PartitionSpec(ROWS, "space")
    return Shardings(mesh, *(NamedSharding(mesh, spec) for spec in specs))


def _nearest(count: int) -> str:
    divisors = [n for n in range(1, count + 1) if count % n == 0]
    return f"fsdp * space must divide {count}, so each can be {listed(divisors)}, with data=-1"


def listed(numbers: list[int]) -> str:
    """Writes numbers as "1, 2 or 4"."""
    *first, last = map(str, numbers)
    return f"{', '.join(first)} or {last}" if first else last


def check_batch_size(key: str, batch_size: int, shardings: Shardings) -> None:
    """Checks that the mesh divides a batch size.

    Args:
        key: The config key of the batch size.
        batch_size: Images in a batch, over all devices.
        shardings: The mesh.

    Raises:
        UserError: It does not, or nobody could hold such a batch.
    """
    check_range(key, batch_size, 1, MOST_BATCH)
    size = shardings.size(*ROWS)
    if batch_size % size:
        raise UserError(
            f"{key}={batch_size} cannot be split over the {size} devices of config.mesh (data * "
            f"fsdp); use {_around(batch_size, size)}."
        )


def check_height(height: int, multiple: int, padding: str, shardings: Shardings) -> None:
    """Checks that the mesh splits images into whole rows at the deepest level.

    Args:
        height: Height of training images, or depth of volumes, in pixels.
        multiple: Pixels at full resolution per row at the deepest level.
        padding: "same" or "valid", of the model's convolutions.
        shardings: The mesh.

    Raises:
        UserError: It does not.
    """
    space = shardings.size("space")
    if space > 1 and padding == "valid":
        raise UserError(
            f'config.mesh.space={space} needs config.model.padding="same": what valid convolutions '
            "leave over does not divide evenly; use config.mesh.space=1."
        )
    if space > 1 and height % (multiple * space):
        rows = height / multiple
        raise UserError(
            f"config.data.image_size: {height} rows of pixels are {rows:g} at the deepest level, "
            f"which config.mesh.space={space} does not divide; use a height of "
            f"{_around(height, multiple * space)}, or a smaller config.mesh.space."
        )


def _around(number: int, multiple: int) -> str:
    below = number // multiple * multiple
    return listed([n for n in (below, below + multiple) if n > 0])


def split_state(shapes: Any, shardings: Shardings) -> Any:
    """Says where parameters and the optimiser's state lie.

    An array of `LEAST_SPLIT` numbers or more is split over "fsdp" along its longest axis that the
    axis's devices divide, the last one of equals; every other array lies whole on every device.

    Args:
        shapes: Pytree of arrays or of their shapes.
        shardings: The mesh.

    Returns:
        Pytree of `NamedSharding`.
    """
    return jax.tree.map(lambda x: _split(x.shape, shardings), shapes)


def put_shapes(shapes: Any, shardings: Shardings) -> Any:
    """Says of shapes where their arrays will lie; see `split_state`.

    Args:
        shapes: Pytree of arrays or of their shapes.
        shardings: The mesh.

    Returns:
        Pytree of `jax.ShapeDtypeStruct` with shardings.
    """
    return jax.tree.map(
        lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where),
        shapes,
        split_state(shapes, shardings),
    )


def _split(shape: tuple[int, ...], shardings: Shardings) -> NamedSharding:
    devices = shardings.size("fsdp")
    axes = [axis for axis, n in enumerate(shape) if n % devices == 0]
    if devices == 1 or not axes or math.prod(shape) < LEAST_SPLIT:
        return shardings.replicated
    axis = max(axes, key=lambda axis: (shape[axis], axis))
    return NamedSharding(shardings.mesh, PartitionSpec(*(None,) * axis, "fsdp"))


def describe_split(shapes: Any, shardings: Shardings) -> dict[str, str]:
    """Says in words how each large array is split over "fsdp".

    Args:
        shapes: Pytree of arrays or of their shapes.
        shardings: The mesh.

    Returns:
        By path, such as "params/encoder_0/Conv_0/kernel"; {} where nothing is to be split.
    """
    devices = shardings.size("fsdp")
    decisions = {}
    for path, x in jax.tree_util.tree_leaves_with_path(shapes):
        if devices == 1 or math.prod(x.shape) < LEAST_SPLIT:
            continue
        spec = _split(x.shape, shardings).spec
        how = f"axis {len(spec) - 1} over fsdp={devices}" if spec else "whole: no axis divides"
        decisions[jax.tree_util.keystr(path, simple=True, separator="/")] = f"{x.shape} {how}"
    return decisions


def process_rows(batch_size: int, shardings: Shardings) -> np.ndarray:
    """Returns the rows of a batch that this process's devices hold, in ascending order.

    Processes whose devices share images, along "space", hold the same rows.

    Args:
        batch_size: B, over all processes.
        shardings: The mesh.

    Returns:
        int [b], in 0..B-1.
    """
    shards = shardings.rows.addressable_devices_indices_map((batch_size,)).values()
    rows = [np.arange(batch_size)[index] for index in shards]
    return np.unique(np.concatenate(rows))


def put_batch(batch: Mapping[str, Any], shardings: Shardings) -> dict[str, Any]:
    """Sends a batch to the devices, split by images and, where it divides, by height.

    Args:
        batch: Arrays with the rows of `process_rows`: images [b, *n, C], labels and weights
            [b, *n], and "size" [b, axes]; or further such batches by name.
        shardings: The mesh.

    Returns:
        Global arrays [B, ...].
    """
    blocks = shardings.size(*ROWS)
    own_blocks = len(process_rows(blocks, shardings))

    def put(array: np.ndarray) -> jax.Array:
        batch_size = len(array) // own_blocks * blocks
        rows = process_rows(batch_size, shardings)
        shape = (batch_size, *array.shape[1:])

        def piece(index: Any) -> np.ndarray:
            first, last, _ = index[0].indices(batch_size)
            start = int(np.searchsorted(rows, first))
            return array[(slice(start, start + last - first), *index[1:])]

        return jax.make_array_from_callback(shape, batch_sharding(shape, shardings), piece)

    with jax.transfer_guard_host_to_device("allow"):  # this one is meant
        return jax.tree.map(put, dict(batch))


def batch_sharding(shape: tuple[int, ...], shardings: Shardings) -> NamedSharding:
    """Says where an array of a batch lies.

    Args:
        shape: [B, axes] of sizes, else [B, H, ...]. An H that "space" does not divide is not split,
            as in evaluation, where H is that of the image; then what the image is padded with does
            not depend on the mesh.
        shardings: The mesh.

    Returns:
        Where.
    """
    splits_height = len(shape) > 2 and shape[1] % shardings.size("space") == 0
    return shardings.images if splits_height else shardings.rows


def batch_shapes(
    arrays: Mapping[str, tuple[tuple[int, ...], str]], shardings: Shardings
) -> dict[str, jax.ShapeDtypeStruct]:
    """Describes a batch of `put_batch` without making it.

    Args:
        arrays: Shape and type by name.
        shardings: The mesh.

    Returns:
        The shapes with shardings, by name.
    """
    return {
        name: jax.ShapeDtypeStruct(shape, dtype, sharding=batch_sharding(shape, shardings))
        for name, (shape, dtype) in arrays.items()
    }


def replicate(tree: Any, shardings: Shardings) -> Any:
    """Sends a pytree whole to every device; every process must have the same values."""
    if jax.process_count() == 1:
        return jax.device_put(tree, shardings.replicated)
    # device_put reaches this process's own devices alone.
    return jax.jit(lambda tree: tree, out_shardings=shardings.replicated)(tree)


def describe_devices() -> dict[str, Any]:
    """Names the devices that jax sees, for the run's record."""
    first = jax.devices()[0]
    return {
        "platform": first.platform,
        "kind": first.device_kind,
        "count": jax.device_count(),
        "processes": jax.process_count(),
    }
