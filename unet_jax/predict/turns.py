"""Mirrored and turned images, along the axes by which training mirrored and turned them."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from unet_jax.data.sample import Sample, Source, Spec, Window, reduced
from unet_jax.data.sides import find_sides


class Turn(NamedTuple):
    """A way to mirror and turn an image in the plane of its last two axes of pixels.

    Attributes:
        up_down: Whether it is mirrored top to bottom.
        left_right: Whether it is mirrored left to right.
        quarters: How many quarter turns come after that, counterclockwise.
    """

    up_down: bool = False
    left_right: bool = False
    quarters: int = 0

    def apply(self, array: np.ndarray, axes: int) -> np.ndarray:
        """Mirrors and turns an array [*n, ...] of so many axes of pixels; returns a view."""
        array = np.flip(array, self._mirrored(axes))
        return np.rot90(array, self.quarters, (axes - 2, axes - 1))

    def undo(self, array: np.ndarray, axes: int) -> np.ndarray:
        """Turns back what `apply` turned."""
        array = np.rot90(array, -self.quarters, (axes - 2, axes - 1))
        return np.flip(array, self._mirrored(axes))

    def size(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """Returns the pixels along each axis of an image of this size, once it is turned."""
        *depth, height, width = size
        return (*depth, width, height) if self.quarters % 2 else size

    def _mirrored(self, axes: int) -> tuple[int, ...]:
        mirrored = (axes - 2, self.up_down), (axes - 1, self.left_right)
        return tuple(axis for axis, is_mirrored in mirrored if is_mirrored)


ONCE = (Turn(),)
"""The image as it is."""


def find_turns(augment: Mapping[str, Any], class_names: Sequence[str]) -> tuple[Turn, ...]:
    """Finds the different ways in which training mirrored and turned images.

    Args:
        augment: The section of the config.
        class_names: K names.

    Returns:
        The image as it is, and then the others; nothing else where classes are a left and a right,
        which no mirrored image shows.
    """
    if find_sides(class_names):
        return ONCE
    flips, quarters = augment.get("flip", {}), augment.get("turn", {}).get("quarters", ())
    choices = [(False, True) if flips.get(name) else (False,) for name in ("up_down", "left_right")]
    turns = itertools.product(*choices, sorted({0, *quarters}))
    # Mirrored both ways is turned by two quarters.
    corners, found = np.arange(6).reshape(2, 3), {}
    for turn in itertools.starmap(Turn, turns):
        moved = turn.apply(corners, 2)
        found.setdefault((moved.shape, moved.tobytes()), turn)
    return tuple(found.values())


class Turned:
    """Some images of a source, mirrored and turned; a `Source` without labels."""

    def __init__(self, source: Source, indices: Sequence[int], turn: Turn) -> None:
        """Takes the source, the indices of the images there, and the way."""
        self._source, self._indices, self._turn = source, tuple(indices), turn
        self.ids = tuple(source.ids[index] for index in indices)

    def __len__(self) -> int:
        return len(self._indices)

    @property
    def spec(self) -> Spec:
        """Returns that of the source; see `Source`."""
        return self._source.spec

    def shape(self, index: int) -> tuple[int, ...]:
        """Returns the pixels along each axis without decoding; see `Source`."""
        return self._turn.size(self._source.shape(self._indices[index]))

    def reduced(self, size: tuple[int, ...]) -> "Turned":
        """Returns the source that decodes JPEG files at a reduced scale; see `Reducible`."""
        return Turned(reduced(self._source, self._turn.size(size)), self._indices, self._turn)

    def read(self, index: int, window: Window | None = None) -> Sample:
        """Decodes one image; see `Source`."""
        assert window is None, "whole images are turned"
        sample = self._source.read(self._indices[index])
        turned = self._turn.apply(sample.image, sample.image.ndim - 1)
        return sample._replace(image=np.ascontiguousarray(turned))
