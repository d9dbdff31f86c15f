"""The devices that programs are compiled for: those that jax sees, or others that are not there."""

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import jax

_elsewhere: ContextVar[tuple[Any, ...]] = ContextVar("_elsewhere", default=())
_stand_for: ContextVar[str] = ContextVar("_stand_for", default="")


def devices() -> list[Any]:
    """Returns the devices that programs are compiled for, the `jax.Device` of all processes."""
    return list(_elsewhere.get()) or jax.devices()


def device_count() -> int:
    """Returns how many devices programs are compiled for."""
    return len(_elsewhere.get()) or jax.device_count()


def process_count() -> int:
    """Returns how many processes the devices belong to."""
    elsewhere = _elsewhere.get()
    return len({device.process_index for device in elsewhere}) or jax.process_count()


def platform() -> str:
    """Returns what programs are compiled for: "cpu", "gpu" or "tpu"."""
    elsewhere = _elsewhere.get()
    return _stand_for.get() or (elsewhere[0].platform if elsewhere else jax.default_backend())


def is_stand_in() -> bool:
    """Tells whether devices of one platform stand in for those of another."""
    return bool(_stand_for.get())


@contextlib.contextmanager
def compiling_for(devices: Sequence[Any], stand_for: str = "") -> Iterator[None]:
    """Makes other devices those that programs are compiled for.

    What is assembled and traced inside has their mesh and their forms of operations; it can be
    compiled, and runs only where the devices are.

    Args:
        devices: Those of a `jax.experimental.topologies.TopologyDescription`, or others.
        stand_for: The platform whose forms of operations are taken on them; "" for their own.

    Yields:
        Nothing.
    """
    token, other = _elsewhere.set(tuple(devices)), _stand_for.set(stand_for)
    try:
        yield
    finally:
        _elsewhere.reset(token)
        _stand_for.reset(other)
