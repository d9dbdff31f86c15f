"""Trained runs of random weights, each made once."""

import pytest
from support.predicting import CONFIG, begin_run, spread


def _config(**data):
    config = CONFIG.copy_and_resolve_references()
    config.model.repeats = config.model.decoder_repeats = (1,)
    config.model.features = (2, 4)
    for name, value in data.items():
        config.data[name] = value
    return config


@pytest.fixture(scope="session")
def run_config():
    """Returns a function that makes the config of a tiny run."""
    return _config


@pytest.fixture(scope="session")
def crop_run(tmp_path_factory):
    """Returns a run that predicts images at their own size, and its config."""
    config = _config(fit="crop")
    return begin_run(tmp_path_factory.mktemp("export") / "crop", config, change=spread), config
