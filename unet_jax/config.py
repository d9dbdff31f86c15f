"""Config sections as keyword arguments: checking, comparing and storing them."""

import inspect
import json
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from unet_jax.errors import UserError

MOST_FLOAT = 3.4028234663852886e38  # the largest of float32
SECTIONS = ("data", "augment", "model", "pretrained", "loss", "optim", "train", "eval", "mesh")
# Keys, or sections, that say where a run's data lie and how it is computed, not what: they may
# change when it goes on, is evaluated or predicts, and results stay the same up to rounding. That
# the data are the same is checked by their contents; see data/splits.py.
MAY_DIFFER = (
    "data.source",
    "data.path",
    "data.workers",
    "data.folder.images",
    "data.folder.masks",
    "data.folder.mask_suffix",
    "data.folder.lists",
    "data.tfds.verify_checksums",
    "eval.batch_size",
    "eval.pictures",
    "mesh",
)


def check_sections(config: ConfigDict) -> None:
    """Checks that a page has exactly the known sections.

    Args:
        config: The whole config.

    Raises:
        UserError: A section is missing or unknown.
    """
    missing = [name for name in SECTIONS if name not in config]
    unknown = [name for name in config if name not in SECTIONS]
    if missing or unknown:
        raise UserError(
            f"the config page lacks the sections {missing} and has the unknown sections {unknown}; "
            f"it must have exactly these: {', '.join(SECTIONS)}."
        )


def call(function: Callable[..., Any], key: str, section: Mapping[str, Any], **derived: Any) -> Any:
    """Calls `function(**section, **derived)`, so that a section is exactly a function's arguments.

    Args:
        function: What the section configures.
        key: The section's full name, such as "config.optim".
        section: The values.
        **derived: Arguments that are no config values, such as the number of classes.

    Returns:
        What the function returns.

    Raises:
        UserError: A key is unknown or missing, a value's type differs from the default's, or a
            number is not finite.
    """
    if not isinstance(section, Mapping | ConfigDict):
        raise UserError(f"{key}={section!r} must be a section, whose keys have values.")
    section = {name: _tuples(value) for name, value in section.items()}  # JSON has lists
    # `parent` and `name` are fields that linen adds to every module.
    hidden = {*derived, "parent"} | ({"name"} if hasattr(function, "apply") else set())
    parameters = {
        k: p for k, p in inspect.signature(function).parameters.items() if k not in hidden
    }
    arguments = dict(section.items())
    for name, value in section.items():
        if name not in parameters:
            allowed = ", ".join(parameters)
            raise UserError(f"{key}.{name} is not a config key; allowed are {allowed}.")
        _check_type(f"{key}.{name}", value, parameters[name].default)
        _check_finite(f"{key}.{name}", value)
        if type(value) is int and isinstance(parameters[name].default, float):
            arguments[name] = float(value)  # an int may be more than the devices count to
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and name not in section:
            raise UserError(f"{key}.{name} is missing from the config page; add it.")
    return function(**arguments, **derived)


def choose(options: Mapping[Any, Any], key: str, value: Any) -> Any:
    """Looks a config value up in a literal dict of choices.

    Args:
        options: The choices.
        key: The value's full config key, for the error.
        value: The value.

    Returns:
        `options[value]`.

    Raises:
        UserError: The value is not one of the choices.
    """
    if value not in options:
        allowed = ", ".join(map(str, options))
        raise UserError(f"{key}={value!r} is not known; allowed are {allowed}.")
    return options[value]


def check_range(key: str, value: float, low: float, high: float = math.inf) -> None:
    """Checks that a config value lies in a range, its ends included.

    Args:
        key: The value's full config key, for the error.
        value: The value.
        low: The smallest that is allowed.
        high: The largest.

    Raises:
        UserError: It does not.
    """
    if not value >= low:
        raise UserError(f"{key}={value} must be {low:g} or more.")
    if not value <= high:
        raise UserError(f"{key}={value} must be {high} or less.")


def differences(old: ConfigDict, new: ConfigDict) -> list[str]:
    """Names the keys in which two configs differ.

    Args:
        old: One config.
        new: The other.

    Returns:
        Lines such as "config.train.seed: 0 -> 1", sorted by key.
    """
    pairs = _different(old, new)
    return [f"config.{key}: {one!r} -> {other!r}" for key, (one, other) in pairs.items()]


def other_results(old: ConfigDict, new: ConfigDict) -> list[str]:
    """Names the keys in which two configs differ and that are not in `MAY_DIFFER`.

    Args:
        old: One config.
        new: The other.

    Returns:
        Lines as those of `differences`.
    """
    pairs = _different(old, new)
    return [
        f"config.{key}: {one!r} -> {other!r}"
        for key, (one, other) in pairs.items()
        if not may_differ(key)
    ]


def may_differ(key: str) -> bool:
    """Tells whether a key such as "data.path" is one of `MAY_DIFFER`, or below one."""
    return any(key == name or key.startswith(f"{name}.") for name in MAY_DIFFER)


def _different(old: ConfigDict, new: ConfigDict) -> dict[str, tuple[Any, Any]]:
    """Returns the values of two configs by the keys in which they differ, sorted."""
    flat_old, flat_new = dict(_flatten(old)), dict(_flatten(new))
    found = {}
    for key in sorted({*flat_old, *flat_new}):
        # A config of an older version lacks what was added since, whose default is what it did.
        lacking = "(absent)" if key in flat_old and key in flat_new else _default(key)
        one, other = flat_old.get(key, lacking), flat_new.get(key, lacking)
        if one != other:
            found[key] = one, other
    return found


def _default(key: str) -> Any:
    from unet_jax.experiment import FUNCTIONS  # which needs this module

    section, _, name = key.rpartition(".")
    if section not in FUNCTIONS:
        return "(absent)"
    parameters = inspect.signature(FUNCTIONS[section]).parameters
    has_default = name in parameters and parameters[name].default is not inspect.Parameter.empty
    return _tuples(parameters[name].default) if has_default else "(absent)"


def to_json(config: ConfigDict) -> str:
    """Writes a config as JSON text, from which `load` makes an equal config."""
    return json.dumps(config.to_dict(), indent=2) + "\n"


def load(path: Path) -> ConfigDict:
    """Reads a config that `to_json` wrote.

    Args:
        path: A config.json.

    Returns:
        The config; JSON's lists become tuples again.

    Raises:
        UserError: The file is missing or is no JSON object.
    """
    try:
        return ConfigDict(_tuples(json.loads(path.read_text())))
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(
            f"{path} does not exist; give --workdir the folder of a run that was started."
        ) from None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is not a config that a run wrote: {error}.") from None


def _check_type(key: str, value: Any, default: Any) -> None:
    if default is inspect.Parameter.empty or default is None:
        return
    wanted = Mapping if isinstance(default, Mapping) else type(default)
    is_int_for_float = wanted is float and type(value) is int
    is_bool_for_number = isinstance(value, bool) and wanted is not bool
    if is_bool_for_number or not (isinstance(value, wanted) or is_int_for_float):
        raise UserError(
            f"{key}={value!r} is of type {type(value).__name__}; "
            f"it must be of type {wanted.__name__}, for example {default!r}."
        )
    if isinstance(value, tuple) and isinstance(default, tuple) and default:
        for index, item in enumerate(value):
            _check_type(f"{key}[{index}]", item, default[0])


def _check_finite(key: str, value: Any) -> None:
    """Refuses NaN, infinity and what float32 makes infinite, alone or in a tuple."""
    if isinstance(value, tuple):
        for index, item in enumerate(value):
            _check_finite(f"{key}[{index}]", item)
    if isinstance(value, int | float) and not abs(value) <= MOST_FLOAT:
        raise UserError(f"{key}={value} must be finite, also as float32: {MOST_FLOAT:.4g} or less.")


def _flatten(section: Any, prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in section.items():
        if isinstance(value, Mapping | ConfigDict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", _tuples(value)


def _tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value
