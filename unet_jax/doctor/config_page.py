"""Writes a config as a page: what differs from the defaults, formatted as ruff formats."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from unet_jax.defaults import DEFAULTS, PARTS

WIDTH = 100  # letters of a line, as in the stock pages
TOGETHER = {
    "data": ("loading", ("image_size", "fit", "val_fraction", "crops", "value_range", "workers")),
    "train": ("often", ("eval_every", "checkpoint_every", "log_every")),
}
"""Keys of a section that get one name together where it is long."""


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
    named = {k: v for k, v in changes.items() if isinstance(v, Mapping) and len(v) > 1}
    shown: dict[str, Any] = {**changes} | {key: _Name(key) for key in named}
    line = _entry(f"{section}=", shown, 8)
    if "\n" in line and section in TOGETHER:
        name, keys = TOGETHER[section]
        named[name] = {key: shown[key] for key in keys if key in shown}
        shown = {key: value for key, value in shown.items() if key not in keys}
        line = _entry(f"{section}=", shown | {_Spread(name): None}, 8)
    return [_entry(f"{key} = ", value, 4, "") for key, value in named.items()], line


class _Name(str):
    """A variable of the page."""


class _Spread(str):
    """A variable of the page, whose keys are keys of the dict that it is in."""


def differences(config: ConfigDict) -> dict[str, dict[str, Any]]:
    """Returns by section the keys whose values differ from their defaults.

    Args:
        config: The whole config.

    Returns:
        What `page` makes that config of. Of steps, terms and metrics, all that there are.
    """
    values = config.to_dict()
    found = {}
    for name, defaults in DEFAULTS.items():
        if name in PARTS:
            same = values[name] == defaults and [*values[name]] == [*defaults]
            found[name] = {} if same else _parts(values[name], PARTS[name])
        else:
            found[name] = _differ(values[name], defaults)
    if metrics := _parts(values["eval"]["metrics"], PARTS["eval.metrics"]):
        found["eval"] |= {"metrics": metrics}
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
        inner = [_entry(*_item(k, v), indent + 4) for k, v in value.items()]
    else:
        ends = "()" if isinstance(value, tuple) else "[]"
        inner = [_entry("", v, indent + 4) for v in value]
    return "\n".join(
        [f"{' ' * indent}{before}{ends[0]}", *inner, f"{' ' * indent}{ends[1]}{after}"]
    )


def _item(key: str, value: Any) -> tuple[str, Any]:
    """Returns what stands before a value of a dict, and the value."""
    return ("**", _Name(key)) if isinstance(key, _Spread) else (f"{_literal(key)}: ", value)


def _literal(value: Any) -> str:
    """Writes a value as Python, with double quotes where a text has none."""
    if isinstance(value, _Name):
        return str(value)
    if isinstance(value, Mapping):
        items = (_item(key, item) for key, item in value.items())
        return f"{{{', '.join(f'{before}{_literal(item)}' for before, item in items)}}}"
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
