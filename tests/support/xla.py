"""What tests ask of XLA: devices out of the CPU, and programs that compile quickly."""

import os
from importlib import metadata

_VERSION = tuple(int(part) for part in metadata.version("jaxlib").split(".")[:2])
# XLA ends at a flag that it lacks.
_HAS_EMITTERS = (0, 10) <= _VERSION < (0, 12)
EMITTERS = {"xla_cpu_use_fusion_emitters": True} if _HAS_EMITTERS else {}
"""Compiler options of a program that is compiled as for users."""


def flags(devices: int = 1) -> str:
    """Returns XLA_FLAGS of a process with some devices.

    Level 0 without the fusion emitters compiles ten times faster than what users have; what tests
    compare does not need the fastest code.
    """
    quick = "--xla_backend_optimization_level=0"
    quick += " --xla_cpu_use_fusion_emitters=false" if _HAS_EMITTERS else ""
    return f"--xla_force_host_platform_device_count={devices} {quick}"


def env(devices: int = 1) -> dict[str, str]:
    """Returns the environment of a process with some devices."""
    return os.environ | {"XLA_FLAGS": flags(devices), "JAX_PLATFORMS": "cpu"}
