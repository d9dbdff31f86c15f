"""Polygons and runs of pixels, drawn to labels.

The rule of borders: a pixel belongs to a polygon where its centre does, by the even-odd rule; the
corner of the image is (0, 0), and the centre of its first pixel (0.5, 0.5). A centre on a polygon's
left or upper edge is inside, one on its right or lower edge outside, so that polygons that share an
edge share no pixel and leave none out.
"""

from collections.abc import Sequence

import numpy as np

from unet_jax.errors import UserError


def draw_polygon(points: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Draws a polygon.

    Args:
        points: [n, 2], x and y of its corners in pixels; the last one is joined to the first. They
            may lie outside the image.
        shape: (height, width) of the image.

    Returns:
        bool [H, W], true inside.
    """
    height, width = shape
    turns = np.zeros((height, width + 1), bool)  # where a row enters or leaves the polygon
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
        if y0 > y1:  # so that an edge gives the polygons on both its sides the same numbers
            x0, y0, x1, y1 = x1, y1, x0, y0
        first, last = (int(np.ceil(np.clip(y - 0.5, 0, height))) for y in (y0, y1))
        if first >= last:
            continue
        rows = np.arange(first, last)
        crossing = x0 + (rows + 0.5 - y0) * ((x1 - x0) / (y1 - y0))
        turns[rows, np.ceil(np.clip(crossing - 0.5, 0, width)).astype(int)] ^= True
    return np.logical_xor.accumulate(turns, axis=1)[:, :width]


def read_points(numbers: Sequence[object], what: str) -> np.ndarray:
    """Makes the corners of a polygon of a list x, y, x, y, ...

    Args:
        numbers: The list.
        what: Where it stands, for the error.

    Returns:
        float64 [n, 2].

    Raises:
        UserError: It has not three corners, or holds what is no finite number.
    """
    try:
        points = np.array(numbers, np.float64)
    except (TypeError, ValueError, OverflowError):
        points = np.array(np.nan)
    if points.ndim != 1 or len(points) < 6 or len(points) % 2 or not np.isfinite(points).all():
        raise UserError(
            f"{what} has a polygon that is none; it must be a list x, y, x, y, ... of three "
            "corners or more, all finite numbers. Mend it or take it out."
        )
    return points.reshape(-1, 2)


def draw_runs(counts: Sequence[int], shape: tuple[int, int], what: str) -> np.ndarray:
    """Draws runs of pixels outside and inside by turns, column by column, as COCO writes them.

    Args:
        counts: Lengths, the first one of pixels outside.
        shape: (height, width).
        what: Where they stand, for the error.

    Returns:
        bool [H, W], true inside.

    Raises:
        UserError: They are not as many pixels as the image has.
    """
    are_counts = all(type(count) is int and count >= 0 for count in counts)
    if not are_counts or sum(counts) != shape[0] * shape[1]:
        raise UserError(
            f"{what} has runs of {sum(counts) if are_counts else 'other'} pixels in an image of "
            f"{shape[0]}x{shape[1]}; mend it or take it out."
        )
    inside = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return inside.reshape(shape[::-1]).T


def read_runs(text: str, what: str) -> list[int]:
    """Reads runs that COCO compressed to a text.

    Each number is written in parts of five bits, the lowest first, each as the letter 48 + part,
    with 32 more where another part follows; the last part's highest bit is the sign. From the
    fourth number on, the difference to the one two before is written.

    Args:
        text: The text.
        what: Where it stands, for the error.

    Returns:
        The lengths.

    Raises:
        UserError: It is none.
    """
    counts: list[int] = []
    value = bits = 0
    for letter in text:
        part = ord(letter) - 48
        if not 0 <= part < 64 or bits > 60:
            raise UserError(f"{what} has runs that are none of COCO's; mend it or take it out.")
        value |= (part & 31) << bits
        bits += 5
        if not part & 32:
            value -= (1 << bits) if part & 16 else 0
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = bits = 0
    return counts


def write_runs(counts: Sequence[int]) -> str:
    """Compresses runs to a text, as `read_runs` reads it.

    Args:
        counts: Lengths of runs of pixels outside and inside by turns.

    Returns:
        The text.
    """
    letters = []
    for place, count in enumerate(counts):
        value = count - counts[place - 2] if place > 2 else count
        is_last = False
        while not is_last:
            part, value = value & 31, value >> 5
            is_last = value == (-1 if part & 16 else 0)
            letters.append(48 + part + (0 if is_last else 32))
    return bytes(letters).decode()


def paint(
    parts: Sequence[tuple[int, np.ndarray]], shape: tuple[int, int], *, small_on_top: bool
) -> np.ndarray:
    """Paints the objects of an image over each other.

    Args:
        parts: Value and bool [H, W] of each object.
        shape: (height, width).
        small_on_top: Whether an object of fewer pixels covers one of more, of as many the later
            one the earlier; else the later always covers the earlier.

    Returns:
        uint8 [H, W], 0 where there is no object.
    """
    label = np.zeros(shape, np.uint8)
    ordered = sorted(parts, key=lambda part: -int(part[1].sum())) if small_on_top else parts
    for value, inside in ordered:
        label[inside] = value
    return label
