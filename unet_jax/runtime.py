"""Settings of the process that must be made before jax starts."""

import os
import platform
import sys
from importlib import metadata
from pathlib import Path

# jax 0.10 turned experimental fusions on for CPU that slow a U-Net's training step down; the empty
# value turns them off.
_CPU_FLAG = "--xla_cpu_experimental_ynn_fusion_type"


def prepare() -> None:
    """Sets XLA's flags and the compilation cache, unless the environment says otherwise.

    XLA_FLAGS keeps what the user put there, and a flag named there is not set again. Programs that
    were compiled once are kept in $JAX_COMPILATION_CACHE_DIR, by default ~/.cache/unet_jax/xla.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    version = tuple(int(part) for part in metadata.version("jaxlib").split(".")[:2])
    if _CPU_FLAG not in flags and (0, 10) <= version < (0, 12):  # XLA ends at a flag it lacks
        os.environ["XLA_FLAGS"] = f"{flags} {_CPU_FLAG}=".strip()
    cache = cache_dir() / "xla"
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")


def use_huge_pages() -> None:
    """Starts this command again with glibc's huge pages, on Linux.

    XLA's CPU backend takes the memory of all activations anew for every step, and the kernel hands
    it out in pages of 4 KiB: tens of thousands of page faults per step, a fifth of its time. glibc
    reads the setting only when a process starts. A GLIBC_TUNABLES of your own is kept, as it is.
    """
    name, version = platform.libc_ver()
    if name != "glibc" or "GLIBC_TUNABLES" in os.environ:
        return
    if tuple(int(part) for part in version.split(".")[:2]) < (2, 35):
        return
    os.environ["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=1"
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def cache_dir() -> Path:
    """Returns where this user's caches lie: $UNET_JAX_CACHE, or ~/.cache/unet_jax."""
    return Path(os.environ.get("UNET_JAX_CACHE", "~/.cache/unet_jax")).expanduser()
