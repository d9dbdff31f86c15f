"""Writes a config as a page: what differs from the defaults, formatted as ruff formats."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from unet_jax.defaults import DEFAULTS, PARTS

WIDTH = 100  # letters of a line, as in the stock pages


def write_page(config: ConfigDict, about: str) -> str:
    """Writes the page of a config.

    Args:
        config: The whole config.
        about: The page's docstring.

    Returns:
        Python with a function `get_config`, whose config is equal to `config`.
    """
    text = about.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    above, sections = [], []
    for name, changes in differences(config).items():
        if changes:
            named, own = _name_parts(name, changes)
            above += named
            sections.append(own)
    body = "\n".join([*above, "    return page(", *sections, "    )"])
    return f'''"""{text}"""

from unet_jax.defaults import ConfigDict, page


def get_config() -> ConfigDict:
{body if sections else "    return page()"}
'''


def _name_parts(section: str, changes: Mapping[str, Any]) -> tuple[list[str], str]:
    """Writes a section; where it is too long for a line, its parts get names in lines above."""
    line = _entry(f"{section}=", changes, 8)
    if "\n" not in line:
        return [], line
    parts = {key: value for key, value in changes.items() if isinstance(value, Mapping)}
    above = [_entry(f"{key} = ", value, 4, "") for key, value in parts.items()]
    return above, _entry(f"{section}=", dict(changes) | {key: _Name(key) for key in parts}, 8)


class _Name(str):
    """A variable of the page."""


def differences(config: ConfigDict) -> dict[str, dict[str, Any]]:
    """Returns by section the keys whose values differ from their defaults.

    Args:
        config: The whole config.

    Returns:
        What `page` makes that config of. Of "augment" and "loss", all steps and terms there are.
    """
    values = config.to_dict()
    found = {}
    for name, defaults in DEFAULTS.items():
        if name in PARTS:
            same = values[name] == defaults and [*values[name]] == [*defaults]
            found[name] = {} if same else _parts(values[name], PARTS[name])
        else:
            found[name] = _differ(values[name], defaults)
    return found


def _parts(values: Mapping[str, Any], parts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _differ(value, parts[name]) for name, value in values.items()}


def _differ(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for key, default in defaults.items():
        value = values[key]
        if isinstance(default, Mapping):
            inner = _differ(value, default)
            if inner:
                found[key] = inner
        elif value != default or type(value) is not type(default):
            found[key] = value
    return found


def _entry(before: str, value: Any, indent: int, after: str = ",") -> str:
    """Writes a value on a line where it fits, otherwise each of its parts on lines of its own."""
    line = f"{' ' * indent}{before}{_literal(value)}{after}"
    if len(line) <= WIDTH or not isinstance(value, Mapping | tuple | list) or not value:
        return line
    if isinstance(value, Mapping):
        ends = "{}"
        inner = [_entry(f"{_literal(k)}: ", v, indent + 4) for k, v in value.items()]
    else:
        ends = "()" if isinstance(value, tuple) else "[]"
        inner = [_entry("", v, indent + 4) for v in value]
    return "\n".join(
        [f"{' ' * indent}{before}{ends[0]}", *inner, f"{' ' * indent}{ends[1]}{after}"]
    )


def _literal(value: Any) -> str:
    """Writes a value as Python, with double quotes where a text has none."""
    if isinstance(value, _Name):
        return str(value)
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_literal(k)}: {_literal(v)}' for k, v in value.items())}}}"
    if isinstance(value, tuple):
        return f"({', '.join(map(_literal, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    if isinstance(value, str):
        inner = repr(f'"{value}')[2:-1]  # as between single quotes, which are escaped
        if value.count('"') > value.count("'"):
            return f"'{inner}'"
        within = inner.replace("\\'", "'").replace('"', '\\"')
        return f'"{within}"'
    return repr(value)
