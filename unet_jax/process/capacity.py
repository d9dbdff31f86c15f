"""How much memory there is, what arrays take of it, and the largest size that fits."""

import math
import os
import re
from bisect import bisect_right
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from unet_jax.errors import UserError

COMPILES = 6  # at most, to find a largest size
# On CPU, of `experiments.bench.plan_accuracy`: convolutions pack filters and images into blocks
# of their own, and the allocator keeps blocks that were freed. No program counts them.
HOST_BYTES, HOST_SHARE = 16 * 2**20, 0.08

_UNITS = {
    f"{prefix}{unit}".lower(): base**power
    for unit, base in (("B", 1000), ("iB", 1024))
    for power, prefix in enumerate("KMGT", 1)
}
_GROUP_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
MOST_MEMORY = 10**6 * 2**40
_AMOUNT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]+)\s*", re.IGNORECASE)


def bytes_per_device(shapes: Any) -> int:
    """Adds up what a pytree of arrays, or of their shapes with shardings, takes on one device."""
    return sum(
        math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize
        for x in jax.tree.leaves(shapes)
    )


def program_bytes(compiled: Any) -> int | None:
    """Returns the bytes that a compiled program holds on each device at its peak.

    Args:
        compiled: A `jax.stages.Compiled`.

    Returns:
        Its arguments, results and workspace, what was donated once; None where the compiler does
        not tell.
    """
    found = compiled.memory_analysis()
    if found is None:
        return None
    total = found.argument_size_in_bytes + found.output_size_in_bytes + found.temp_size_in_bytes
    return total - found.alias_size_in_bytes


def is_out_of_memory(error: BaseException) -> bool:
    """Tells whether an error says that a device, or the host, has no memory left."""
    is_native = isinstance(error, jax.errors.JaxRuntimeError)
    return isinstance(error, MemoryError) or (is_native and "RESOURCE_EXHAUSTED" in str(error))


def search(
    total: Callable[[int], int | None],
    amount: Callable[[int], int],
    limit: int,
    known: dict[int, int],
    tries: int = COMPILES,
) -> tuple[int, int, bool]:
    """Finds the largest index whose bytes fit, where bytes grow nearly in line with an amount.

    Args:
        total: Bytes of an index of 1 or more; None where it does not compile.
        amount: Rising with the index.
        limit: Bytes.
        known: Bytes by amount: of 0, and of the present amount.
        tries: Indices that are tried, at most.

    Returns:
        The index, 0 where none fits; its bytes; and whether the next one is known not to fit.
    """
    known, low, high, found = dict(known), 0, 2**31, 0
    failed = False
    for _ in range(tries):
        (x0, y0), (x1, y1) = sorted(known.items(), key=lambda item: abs(item[1] - limit))[:2]
        if (y1 - y0) * (x1 - x0) <= 0:  # not rising there
            (x0, y0), (x1, y1) = (0, known[0]), max(known.items())
        reach = x0 + (limit - y0) * (x1 - x0) / (y1 - y0)
        guess = bisect_right(range(2**31), reach, key=amount) - 1
        if failed:  # the line leads there again
            guess = (low + high) // 2
        guess = min(max(guess, low + 1), high - 1)
        bytes_there = total(guess)
        failed = bytes_there is None
        if bytes_there is not None:
            known[amount(guess)] = bytes_there
        if bytes_there is not None and bytes_there <= limit:
            low, found = guess, bytes_there
        else:
            high = guess
        if high == low + 1:
            return low, found, True
    return low, found, False


def parse_memory(key: str, text: str) -> int:
    """Turns an amount of memory into bytes.

    Args:
        key: Whose value it is, for the error.
        text: Such as "16GiB" or "24 GB".

    Returns:
        Bytes.

    Raises:
        UserError: It is no amount of memory.
    """
    match = _AMOUNT.fullmatch(text)
    amount = float(match[1]) * _UNITS.get(match[2].lower(), 0) if match else 0
    if not 1 <= amount <= MOST_MEMORY:
        raise UserError(
            f"{key}={text!r} is no amount of memory; write a number above 0 and one of KB, MB, GB, "
            "TB, KiB, MiB, GiB and TiB, such as 16GiB or 24GB, up to a million TiB."
        )
    return int(amount)


def device_memory() -> int:
    """Returns the bytes that a program may use on each device.

    Devices that report none are CPUs: they share the machine's memory, or what its control group
    leaves of it.
    """
    reported = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    return reported or host_memory() // jax.local_device_count()


def host_memory() -> int:
    """Returns the bytes of the machine's memory, or of what its control group leaves of it."""
    host = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [file.read_text().strip() for file in _GROUP_LIMITS if file.is_file()]
    return min(host, *(int(text) for text in limits if text.isdigit()))


def beside_program(program: int) -> int:
    """Estimates what a compiled program takes on each device beside what it counts itself.

    Args:
        program: The bytes on each device that the program counts.

    Returns:
        On CPU, this device's share of `HOST_BYTES`, and `HOST_SHARE` of the program. On other
        devices 0: there the program counts everything.
    """
    if jax.devices()[0].platform != "cpu":
        return 0
    return HOST_BYTES // jax.local_device_count() + round(HOST_SHARE * program)


def write_bytes(count: int) -> str:
    """Writes bytes as "1.50 GiB", "12.3 MiB" or "0.5 KiB"."""
    unit = next(x for x in ("GiB", "MiB", "KiB") if abs(count) >= _UNITS[x.lower()] or x == "KiB")
    return f"{count / _UNITS[unit.lower()]:.{2 if unit == 'GiB' else 1}f} {unit}"
