"""The config of an earlier run as a config page: --config=unet_jax/saved.py:DIR/config.json."""

from pathlib import Path

from ml_collections import ConfigDict

from unet_jax.config import load


def get_config(file: str) -> ConfigDict:
    """Reads the config that a run wrote.

    Args:
        file: Its config.json.

    Returns:
        The config.
    """
    return load(Path(file))
