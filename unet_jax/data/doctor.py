"""Checks every picture and mask before a run spends time on them."""

import collections
import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from unet_jax.data import images
from unet_jax.data.base import IGNORE, PairSource, Source
from unet_jax.errors import UserError
from unet_jax.logs import follow
from unet_jax.runtime import cache_dir

_RULES = 2  # the number of these checks: what passed other ones is checked anew


class _Found(NamedTuple):
    """What a mask holds: different values, and the palette of its file or None."""

    values: list[int]
    palette: np.ndarray | None
    file: str


class _Colour(NamedTuple):
    """The colour of an index in the first file that uses it."""

    index: int
    rgb: list[int]
    file: str
    id: str
    stamp: str


def check(source: Source, split: str) -> None:
    """Decodes every pair of a split and checks sizes, mask values and palettes.

    A split that passed is remembered by its files' names, sizes and times, and not read again. The
    colours of its indices are remembered too, and compared with those of the other splits of the
    same data set when these are checked.

    Args:
        source: The split; one that is drawn and not read has nothing to check.
        split: Its name.

    Raises:
        UserError: A file cannot be decoded, a pair's sizes differ, masks hold values that are no
            class, no pixel of a training split counts, or an index has two colours.
    """
    if not isinstance(source, PairSource):
        return  # drawn, not read
    stamps = [source.pairs.stamp(index) for index in source.indices]
    text = repr((_RULES, split, stamps, sorted(source.label_map.items())))
    passed = cache_dir() / "checked" / hashlib.sha256(text.encode()).hexdigest()
    if passed.exists():
        colours = [_Colour(*entry) for entry in json.loads(passed.read_text())]
        _compare_splits(source, split, colours)
        return
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(lambda index: _check_pair(source, index), source.indices)
        description = f"checking the {split} pictures"
        found = follow(results, description, len(source))
    _check_values(source, found, split)
    colours = _find_colours(source, found, stamps)
    _compare_splits(source, split, colours)
    _write(passed, colours)


def _check_pair(source: PairSource, index: int) -> _Found:
    """Decodes a pair; returns what its mask holds."""
    encoded = source.pairs.read(index)
    image = images.decode_image(encoded.image, encoded.image_name)
    mask, palette = images.decode_mask_and_palette(encoded.mask, encoded.mask_name)
    if image.shape[:2] != mask.shape:
        (h, w), (mask_h, mask_w) = image.shape[:2], mask.shape
        is_turned = images.read_size(encoded.image, encoded.image_name, exif=b"") != (h, w)
        turned = ", turned by its EXIF orientation as viewers do" if is_turned else ""
        raise UserError(
            f"{encoded.image_name} is {h}x{w} (height x width{turned}) but its mask "
            f"{encoded.mask_name} is {mask_h}x{mask_w}; a pair must have one size."
        )
    return _Found(np.unique(mask).tolist(), palette, encoded.mask_name)


def _check_values(source: PairSource, found: Sequence[_Found], split: str) -> None:
    files = collections.Counter(value for one in found for value in one.values)
    wrong = sorted(set(files) - set(source.label_map))
    counts = ", ".join(f"{value} in {files[value]}" for value in sorted(files)[:20])
    counts = f"found are (value in how many files): {counts}{', ...' if len(files) > 20 else ''}"
    if wrong:
        first = next(one.file for one in found if set(wrong) & set(one.values))
        raise UserError(
            f"masks of the {split} split hold values that are no class: "
            f"{', '.join(map(str, wrong[:20]))}{', ...' if len(wrong) > 20 else ''}; the first "
            f"such file is {first}. Allowed are {sorted(source.label_map)}; {counts}. "
            f"{source.cure or _cures(source, sorted(files), wrong)}"
        )
    if split == "train" and all(source.label_map[value] == IGNORE for value in files):
        raise UserError(
            f"no pixel of the {split} split's {len(found)} masks counts, so nothing can be learnt: "
            f"all their values are in config.data.folder.ignore_values; {counts}. Change "
            "config.data.folder.ignore_values or the masks."
        )


def _cures(source: PairSource, values: Sequence[int], wrong: Sequence[int]) -> str:
    """Writes out both values of the config that work with the masks as they are."""
    classes = {v: k for v, k in source.label_map.items() if k != IGNORE}
    is_default = all(value == class_id for value, class_id in classes.items())
    label_map = {v: k for v, k in classes.items() if v in values or not is_default}
    free = sorted(set(classes.values()) - set(label_map.values()))
    for value in wrong if classes else ():
        # Where no class is left, several values share the last one.
        label_map[value] = free.pop(0) if free else max(classes.values())
    ignored = {value for value, class_id in source.label_map.items() if class_id == IGNORE}
    mapped = f"config.data.folder.label_map={tuple(sorted(label_map.items()))}"
    left_out = f"config.data.folder.ignore_values={tuple(sorted({*ignored, *wrong}))}"
    return (
        f"Give every value its class, such as with {mapped} where that is what they mean, or leave "
        f"pixels out with {left_out}."
    )


def _find_colours(
    source: PairSource, found: Sequence[_Found], stamps: Sequence[str]
) -> list[_Colour]:
    """Collects the colours of the indices that pixels use; none may have two."""
    colours: dict[int, _Colour] = {}
    for one, index, stamp in zip(found, source.indices, stamps, strict=True):
        palette = [] if one.palette is None else one.palette.tolist()
        # What no pixel uses is trimmed and padded by tools as they please.
        for value in (value for value in one.values if value < len(palette)):
            own = _Colour(value, palette[value], one.file, source.pairs.ids[index], stamp)
            _compare(own, colours.setdefault(value, own))
    return list(colours.values())


def _compare_splits(source: PairSource, split: str, colours: Sequence[_Colour]) -> None:
    """Compares a split's colours with those of the others as they were when these were checked."""
    place = hashlib.sha256(source.pairs.place.encode()).hexdigest()
    file = cache_dir() / "checked" / "palettes" / place
    seen: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    own = {colour.index: colour for colour in colours}
    for other in {*seen} - {split}:
        for theirs in (_Colour(*entry) for entry in seen[other]):
            if theirs.index in own and _is_as_it_was(source, theirs):
                _compare(own[theirs.index], theirs)
    if colours or seen:
        _write(file, {**seen, split: list(colours)})


def _is_as_it_was(source: PairSource, colour: _Colour) -> bool:
    """Tells whether a file that was checked is still in the data set and has not changed."""
    if colour.id not in source.used or colour.id not in source.pairs.ids:
        return False
    return source.pairs.stamp(source.pairs.ids.index(colour.id)) == colour.stamp


def _compare(one: _Colour, other: _Colour) -> None:
    if one.rgb != other.rgb:
        raise UserError(
            f"{other.file} and {one.file} are masks whose palettes differ: index {one.index} is "
            f"the colour {tuple(other.rgb)} in one and {tuple(one.rgb)} in the other, so that one "
            "class would mean two things. Save all masks with one palette, or as grey PNG files of "
            "class ids."
        )


def _write(file: Path, content: Any) -> None:
    """Writes a small file whole or not at all, as other processes may do at the same time."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f"{file.name}.{os.getpid()}.part")
    part.write_text(json.dumps(content))
    part.replace(file)
