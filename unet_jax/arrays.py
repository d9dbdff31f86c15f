"""Arrays that a user of the library gives: checked, and as files would be decoded."""

import math
import os
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from unet_jax.data.sample import Spec
from unet_jax.errors import UserError

IGNORE, MOST_CLASSES = 255, 254  # of masks: pixels that do not count; class ids are below
_ONE = "Give several images as a list of arrays."


def as_image(
    name: str, image: ArrayLike, value_range: tuple[float, float] | None, spec: Spec
) -> np.ndarray:
    """Returns an image [*n, C] of a spec, as decoding a file would."""
    sizes = ", ".join("DHW"[-spec.axes :])
    if isinstance(image, str | os.PathLike):
        path = os.fspath(image)
        raise UserError(f"{name} is {path!r}; expected an array [{sizes}, C], not a path.")
    try:
        array = np.asarray(image)
    except ValueError:  # images of several sizes, for one
        raise UserError(f"{name} is no array; expected one [{sizes}, C]. {_ONE}") from None
    is_grey = array.ndim == spec.axes and spec.channels in (1, 3)
    is_whole = array.ndim == spec.axes + 1 and array.shape[-1] == spec.channels
    if not (is_grey or is_whole) or not array.size:
        grey = f", or [{sizes}] for grey values" if spec.channels in (1, 3) else ""
        raise UserError(
            f"{name} has the shape {array.shape}; expected [{sizes}, {spec.channels}]{grey}."
            f"{f' {_ONE}' if array.ndim > spec.axes + 1 else ''}"
        )
    if value_range is None and array.dtype != spec.dtype:
        raise UserError(
            f"{name} has the type {array.dtype} and values from {array.min()} to {array.max()}; "
            f"expected {spec.dtype}, or value_range=(LOW, HIGH), the values of black and of white, "
            "such as value_range=(0, 1)."
        )
    if value_range is not None:
        low, high = value_range
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise UserError(f"value_range={value_range} must be two numbers, the lower one first.")
        if not (array.min() >= low and array.max() <= high):
            raise UserError(
                f"{name} has values from {array.min()} to {array.max()}; expected values from "
                f"{low} to {high}, as value_range={value_range} says."
            )
        black, white = spec.value_range
        values = (array.astype(np.float64) - low) / (high - low) * (white - black) + black
        is_rounded = np.issubdtype(spec.dtype, np.integer)
        array = (np.rint(values) if is_rounded else values).astype(spec.dtype)
    return np.stack([array] * spec.channels, axis=-1) if is_grey else array


def as_mask(
    name: str, mask: ArrayLike, shape: tuple[int, ...] | None = None, *, by_class: bool = False
) -> np.ndarray:
    """Returns a mask as uint8: pixels of `shape` where that is given, else [H, W] or [N, H, W].

    It holds class ids, or by class K times 0 or 1 behind each pixel; and `IGNORE`.
    """
    array, behind = np.asarray(mask), ", K" * by_class
    pixels = array.shape[:-1] if by_class else array.shape
    expected = f"[H, W{behind}] or [N, H, W{behind}]"
    if shape:
        expected = f"({', '.join(map(str, shape))}{behind}), that of its image"
    if pixels != shape if shape else len(pixels) not in (2, 3) or not array.size:
        raise UserError(f"{name} has the shape {array.shape}; expected {expected}.")
    what, largest = ("0 and 1", 1) if by_class else ("class ids", MOST_CLASSES - 1)
    if array.dtype.kind not in "iub":
        raise UserError(f"{name} has the type {array.dtype}; expected {what}, integers.")
    if np.any((array < 0) | (array > largest) & (array != IGNORE)):
        allowed = what if by_class else f"{what} from 0 to {largest}"
        raise UserError(
            f"{name} has values from {array.min()} to {array.max()}; expected {allowed}, and "
            f"{IGNORE} where the truth is not known."
        )
    return array.astype(np.uint8)


def known_pixels(truth: np.ndarray, *, by_class: bool = False) -> np.ndarray:
    """Returns which pixels of a mask count, bool [*n]: those that are `IGNORE` nowhere."""
    known = truth != IGNORE
    return known.all(axis=-1) if by_class else known


def names_of(
    class_names: Sequence[str] | None, masks: Mapping[str, np.ndarray], *, by_class: bool = False
) -> tuple[str, ...]:
    """Returns the names of all classes; checks that pixels which count hold nothing else.

    The masks are named as errors say them.
    """
    most = {name: int(mask.max()) for name, mask in masks.items() if mask.size}
    largest = max(most.values(), default=0)
    if by_class:
        return _names_by_class(class_names, {mask.shape[-1] for mask in masks.values()}, largest)
    if class_names is None:
        class_names = [str(k) for k in range(largest + 1)]
    if largest >= len(class_names) or len(class_names) > MOST_CLASSES:
        raise UserError(
            f"{max(most, key=most.__getitem__)} has the class id {largest}; expected ids below "
            f"{len(class_names)}, the number of classes, of which {MOST_CLASSES} is the most."
        )
    return tuple(class_names)


def _names_by_class(
    class_names: Sequence[str] | None, counts: set[int], largest: int
) -> tuple[str, ...]:
    """Does what `names_of` does for masks by class: of these numbers of classes and values."""
    if class_names is None:
        class_names = [str(k) for k in range(min(counts))]
    if counts != {len(class_names)} or len(class_names) > MOST_CLASSES:
        raise UserError(
            f"masks by class have {' and '.join(map(str, sorted(counts)))} classes; expected "
            f"{len(class_names)}, the number of classes, of which {MOST_CLASSES} is the most."
        )
    if largest > 1:
        raise UserError(
            f"a prediction by class has the value {largest} where the truth is known; expected 0 "
            "and 1."
        )
    return tuple(class_names)
