"""Caches of a test's own."""

from pathlib import Path

import pytest

from unet_jax.process.runtime import cache_dir


def give_own(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives a test a cache of what is known of its data alone, in folder/cache.

    The kernels stay those of all tests: each of its commands would compile them anew, for seconds.
    """
    kernels = cache_dir() / "kernels"
    kernels.mkdir(parents=True, exist_ok=True)
    (folder / "cache").mkdir()
    (folder / "cache" / "kernels").symlink_to(kernels)
    monkeypatch.setenv("UNET_JAX_CACHE", str(folder / "cache"))
