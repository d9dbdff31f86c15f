"""Patterns with placeholders that pair files, such as {split}/images/{name}_{split}.tif."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from unet_jax.data.exclude import Exclusion, UnpairedError
from unet_jax.data.files import SUFFIXES, FilePairs, say_once
from unet_jax.data.layouts.base import KEY, SPLIT_WORDS, Found, Given, refuse_layers
from unet_jax.data.layouts.matching import SPLIT, Match, Pattern, match, parse
from unet_jax.data.layouts.pages import PAGE, find_pages
from unet_jax.data.parts import Part
from unet_jax.data.storage import AnyPath
from unet_jax.errors import UserError


class _Whole(NamedTuple):
    """An image with its partners: the texts of its placeholders, and all files."""

    values: dict[str, str]
    files: tuple[AnyPath, ...]


_ByKey = dict[tuple[str, ...], Match]  # by what pairs files


def find_channels(root: Path, text: str) -> dict[str, Part]:
    """Finds images without masks whose channels lie in several files.

    Args:
        root: The folder that the patterns are paths below.
        text: The patterns.

    Returns:
        Images by what the placeholders of the first pattern stand for.

    Raises:
        UserError: A pattern is wrong or matches no file, or a file has no partner.
    """
    key = f"{KEY}.images"
    first, *others = (part.strip() for part in text.split(","))
    patterns = [parse(first, key)]
    patterns += [_parse_partner(other, key, patterns[0]) for other in others]
    found = [match(root, pattern)[0] for pattern in patterns]
    for pattern, files in zip(patterns, found, strict=True):
        _check_found(root, pattern, [file for file, _ in files])
    images, *partners = map(_by_key, found, patterns)
    parts: dict[str, Part] = {}
    for file, values in images.values():
        keys = [_key(values, pattern.names) for pattern in patterns[1:]]
        files = [file]
        for pattern, by_key, own in zip(patterns[1:], partners, keys, strict=True):
            if own not in by_key:
                raise _lacks(file, pattern)
            files.append(by_key[own].file)
        parts["/".join(values[name] for name in patterns[0].names)] = Part(tuple(files))
    return parts


def _lacks(file: AnyPath, pattern: Pattern) -> UnpairedError:
    return UnpairedError(
        f"{file} has no file of {pattern.key}={pattern.text!r}; add it or change the pattern.",
        [file],
    )


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
    is_paged = _are_paged(given)
    if is_paged:
        pair = given.images.removesuffix(PAGE), given.masks.removesuffix(PAGE)
        given = given._replace(images=pair[0], masks=pair[1])
    first, *channels = given.images.split(",")
    images = parse(first.strip(), f"{KEY}.images")
    masks = _parse_partner(given.masks, f"{KEY}.masks", images, is_paged=is_paged)
    patterns = [images, masks]
    patterns += [_parse_partner(text.strip(), f"{KEY}.images", images) for text in channels]
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
        name = "/".join(values[name] for name in images.names) or file.stem
        lacks = None in others and given.must_match
        if lacks and given.exclusion.has(name, file):
            continue
        if others[0] is None:
            alone.setdefault(values.get(SPLIT, ""), []).append(file)
        elif lacks:
            raise _lacks(file, patterns[1 + others.index(None)])
        elif None not in others:
            whole[name] = _Whole(values, (file, *(other.file for other in others if other)))
    if given.must_match:
        _check_alone(root, alone, whole, masks)
        _check_lonely(image_of, partners[0], images, masks, given.exclusion)
    if is_paged:
        return find_pages({name: files[:2] for name, (_, files) in whole.items()}, given)
    count = len(channels)
    pairs = FilePairs(
        tuple(whole),
        [
            (Part((image, *more[:count])) if count else image, mask)
            for _, (image, mask, *more) in whole.values()
        ],
        given.largest,
        reader=given.reader,
        weights=[files[2 + count :] for _, files in whole.values()],
    )
    splits: dict[str, list[str]] = {}
    for name, (values, _) in whole.items():
        if SPLIT in values:
            splits.setdefault(SPLIT_WORDS[values[SPLIT].lower()], []).append(name)
    return Found(pairs, splits, reads_lists=not splits)


def _are_paged(given: Given) -> bool:
    """Tells whether images and masks are the pages of files; see `pages.find_pages`."""
    ends = [text.endswith(PAGE) for text in (given.images, given.masks)]
    if any(ends) and (not all(ends) or given.weight or "," in given.images):
        raise UserError(
            f"{KEY}.images={given.images!r} and {KEY}.masks={given.masks!r} must both end with "
            f"{PAGE} where they are the pages of files, and then there is one file of images and "
            f"no {KEY}.weight."
        )
    return all(ends)


def _parse_partner(text: str, key: str, images: Pattern, *, is_paged: bool = False) -> Pattern:
    pattern = parse(text, key)
    unknown = [name for name in pattern.names if name not in images.names]
    if unknown:
        raise UserError(
            f"{key}={text!r} has the placeholder {{{unknown[0]}}}, which {images.key}="
            f"{images.text!r} has not; put * where the text does not matter."
        )
    if not pattern.names and not key.endswith("weight") and not is_paged:
        raise UserError(
            f"{key}={text!r} must have a placeholder of {images.key}={images.text!r}, such as "
            "{name}, so that each image has its own."
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
