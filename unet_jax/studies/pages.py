"""Study pages and the configs of trials; imports no jax."""

import os
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from unet_jax.command_line import parse_values
from unet_jax.config import PAIRS, check_sections
from unet_jax.convert import refuse_key
from unet_jax.defaults import add_part, complete
from unet_jax.errors import UserError
from unet_jax.page import call_page, load_page
from unet_jax.process.paths import expand
from unet_jax.studies.study import Point, Range, Study


def load_study(file: Path) -> Study:
    """Reads a study page.

    Args:
        file: A Python file with a function get_study().

    Returns:
        The study.

    Raises:
        UserError: There is no such file, or it makes no study; the line is named.
    """
    if not os.path.isfile(file):
        raise UserError(
            f"--study={file} is no file; give a study page, a Python file with a function "
            "get_study()."
        )
    study = call_page(file, "get_study", Study)
    for name, (fits, what) in _parts(study).items():
        if not fits:
            value = reprlib.repr(getattr(study, name))
            raise UserError(f"--study={file}: Study({name}={value}) must be {what}.")
    return study


def _parts(study: Study) -> dict[str, tuple[bool, str]]:
    """Returns whether a study's parts are what they must be, and that in words, by name."""

    def is_table(table: Any, kind: type = object) -> bool:
        return isinstance(table, Mapping) and all(
            isinstance(key, str) and isinstance(value, kind) for key, value in table.items()
        )

    are_points = isinstance(study.design, list) and all(
        isinstance(point, Point) and is_table(point.labels, str) and is_table(point.overrides)
        for point in study.design
    )
    return {
        "page": (isinstance(study.page, str), "a text, such as 'configs/oxford_pets.py:cpu'"),
        "design": (are_points, "points, made by grid(...), choices(...) or seeds(...)"),
        "overrides": (is_table(study.overrides), "values by config key"),
        "baseline": (is_table(study.baseline, str), "labels by factor, both texts"),
        "search": (
            is_table(study.search, Range),
            "ranges by config key, such as uniform(0.0, 1.0)",
        ),
    }


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
        parse_values(found, argv)
    except UserError as error:
        raise UserError(f"--set: {error}") from error
    return config_flags.get_override_values(found["config"])


def make_config(page: str, overrides: Mapping[str, Any]) -> ConfigDict:
    """Makes the config of a trial, as --config=PAGE with --config.KEY=VALUE would.

    Args:
        page: The config page.
        overrides: Values by key.

    Returns:
        The whole config.

    Raises:
        UserError: The page cannot be read, a key is unknown or a value is of another type, or none
            that a config can hold.
    """
    config = _read(page)
    set_values(config, page, overrides)
    check_sections(config)
    return config


def set_values(config: ConfigDict, page: str, overrides: Mapping[str, Any]) -> None:
    """Sets values of a config.

    Args:
        config: The whole config, which is changed.
        page: What it was read from, for errors.
        overrides: Values by key.

    Raises:
        UserError: A key is unknown or a value is of another type.
    """
    for key, value in overrides.items():
        section, name = _find(config, page, key)
        old = section[name]
        if isinstance(old, ConfigDict):
            raise UserError(_is_section(page, key, old))
        fits = not isinstance(value, bool) or isinstance(old, bool | None)
        is_one = isinstance(old, tuple) and isinstance(value, str)  # as the command line reads it
        try:
            section[name] = (value,) if is_one else value
        except TypeError:
            fits = False
        if not fits:
            raise UserError(
                f"{key}={value!r} is of type {type(value).__name__}; in {page} it is {old!r}, of "
                f"type {type(old).__name__}.{f' {PAIRS}.' if isinstance(value, Mapping) else ''}"
            )


def _read(page: str) -> ConfigDict:
    """Returns the config of a page with its recipe."""
    return complete(load_page(str(expand(page, "page")), f"the page {page!r}"))


def _find(config: ConfigDict, page: str, key: str) -> tuple[ConfigDict, str]:
    """Returns the section that holds a key, and its name there; a step or term is added for it."""
    refuse_key(key)
    add_part(config, key)
    *path, name = key.split(".")
    section = config
    for depth, part in enumerate([*path, name]):
        if not isinstance(section, ConfigDict) or part not in section:
            above = ".".join(["config", *path[:depth]])
            has = ", ".join(sorted(section)) if isinstance(section, ConfigDict) else repr(section)
            raise UserError(f"{key} is not a config key; in {page}, {above} has {has}.")
        if depth < len(path):
            section = section[part]
    return section, name


def _is_section(page: str, key: str, section: ConfigDict) -> str:
    return f"{key} is a section of {page}; give a value for one of {', '.join(sorted(section))}."
