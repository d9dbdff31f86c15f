"""Contours of objects along the sides of their pixels."""

import collections

import numpy as np

from unet_jax.models.pretrained.torch_layout import listed


def trace(numbers: np.ndarray) -> list[list[np.ndarray]]:
    """Traces the contours of objects, corner by corner.

    A walker goes along the sides of pixels with the object on its right, and where two pixels of
    the object touch at a corner alone, from one to the other. Since an object's pixels are
    connected by their sides, no ring then meets itself, and each two meet in one point at most: the
    rings are a valid polygon of the OGC (Simple Feature Access, 6.1.11).

    Args:
        numbers: Integers [H, W]: 0, or the number of an object, 1 to m without a gap, whose pixels
            are connected by their sides.

    Returns:
        For each object its rings, the outer one first and then those of its holes, in the order of
        their first pixels; int64 [n, 2] each, the x and y of its n corners, of which the first is
        not repeated. The corner of the image is (0, 0). With y up, the outer ring is anticlockwise
        and the others are clockwise, as RFC 7946 has it.
    """
    padded = np.pad(numbers, 1)
    width, flat = padded.shape[1], padded.ravel()
    step = np.array([1, width, -1, -width])  # east, south, west, north
    inside = np.flatnonzero(flat)
    # A side of a pixel, by the direction in which it is walked; what is not the object is left.
    sides = [4 * inside[flat[inside + step[d - 1]] != flat[inside]] + d for d in range(4)]
    key = np.sort(np.concatenate(sides))
    pixel, direction = key // 4, key % 4
    after, turns = _next(flat, step, pixel, direction)
    successor = np.searchsorted(key, after)
    is_corner = np.zeros(len(key), bool)  # whether a side begins at one
    is_corner[successor[turns]] = True
    while not is_corner[successor].all():  # twice as far each time
        successor = np.where(is_corner[successor], successor, successor[successor])
    y, x = np.divmod(pixel, width)
    corners = np.stack([x - 1 + np.isin(direction, (1, 2)), y - 1 + (direction >= 2)], axis=1)
    rings: list[list[np.ndarray]] = [[] for _ in range(int(numbers.max(initial=0)))]
    for ring in _cycles(successor, np.flatnonzero(is_corner)):
        rings[flat[pixel[ring[0]]] - 1].append(corners[ring])
    return rings


def _next(
    flat: np.ndarray, step: np.ndarray, pixel: np.ndarray, direction: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the side after each one, and whether it turns there."""
    own, ahead = flat[pixel], pixel + step[direction]
    beside = ahead + step[direction - 1]
    left = flat[beside] == own
    straight = ~left & (flat[ahead] == own)
    found = np.where(left, beside, np.where(straight, ahead, pixel))
    turn = np.where(left, 3, np.where(straight, 0, 1))
    return 4 * found + (direction + turn) % 4, ~straight


def _cycles(successor: np.ndarray, starts: np.ndarray) -> list[list[int]]:
    """Returns the cycles of a permutation of some places, each from its first place on."""
    after, left, cycles = successor.tolist(), set(starts.tolist()), []
    for start in starts.tolist():
        if start in left:
            cycle, place = [], start
            while place in left:
                left.remove(place)
                cycle.append(place)
                place = after[place]
            cycles.append(cycle)
    return cycles


class Holes:
    """Counts objects with holes, by image, for the user."""

    def __init__(self) -> None:
        """Begins at none."""
        self._counts: collections.Counter[str] = collections.Counter()

    def look(self, name: str, rings: list[np.ndarray]) -> None:
        """Looks at an object of an image."""
        if len(rings) > 1:
            self._counts[name] += 1

    def lines(self, output: str, effect: str) -> list[str]:
        """Says in a line how many there are, in which images, and what that means; [] of none."""
        images = listed(self._counts, most=10)
        line = f"{output}: objects with holes: {self._counts.total()}, in {images}; {effect}"
        return [line] if self._counts else []


def join_rings(rings: list[np.ndarray]) -> np.ndarray:
    """Joins the rings of an object to one line, for formats without holes.

    Each hole is joined to the corner before its first one, in the order of reading, by a cut
    without width that is walked there and back; that corner is of a ring before it. Inside and
    outside stay what they are, by the even-odd rule as by that of winding numbers.

    Args:
        rings: Of `trace`.

    Returns:
        int64 [n, 2], corners of which the first is not repeated.
    """
    if len(rings) == 1:
        return rings[0]
    points = np.concatenate(rings)
    ends = np.cumsum([len(ring) for ring in rings])
    firsts = ends - [len(ring) for ring in rings]
    order = np.lexsort((points[:, 0], points[:, 1]))
    rank = np.empty(len(order), int)
    rank[order] = np.arange(len(order))
    holes: dict[int, list[int]] = {}  # by the place of the corner that they are joined to
    begins = [0]
    for k in range(1, len(rings)):
        first = firsts[k] + int(np.argmin(rank[firsts[k] : ends[k]]))
        begins.append(first)
        holes.setdefault(int(order[rank[first] - 1]), []).append(k)
    path: list[int] = []
    left = [_around(0, firsts[0], ends[0])]
    while left:  # a hole may be joined to a hole, and so on
        if not left[-1]:
            left.pop()
            continue
        place = left[-1].pop()
        path.append(place)
        for k in holes.pop(place, ()):
            left[-1].append(place)
            left.append([begins[k], *_around(begins[k], firsts[k], ends[k])])
    return points[path]


def _around(begin: int, first: int, end: int) -> list[int]:
    """Returns the places of a ring from one on, the last first."""
    return [*range(begin - 1, first - 1, -1), *range(end - 1, begin - 1, -1)]
