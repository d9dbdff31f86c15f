"""Compares what `--mode=plan` says with what training steps take.

python -m experiments.bench.plan_accuracy
python -m experiments.bench.plan_accuracy 64 128 8 plain   (WIDTH SIZE BATCH plain|remat|bfloat16)

Prints the plan's total, the measured growth and their ratio. Where the device counts its memory
(GPU), the growth is its peak. On CPU it is that of the process's resident memory, over what it was
with the program loaded, and before state and batch were made. Each configuration takes two fresh
processes: the first compiles, the second loads the program from the compilation cache, so that
nothing of the compiler's own memory is counted or used again. On Linux.

On CPU the plan contains an estimate of what no program counts, whose two numbers come from here
(`unet_jax.process.capacity.beside_program`): while convolutions run, they pack filters and images
into blocks of their own, glibc keeps blocks below 32 MiB once they were freed, and code is read
when it first runs. With MALLOC_MMAP_THRESHOLD_=65536 glibc keeps none.

Several devices of one process (XLA_FLAGS=--xla_force_host_platform_device_count=4) are counted
together.
"""

import ctypes
import json
import os
import re
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "configs" / "shapes.py"
STEPS = 5
CASES = (
    "16 128 4 plain", "16 128 8 plain", "16 256 4 plain", "16 256 8 plain", "32 128 8 plain",
    "32 256 4 plain", "32 256 8 plain", "16 256 8 remat", "16 256 8 bfloat16",
)  # fmt: skip


def make_config(width: str, size: str, batch: str, kind: str) -> Any:
    """Makes the config of a case: five levels, of width, 2 * width, and so on."""
    config = runpy.run_path(str(PAGE))["get_config"]()
    config.model.features = tuple(int(width) * 2**level for level in range(5))
    config.model.remat = tuple(range(5)) if kind == "remat" else ()
    config.model.dtype = "bfloat16" if kind == "bfloat16" else "float32"
    config.data.image_size, config.train.batch_size = (int(size), int(size)), int(batch)
    return config


def run(case: str) -> tuple[int, int]:
    """Takes steps of a case in this process.

    Args:
        case: WIDTH SIZE BATCH KIND.

    Returns:
        The plan's bytes, and the growth in bytes.
    """
    from unet_jax.process import runtime

    runtime.prepare()
    import jax

    from unet_jax.compiling import compile_step
    from unet_jax.data.pipeline import train_batches
    from unet_jax.experiment import assemble
    from unet_jax.plan.memory import read_memory
    from unet_jax.sharding import put_batch, replicate

    e = assemble(make_config(*case.split()))
    step = compile_step(e)
    count = jax.local_device_count()
    planned = count * read_memory(e, step).total
    key = replicate(jax.random.key(0), e.shardings)
    init: Any = e.init
    init = init.lower(key).compile()
    order = {"batch_size": e.plan.batch_size, "seed": 0, "start": 0, "stop": 1}
    images = next(train_batches(e.dataset.splits["train"], e.loading, **order))
    before = _reset_peak()
    state, batch = init(key), put_batch(images, e.shardings)
    for _ in range(STEPS):
        state, scalars = step(state, batch, key)
        jax.block_until_ready((state, scalars))
    counted = (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    return planned, count * counted if counted else _status("VmHWM") - before


def _reset_peak() -> int:
    """Gives freed memory back, and lets the peak begin anew; returns the resident bytes."""
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _status(name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found, name
    return int(found[1]) * 1024


def main(cases: tuple[str, ...]) -> None:
    """Measures every case and prints a table as Markdown."""
    print("| width, size, batch | plan, MiB | measured, MiB | plan / measured |")
    print("|---" * 4 + "|")
    for case in cases:
        with tempfile.TemporaryDirectory() as cache:
            # What the command itself starts with.
            env = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"} | os.environ
            env |= {"JAX_COMPILATION_CACHE_DIR": cache, "CASE": case}
            command = [sys.executable, "-m", "experiments.bench.plan_accuracy"]
            for _ in ("compiles", "loads"):
                text = subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE).stdout
        planned, measured = json.loads(text.splitlines()[-1])
        print(f"| {case} | {planned / 2**20:.0f} | {measured / 2**20:.0f} | ", end="")
        print(f"{planned / measured:.2f} |", flush=True)


if __name__ == "__main__":
    if "CASE" in os.environ:
        print(json.dumps(run(os.environ["CASE"])))
    else:
        main((" ".join(sys.argv[1:]),) if sys.argv[1:] else CASES)
