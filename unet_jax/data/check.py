"""Checks every image and mask before a run spends time on them."""

import collections
import contextlib
import hashlib
import io
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from unet_jax.data.base import IGNORE, Encoded, PairSource
from unet_jax.data.files import FilePairs
from unet_jax.data.formats import find_format
from unet_jax.data.formats.base import MOST_VALUE, Mask
from unet_jax.data.labels import write_values
from unet_jax.data.sample import Source, Spec, check_spec, spec_of, written
from unet_jax.data.synthetic import Shapes
from unet_jax.errors import UserError
from unet_jax.process import records
from unet_jax.process.console import console, follow
from unet_jax.process.runtime import cache_dir
from unet_jax.process.whole import write_whole

T = TypeVar("T")
_RULES = 5  # the number of these checks: what passed other ones is checked anew


_MOST_CURED = 40  # values for which an error writes out a class each


class _Found(NamedTuple):
    """What a mask holds: different values, and the palette of its file or None."""

    values: list[int]
    palette: np.ndarray | None
    file: str


class _Values(NamedTuple):
    """The smallest and the largest value of an image."""

    low: float
    high: float
    file: str


class _Colour(NamedTuple):
    """The colour of an index in the first file that uses it."""

    index: int
    rgb: list[int]
    file: str
    id: str
    stamp: str


def check(
    source: Source,
    split: str,
    num_classes: int = IGNORE,
    value_range: tuple[float, float] | None = None,
) -> None:
    """Reads every image and label of a split and checks sizes and label values.

    Images that have values outside of the range are no error; a line on the console names them.

    Of files and records, mask values and palettes are checked too; masks of single classes have no
    palette that means something. Such a split that passed is remembered by its files' names, sizes
    and times, and not read again. The colours of its indices are remembered too, and compared with
    those of the other splits of the same data set when these are checked.

    Args:
        source: The split; synthetic shapes are right by themselves and are not drawn for this.
        split: Its name.
        num_classes: K.
        value_range: The images' values of black and of white; None for those of the source's spec.

    Raises:
        UserError: A file cannot be decoded, a pair's sizes differ, masks hold values that are no
            class, no pixel of a training split counts, or an index has two colours.
    """
    if isinstance(source, Shapes):
        return
    limits = value_range or source.spec.value_range
    if isinstance(source, PairSource):
        outside = _check_pairs(source, split, limits)
    else:
        outside = _check_examples(source, split, num_classes, limits)
    if outside:
        console.print(outside)


def _check_pairs(source: PairSource, split: str, value_range: tuple[float, float]) -> str:
    """Checks a split of pairs; returns what `_outside` says of its images."""
    stamps = [source.pairs.stamp(index) for index in source.indices]
    rules = _RULES, value_range, source.by_class
    text = repr((rules, split, stamps, sorted(source.label_map.items())))
    passed = cache_dir() / "checked" / hashlib.sha256(text.encode()).hexdigest()
    known = records.recall(passed, {"colours": [list], "outside": str})
    if known is not None and all(len(x) == len(_Colour._fields) for x in known["colours"]):
        _compare_splits(source, split, [_Colour(*entry) for entry in known["colours"]])
        return known["outside"]
    found = _for_each(lambda index: _check_pair(source, index), source.indices, split)
    _check_specs(source, [(image.file, spec) for _, image, spec in found], split)
    by_pair, values = [masks for masks, _, _ in found], [image for _, image, _ in found]
    _check_values(source, [one for masks in by_pair for one in masks], split)
    colours = [] if source.by_class else _find_colours(source, by_pair, stamps)
    _compare_splits(source, split, colours)
    outside = _outside(values, split, value_range)
    _write(passed, {"colours": colours, "outside": outside})
    return outside


def _for_each(look: Callable[[int], T], indices: Sequence[int], split: str) -> list[T]:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return follow(pool.map(look, indices), f"checking the {split} images", len(indices))


def _values(image: np.ndarray, file: str) -> _Values:
    return _Values(float(image.min()), float(image.max()), file)


def _outside(values: Sequence[_Values], split: str, value_range: tuple[float, float]) -> str:
    """Names the images of a split that have values outside of a range; "" where there is none."""
    black, white = value_range
    found = [one for one in values if one.low < black or one.high > white]
    if not found:
        return ""
    low, high = min(one.low for one in found), max(one.high for one in found)
    return (
        f"{len(found)} of the {len(values)} images of the {split} split have values outside of "
        f"{black:g} to {white:g}, the black and white of config.data.value_range or of their type; "
        f"theirs are from {low:g} to {high:g}: {', '.join(one.file for one in found[:10])}"
        f"{', ...' if len(found) > 10 else ''}"
    )


def _check_examples(
    source: Source, split: str, num_classes: int, value_range: tuple[float, float]
) -> str:
    """Does what `_check_pairs` does where the source decodes the images itself."""

    def look(index: int) -> tuple[bool, _Values]:
        sample, size = source.read(index), source.shape(index)
        label = sample.truth()
        pixels = label.shape[: len(size)]
        if sample.image.shape[:-1] != pixels or pixels != size:
            raise UserError(
                f"{sample.id} of the {split} split has an image {sample.image.shape}, a label "
                f"{label.shape} and the shape {size}; without channels they must be the same."
            )
        what = f"{sample.id} of the {split} split"
        check_spec(what, spec_of(sample.image), source.spec, "its source has")
        values = np.unique(label)
        by_class = label.ndim > len(size)
        most = 1 if by_class else num_classes - 1
        wrong = [int(value) for value in values if value != IGNORE and value > most]
        if wrong:
            ids = "0 and 1" if by_class else f"class ids from 0 to {most}"
            raise UserError(
                f"{what} has the label values {wrong[:20]}; allowed are {ids}, and {IGNORE} for "
                "pixels that do not count."
            )
        return bool(np.any(values != IGNORE)), _values(sample.image, sample.id)

    found = _for_each(look, range(len(source)), split)
    if split == "train" and not any(counts for counts, _ in found):
        raise UserError(
            f"no pixel of the {split} split's {len(source)} labels counts, so nothing can be "
            f"learnt: all are {IGNORE}."
        )
    return _outside([image for _, image in found], split, value_range)


def _check_specs(source: PairSource, found: Sequence[tuple[str, Spec]], split: str) -> None:
    """Checks that all images of a split, by file, are of one kind; names one of the few others."""
    kinds = collections.Counter(spec for _, spec in found)
    [(most, count)] = kinds.most_common(1)  # of as many, that of the first image
    for file, spec in found:
        check_spec(
            file, spec, most, f"{count} of the {len(found)} images of the {split} split have"
        )
    check_spec(found[0][0], most, source.spec, "its header says")


def _check_pair(source: PairSource, index: int) -> tuple[list[_Found], _Values, Spec]:
    """Decodes a pair; returns what its mask, or each of its masks, holds, its image's and spec."""
    encoded = source.pairs.read(index)
    masks = encoded.decode_masks()
    image = encoded.decode_image(masks[0].ids.ndim)
    # Where each object has a file, they make one mask, which goes by the name of the first.
    for mask, name in zip(masks, encoded.mask_names, strict=False):
        _check_shape(encoded, image, mask, name)
    counts = encoded.decode_weight(masks[0].ids.shape) if encoded.weights else ...
    found = [
        _Found(np.unique(mask.ids[counts]).tolist(), mask.palette, name)
        for mask, name in zip(masks, encoded.mask_names, strict=False)
    ]
    return found, _values(image, encoded.image_name), spec_of(image)


def _check_shape(encoded: Encoded, image: np.ndarray, mask: Mask, mask_name: str) -> None:
    if image.shape[:-1] != mask.ids.shape:
        form = find_format(encoded.image_name)
        header = form.header(io.BytesIO(encoded.image), encoded.image_name, mask.ids.ndim)
        turned = ", turned by its EXIF orientation as viewers do" if header.is_turned else ""
        axes = "height x width" if mask.ids.ndim == 2 else "depth x height x width"
        raise UserError(
            f"{encoded.image_name} is {written(image.shape[:-1])} ({axes}{turned}) but its mask "
            f"{mask_name} is {written(mask.ids.shape)}; a pair must have one size."
        )


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
            f"such file is {first}. Allowed are {write_values(source.label_map)}; {counts}. "
            f"{source.cure or _cures(source, sorted(files), wrong)}"
        )
    if split == "train" and all(source.label_map[value] == IGNORE for value in files):
        weighs = isinstance(source.pairs, FilePairs) and any(source.pairs.weights)
        weight = ", or black in config.data.folder.weight" if weighs else ""
        raise UserError(
            f"no pixel of the {split} split's {len(found)} masks counts, so nothing can be learnt: "
            f"all their values are in config.data.folder.ignore_values{weight}; {counts}. Change "
            "config.data.folder.ignore_values or the masks."
        )


def _cures(source: PairSource, values: Sequence[int], wrong: Sequence[int]) -> str:
    """Writes out both values of the config that work with the masks as they are."""
    if len(wrong) > _MOST_CURED:  # numbers of objects
        return (
            "Where they are numbers of objects, give all of them one class with "
            f"config.data.folder.label_map=((0, 0), ('1-{MOST_VALUE}', 1))."
        )
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
    counted = {*values} - ignored - {IGNORE}  # which is no class in any data set
    more = not source.by_class and is_default and len(counted) > len(classes)
    first = "Add the classes that are missing to config.data.folder.class_names. Or give"
    return (
        f"{first if more else 'Give'} every value its class, such as with {mapped} where that is "
        f"what they mean, or leave pixels out with {left_out}."
    )


def _find_colours(
    source: PairSource, found: Sequence[Sequence[_Found]], stamps: Sequence[str]
) -> list[_Colour]:
    """Collects the colours of the indices that pixels use; none may have two."""
    colours: dict[int, _Colour] = {}
    for (one,), index, stamp in zip(found, source.indices, stamps, strict=True):
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
    seen: dict[str, Any] = records.recall(file, {str: [list]}) or {}
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
            "class would mean two things. Name the class of every colour, such as with "
            f"config.data.folder.label_map=(({tuple(other.rgb)}, 0), ({tuple(one.rgb)}, 1)), save "
            "all masks with one palette, or as grey PNG files of class ids."
        )


def _write(file: Path, content: Any) -> None:
    """Remembers something whole or not at all, if it can: it only saves time."""
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, json.dumps(content).encode())
