"""Arrays that a user of the library gives: checked, and as files would be decoded."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from unet_jax.data.sample import Spec
from unet_jax.errors import UserError

IGNORE, MOST_CLASSES = 255, 254  # of masks: pixels that do not count; class ids are below


def as_image(
    name: str, image: ArrayLike, value_range: tuple[float, float] | None, spec: Spec
) -> np.ndarray:
    """Returns an image [*n, C] of a spec, as decoding a file would."""
    array = np.asarray(image)
    is_grey = array.ndim == spec.axes and spec.channels in (1, 3)
    is_whole = array.ndim == spec.axes + 1 and array.shape[-1] == spec.channels
    if not (is_grey or is_whole) or not array.size:
        sizes = ", ".join("DHW"[-spec.axes :])
        grey = f", or [{sizes}] for grey values" if spec.channels in (1, 3) else ""
        raise UserError(
            f"{name} has the shape {array.shape}; expected [{sizes}, {spec.channels}]{grey}."
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


def as_mask(name: str, mask: ArrayLike, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """Returns class ids as uint8: of `shape` where that is given, else [H, W] or [N, H, W]."""
    array = np.asarray(mask)
    expected = "[H, W] or [N, H, W]" if shape is None else f"{shape}, that of its image"
    if array.shape != shape if shape else array.ndim not in (2, 3) or not array.size:
        raise UserError(f"{name} has the shape {array.shape}; expected {expected}.")
    if array.dtype.kind not in "iub":
        raise UserError(f"{name} has the type {array.dtype}; expected class ids, integers.")
    if array.min() < 0 or array.max() > IGNORE:
        raise UserError(
            f"{name} has values from {array.min()} to {array.max()}; expected class ids from 0 to "
            f"{MOST_CLASSES - 1}, and {IGNORE} where the truth is not known."
        )
    return array.astype(np.uint8)


def names_of(class_names: Sequence[str] | None, *ids: np.ndarray) -> tuple[str, ...]:
    """Returns the names of all classes; checks that all ids are classes."""
    largest = max((int(array.max()) for array in ids if array.size), default=0)
    if class_names is None:
        class_names = [str(k) for k in range(largest + 1)]
    if largest >= len(class_names) or len(class_names) > MOST_CLASSES:
        raise UserError(
            f"a mask has the class id {largest}; expected ids below {len(class_names)}, the number "
            f"of classes, of which {MOST_CLASSES} is the most."
        )
    return tuple(class_names)
