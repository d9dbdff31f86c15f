import os
import platform
import subprocess
import sys

import pytest

CODE = (
    "import os; from unet_jax import runtime; runtime.use_huge_pages(); "
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
