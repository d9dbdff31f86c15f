"""Settings of the process that must be made before jax starts."""

import ctypes
import gc
import os
import platform
import signal
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from unet_jax.errors import LostProcessError
from unet_jax.process import signals

# jax 0.10 turned experimental fusions on for CPU that slow a U-Net's training step down; the empty
# value turns them off.
_CPU_FLAG = "--xla_cpu_experimental_ynn_fusion_type"
_SUPERVISED, TIED = "UNET_JAX_SUPERVISED", "UNET_JAX_TIED"  # process ids of the parent
# What launchers tell about the number of processes.
_COUNTS = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)
_RARELY = 1000  # collections of the young per full one
_collects: tuple[int, ...] = ()  # the thresholds of Python or the user, where others hold meanwhile


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
    with signals.blocked():
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def start_quickly() -> None:
    """Puts full garbage collections off until `has_started`.

    Imports and traces leave a million objects behind, which every full collection looks through: a
    tenth of the time to the first step. What is young is collected as always.
    """
    global _collects
    _collects = gc.get_threshold()
    gc.set_threshold(*_collects[:2], _RARELY)


def has_started() -> None:
    """Collects as before `start_quickly`, where that was called, but not what a start has left."""
    if _collects:
        gc.freeze()  # without a collection before: of all that a start makes, ten objects could go
        gc.set_threshold(*_collects)


def end_quickly() -> None:
    """Leaves all that is there out of the collections with which Python ends, as all is done.

    Those look four times through all that imports and traces have left: a third of a second.
    """
    gc.freeze()


def tie() -> None:
    """Makes this process die with its parent, where that is the one that $UNET_JAX_TIED names."""
    if os.environ.get(TIED) == str(os.getppid()):
        _die_with_parent()


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)


def is_one_of_many(flag: bool | None) -> bool:
    """Tells whether this process is one of many.

    Args:
        flag: What the user said; None to see whether Slurm or Open MPI started several.

    Returns:
        Whether to join others.
    """
    several = any(int(os.environ.get(name, "1")) > 1 for name in _COUNTS)
    return several if flag is None else flag


def supervise() -> None:
    """Starts this command again as a child and waits for it; only the child returns.

    jax ends a process whose peer was lost by an abort in native code, which Python cannot catch.
    The parent turns that into one clear line and an exit code of its own. Signals that ask to stop
    are passed on, and a child dies with its parent.
    """
    if os.environ.get(_SUPERVISED) == str(os.getppid()):
        _die_with_parent()
        signals.unblock()
        return
    line = [sys.executable, *sys.orig_argv[1:]]
    # In a session of its own, so that a signal to the whole group does not reach it twice.
    env = os.environ | {_SUPERVISED: str(os.getpid())}
    with signals.blocked():
        child = subprocess.Popen(line, env=env, start_new_session=True)
        signals.pass_on(child.send_signal)
    code = child.wait()
    if code == -signal.SIGABRT:
        error = LostProcessError()
        print(f"error: {error}", file=sys.stderr, flush=True)
        os._exit(error.exit_code)
    os._exit(code if code >= 0 else 128 - code)


def cores() -> int:
    """Returns how many threads XLA computes with on CPU, which decides how it splits its sums.

    That is $NPROC, or the number of cores that this process may use.
    """
    if "NPROC" in os.environ:
        return int(os.environ["NPROC"])
    can_tell = hasattr(os, "sched_getaffinity")  # not on macOS
    return len(os.sched_getaffinity(0)) if can_tell else os.cpu_count() or 1


def cache_dir() -> Path:
    """Returns where this user's caches lie: $UNET_JAX_CACHE, or ~/.cache/unet_jax."""
    return Path(os.environ.get("UNET_JAX_CACHE", "~/.cache/unet_jax")).expanduser()
