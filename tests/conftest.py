"""Eight forced CPU devices, strict promotion, and what several test files share."""

import os
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
DEVICES = "--xla_force_host_platform_device_count=8"

# Before jax starts. Level 1 compiles several times faster; what the tests compare does not need
# the fastest code.
os.environ["XLA_FLAGS"] = f"{DEVICES} --xla_backend_optimization_level=1"
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("UNET_JAX_CACHE", str(ROOT / "build" / "test-cache"))

from unet_jax import runtime  # noqa: E402

runtime.prepare()

import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session")
def command():
    """Returns a function that runs `python -m unet_jax.main` with flags, as a user would."""

    def run(*flags: object, devices: int = 1, **kwargs) -> subprocess.CompletedProcess:
        count = f"--xla_force_host_platform_device_count={devices}"
        env = os.environ | {"XLA_FLAGS": f"{count} --xla_backend_optimization_level=1"}
        line = [sys.executable, "-m", "unet_jax.main", *map(str, flags)]
        return subprocess.run(line, cwd=ROOT, env=env, capture_output=True, text=True, **kwargs)

    return run


def pytest_generate_tests(metafunc):
    """Runs a test that takes a `variant` for every variant, unless it says for which."""
    marked = any("variant" in m.args[0] for m in metafunc.definition.iter_markers("parametrize"))
    if "variant" in metafunc.fixturenames and not marked:
        from unet_jax.models.variants import VARIANTS

        metafunc.parametrize("variant", VARIANTS)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Makes every host unreachable; returns the addresses that were tried."""
    from unet_jax.data import tfds_pets

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
