"""Images that a user of the library gives, arrays and files, as sources without labels."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from unet_jax.arrays import as_image
from unet_jax.data.files import read_header
from unet_jax.data.sample import Sample, Source, Spec, Window, check_spec, reduced
from unet_jax.errors import UserError
from unet_jax.predict.inputs import Images

Range = tuple[float, float] | None


class OneImage:
    """An image in memory, as a `data.sample.Source`."""

    ids = ("image",)

    def __init__(self, image: np.ndarray, spec: Spec) -> None:
        """Takes the image [*n, C]."""
        self._image, self.spec = image, spec

    def __len__(self) -> int:
        return 1

    def shape(self, index: int) -> tuple[int, ...]:
        """Returns the pixels along each axis; see `Source`."""
        return self._image.shape[:-1]

    def read(self, index: int, window: Window | None = None) -> Sample:
        """Returns the image, or a part of it; see `Source`."""
        image = self._image if window is None else self._image[window]
        return Sample(image, None, self.ids[0], (1.0,) * self.spec.axes)


class Gathered:
    """Several sources as one."""

    def __init__(self, sources: Sequence[Source]) -> None:
        """Takes sources of one image each, one or more."""
        self._sources = tuple(sources)
        self.ids, self.spec = tuple(one.ids[0] for one in sources), sources[0].spec

    def __len__(self) -> int:
        return len(self._sources)

    def shape(self, index: int) -> tuple[int, ...]:
        """Returns the pixels along each axis; see `Source`."""
        return self._sources[index].shape(0)

    def reduced(self, size: tuple[int, ...]) -> "Gathered":
        """Returns the source that decodes JPEG files at a reduced scale; see `Reducible`."""
        return Gathered([reduced(one, size) for one in self._sources])

    def read(self, index: int, window: Window | None = None) -> Sample:
        """Returns one image; see `Source`."""
        return self._sources[index].read(0, window)


def is_file(image: Any) -> bool:
    """Tells whether an image is given by the path of its file."""
    return isinstance(image, str | os.PathLike)


def is_several(images: Any, axes: int) -> bool:
    """Tells whether several images are given, and not one as an array or as lists of numbers."""
    if isinstance(images, list | tuple):
        first: Any = images[0] if images else None
        return is_file(first) or (hasattr(first, "__array__") and np.ndim(first) >= axes)
    return isinstance(images, Iterable) and not (is_file(images) or hasattr(images, "__array__"))


def open_file(file: str | os.PathLike[str], spec: Spec, largest: int) -> Images:
    """Reads the header of a file.

    Args:
        file: Its path.
        spec: Of the images that the model was trained on.
        largest: MiB that it may have.

    Returns:
        The image as a source.

    Raises:
        UserError: It cannot be read, or is of another kind.
    """
    path = Path(file).expanduser()
    if path.is_dir() and path.suffix != ".zarr":
        raise UserError(
            f"{path} is a folder; expected an image, or several as a list: "
            "sorted(Path(FOLDER).glob('*.png'))."
        )
    header = read_header(path, largest, spec.axes)
    check_spec(str(path), header.spec(), spec, "what the model was trained on has")
    return Images({path.name: path}, [header], largest)


def open_given(image: Any, name: str, value_range: Range, spec: Spec, largest: int) -> Source:
    """Opens an image, given as an array or a file.

    Args:
        image: See `Run.predict`.
        name: For errors.
        value_range: Likewise, of an array.
        spec: See `open_file`.
        largest: Likewise.

    Returns:
        The image as a source.

    Raises:
        UserError: It is no image of such a kind.
    """
    if not is_file(image):
        return OneImage(as_image(name, image, value_range, spec), spec)
    if value_range is not None:
        raise UserError(
            f"value_range={value_range} is of arrays, and {os.fspath(image)!r} is a file, whose "
            "values are those of the files of the training; leave it out."
        )
    return open_file(image, spec, largest)


def gather(images: Iterable[Any], count: int, open_: Callable[[Any], Source]) -> Iterator[Gathered]:
    """Gathers images in groups, which are read one after the other.

    Args:
        images: See `Run.predict`.
        count: Images of a group.
        open_: Opens one.

    Yields:
        Each group.
    """
    rest = iter(images)
    while group := [open_(image) for image in islice(rest, count)]:
        yield Gathered(group)
