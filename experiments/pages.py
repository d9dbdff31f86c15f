"""Study pages and the configs of trials; imports no jax."""

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from experiments.study import Study
from unet_jax.command_line import keep_last
from unet_jax.errors import UserError

ROOT = Path(__file__).parents[1]


def load_study(file: Path) -> Study:
    """Reads a study page.

    Args:
        file: A Python file with a function get_study().

    Returns:
        The study.

    Raises:
        UserError: There is no such file, or it makes no study.
    """
    if not file.is_file():
        raise UserError(
            f"--study={file} is no file; give a study page, such as "
            "experiments/studies/upsampling.py."
        )
    try:
        study = _load(file).get_study()
    except Exception as error:  # whatever a page does wrong is for its author to mend
        raise UserError(f"--study={file}: {_describe(error)}") from error
    if not isinstance(study, Study):
        raise UserError(f"--study={file}: get_study() returned {study!r}; it must return a Study.")
    return study


def parse_overrides(page: str, given: Sequence[str]) -> dict[str, Any]:
    """Reads config values as the command line would.

    Args:
        page: The config page.
        given: KEY=VALUE, such as "data.source=folder".

    Returns:
        The values, of the page's types, by key; of a key that is given twice the last.

    Raises:
        UserError: One is no KEY=VALUE, its key is unknown or its value does not fit.
    """
    config = _read(page)
    for text in given:
        key, equals, _ = text.partition("=")
        if not equals:
            raise UserError(f"--set={text} must be KEY=VALUE, such as data.source=folder.")
        section, name = _find(config, page, key)
        if isinstance(section[name], ConfigDict):
            raise UserError(f"--set={text}: {_is_section(page, key, section[name])}")
    argv, found = ["sweep", *(f"--config.{text}" for text in given)], flags.FlagValues()
    config_flags.DEFINE_config_dict("config", config, flag_values=found, sys_argv=argv)
    try:
        found(argv)
        keep_last(found, argv)
    except (flags.Error, SyntaxError, TypeError, ValueError) as error:
        raise UserError(f"--set: {str(error).splitlines()[-1]}") from error
    return config_flags.get_override_values(found["config"])


def make_config(page: str, overrides: Mapping[str, Any]) -> ConfigDict:
    """Makes the config of a trial, as --config=PAGE with --config.KEY=VALUE would.

    Args:
        page: The config page.
        overrides: Values by key.

    Returns:
        The whole config.

    Raises:
        UserError: The page cannot be read, a key is unknown or a value is of another type.
    """
    config = _read(page)
    for key, value in overrides.items():
        section, name = _find(config, page, key)
        old = section[name]
        if isinstance(old, ConfigDict):
            raise UserError(_is_section(page, key, old))
        fits = not isinstance(value, bool) or isinstance(old, bool | None)
        try:
            section[name] = value
        except TypeError:
            fits = False
        if not fits:
            raise UserError(
                f"{key}={value!r} is of type {type(value).__name__}; in {page} it is {old!r}, of "
                f"type {type(old).__name__}."
            )
    return config


def _read(page: str) -> ConfigDict:
    """Returns the config of a page with its recipe."""
    name, *recipe = page.split(":", 1)
    file = ROOT / name
    if not file.is_file():
        raise UserError(
            f"the study's page {page!r} is no file; give a config page, from {ROOT} or as an "
            "absolute path, such as configs/oxford_pets.py:cpu."
        )
    try:
        return _load(file).get_config(*recipe)
    except Exception as error:  # likewise
        raise UserError(f"{page}: {_describe(error)}") from error


def _load(file: Path) -> Any:
    """Runs a page and returns its module; nothing remembers it."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None  # of a file that ends in .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _describe(error: Exception) -> str:
    kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
    return f"{kind}{' '.join(str(error).split())}"


def _find(config: ConfigDict, page: str, key: str) -> tuple[ConfigDict, str]:
    """Returns the section that holds a key, and its name there."""
    *path, name = key.split(".")
    section = config
    for depth, part in enumerate([*path, name]):
        if not isinstance(section, ConfigDict) or part not in section:
            above = ".".join(["config", *path[:depth]])
            has = ", ".join(section) if isinstance(section, ConfigDict) else repr(section)
            raise UserError(f"{key} is not a config key; in {page}, {above} has {has}.")
        if depth < len(path):
            section = section[part]
    return section, name


def _is_section(page: str, key: str, section: ConfigDict) -> str:
    return f"{key} is a section of {page}; give a value for one of {', '.join(section)}."
