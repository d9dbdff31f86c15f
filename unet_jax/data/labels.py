"""What the values and colours of masks mean: from a config to classes."""

import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from unet_jax.data.base import IGNORE, MaskReader, read_each
from unet_jax.data.by_class import values_by_class
from unet_jax.data.formats import find_format
from unet_jax.data.formats.base import MOST_VALUE, Mask
from unet_jax.data.sample import Window
from unet_jax.errors import UserError

KEY = "config.data.folder"
Colour = tuple[int, int, int]
_RANGE = re.compile(r"\s*(\d+)\s*-\s*(\d+)\s*")
_SHOWN = 8  # colours that an error lists
_PLACES = np.array([1 << 16, 1 << 8, 1])  # make one number of a colour


class ByColour(NamedTuple):
    """Reads masks by the colours that viewers show, whatever the indices of their palettes are.

    Attributes:
        colours: (red, green, blue), each with its class id or `IGNORE`.
        nearest: Whether a pixel of another colour gets the nearest one (the first of several).
    """

    colours: tuple[tuple[Colour, int], ...]
    nearest: bool

    def __call__(
        self, masks: Sequence[bytes], names: Sequence[str], window: Window | None
    ) -> list[Mask]:
        """Decodes the masks; their values are class ids. See `MaskReader`."""
        return [self._read(mask, name, window) for mask, name in zip(masks, names, strict=True)]

    def _read(self, data: bytes, name: str, window: Window | None) -> Mask:
        image = find_format(name).read(io.BytesIO(data), name, 2, window)
        if image.dtype != np.uint8:
            raise UserError(
                f"{name} is a mask of {image.dtype} values; {KEY}.label_map maps colours of 8 bits."
            )
        rgb = np.broadcast_to(image[..., :3], (*image.shape[:2], 3)).astype(np.int64)
        codes = rgb @ _PLACES
        known = np.array([colour for colour, _ in self.colours])
        ids = np.array([class_id for _, class_id in self.colours], np.uint8)
        order = np.argsort(known @ _PLACES)
        places = np.searchsorted((known @ _PLACES)[order], codes).clip(max=len(known) - 1)
        label, is_other = ids[order][places], (known @ _PLACES)[order][places] != codes
        if is_other.any():
            found, places, counts = np.unique(
                rgb[is_other], axis=0, return_inverse=True, return_counts=True
            )
            if not self.nearest:
                self._refuse(name, found, counts)
            # One colour at a time: a mask with soft edges has many, and [found, known] is large.
            near = [((known - colour) ** 2).sum(axis=-1).argmin() for colour in found]
            label[is_other] = ids[near][places.ravel()]
        return Mask(label, None)

    def _refuse(self, name: str, colours: np.ndarray, counts: np.ndarray) -> None:
        often = np.argsort(-counts, kind="stable")[:_SHOWN]
        listed = ", ".join(f"{tuple(colours[i].tolist())} at {counts[i]} pixels" for i in often)
        more = ", ..." if len(colours) > _SHOWN else ""
        raise UserError(
            f"{name} is a mask with {len(colours)} colours that are no class: {listed}{more}. "
            f"Allowed are {', '.join(str(colour) for colour, _ in self.colours)}. Add them to "
            f"{KEY}.label_map or {KEY}.ignore_values, or where compression or soft edges made "
            f"them, set {KEY}.nearest=True."
        )


class Nearest(NamedTuple):
    """Reads masks whose values compression or soft edges changed.

    Attributes:
        values: Those that there may be; another one becomes the nearest (the smaller of two).
    """

    values: tuple[int, ...]

    def __call__(
        self, masks: Sequence[bytes], names: Sequence[str], window: Window | None
    ) -> list[Mask]:
        """Decodes the masks; their values are some of `values`. See `MaskReader`."""
        known = np.array(sorted(self.values))
        every = np.arange(known[-1] + 1)
        table = known[abs(every[:, None] - known).argmin(axis=-1)].astype(np.uint16)
        return [
            Mask(table[_values(mask, name, window).astype(np.int64).clip(max=known[-1])], None)
            for mask, name in zip(masks, names, strict=True)
        ]


def _values(data: bytes, name: str, window: Window | None) -> np.ndarray:
    """Returns the values of a mask, also of a lossy or coloured one, whose brightness counts."""
    form = find_format(name)
    try:
        return form.read_mask(io.BytesIO(data), name, window).ids
    except UserError:  # of a format that keeps no masks; what is broken raises again
        image = form.read(io.BytesIO(data), name, 2, window)
    if image.dtype != np.uint8:
        raise UserError(
            f"{name} is a mask of {image.dtype} values; {KEY}.nearest reads those of 8 bits."
        )
    return np.rint(image[..., :3].mean(axis=-1)).astype(np.uint8)


class Labels(NamedTuple):
    """What masks mean.

    Attributes:
        class_names: K names.
        values: Class id, or `IGNORE`, of every value that a mask may hold; by class 0 or 1.
    """

    class_names: tuple[str, ...]
    values: dict[int, int]


def make_reader(
    label_map: Sequence[Any],
    ignore_values: Sequence[Any],
    default: Sequence[int],
    *,
    nearest: bool,
) -> MaskReader:
    """Chooses how masks are read.

    Args:
        label_map: See `folder.open_folder`.
        ignore_values: Likewise.
        default: Values that masks hold where `label_map` is empty; () where they are not known.
        nearest: Whether a value or colour that is not named becomes the nearest.

    Returns:
        The reader.

    Raises:
        UserError: An entry is a colour and another one is none, or a colour is none.
    """
    values = [pair[0] for pair in label_map if isinstance(pair, tuple) and pair]
    if not any(isinstance(value, tuple) for value in (*values, *ignore_values)):
        if not nearest:
            return read_each
        named = [number for value in (*values, *ignore_values) for number in _numbers(value)]
        allowed = {*named, *(() if values else default)}
        if not allowed - {number for value in ignore_values for number in _numbers(value)}:
            raise UserError(
                f"{KEY}.nearest=True needs the values that there are: set {KEY}.label_map, such as "
                "((0, 0), (255, 1))."
            )
        return Nearest(tuple(sorted(allowed)))
    if not label_map:
        raise UserError(
            f"{KEY}.ignore_values={ignore_values} names colours, so {KEY}.label_map must name "
            "those of the classes, such as (((128, 0, 0), 1), ((0, 0, 0), 0))."
        )
    found: dict[Colour, int] = {}
    for pair in (*label_map, *((value, IGNORE) for value in ignore_values)):
        is_ignored = pair[-1:] == (IGNORE,)
        _check_colour(pair, f"{KEY}.{'ignore_values' if is_ignored else 'label_map'}")
        if pair[0] in found:
            raise UserError(
                f"{KEY}.label_map and {KEY}.ignore_values name the colour {pair[0]} twice; leave "
                "it in one place."
            )
        found[pair[0]] = pair[1]
    return ByColour(tuple(found.items()), nearest)


def _check_colour(pair: Any, key: str) -> None:
    is_pair = isinstance(pair, tuple) and len(pair) == 2 and type(pair[1]) is int
    colour = pair[0] if is_pair else None
    are_bytes = isinstance(colour, tuple) and all(type(n) is int and 0 <= n < 256 for n in colour)
    if not (are_bytes and len(colour) == 3 and 0 <= pair[1] <= IGNORE):
        entry = colour if key.endswith("ignore_values") else pair
        raise UserError(
            f"{key} has {entry}; where one entry names a colour, each must: ((red, green, blue), "
            "class id) in label_map and (red, green, blue) in ignore_values, all 0 to 255."
        )


def make_labels(
    class_names: tuple[str, ...],
    label_map: tuple[Any, ...],
    ignore_values: tuple[Any, ...],
    *,
    by_class: bool,
    values: Mapping[int, int] | None = None,
) -> Labels:
    """Makes the meaning of masks from a config.

    Args:
        class_names: K names.
        label_map: See `folder.open_folder`.
        ignore_values: Likewise.
        by_class: Whether each class has a mask.
        values: What values mean where `label_map` is empty; None where the value k is class k.

    Returns:
        The meaning.

    Raises:
        UserError: An entry is wrong, or gives a value to two classes.
    """
    count, least = len(class_names), 1 if by_class else 2
    are_texts = all(isinstance(name, str) for name in class_names)
    if not are_texts or not least <= count < IGNORE or len(set(class_names)) < count:
        raise UserError(
            f"{KEY}.class_names={class_names} must be {least} to {IGNORE - 1} "
            "different names, one per class; the files of Oxford-IIIT Pet, which have their own, "
            "are those of config.data.source='pets'."
        )
    if any(isinstance(pair, tuple) and pair and isinstance(pair[0], tuple) for pair in label_map):
        by_colour = {class_id: class_id for class_id in (*range(count), IGNORE)}
        wrong = [pair for pair in label_map if pair[1] not in range(count)]
        if wrong:
            raise UserError(
                f"{KEY}.label_map has {wrong[0]}; the class id must be 0 to {count - 1}, since "
                f"{KEY}.class_names has {count} names."
            )
        return Labels(class_names, by_colour)
    ignored = [number for value in ignore_values for number in _ignored(value)]
    if by_class:
        return Labels(class_names, values_by_class(class_names, label_map, ignored))
    if not label_map:
        own = dict(values) if values is not None else {k: k for k in range(count)}
        return Labels(class_names, own | dict.fromkeys(ignored, IGNORE))
    return Labels(class_names, _mapped(label_map, ignored, count))


def _mapped(label_map: Sequence[Any], ignored: Sequence[int], count: int) -> dict[int, int]:
    seen: dict[int, int] = {}
    left_out = frozenset(ignored)
    for pair in label_map:
        numbers = list(_numbers(pair[0])) if isinstance(pair, tuple) and len(pair) == 2 else []
        if not numbers or type(pair[1]) is not int or pair[1] not in range(count):
            raise UserError(
                f"{KEY}.label_map has {pair}; each entry must be (mask value 0 to "
                f"{MOST_VALUE}, class id 0 to {count - 1}); a value may be a range, such as "
                "'1-255', or with all others a colour (red, green, blue)."
            )
        for value in numbers:
            if value in seen or value in left_out:
                other = f"class {seen[value]}" if value in seen else f"{KEY}.ignore_values"
                raise UserError(
                    f"{KEY}.label_map gives the mask value {value} to class {pair[1]} and it is in "
                    f"{other} too; leave it in one place."
                )
            seen[value] = pair[1]
    return seen | dict.fromkeys(ignored, IGNORE)


def _ignored(value: Any) -> Iterator[int]:
    numbers = list(_numbers(value))
    if not numbers:
        raise UserError(
            f"{KEY}.ignore_values has {value!r}; each entry must be a mask value, 0 to "
            f"{MOST_VALUE}, or a range of them, such as '200-255'."
        )
    yield from numbers


def _numbers(value: Any) -> range:
    """Returns the values that an entry names: a number, or a range "1-255"; none where wrong.

    A range may go beyond `MOST_VALUE`, which stands for all values from there.
    """
    if type(value) is int and 0 <= value <= MOST_VALUE:
        return range(value, value + 1)
    found = _RANGE.fullmatch(value) if isinstance(value, str) and len(value) < 20 else None
    low, high = map(int, found.groups()) if found else (1, 0)
    return range(low, min(high, MOST_VALUE) + 1)


def write_values(values: Iterable[int]) -> str:
    """Writes values for a message: a list, or ranges where there are many."""
    ordered = sorted(set(values))
    if len(ordered) <= 20:
        return str(ordered)
    runs: list[list[int]] = []
    for value in ordered:
        if runs and value == runs[-1][-1] + 1:
            runs[-1][1:] = [value]
        else:
            runs.append([value])
    return f"[{', '.join('-'.join(map(str, run)) for run in runs)}]"
