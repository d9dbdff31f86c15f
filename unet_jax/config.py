"""Config sections as keyword arguments: checking and storing them."""

import inspect
import json
import math
import reprlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from unet_jax.convert import convert, refuse_renamed
from unet_jax.defaults import DEFAULTS, to_config
from unet_jax.errors import BrokenFileError, UserError
from unet_jax.process import records

MOST_LETTERS, MOST_ITEMS, MOST_DEPTH = 2**12, 2**12, 8
MOST_FLOAT = 3.4028234663852886e38  # the largest of float32
SECTIONS = tuple(DEFAULTS)
PAIRS = "Instead of a dict, such as in label_map, write a tuple of pairs: ((0, 0), (255, 1))"
_WRITTEN = "a config that a run wrote"


def check_sections(config: ConfigDict) -> None:
    """Checks that a page has exactly the known sections, and values that JSON can write.

    A text has `MOST_LETTERS` at most and no NUL, a tuple `MOST_ITEMS`, tuples and sections in each
    other `MOST_DEPTH`, and an integer is less than 2^64 away from 0.

    Args:
        config: The whole config.

    Raises:
        UserError: A section is missing or unknown, or a value is none of these.
    """
    missing = [name for name in SECTIONS if name not in config]
    unknown = [name for name in config if name not in SECTIONS]
    if missing or unknown:
        lacks = [f"lacks the sections {missing}"] if missing else []
        has = [f"has the unknown sections {unknown}"] if unknown else []
        raise UserError(
            f"the config {' and '.join(lacks + has)}; it must have exactly these: "
            f"{', '.join(SECTIONS)}."
        )
    for name in SECTIONS:
        if not isinstance(config[name], Mapping | ConfigDict):
            raise UserError(f"config.{name}={_short(config[name])} must be a section of keys.")
    refuse_renamed(config)
    for name in SECTIONS:
        _check_value(f"config.{name}", config[name], 1)


def _check_value(key: str, value: Any, depth: int) -> None:
    """Checks that a value can be written and said; see `check_sections`."""
    if depth > MOST_DEPTH:
        raise UserError(f"{key} is nested deeper than {MOST_DEPTH}; no value is.")
    if isinstance(value, Mapping | ConfigDict):
        for name, item in value.items():
            if not isinstance(name, str):
                raise UserError(f"{key} has the key {_short(name)}; a key must be a text. {PAIRS}.")
            _check_value(f"{key}.{_short(name)[1:-1]}", item, depth + 1)
    elif isinstance(value, list | tuple):
        if len(value) > MOST_ITEMS:
            raise UserError(f"{key} has {len(value):,} values; {MOST_ITEMS:,} is the most.")
        for index, item in enumerate(value):
            _check_value(f"{key}[{index}]", item, depth + 1)
    elif isinstance(value, str):
        _check_text(key, value)
    elif isinstance(value, int) and abs(value) >= 2**64:
        raise UserError(f"{key} is an integer of {value.bit_length()} bits; 64 is the most.")
    elif not isinstance(value, bool | int | float | None):
        raise UserError(
            f"{key} is of type {type(value).__name__}; a value must be a number, a text, True, "
            "False, None, or a tuple of such values."
        )


def _check_text(key: str, text: str) -> None:
    if len(text) > MOST_LETTERS:
        raise UserError(f"{key} is a text of {len(text):,} letters; {MOST_LETTERS:,} is the most.")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UserError(f"{key}={text!r} is no text that UTF-8 can write.") from None
    if "\0" in text:
        raise UserError(f"{key}={text!r} has a NUL, which no value can have.")


def _short(value: Any) -> str:
    """Writes a value, a long one by its beginning; an int may have more digits than Python says."""
    try:
        return reprlib.repr(value)
    except ValueError:
        return f"({type(value).__name__})"


def call(
    function: Callable[..., Any],
    key: str,
    section: Mapping[str, Any],
    check: Callable[[Mapping[str, Any]], None] = lambda values: None,
    **derived: Any,
) -> Any:
    """Calls `function(**section, **derived)`, so that a section is exactly a function's arguments.

    Args:
        function: What the section configures.
        key: The section's full name, such as "config.optim".
        section: The values.
        check: Checks all arguments of the function, by name, before it is called.
        **derived: Arguments that are no config values, such as the number of classes.

    Returns:
        What the function returns.

    Raises:
        UserError: A key is unknown or missing, a value's type differs from the default's, or a
            number is not finite, or what `check` raises.
    """
    values = arguments(function, key, section, hidden=derived)
    check({**values, **derived})
    return function(**values, **derived)


def arguments(
    function: Callable[..., Any],
    key: str,
    section: Mapping[str, Any],
    hidden: Iterable[str] = (),
    every: Callable[..., Any] | None = None,
) -> dict[str, Any]:
    """Makes a section a function's arguments.

    Args:
        function: What the section configures.
        key: The section's full name, such as "config.optim".
        section: The values; of a key that is not there the function's default counts.
        hidden: Arguments that are no config values.
        every: A function whose arguments are keys of the section as well.

    Returns:
        A value for every argument, of its default's type, and finite.

    Raises:
        UserError: A key is unknown or missing, a value's type differs from the default's, or a
            number is not finite.
    """
    if not isinstance(section, Mapping | ConfigDict):
        raise UserError(f"{key}={section!r} must be a section, whose keys have values.")
    parameters = (keys_of(every) if every else {}) | keys_of(function, hidden)
    values = {}
    for name, value in section.items():
        if name not in parameters:
            allowed = ", ".join(parameters)
            raise UserError(f"{key}.{name} is not a config key; allowed are {allowed}.")
        default = parameters[name].default
        values[name] = tuples(value)  # JSON has lists
        _check_type(f"{key}.{name}", values[name], default)
        _check_finite(f"{key}.{name}", values[name])
        if type(values[name]) is int and isinstance(default, float):
            values[name] = float(values[name])  # an int may be more than the devices count to
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and name not in section:
            raise UserError(f"{key}.{name} is missing from the config page; add it.")
    return {name: values.get(name, parameters[name].default) for name in parameters}


def keys_of(
    function: Callable[..., Any], hidden: Iterable[str] = ()
) -> dict[str, inspect.Parameter]:
    """Returns the parameters of a function that are config keys, by name.

    Args:
        function: What a section configures.
        hidden: Parameters that are no config values.

    Returns:
        The parameters that are left.
    """
    # `parent` and `name` are fields that linen adds to every module.
    hidden = {*hidden, "parent"} | ({"name"} if hasattr(function, "apply") else set())
    parameters = inspect.signature(function).parameters
    return {name: p for name, p in parameters.items() if name not in hidden}


def check_parts(
    functions: Mapping[str, Callable[..., Any]],
    key: str,
    section: Mapping[str, Any],
    **options: Any,
) -> dict[str, dict[str, Any]]:
    """Checks a section of sections, each of which names a function and holds its arguments.

    Args:
        functions: The functions, by name.
        key: The section's full name, such as "config.loss".
        section: The values, by name of a function.
        **options: Of `arguments`.

    Returns:
        All arguments of the functions that are named, by name and in the section's order.

    Raises:
        UserError: There is no such function, or see `arguments`.
    """
    if not isinstance(section, Mapping | ConfigDict):
        raise UserError(f"{key}={section!r} must be a section, whose keys have values.")
    for name in section:
        if name not in functions:
            raise UserError(f"{key}.{name} is not known; allowed are {', '.join(functions)}.")
    return {
        name: arguments(functions[name], f"{key}.{name}", values, **options)
        for name, values in section.items()
    }


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
    if value not in list(options):  # a list has no hash
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


def to_json(config: ConfigDict) -> str:
    """Writes a config as JSON text, from which `load` makes an equal config."""
    return json.dumps(config.to_dict(), indent=2) + "\n"


def load(path: Path) -> ConfigDict:
    """Reads a config that `to_json` wrote.

    Args:
        path: A config.json.

    Returns:
        The config, of an older version as one of this version (see `convert.convert`); JSON's
        lists become tuples again.

    Raises:
        UserError: The file is missing, or, a BrokenFileError, is not what a run wrote.
    """
    advice = (
        "put it back, or train again with --overwrite and the --config=PAGE that the run was of"
    )
    found = records.read_json(path, {str: dict}, _WRITTEN, advice)
    if found is None:
        raise UserError(
            f"{path} does not exist; give --workdir the folder of a run that was started."
        )
    try:
        config = to_config(convert(tuples(found)))
        check_sections(config)
        return config
    except UserError as error:
        raise BrokenFileError(
            f"{path} is not {_WRITTEN}: {error} {advice[0].upper()}{advice[1:]}."
        ) from None
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        said = str(error) or type(error).__name__
        raise BrokenFileError(f"{path} is not {_WRITTEN} ({said}); {advice}.") from None


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
            f"{f' {PAIRS}.' if wanted is tuple and isinstance(value, Mapping | ConfigDict) else ''}"
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


def tuples(value: Any) -> Any:
    """Returns a value with tuples for all lists, as a config has them and JSON has not."""
    if isinstance(value, dict):
        return {key: tuples(item) for key, item in value.items()}
    return tuple(map(tuples, value)) if isinstance(value, list | tuple) else value
