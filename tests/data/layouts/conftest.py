"""A folder for a data set, and a cache of its own: what is kept of files is no other test's."""

import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("UNET_JAX_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def root(tmp_path):
    return tmp_path / "data"
