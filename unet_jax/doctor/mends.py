"""Applies what findings say to do to a config."""

import ast
import shlex
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from unet_jax.defaults import add_part, to_config
from unet_jax.doctor.finding import Finding

_SPECIAL = set('"$`\\!')  # within double quotes of a shell
EXCLUDE = "data.folder.exclude"  # of which every finding names its own images


def settings(findings: Iterable[Finding]) -> dict[str, tuple[Any, Finding]]:
    """Reads the values that findings say to set.

    Args:
        findings: Errors first; where two set one key, the first counts. Exclusions are joined.

    Returns:
        By key such as "data.fit", the value and the finding that says so.
    """
    found: dict[str, tuple[Any, Finding]] = {}
    for finding in findings:
        for key, value in _lines(finding):
            if key == EXCLUDE and key in found:
                names, first = found[key]
                found[key] = tuple(dict.fromkeys((*names, *value))), first
            else:
                found.setdefault(key, (value, finding))
    return found


def _lines(finding: Finding) -> Iterator[tuple[str, Any]]:
    for line in finding.mend.splitlines() if finding.is_config() else ():
        key, _, value = line.removeprefix("config.").partition("=")
        try:
            yield key, ast.literal_eval(value)
        except ValueError:  # a word, as on the command line
            yield key, value


def apply(config: ConfigDict, values: Mapping[str, Any]) -> ConfigDict:
    """Returns a copy of a config with other values by key."""
    changed = to_config(config.to_dict())  # which keeps the order of steps, and no references
    for key, value in values.items():
        add_part(changed, key)
        *path, name = key.split(".")
        section = changed
        for part in path:
            section = section[part]
        section[name] = value
    return changed


def flag(key: str, value: Any) -> str:
    """Writes a value as a flag that can be pasted into a shell."""
    text = value if isinstance(value, str) else repr(value)
    needs_quotes = shlex.quote(text) != text
    if needs_quotes and not _SPECIAL & set(text):
        return f'--config.{key}="{text}"'
    return f"--config.{key}={shlex.quote(text)}"


def flags(finding: Finding) -> tuple[str, ...]:
    """Writes a mend as flags; () where it is a sentence."""
    return tuple(flag(key, value) for key, value in _lines(finding))
