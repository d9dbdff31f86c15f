"""What one decoding of an image and its mask tells, in about 2 kB."""

import functools
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath
from typing import NamedTuple

import numpy as np

from unet_jax.data.base import IGNORE, Encoded, PairSource
from unet_jax.data.files import AnyFile, FilePairs
from unet_jax.data.formats import FORMATS, find_format
from unet_jax.data.formats.base import Mask, NotFiniteError
from unet_jax.data.parts import Part
from unet_jax.data.sample import Source, Spec, make_spec, written
from unet_jax.doctor import alignment, measures, objects
from unet_jax.doctor.alignment import Alignment
from unet_jax.errors import UserError

MOST_VALUES = 32  # of a mask, or of its colours, that a look keeps
_PNG, _JPEG, _TIFF, _FRONT = b"\x89PNG", b"\xff\xd8", (b"II", b"MM"), 1 << 16
_SCAN = b"\xff\xda\x00"  # in a JPEG file before its pixels, which EXIF is not behind


class Values(NamedTuple):
    """What a mask holds.

    Attributes:
        counts: Pixels by value, of `MOST_VALUES` at most, a quarter of them those of classes.
        colours: (value, red, green, blue) of every value that a pixel has and a palette colours.
        is_indexed: Whether the file has a palette.
    """

    counts: dict[int, int]
    colours: bytes
    is_indexed: bool


class Look(NamedTuple):
    """What one decoding of an image and its mask tells.

    Attributes:
        id: Of the image.
        files: Of the image and its masks.
        failed: What could not be read: "" for nothing, "files", "image", "finite" (an image with
            NaN), "mask", "sizes" (both were, and differ) or "weight". What comes after it in this
            list has not been looked at, and neither has the image where its sizes differ.
        error: What reading raised; "" for nothing.
        shape: Pixels of the image along each axis, [*n]; () where it was not read.
        mask_shape: Likewise of the mask.
        spec: Of the image.
        orientation: How the image's file holds its pixels, as EXIF numbers it; 1 as shown.
        mask_orientation: Likewise of the mask's.
        low: Smallest value of the image.
        high: Largest value.
        means: float32 [C], of every channel.
        quantiles: float32 [5], the values that 1, 25, 50, 75 and 99% of all are below.
        clipped: Shares of the values at `low` and at `high`.
        digest: Checksum of all pixels with their shape and type.
        phash: 64 bits that nearly the same images share; see `measures.fingerprint`.
        thumbnail: uint8 [256], the image in 16 x 16 pixels from its own darkest to brightest.
        masks: What each mask holds; of one class each where classes overlap.
        classes: int64 [K + 1], pixels of each class, and last of those that count nowhere.
        unknown: Pixels whose value is no class.
        colours: Pixels by colour of a mask that holds colours and no class ids.
        objects: int32 [n, 4], see `objects.measure`; None where the look was not close, as it also
            is where an image is turned otherwise than its mask.
        alignment: See `alignment.measure`; None where the look was not close.
        stack: The file that the image is a page of; "" for none.
        page: Its number there.
    """

    id: str
    files: tuple[str, ...] = ()
    failed: str = ""
    error: str = ""
    shape: tuple[int, ...] = ()
    mask_shape: tuple[int, ...] = ()
    spec: Spec | None = None
    orientation: int = 1
    mask_orientation: int = 1
    low: float = 0.0
    high: float = 0.0
    means: np.ndarray | None = None
    quantiles: np.ndarray | None = None
    clipped: tuple[float, float] = (0.0, 0.0)
    digest: int = 0
    phash: int = 0
    thumbnail: bytes = b""
    masks: tuple[Values, ...] = ()
    classes: np.ndarray | None = None
    unknown: int = 0
    colours: tuple[tuple[tuple[int, int, int], int], ...] = ()
    objects: np.ndarray | None = None
    alignment: Alignment | None = None
    stack: str = ""
    page: int = 0


class Meaning(NamedTuple):
    """What the values of masks mean: see `PairSource`, and K."""

    values: Mapping[int, int]
    num_classes: int
    by_class: bool


def look(
    source: Source, indices: Sequence[int], num_classes: int, close: Callable[[int], bool]
) -> list[Look]:
    """Looks at some images and their masks, each of which is decoded once.

    Args:
        source: The split.
        indices: Of the images.
        num_classes: K.
        close: Whether objects and alignment of an index are measured, which takes as long as
            decoding.

    Returns:
        What was seen of each, also where something cannot be read.
    """
    seen: list[Look] = []
    kept: dict[int, measures.Kept] = {}
    for index in indices:
        if isinstance(source, PairSource):
            one, image = _look_at_pair(source, index, num_classes, close=close(index))
        else:
            one, image = _look_at_sample(source, index, num_classes, close=close(index))
        if image is not None:
            kept[len(seen)] = measures.keep(image)
            spec = _spec(image.ndim - 1, image.shape[-1], image.dtype)
            one = one._replace(shape=image.shape[:-1], spec=spec)
        seen.append(one)
    for place, found in zip(kept, measures.measure([*kept.values()]), strict=True):
        seen[place] = seen[place]._replace(**found._asdict())
    return seen


def _look_at_pair(
    source: PairSource, index: int, num_classes: int, *, close: bool
) -> tuple[Look, np.ndarray | None]:
    """Looks at an image and its masks; also returns the image, None where it cannot be read."""
    position = source.indices[index]
    seen = Look(source.pairs.ids[position], source.pairs.names(position))
    if isinstance(source.pairs, FilePairs):
        seen = _name_page(seen, source.pairs.files[position][0])
    try:
        encoded = source.pairs.read(position)
    except UserError as error:
        return seen._replace(failed="files", error=str(error)), None
    try:
        masks = encoded.decode_masks()
    except UserError as error:
        seen, image = _decode_image(seen, encoded, 2)
        failed = seen._replace(failed="mask", error=str(error), colours=_colours(encoded))
        return failed, image
    seen, image = _decode_image(seen, encoded, masks[0].ids.ndim)
    seen = seen._replace(
        mask_shape=masks[0].ids.shape,
        mask_orientation=_orientation(encoded.masks[0], encoded.mask_names[0], None),
    )
    counts: np.ndarray | None = None
    if encoded.weights:
        try:
            counts = encoded.decode_weight(masks[0].ids.shape)
        except UserError as error:
            failed = seen if seen.failed else seen._replace(failed="weight", error=str(error))
            return failed, image
    meaning = Meaning(source.label_map, num_classes, source.by_class)
    seen = _look_at_masks(seen, masks, counts, meaning)
    if image is None:
        return seen, None
    shape = image.shape[:-1]
    if any(mask.ids.shape != shape for mask in masks):
        says = (
            f"{seen.files[0]} is {written(shape)} pixels and its mask {seen.files[1]} "
            f"{written(seen.mask_shape)}"
        )
        return seen._replace(failed="sizes", error=says), image
    if close or seen.orientation != seen.mask_orientation:
        seen = _look_closely(seen, image, [mask.ids for mask in masks], meaning)
    return seen, image


def _name_page(seen: Look, file: AnyFile) -> Look:
    if isinstance(file, Part) and file.page is not None:
        return seen._replace(stack=str(file.files[0]), page=file.page)
    return seen


def _decode_image(seen: Look, encoded: Encoded, axes: int) -> tuple[Look, np.ndarray | None]:
    """Decodes an image; None where it cannot be read."""
    try:
        image = encoded.decode_image(axes)
        turned = _orientation(encoded.image, encoded.image_name, axes)
    except NotFiniteError as error:
        return seen._replace(failed="finite", error=str(error)), None
    except UserError as error:
        return seen._replace(failed="image", error=str(error)), None
    return seen._replace(orientation=turned), image


@functools.cache
def _spec(axes: int, channels: int, dtype: np.dtype) -> Spec:
    """Returns the spec of images, one object for all that have it."""
    return make_spec(axes, channels, dtype.name)


def _orientation(data: bytes, name: str, axes: int | None) -> int:
    """Tells how a file holds its pixels; reads its header only where that can tell."""
    if data.startswith(_PNG):
        may_turn = b"eXIf" in data
    elif data.startswith(_JPEG):
        may_turn = data.find(b"Exif", 0, data.find(_SCAN, 0, _FRONT)) >= 0
    else:
        may_turn = data.startswith(_TIFF) or data.find(b"Exif", 0, _FRONT) >= 0
    if not may_turn or PurePath(name).suffix.lower() not in FORMATS:  # such as of polygons
        return 1
    return find_format(name).header(io.BytesIO(data), name, axes).orientation


def _look_at_masks(
    seen: Look, masks: Sequence[Mask], counts: np.ndarray | None, meaning: Meaning
) -> Look:
    """Counts the values and the classes of masks, of the pixels that count alone."""
    classes, unknown, held = np.zeros(meaning.num_classes + 1, np.int64), 0, []
    for layer, mask in enumerate(masks):
        ids = mask.ids if counts is None else mask.ids[counts]
        if ids.size < mask.ids.size:
            classes[-1] += mask.ids.size - ids.size
        by_value = measures.count_values(ids, meaning.values)
        known = {v: n for v, n in by_value.items() if v in meaning.values}
        for value, pixels in known.items():
            own = meaning.values[value]
            if own == IGNORE:
                classes[-1] += pixels
            elif not meaning.by_class:
                classes[own] += pixels
            elif own:
                classes[layer] += pixels
        others = {v: n for v, n in by_value.items() if v not in known}
        unknown += sum(others.values())
        kept = dict([*_most(others)[: MOST_VALUES * 3 // 4], *_most(known)][:MOST_VALUES])
        held.append(Values(kept, _used_colours(mask, by_value), mask.palette is not None))
    return seen._replace(masks=tuple(held), classes=classes, unknown=unknown)


def _most(counts: dict[int, int]) -> list[tuple[int, int]]:
    return sorted(counts.items(), key=lambda one: -one[1])[:MOST_VALUES]


def _used_colours(mask: Mask, by_value: dict[int, int]) -> bytes:
    if mask.palette is None:
        return b""
    used = [value for value in by_value if value < len(mask.palette)]
    return b"".join(bytes((value, *mask.palette[value].tolist())) for value in used)


def _colours(encoded: Encoded) -> tuple[tuple[tuple[int, int, int], int], ...]:
    """Counts the colours of a mask that is no file of class ids; () where it is no image."""
    name, data = encoded.mask_names[0], encoded.masks[0]
    if PurePath(name).suffix.lower() not in FORMATS:
        return ()
    try:
        image = find_format(name).read(io.BytesIO(data), name, 2)
    except UserError:
        return ()
    return measures.count_colours(image, MOST_VALUES)


def _look_at_sample(
    source: Source, index: int, num_classes: int, *, close: bool
) -> tuple[Look, np.ndarray | None]:
    """Does what `_look_at_pair` does where the source decodes the images itself."""
    name = source.ids[index]
    try:
        sample = source.read(index)
    except UserError as error:
        return Look(name, failed="files", error=str(error)), None
    label = sample.truth()
    by_class = label.ndim > sample.image.ndim - 1
    layers = [label[..., k] for k in range(label.shape[-1])] if by_class else [label]
    values = {k: k for k in range(2 if by_class else num_classes)} | {IGNORE: IGNORE}
    meaning = Meaning(values, num_classes, by_class)
    seen = _look_at_masks(Look(name), [Mask(ids, None) for ids in layers], None, meaning)
    seen = seen._replace(mask_shape=layers[0].shape)
    if close:
        seen = _look_closely(seen, sample.image, layers, meaning)
    return seen, sample.image


def _look_closely(
    seen: Look, image: np.ndarray, masks: Sequence[np.ndarray], meaning: Meaning
) -> Look:
    found = objects.measure(masks, meaning.values, by_class=meaning.by_class)
    return seen._replace(objects=found, alignment=alignment.measure(image, masks[0]))
