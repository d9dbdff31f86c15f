"""Packages the pages of configs/ as unet_jax.pages; all else is in pyproject.toml."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["unet_jax", "unet_jax.*"]), "unet_jax.pages"],
    package_dir={"unet_jax.pages": "configs"},
)
