"""Maps beside a label that a loss needs: what is near each pixel, found on the host."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import scipy  # of which `ndimage` comes when it is used: it takes 0.1 s

from unet_jax.data.sample import Window
from unet_jax.task import BACKGROUND, IGNORE

REACH = 7.0  # deviations, beyond which a border weight is below 3e-11


class Map(Protocol):
    """What is found for every pixel of a label before augmentation moves both.

    Lengths are in pixels of what the network sees: of the resized label with `fit` "resize".

    Attributes:
        name: Of the map in a batch's extras.
        channels: Values of a pixel; () for a single one.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def channels(self) -> tuple[int, ...]: ...  # noqa: D102

    def draw(self, label: np.ndarray, objects: np.ndarray | None, window: Window) -> np.ndarray:
        """Finds the map of a part of a label.

        Args:
            label: uint8 [*n] or [*n, L], whole, with `IGNORE`.
            objects: Integers [*n], the number of the object that a pixel is of, 0 for none; None
                where nothing says so.
            window: The part, inside the label.

        Returns:
            float32 [*m] or [*m, channels], of the window's m pixels.
        """
        ...


class Border(NamedTuple):
    """How narrow the background between two objects is.

    exp(-(d_1 + d_2)^2 / (2 sigma^2)) in the background, d_1 and d_2 the distances to the nearest
    and the second nearest object (Ronneberger et al., 2015, eq. 2, without w_c and w_0), and 0
    inside objects, where there is no border to learn. With fewer than two objects it is 0. An
    object is a number of `objects`, or where there are none, pixels of one class other than the
    background that touch each other along an axis. Distances are those between the middles of
    pixels, so that a gap of one pixel has d_1 + d_2 = 2.

    Attributes:
        sigma: In pixels.
    """

    sigma: float

    @property
    def name(self) -> str:
        """Returns "border"; see `Map`."""
        return "border"

    @property
    def channels(self) -> tuple[int, ...]:
        """Returns (); see `Map`."""
        return ()

    def draw(self, label: np.ndarray, objects: np.ndarray | None, window: Window) -> np.ndarray:
        """Finds the map; see `Map`."""
        if objects is None:
            objects = number_objects(label, len(window))
        reach = math.ceil(REACH * self.sigma)
        wide = _grow(window, reach, objects.shape)
        near = objects[wide]
        # From 1 on; without a pixel of none, 0 is an object, and the map is 0 all the same.
        numbers = np.unique(near, return_inverse=True)[1].reshape(near.shape)
        first, second = np.full((2, *near.shape), np.inf)
        for number, box in enumerate(scipy.ndimage.find_objects(numbers), 1):
            part = _grow(box, reach, near.shape)
            distance = _distance(numbers[part] != number)
            second[part] = np.minimum(second[part], np.maximum(first[part], distance))
            first[part] = np.minimum(first[part], distance)
        weight = np.exp(-((first + second) ** 2) / (2 * self.sigma**2)) * (near == 0)
        inner = tuple(
            slice(own.start - outer.start, own.stop - outer.start)
            for own, outer in zip(window, wide, strict=True)
        )
        return weight[inner].astype(np.float32)


def number_objects(label: np.ndarray, axes: int) -> np.ndarray:
    """Numbers the connected objects of all classes but the background.

    Args:
        label: uint8 [*n], class ids of which `BACKGROUND` and `IGNORE` are no objects, or [*n, L]
            of 0 and 1 by class; see `Sample`.
        axes: n.

    Returns:
        int32 [*n], 0 where there is none. Where objects of several classes overlap, those of the
        last class are in front.
    """
    objects, count = np.zeros(label.shape[:axes], np.int32), 0
    for mask in _masks(label, axes):
        numbers, more = scipy.ndimage.label(mask)  # pixels touch along axes, not at corners
        objects = np.where(mask, numbers + count, objects)
        count += more
    return objects


def _masks(label: np.ndarray, axes: int) -> Iterator[np.ndarray]:
    if label.ndim > axes:
        yield from np.moveaxis(label == 1, -1, 0)
    else:
        there = np.flatnonzero(np.bincount(label.ravel(), minlength=IGNORE + 1))
        yield from (label == k for k in there if k not in (BACKGROUND, IGNORE))


def _grow(window: Window, pixels: int, shape: Sequence[int]) -> Window:
    """Returns a window with more pixels on every side, as far as there are any."""
    return tuple(
        slice(max(0, part.start - pixels), min(n, part.stop + pixels))
        for part, n in zip(window, shape, strict=True)
    )


class Distance(NamedTuple):
    """How far each pixel is from the border of each channel: below 0 inside, above 0 outside.

    The border lies half-way between the middles of the pixels on its two sides, so that a channel
    and its opposite have opposite maps. Of a channel without any pixel in the label, or with all of
    them, it is 0. An ignored pixel is in no channel.

    Attributes:
        ids: Of the classes of every channel; () where labels are by class.
        count: K.
    """

    ids: tuple[tuple[int, ...], ...]
    count: int

    @property
    def name(self) -> str:
        """Returns "distance"; see `Map`."""
        return "distance"

    @property
    def channels(self) -> tuple[int, ...]:
        """Returns (K,); see `Map`."""
        return (self.count,)

    def draw(self, label: np.ndarray, objects: np.ndarray | None, window: Window) -> np.ndarray:
        """Finds the map; see `Map`."""
        maps = [_signed_distance(self._inside(label, k))[window] for k in range(self.count)]
        return np.stack(maps, axis=-1)

    def _inside(self, label: np.ndarray, channel: int) -> np.ndarray:
        return np.isin(label, self.ids[channel]) if self.ids else label[..., channel] == 1


def _signed_distance(inside: np.ndarray) -> np.ndarray:
    if inside.all() or not inside.any():
        return np.zeros(inside.shape, np.float32)
    to_outside, to_inside = _distance(inside), _distance(~inside)
    return np.where(inside, 0.5 - to_outside, to_inside - 0.5).astype(np.float32)


def _distance(mask: np.ndarray) -> np.ndarray:
    """Returns how far the pixels of a mask are from the nearest one that is not of it."""
    return np.asarray(scipy.ndimage.distance_transform_edt(mask))


def draw_maps(
    maps: Sequence[Map],
    label: np.ndarray,
    objects: np.ndarray | None,
    starts: Sequence[int],
    size: Sequence[int],
) -> dict[str, np.ndarray]:
    """Finds the maps of a part of a label that may go beyond it.

    Args:
        maps: Which.
        label: uint8 [*n] or [*n, L], with `IGNORE`.
        objects: See `Map.draw`.
        starts: Where the part starts along each axis; below 0 for before the label.
        size: Its pixels [*m].

    Returns:
        By name, float32 [*m] or [*m, channels]; 0 beyond the label.
    """
    shape = label.shape[: len(size)]
    window = tuple(
        slice(min(max(0, start), n), min(max(0, start + m), n))
        for start, m, n in zip(starts, size, shape, strict=True)
    )
    found = {}
    for each in maps:
        drawn = np.zeros((*size, *each.channels), np.float32)
        there = tuple(
            slice(part.start - start, part.stop - start)
            for part, start in zip(window, starts, strict=True)
        )
        drawn[there] = each.draw(label, objects, window)
        found[each.name] = drawn
    return found
