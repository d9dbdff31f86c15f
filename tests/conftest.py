"""Eight forced CPU devices, strict promotion, and what several test files share."""

import atexit
import gc
import os
import socket
import subprocess
import sys

from support import forks, xla
from support.paths import ROOT

# Before jax starts. Every program that any test's process compiles is kept for all others.
os.environ |= xla.env(devices=8)
os.environ.setdefault("UNET_JAX_CACHE", str(ROOT / "build" / "test-cache"))
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # a hundred commands compile the package once

from unet_jax.process import runtime

runtime.prepare()

import jax  # noqa: E402
import pytest  # noqa: E402

sys.dont_write_bytecode = False
jax.config.update("jax_numpy_rank_promotion", "raise")
xla.share_contexts()
if "PYTEST_XDIST_WORKER" in os.environ:  # it has reported; jax would free all programs one by one
    atexit.register(os._exit, 0)
# Each full collection walks all that jax keeps: a fourth of the time that tracing takes.
gc.set_threshold(100_000, 20, 20)


@pytest.fixture(scope="session")
def command():
    """Returns a function that runs `python -m unet_jax.main` with flags, as a user would."""

    def run(*flags: object, devices: int = 1, **kwargs) -> subprocess.CompletedProcess:
        line = [sys.executable, "-m", "unet_jax.main", *flags]
        return forks.run(line, cwd=ROOT, env=xla.env(devices), **kwargs)

    return run


def pytest_sessionfinish() -> None:
    """Collects once what pytest would look for five times in all that jax keeps."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts files with slow tests first, so that no worker waits for one at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish() -> None:
    """Takes the environment once all files of tests are imported, some of which add to it."""
    forks.remember()


def pytest_generate_tests(metafunc):
    """Runs a test that takes a `variant` for every variant, unless it says for which."""
    marked = any("variant" in m.args[0] for m in metafunc.definition.iter_markers("parametrize"))
    if "variant" in metafunc.fixturenames and not marked:
        from unet_jax.models.variants import VARIANTS

        metafunc.parametrize("variant", VARIANTS)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Makes every host unreachable; returns the addresses that were tried."""
    from unet_jax.data.sets import tfds_pets

    tried = []

    def refuse(address: tuple[str, int], *_: object, **__: object) -> socket.socket:
        tried.append(address)
        raise OSError("network is\nunreachable")

    def download(*_: object) -> None:
        pytest.fail("tfds retries for minutes where there is no network")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(tfds_pets, "_download", download)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return tried
