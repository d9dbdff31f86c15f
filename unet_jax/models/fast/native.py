"""The filter gradient by a kernel in C++, compiled on first use by the system's compiler.

`filter_gradient.cc` is compiled once for every machine and kept in `runtime.cache_dir`. Where that
does not work, the `Kernel` says why, and XLA's form takes its place: no error of a compiler ends a
run. UNET_JAX_KERNELS=0 in the environment switches it off.
"""

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jaxlib

from unet_jax.process import runtime

SWITCH = "UNET_JAX_KERNELS"  # in the environment; "0" is off
SOURCE = Path(__file__).with_name("filter_gradient.cc")
FLAGS = ("-O3", "-march=native", "-std=c++17", "-fPIC", "-shared", "-w")
LONGEST = 120  # seconds for the compiler, which needs two on an idle core
_LOADING = threading.Lock()  # a run compiles its step in a thread beside


class Kernel(NamedTuple):
    """What came of the kernel.

    Attributes:
        target: Name that XLA knows it by, with a hash of all that it is made of, so that a compiled
            program in a cache never meets another kernel; None where there is none.
        why: Says why there is none.
    """

    target: str | None
    why: str = ""


def filter_gradient(x: jax.Array, dy: jax.Array) -> jax.Array:
    """Does what `plain.kernel_gradient` does; `load` has a target.

    Args:
        x: float32 [B, H, W, C].
        dy: float32 [B, H, W, F].

    Returns:
        float32 [3, 3, C, F], the same bytes with any number of threads.
    """
    target = load().target
    assert target
    result = jax.ShapeDtypeStruct((3, 3, x.shape[-1], dy.shape[-1]), jnp.float32)
    return jax.ffi.ffi_call(target, result, vmap_method="broadcast_all")(x, dy)


def load() -> Kernel:
    """Returns the kernel, compiled and known to XLA where that is possible and not switched off."""
    if os.environ.get(SWITCH, "1") == "0":
        return Kernel(None, f"{SWITCH}=0")
    with _LOADING:
        return _load()


@functools.cache
def _load() -> Kernel:
    own = os.environ.get("CXX", "")
    try:
        command = shlex.split(own) or _compiler()
        return _make([*command, *FLAGS]) if command else Kernel(None, "there is no C++ compiler")
    except (OSError, subprocess.SubprocessError, AttributeError, ValueError) as error:
        return Kernel(None, f"{own or 'the C++ compiler'} failed: {_first_line(error)}")


def _make(command: list[str]) -> Kernel:
    """Compiles the kernel, unless that was done before, and makes it known to XLA."""
    command = [*command, f"-I{jax.ffi.include_dir()}"]
    parts = [SOURCE.read_text(), *command, jaxlib.__version__, _machine()]
    name = f"unet_jax_filter_gradient_{hashlib.sha256(repr(parts).encode()).hexdigest()[:16]}"
    file = runtime.cache_dir() / "kernels" / f"{name}.so"
    if not file.exists():
        _compile(command, file)
    try:
        function = ctypes.CDLL(str(file)).FilterGradient
    except (OSError, AttributeError):
        file.unlink()  # so that the next process compiles it anew
        raise
    jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(function), platform="cpu")
    return Kernel(name)


def _compiler() -> list[str]:
    """Returns the first C++ compiler there is; [] for none."""
    return next(
        ([found] for name in ("c++", "g++", "clang++") if (found := shutil.which(name))), []
    )


def _machine() -> str:
    """Describes what -march=native depends on: homes may be shared by machines that differ."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    known = ("model name", "flags", "Features", "CPU part")
    return "\n".join(sorted({platform.machine(), *(n for n in lines if n.startswith(known))}))


def _compile(command: list[str], file: Path) -> None:
    """Writes the file as a whole, since other processes may compile and read it meanwhile."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        new = f"{folder}/new.so"
        line = [*command, str(SOURCE), "-o", new]
        subprocess.run(line, check=True, capture_output=True, text=True, timeout=LONGEST)
        os.replace(new, file)


def _first_line(error: Exception) -> str:
    text = getattr(error, "stderr", None) or str(error)
    return next(iter(str(text).strip().splitlines()), type(error).__name__)
