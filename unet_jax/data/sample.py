"""What every source of images gives: nothing above it knows 8 bits, three channels or two axes."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from unet_jax.errors import UserError

Window = tuple[slice, ...]
"""A part of an image: one slice with a start and a stop for each axis of pixels."""

Ends = tuple[tuple[float, ...], tuple[float, ...]]
"""The values of black and of white, of each channel."""

Range = tuple[float, float] | Ends
"""The values of black and of white, of all channels or of each."""


class Spec(NamedTuple):
    """What all images of a source have in common.

    Attributes:
        axes: Of pixels: 2 for images [H, W, C], 3 for volumes [D, H, W, C].
        channels: C.
        dtype: Name of the type of the values.
        value_range: The values of black and of white, which become 0 and 1 on the device; what
            config.data.value_range says counts before what a source says.
    """

    axes: int
    channels: int
    dtype: str
    value_range: tuple[float, float]

    def __str__(self) -> str:
        """Describes it in a message."""
        return f"{self.axes} axes, {self.channels} channels of {self.dtype}"


class Sample(NamedTuple):
    """One image, with its label where it has one.

    Attributes:
        image: [*n, C], as `Spec` says.
        label: uint8 [*n], class ids in 0..K-1 or `base.IGNORE`; or uint8 [*n, L] of 0, 1 or
            `base.IGNORE`, where every pixel has L labels. None for an image to predict.
        id: Its name.
        spacing: Lengths of a pixel's sides, one for each axis, in any unit; 1 where not known.
        objects: Integers [*n]: the number of the object that a pixel is of, 0 for none; None where
            the source does not tell objects of a class apart.
    """

    image: np.ndarray
    label: np.ndarray | None
    id: str
    spacing: tuple[float, ...]
    objects: np.ndarray | None = None

    def truth(self) -> np.ndarray:
        """Returns the label of an image that has one."""
        assert self.label is not None, f"{self.id} has no label"
        return self.label


class Source(Protocol):
    """Images by index; several threads may read at once."""

    @property
    def spec(self) -> Spec:
        """Returns what all images have in common, without decoding."""
        ...

    @property
    def ids(self) -> Sequence[str]:
        """Returns one name per image."""
        ...

    def __len__(self) -> int:
        """Returns how many images there are."""
        ...

    def shape(self, index: int) -> tuple[int, ...]:
        """Returns the pixels [*n] of an image along each axis, without decoding."""
        ...

    def read(self, index: int, window: Window | None = None) -> Sample:
        """Reads an image with its label.

        Args:
            index: Of the image.
            window: The part to read; None for all.

        Returns:
            The image, or its part, with that of the label.

        Raises:
            UserError: It cannot be read.
        """
        ...


class Some:
    """Some images of a source, under numbers of their own.

    Attributes:
        indices: Of the images in the source.
    """

    def __init__(self, source: Source, indices: Sequence[int]) -> None:
        """Takes the source and the numbers of the images in it."""
        self._source, self.indices = source, tuple(indices)

    @property
    def spec(self) -> Spec:
        """Returns that of the source; see `Source`."""
        return self._source.spec

    @property
    def ids(self) -> Sequence[str]:
        """Returns one name per image; see `Source`."""
        return [self._source.ids[index] for index in self.indices]

    def __len__(self) -> int:
        return len(self.indices)

    def shape(self, index: int) -> tuple[int, ...]:
        """Returns the pixels of an image along each axis; see `Source`."""
        return self._source.shape(self.indices[int(index)])

    def read(self, index: int, window: Window | None = None) -> Sample:
        """Reads an image; see `Source`."""
        return self._source.read(self.indices[int(index)], window)


@runtime_checkable
class Reducible(Protocol):
    """A source that can decode images at a reduced scale."""

    def reduced(self, size: tuple[int, ...]) -> Source:
        """Returns the source whose JPEG files, read whole, come in a size, without what is smaller.

        Args:
            size: What images will be resized to, [*n].

        Returns:
            The same images and labels; `shape` and labels stay as they are. A JPEG of twice the
            size or more is decoded at 1/2, 1/4 or 1/8 and resized to it; all others come whole.
        """
        ...


def reduced(source: Source, size: tuple[int, ...] | None) -> Source:
    """Returns what reads the images of a source for a network that resizes them.

    Args:
        source: The images.
        size: What `Reducible.reduced` takes; None for images as they are.

    Returns:
        The source, or where it can, the one that decodes at a reduced scale.
    """
    return source.reduced(size) if size and isinstance(source, Reducible) else source


def make_spec(axes: int, channels: int, dtype: str) -> Spec:
    """Makes the spec of images whose values have the range of their type.

    Args:
        axes: Of pixels.
        channels: C.
        dtype: Integers, whose smallest and largest value are black and white, or floating-point
            numbers, whose black and white are 0 and 1.

    Returns:
        The spec.
    """
    if np.issubdtype(dtype, np.integer):
        limits = np.iinfo(dtype)
        return Spec(axes, channels, dtype, (float(limits.min), float(limits.max)))
    return Spec(axes, channels, dtype, (0.0, 1.0))


RGB = make_spec(2, 3, "uint8")
"""Images with three colours of 8 bits, as most files hold them."""


def spec_of(image: np.ndarray) -> Spec:
    """Returns the spec of images such as this one, [*n, C]."""
    return make_spec(image.ndim - 1, image.shape[-1], image.dtype.name)


def check_spec(what: str, found: Spec, wanted: Spec, whose: str) -> None:
    """Checks that an image is of the kind that it has to be.

    Args:
        what: The image, for the error.
        found: Its spec.
        wanted: What it has to be.
        whose: Who has that, for the error, such as "the first image has".

    Raises:
        UserError: It is of another kind.
    """
    if found[:3] != wanted[:3]:
        raise UserError(
            f"{what} has {found}, and {whose} {wanted}; all must have the same. Convert what "
            "differs."
        )


def whole(shape: Sequence[int]) -> Window:
    """Returns the window that holds all pixels [*n]."""
    return tuple(slice(0, n) for n in shape)


def written(shape: Sequence[int]) -> str:
    """Writes pixels along each axis as "48x64"."""
    return "x".join(map(str, shape))
