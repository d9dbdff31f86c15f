"""Writes a config as a page: what differs from the defaults, formatted as ruff formats."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from unet_jax.defaults import DEFAULTS, PARTS

WIDTH = 100  # letters of a line


def write_page(config: ConfigDict, about: str) -> str:
    """Writes the page of a config.

    Args:
        config: The whole config.
        about: The page's docstring.

    Returns:
        Python with a function `get_config`, whose config is equal to `config`.
    """
    text = about.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    sections = [
        _entry(f"{name}=", changes, 8) for name, changes in differences(config).items() if changes
    ]
    body = "\n".join(["    return page(", *sections, "    )"]) if sections else "    return page()"
    return f'''"""{text}"""

from unet_jax.defaults import ConfigDict, page


def get_config() -> ConfigDict:
{body}
'''


def differences(config: ConfigDict) -> dict[str, dict[str, Any]]:
    """Returns by section the keys whose values differ from their defaults.

    Args:
        config: The whole config.

    Returns:
        What `page` makes that config of. Of "augment" and "loss", all steps and terms there are.
    """
    values = config.copy_and_resolve_references().to_dict()
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
    for key, value in values.items():
        default = defaults[key]
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
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_literal(k)}: {_literal(v)}' for k, v in value.items())}}}"
    if isinstance(value, tuple):
        return f"({', '.join(map(_literal, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    if isinstance(value, str):
        written = repr(value)
        if written[0] == "'" and '"' not in value:
            return f'"{written[1:-1]}"'
        return written
    return repr(value)
