"""Reading what runs and sweeps write: what is broken ends in one line that names file and place."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unet_jax.errors import BrokenFileError

_LONGEST = 100  # characters of a value in a message

Shape = Any
"""What a JSON value must be: a type, `Number` or `Count`; a tuple of shapes, of which it must have
one; [shape] for a list; {name: shape} for an object with these names, and {str: shape} with any."""


class Number:
    """A number, also NaN or infinite, as JSON written by Python may hold it; or null."""


class Count:
    """A whole number that is not negative, such as a step."""


class Maybe:
    """What an object may lack, as files of older versions do."""

    def __init__(self, shape: Shape) -> None:
        """Takes the shape that it has where it is there."""
        self.shape = shape


def read_text(file: Path, what: str, advice: str) -> str | None:
    """Reads a text file.

    Args:
        file: The file.
        what: What it should be, such as "what a run wrote", for the error.
        advice: What to do where it is broken, for the error.

    Returns:
        Its text; None where there is none.

    Raises:
        BrokenFileError: It is there, but it is no file that can be read as text.
    """
    try:
        if file.exists() and not file.is_file():
            is_folder = file.is_dir()
            raise BrokenFileError(
                f"{file} is {'a folder' if is_folder else 'no regular file'}, where a file is "
                f"meant; {advice}."
            )
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        if file.is_symlink():
            raise BrokenFileError(f"{file} is a link to nothing; {advice}.") from None
        return None
    except NotADirectoryError:
        return None
    except UnicodeDecodeError as error:
        problem = f"no text: {error.reason} at byte {error.start}"
        raise BrokenFileError(f"{file} is not {what} ({problem}); {advice}.") from None
    except OSError as error:
        raise BrokenFileError(f"{file} cannot be read ({error.strerror}); {advice}.") from None


def read_json(file: Path, shape: Shape, what: str, advice: str) -> Any:
    """Reads a JSON file that a run or a sweep wrote.

    Args:
        file: The file.
        shape: What it must hold; see `Shape`.
        what: What it should be, such as "what a run wrote", for the error.
        advice: What to do where it is broken, for the error.

    Returns:
        What it holds; None where there is no file.

    Raises:
        BrokenFileError: It cannot be read, is no JSON, or holds something else.
    """
    text = read_text(file, what, advice)
    if text is None:
        return None
    value, problem = _parse(text, shape)
    if problem:
        raise BrokenFileError(f"{file} is not {what} ({problem}); {advice}.")
    return value


def recall(file: Path, shape: Shape) -> Any:
    """Reads a JSON file of a cache, which can be made again; None where it is of no use."""
    try:
        return read_json(file, shape, "", "")
    except BrokenFileError:
        return None


def read_lines(file: Path, shape: Shape, what: str, advice: str) -> list[Any]:
    """Reads the whole lines of a file with a JSON value in each.

    Args:
        file: The file; half a line at its end, still being written or cut off by a kill, is left
            out.
        shape: What each line must hold; see `Shape`.
        what: What it should be, such as "what a run wrote", for the error.
        advice: What to do where one is broken, for the error.

    Returns:
        What the lines hold; [] where there is no file.

    Raises:
        BrokenFileError: The file cannot be read, or a line holds something else.
    """
    *lines, _ = (read_text(file, what, advice) or "").split("\n")
    found = []
    for number, line in enumerate(lines, 1):
        value, problem = _parse(line, shape)
        if problem:
            raise BrokenFileError(f"{file}, line {number} is not {what} ({problem}); {advice}.")
        found.append(value)
    return found


def _parse(text: str, shape: Shape) -> tuple[Any, str | None]:
    """Returns the value of a JSON text, and what is wrong with it."""
    if not text.strip():
        return None, "it is empty"
    try:
        value = json.loads(text)
    except RecursionError:
        return None, "it is nested too deep"
    except ValueError as error:
        return None, f"no JSON: {error}"
    return value, mismatch(value, shape)


def mismatch(value: Any, shape: Shape, where: str = "") -> str | None:
    """Says where a JSON value has another shape than it must have; see `Shape`.

    Args:
        value: The value.
        shape: The shape.
        where: Path of the value, for the message.

    Returns:
        What is wrong; None if nothing is.
    """
    if isinstance(shape, tuple):
        problems = [mismatch(value, one, where) for one in shape]
        return None if None in problems else problems[0]
    kind, name = _kind(shape)
    is_bool_for_int = isinstance(value, bool) and shape in (Number, Count)
    if not isinstance(value, kind) or is_bool_for_int:
        return f"{where or 'it'} is {_short(value)}, not {name}"
    if isinstance(value, int) and not (0 if shape is Count else -(2**63)) <= value < 2**63:
        return f"{where or 'it'} is {_short(value)}, which no run counts to"
    if isinstance(shape, list):
        items = ((f"{where}[{index}]", item, shape[0]) for index, item in enumerate(value))
    elif isinstance(shape, dict):
        inner = {key: _inner(shape, key) for key in value}
        for key in shape:
            if key is not str and key not in value and not isinstance(shape[key], Maybe):
                return f"{where or 'it'} lacks {key!r}"
        start = f"{where}." if where else ""
        items = ((start + _short(key)[1:-1], value[key], inner[key]) for key in value)
    else:
        return None
    return next((found for item in items if (found := mismatch(item[1], item[2], item[0]))), None)


def _inner(shape: dict[Any, Shape], key: str) -> Shape:
    """Returns the shape of what an object holds under a name; any other name is let pass."""
    inner = shape.get(key, shape.get(str, object))
    return inner.shape if isinstance(inner, Maybe) else inner


def _kind(shape: Shape) -> tuple[Any, str]:
    """Returns the types that a shape stands for, and their name in a message."""
    names = {Number: "a number or null", Count: "a whole number from 0", str: "a text"}
    names |= {dict: "an object", bool: "true or false"}
    if isinstance(shape, dict):
        return Mapping, "an object"
    if isinstance(shape, list):
        return list, "a list"
    kinds = {Number: (int, float, type(None)), Count: int}
    return kinds.get(shape, shape), names.get(shape, getattr(shape, "__name__", str(shape)))


def _short(value: Any) -> str:
    try:
        text = json.dumps(value)
    except (ValueError, RecursionError):  # of thousands of digits
        return f"a {type(value).__name__} too long to write"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def is_finite(value: Any) -> bool:
    """Tells whether a value of a record is a finite number."""
    return isinstance(value, int | float) and math.isfinite(value)
