"""3x3 convolutions and sums by kernels in C++, compiled on first use by the system's compiler.

`SOURCES` are compiled once for every machine and kept in `runtime.cache_dir`. Where that does not
work, `Kernels` say why, and XLA's forms take their place: no error of a compiler ends a run.
UNET_JAX_KERNELS=0 in the environment switches them off.
"""

import ctypes
import functools
import hashlib
import math
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
import numpy as np

from unet_jax.models.fast import plain
from unet_jax.process import runtime

SWITCH = "UNET_JAX_KERNELS"  # in the environment; "0" is off
FOLDER = Path(__file__).parent
MAIN = "kernels.cc"
SOURCES = (
    *(MAIN, "channel_sums.cc", "convolution.cc", "filter_gradient.cc"),
    *("lanes.h", "work.h"),
)
FUNCTIONS = {
    "convolution": "Convolution",
    "filter_gradient": "FilterGradient",
    "moments": "Moments",
    "products": "Products",
}
FLAGS = ("-O3", "-march=native", "-std=c++17", "-fPIC", "-shared", "-w")
LONGEST = 120  # seconds for the compiler, which needs three on an idle core
_LOADING = threading.Lock()  # a run compiles its step in a thread beside


class Kernels(NamedTuple):
    """What came of the kernels.

    Attributes:
        name: Begins the names that XLA knows them by, with a hash of all that they are made of, so
            that a compiled program in a cache never meets others; None where there are none.
        why: Says why there are none.
    """

    name: str | None
    why: str = ""


def convolution(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Does what `plain.convolution` does; see `affine_convolution`."""
    return affine_convolution(x, kernel, jnp.zeros(kernel.shape[-1:], jnp.float32))


def affine_convolution(
    x: jax.Array, kernel: jax.Array, bias: jax.Array, floor: float = -math.inf
) -> jax.Array:
    """Does what `plain.affine_convolution` does; `load` has a name.

    Args:
        x: float32 [B, H, W, C].
        kernel: float32 [3, 3, C, F].
        bias: float32 [F].
        floor: The least value of the result.

    Returns:
        float32 [B, H, W, F], the same bytes with any number of threads.
    """
    shape = (*x.shape[:-1], kernel.shape[-1])
    return _call("convolution", shape, x, kernel, bias, floor=np.float32(floor))


def data_gradient(dy: jax.Array, kernel: jax.Array) -> jax.Array:
    """Does what `plain.data_gradient` does, by `convolution`."""
    return convolution(dy, plain.turned(kernel))


def filter_gradient(x: jax.Array, dy: jax.Array) -> jax.Array:
    """Does what `plain.kernel_gradient` does; `load` has a name.

    Args:
        x: float32 [B, H, W, C].
        dy: float32 [B, H, W, F].

    Returns:
        float32 [3, 3, C, F], the same bytes with any number of threads.
    """
    return _call("filter_gradient", (3, 3, x.shape[-1], dy.shape[-1]), x, dy)


def channel_moments(x: jax.Array, center: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Does what `plain.channel_moments` does; `load` has a name.

    Args:
        x: float32 [..., C].
        center: float32 [C].

    Returns:
        Sums of x - center and of its squares, float32 [C] each, the same bytes with any number of
        threads.
    """
    sums = _call("moments", (2, x.shape[-1]), x, center)
    return sums[0], sums[1]


def channel_products(y: jax.Array, x: jax.Array, center: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Does what `plain.channel_products` does; see `channel_moments`."""
    sums = _call("products", (2, x.shape[-1]), y, x, center)
    return sums[0], sums[1]


def _call(
    function: str, shape: tuple[int, ...], *operands: jax.Array, **values: np.float32
) -> jax.Array:
    name = load().name
    assert name
    result = jax.ShapeDtypeStruct(shape, jnp.float32)
    call = jax.ffi.ffi_call(f"{name}_{function}", result, vmap_method="broadcast_all")
    return call(*operands, **values)


def load() -> Kernels:
    """Returns the kernels, compiled and known to XLA where possible and not switched off."""
    if os.environ.get(SWITCH, "1") == "0":
        return Kernels(None, f"{SWITCH}=0")
    with _LOADING:
        return _load()


@functools.cache
def _load() -> Kernels:
    own = os.environ.get("CXX", "")
    try:
        command = shlex.split(own) or _compiler()
        return _make([*command, *FLAGS]) if command else Kernels(None, "there is no C++ compiler")
    except (OSError, subprocess.SubprocessError, AttributeError, ValueError) as error:
        return Kernels(None, f"{own or 'the C++ compiler'} failed: {_first_line(error)}")


def _make(command: list[str]) -> Kernels:
    """Compiles the kernels, unless that was done before, and makes them known to XLA."""
    command = [*command, f"-I{jax.ffi.include_dir()}"]
    texts = [(FOLDER / name).read_text() for name in SOURCES]
    parts = [*texts, *command, jaxlib.__version__, _machine()]
    name = f"unet_jax_{hashlib.sha256(repr(parts).encode()).hexdigest()[:16]}"
    file = runtime.cache_dir() / "kernels" / f"{name}.so"
    if not file.exists():
        _compile(command, file)
    try:
        library = ctypes.CDLL(str(file))
        functions = {own: getattr(library, symbol) for own, symbol in FUNCTIONS.items()}
    except (OSError, AttributeError):
        file.unlink()  # so that the next process compiles it anew
        raise
    for own, function in functions.items():
        capsule = jax.ffi.pycapsule(function)
        jax.ffi.register_ffi_target(f"{name}_{own}", capsule, platform="cpu")
    return Kernels(name)


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
        line = [*command, str(FOLDER / MAIN), "-o", new]
        subprocess.run(line, check=True, capture_output=True, text=True, timeout=LONGEST)
        os.replace(new, file)


def _first_line(error: Exception) -> str:
    text = getattr(error, "stderr", None) or str(error)
    return next(iter(str(text).strip().splitlines()), type(error).__name__)
