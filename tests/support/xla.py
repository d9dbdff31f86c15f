"""What tests ask of XLA: devices out of the CPU, and programs that compile quickly."""

import os
import threading
from importlib import metadata

_VERSION = tuple(int(part) for part in metadata.version("jaxlib").split(".")[:2])
# XLA ends at a flag that it lacks.
_HAS_EMITTERS = (0, 10) <= _VERSION < (0, 12)
EMITTERS = {"xla_cpu_use_fusion_emitters": True} if _HAS_EMITTERS else {}
"""Compiler options of a program that is compiled as for users."""


def flags(devices: int = 1) -> str:
    """Returns XLA_FLAGS of a process with some devices.

    Level 0 without the fusion emitters compiles ten times faster than what users have; what tests
    compare does not need the fastest code. A program in one part compiles with less work than in 32
    at once, and both cores are busy anyway.
    """
    quick = "--xla_backend_optimization_level=0"
    if _HAS_EMITTERS:
        quick += " --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
    return f"--xla_force_host_platform_device_count={devices} {quick}"


def env(devices: int = 1) -> dict[str, str]:
    """Returns the environment of a process with some devices."""
    return os.environ | {"XLA_FLAGS": flags(devices), "JAX_PLATFORMS": "cpu"}


class _Kept(threading.local):
    left = 0  # programs that the context is still good for


def share_contexts() -> None:
    """Makes jax lower many programs of a thread in one MLIR context, which takes 5 ms to make.

    jax makes one for every program, and tests have thousands of tiny ones. A context keeps the
    constants of its programs, so that a new one comes from time to time.
    """
    from jax._src.interpreters import mlir

    make, kept = mlir.make_ir_context, _Kept()

    def shared():
        if not kept.left:
            kept.context, kept.left = make(), 200
        kept.left -= 1
        return kept.context

    mlir.make_ir_context = shared
