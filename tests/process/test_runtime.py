import gc
import os
import platform
import subprocess
import sys

import pytest

from unet_jax.process import runtime

CODE = (
    "import os; from unet_jax.process import runtime; runtime.use_huge_pages(); "
    "print(os.getpid(), os.environ['GLIBC_TUNABLES'])"
)


def start(**env):
    kept = {key: value for key, value in os.environ.items() if key != "GLIBC_TUNABLES"}
    process = subprocess.Popen(
        [sys.executable, "-c", CODE], env=kept | env, stdout=subprocess.PIPE, text=True
    )
    output, _ = process.communicate(timeout=60)
    pid, tunables = output.split()
    assert int(pid) == process.pid
    return tunables


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="huge pages are set through glibc")
def test_huge_pages_start_the_same_process_again():
    assert start() == "glibc.malloc.hugetlb=1"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="huge pages are set through glibc")
def test_own_tunables_are_kept():
    assert start(GLIBC_TUNABLES="glibc.malloc.check=1") == "glibc.malloc.check=1"


GRADIENT = """
import hashlib, os, sys
if sys.argv[1] == "one":
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import jax, numpy as np
from unet_jax.process.runtime import cores
rng = np.random.default_rng(0)
x, k = (rng.standard_normal(n, np.float32) for n in ((8, 64, 64, 16), (3, 3, 16, 16)))
def loss(k):
    return (jax.lax.conv_general_dilated(x, k, (1, 1), "SAME", None, None,
                                         ("NHWC", "HWIO", "NHWC")) ** 2).mean()
print(cores(), hashlib.sha256(np.asarray(jax.jit(jax.grad(loss))(k)).tobytes()).hexdigest())
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
def test_the_number_of_cores_decides_the_bytes_of_sums():
    found = []
    for which, threads in (("one", None), ("all", "1"), ("one", "2"), ("all", "2")):
        env = {k: v for k, v in os.environ.items() if k not in ("NPROC", "XLA_FLAGS")}
        env |= {"NPROC": threads} if threads else {}
        line = [sys.executable, "-c", GRADIENT, which]
        found.append(subprocess.check_output(line, env=env, text=True).split())
    assert [count for count, _ in found] == ["1", "1", "2", "2"]
    assert found[0] == found[1]
    assert found[2] == found[3]
    assert found[0][1] != found[2][1]


def test_full_collections_are_rare_until_the_first_step(monkeypatch):
    before = gc.get_threshold()
    monkeypatch.setattr(runtime, "_collects", ())
    frozen = gc.get_freeze_count()
    runtime.has_started()
    assert (gc.get_threshold(), gc.get_freeze_count()) == (before, frozen)
    runtime.start_quickly()
    assert gc.get_threshold() == (*before[:2], 1000)
    runtime.has_started()
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() > frozen + 10_000, "later collections leave out what a start left"
    gc.unfreeze()


def test_a_command_ends_without_looking_at_all_that_it_has_imported():
    """Python collects several times at its end; what it would look through is what is listed."""
    code = (
        "import gc, sys; from unet_jax import main, command_line; main.__name__ = '__main__';"
        "before = len(gc.get_objects());"
        "code = command_line.run(['x', '--mode=eval', '--workdir=/nowhere'], main.run, main);"
        "print(code, before, len(gc.get_objects()))"
    )
    code, before, after = map(int, subprocess.check_output([sys.executable, "-c", code]).split())
    assert code == 2
    assert before > 10_000 > 50 * after
