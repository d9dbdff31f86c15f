"""Patterns with placeholders that pair files, such as {split}/images/{name}_{split}.tif."""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import NamedTuple

from unet_jax.data import storage
from unet_jax.data.exclude import Exclusion, UnpairedError
from unet_jax.data.files import SUFFIXES, FilePairs, say_once
from unet_jax.data.layouts.base import KEY, SPLIT_WORDS, Found, Given, refuse_layers
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


class _Whole(NamedTuple):
    """An image with its partners: the texts of its placeholders, and all files."""

    values: dict[str, str]
    files: tuple[AnyPath, ...]


_ByKey = dict[tuple[str, ...], Match]  # by what pairs files


def is_pattern(text: str) -> bool:
    """Tells whether a config's value is a pattern and no folder."""
    return "{" in text or "*" in text


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


def find_patterns(root: AnyPath, given: Given) -> Found:
    """Finds images with their masks, and weights, by the patterns of a config.

    Args:
        root: The folder that the patterns are paths below.
        given: The patterns.

    Returns:
        The pairs, whose ids are what the placeholders of the images stand for; and their splits,
        where {split} is one of these.

    Raises:
        UserError: A pattern is wrong, or a file has no partner or two.
    """
    refuse_layers(given, "patterns pair an image with one mask")
    images = parse(given.images, f"{KEY}.images")
    masks = _parse_partner(given.masks, f"{KEY}.masks", images)
    patterns = [images, masks]
    if given.weight:
        patterns.append(_parse_partner(given.weight, f"{KEY}.weight", images))
    found = [match(root, pattern) for pattern in patterns]
    for pattern, (files, _) in zip(patterns, found, strict=True):
        _check_found(root, pattern, [file for file, _ in files])
    _say_others(root, found)
    image_of, *partners = (
        _by_key(files, pattern) for pattern, (files, _) in zip(patterns, found, strict=True)
    )
    whole: dict[str, _Whole] = {}
    alone: dict[str, list[AnyPath]] = {}
    for file, values in image_of.values():
        keys = [_key(values, pattern.names) for pattern in patterns[1:]]
        others = [by_key.get(key) for by_key, key in zip(partners, keys, strict=True)]
        name = "/".join(values[name] for name in images.names)
        lacks = None in others and given.must_match
        if lacks and given.exclusion.has(name, file):
            continue
        if others[0] is None:
            alone.setdefault(values.get(SPLIT, ""), []).append(file)
        elif lacks:
            raise UnpairedError(
                f"{file} has no file of {KEY}.weight={given.weight!r}; add it or change the "
                "pattern.",
                [file],
            )
        elif None not in others:
            whole[name] = _Whole(values, (file, *(other.file for other in others if other)))
    if given.must_match:
        _check_alone(root, alone, whole, masks)
        _check_lonely(image_of, partners[0], images, masks, given.exclusion)
    pairs = FilePairs(
        tuple(whole),
        [files[:2] for _, files in whole.values()],
        given.largest,
        reader=given.reader,
        weights=[files[2:] for _, files in whole.values()],
    )
    splits: dict[str, list[str]] = {}
    for name, (values, _) in whole.items():
        if SPLIT in values:
            splits.setdefault(SPLIT_WORDS[values[SPLIT].lower()], []).append(name)
    return Found(pairs, splits, reads_lists=not splits)


def _parse_partner(text: str, key: str, images: Pattern) -> Pattern:
    pattern = parse(text, key)
    unknown = [name for name in pattern.names if name not in images.names]
    if unknown:
        raise UserError(
            f"{key}={text!r} has the placeholder {{{unknown[0]}}}, which {images.key}="
            f"{images.text!r} has not; put * where the text does not matter."
        )
    if not pattern.names and key.endswith("masks"):
        raise UserError(
            f"{key}={text!r} must have a placeholder of {images.key}={images.text!r}, such as "
            "{name}, so that each image has its own mask."
        )
    return pattern


def _check_found(root: AnyPath, pattern: Pattern, files: Sequence[AnyPath]) -> None:
    if not files:
        words = f" ({{split}} stands for {', '.join(SPLIT_WORDS)})"
        raise UserError(
            f"{pattern.key}={pattern.text!r} matches no file below {root}"
            f"{words if SPLIT in pattern.names else ''}; change it or config.data.path."
        )
    unread = [file for file in files if file.suffix.lower() not in SUFFIXES]
    if unread:
        raise UserError(
            f"{pattern.key}={pattern.text!r} matches {unread[0]}, which is not read; images are "
            f"read from {', '.join(SUFFIXES)} files. Change the pattern."
        )


def _say_others(root: AnyPath, found: Sequence[tuple[Sequence[Match], Sequence[AnyPath]]]) -> None:
    matched = {str(one.file) for files, _ in found for one in files}
    others = sorted({str(o) for _, others in found for o in others} - matched)
    if others:
        say_once(f"{root}: {len(others)} that no pattern matches passed over, such as {others[0]}")


def _key(values: dict[str, str], names: Sequence[str]) -> tuple[str, ...]:
    """Returns the values that pair files; folders may call one split by two words."""
    return tuple(
        SPLIT_WORDS[values[name].lower()] if name == SPLIT else values[name]
        for name in sorted(names)
    )


def _by_key(files: Sequence[Match], pattern: Pattern) -> _ByKey:
    found: _ByKey = {}
    for one in files:
        key = _key(one.values, pattern.names)
        if key in found:
            raise UserError(
                f"{pattern.key}={pattern.text!r} matches {found[key].file} and {one.file} with the "
                "same placeholders; write out what differs, or make it a placeholder."
            )
        found[key] = one
    return found


def _check_alone(
    root: AnyPath,
    alone: Mapping[str, Sequence[AnyPath]],
    whole: Mapping[str, _Whole],
    masks: Pattern,
) -> None:
    """Images without a mask are an error, unless a whole split but that for training has none."""
    with_masks = {values.get(SPLIT, "") for values, _ in whole.values()}
    for split, files in alone.items():
        if split and split not in with_masks and SPLIT_WORDS[split.lower()] != "train":
            say_once(f"{root}: {len(files)} images of {split!r} have no masks and are passed over")
            continue
        raise UnpairedError(
            f"{len(files)} images have no mask of {masks.key}={masks.text!r}, the first is "
            f"{files[0]}; add it, name it in {KEY}.exclude, or change the pattern.",
            files,
        )


def _check_lonely(
    image_of: _ByKey, mask_of: _ByKey, images: Pattern, masks: Pattern, exclusion: Exclusion
) -> None:
    """Masks without an image are an error."""
    used = {_key(values, masks.names) for _, values in image_of.values()}
    alone = [one.file for key, one in mask_of.items() if key not in used]
    lonely = [file for file in alone if not exclusion.has("", file)]
    if lonely:
        raise UnpairedError(
            f"{len(lonely)} of {len(mask_of)} masks have no image, the first is {lonely[0]}; "
            f"change {images.key}={images.text!r}, {masks.key}={masks.text!r}, {KEY}.exclude, or "
            "the files.",
            lonely,
        )
