"""Compiling for TPUs that are not there: libtpu, which the extra `tpu` installs."""

import os
import re
from importlib import metadata, util
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import SingleDeviceSharding

from unet_jax.errors import UserError
from unet_jax.plan.chips import Topology

# libtpu asks Google's metadata server what machine this is, keeps a lock as if it held TPUs, and
# writes a log and lines to stderr about hosts that it does not find.
_ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_LOG_DIR": "disabled",
    "TPU_MIN_LOG_LEVEL": "3",
    "TPU_STDERR_LOG_LEVEL": "3",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",  # any: nothing is asked of it
}
_AMOUNT = r"([\d.]+)([KMGT]?)"
_REFUSALS = (
    re.compile(rf"\({_AMOUNT}\) exceeds available HBM \({_AMOUNT}\)"),
    re.compile(rf"Used {_AMOUNT} of {_AMOUNT} hbm"),
)
_TOO_MUCH = 2**44  # bytes; more than any chip has


def is_installed() -> bool:
    """Tells whether libtpu is there."""
    return util.find_spec("libtpu") is not None


def version() -> str:
    """Returns the versions of jaxlib and libtpu, which decide what a program is compiled to."""
    return f"jaxlib {metadata.version('jaxlib')}, libtpu {metadata.version('libtpu')}"


def open_devices(topology: Topology) -> list[Any]:
    """Returns the devices of a topology, to compile for; nothing runs on them.

    Args:
        topology: The topology.

    Returns:
        A `jax.Device` for each chip.

    Raises:
        UserError: libtpu is not installed or does not know the topology.
    """
    if not is_installed():
        raise UserError(
            f"--topology={topology.name} needs libtpu, which compiles for TPUs on any Linux "
            "machine: pip install 'unet-jax[tpu]'."
        )
    from jax.experimental import topologies

    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    options: dict[str, Any] = {}
    if topology.shape == (1,) * len(topology.shape):
        options["chips_per_host_bounds"] = [1, 1, 1]
    if topology.family == "v4":  # both cores of a chip are one device, as jax has them on a v4
        options["chip_config_name"] = "megacore"
    try:
        return list(topologies.get_topology_desc(topology.name, "tpu", **options).devices)
    except jax.errors.JaxRuntimeError as error:
        first = str(error).splitlines()[0]
        raise UserError(f"--topology={topology.name}: libtpu says {first[:300]}") from None


def available(device: Any) -> int:
    """Returns the bytes of a device's memory that programs may use, as the compiler has them.

    Args:
        device: Of `open_devices`.

    Returns:
        Bytes.

    Raises:
        UserError: The compiler does not tell.
    """
    where = SingleDeviceSharding(device)
    much = jax.ShapeDtypeStruct((_TOO_MUCH,), jnp.uint8, sharding=where)
    try:
        jax.jit(lambda x: x + 1, out_shardings=where).lower(much).compile()
    except jax.errors.JaxRuntimeError as error:
        found = read_refusal(str(error))
        if found:
            return found[1]
    raise UserError("the compiler for TPUs does not tell how much memory there is: give --memory.")


def read_refusal(text: str) -> tuple[int, int] | None:
    """Reads the figures of an error of the compiler about memory.

    Args:
        text: The error.

    Returns:
        Bytes that the program needs, and that there are; None where it is another error.
    """
    for pattern in _REFUSALS:
        if found := pattern.search(text):
            return _bytes(found[1], found[2]), _bytes(found[3], found[4])
    return None


def _bytes(number: str, unit: str) -> int:
    return round(float(number) * 2 ** (10 * " KMGT".index(unit or " ")))
