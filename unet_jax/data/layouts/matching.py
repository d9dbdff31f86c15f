"""Patterns of paths with placeholders, such as {split}/images/{name}_{split}.tif."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import NamedTuple

from unet_jax.data import storage
from unet_jax.data.files import SUFFIXES
from unet_jax.data.layouts.base import SPLIT_WORDS
from unet_jax.data.storage import AnyPath
from unet_jax.errors import UserError

SPLIT = "split"  # the placeholder that says to which split an image belongs
_TOKEN = re.compile(r"(\{[^{}/]*\}|\*)")
_ANY = r"[^/]+"


class Pattern(NamedTuple):
    """A pattern of paths below a folder.

    Attributes:
        text: As it is written.
        names: Of its placeholders, each once, in their order.
        key: The config key that holds it.
    """

    text: str
    names: tuple[str, ...]
    key: str


class Match(NamedTuple):
    """A file that a pattern matches, with the text that each placeholder stands for."""

    file: AnyPath
    values: dict[str, str]


def is_pattern(text: str) -> bool:
    """Tells whether a config's value is a pattern and no folder."""
    return "{" in text or "*" in text


def is_several(text: str) -> bool:
    """Tells whether a config's value is several patterns, of files whose channels are one image."""
    return is_pattern(text) and "," in text


def parse(text: str, key: str) -> Pattern:
    """Checks a pattern.

    Args:
        text: A path below the folder of the data, in which {NAME} stands for one or more letters
            but no "/", the same ones wherever it stands, and * for any.
        key: The config key that holds it.

    Returns:
        The pattern.

    Raises:
        UserError: It is none.
    """
    path = PurePath(text)
    names = tuple(dict.fromkeys(t[1:-1] for t in _TOKEN.findall(text) if t != "*"))
    rest = _TOKEN.sub("", text)
    leads_out = path.is_absolute() or ".." in path.parts or not path.parts
    if leads_out or "{" in rest or "}" in rest:
        raise UserError(
            f"{key}={text!r} is no pattern; it must be a path below config.data.path, with "
            "placeholders such as {name} and {split}, as in 'images/{name}.png'."
        )
    if wrong := [name for name in names if not name.isidentifier()]:
        raise UserError(
            f"{key}={text!r} has the placeholder {{{wrong[0]}}}; its name must be of letters, such "
            "as {name}."
        )
    return Pattern(unicodedata.normalize("NFC", text), names, key)


def match(root: AnyPath, pattern: Pattern) -> tuple[list[Match], list[AnyPath]]:
    """Finds the files that a pattern matches.

    Args:
        root: The folder that it is a path below; links are followed, hidden files passed over.
        pattern: The pattern.

    Returns:
        What it matches, sorted by path, and the other files in the folders of these.
    """
    others: list[AnyPath] = []
    found = list(_match(root, list(PurePath(pattern.text).parts), {}, others))
    if _TOKEN.search(PurePath(pattern.text).suffix):  # any suffix, so of images alone
        others += [one.file for one in found if one.file.suffix.lower() not in SUFFIXES]
        found = [one for one in found if one.file.suffix.lower() in SUFFIXES]
    return found, others


def _match(
    folder: AnyPath, parts: Sequence[str], values: dict[str, str], others: list[AnyPath]
) -> Iterator[Match]:
    part, *below = parts
    if not _TOKEN.search(part):
        path = folder / part
        if below and storage.is_folder(path):
            yield from _match(path, below, values, others)
        elif not below and storage.has_file(path):
            yield Match(path, values)
        return
    expression = _compile(part, values, is_last=not below)
    for entry in sorted(storage.entries(folder), key=str):
        found = expression.fullmatch(unicodedata.normalize("NFC", entry.name))
        if entry.name.startswith(".") and not part.startswith("."):
            continue
        if found is None:
            others += [] if below else [entry]
        elif not below:
            yield Match(entry, values | found.groupdict())
        elif storage.is_folder(entry):
            yield from _match(entry, below, values | found.groupdict(), others)


def _compile(part: str, values: dict[str, str], *, is_last: bool) -> re.Pattern[str]:
    """Makes a regular expression of a part between slashes; suffixes match in any case."""
    suffix = PurePath(part).suffix if is_last else ""
    suffix = "" if _TOKEN.search(suffix) else suffix
    text, seen = "", set()
    for token in _TOKEN.split(part.removesuffix(suffix)):
        name = token[1:-1]
        if not _TOKEN.fullmatch(token):
            text += re.escape(token)
        elif token == "*":
            text += r"[^/]*"
        elif name in values:
            text += re.escape(values[name])
        elif name in seen:
            text += f"(?P={name})"
        else:
            seen.add(name)
            words = "|".join(sorted(SPLIT_WORDS, key=len, reverse=True))
            text += f"(?P<{name}>{f'(?i:{words})' if name == SPLIT else _ANY})"
    return re.compile(f"{text}(?i:{re.escape(suffix)})", re.DOTALL)
