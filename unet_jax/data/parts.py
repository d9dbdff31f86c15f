"""Images that are no whole file: a page of a stack, or several files whose channels are one image.

They come from their files decoded, and go on as if they lay in .npy files of their own.
"""

import io
from pathlib import PurePath
from typing import IO, Any, NamedTuple

import numpy as np

from unet_jax.data import storage
from unet_jax.data.formats import FOLDERS, find_format
from unet_jax.data.formats.base import Header
from unet_jax.data.formats.pillow import holds_grey
from unet_jax.data.sample import Window, whole, written
from unet_jax.data.storage import AnyPath
from unet_jax.errors import UserError
from unet_jax.process.regular import LARGEST


class Part(NamedTuple):
    """An image of a page of a file, or of the channels of several.

    Attributes:
        files: One with pages, or those of the channels, in their order.
        page: Its number; None for channels.
    """

    files: tuple[AnyPath, ...]
    page: int | None = None

    def __str__(self) -> str:
        """Names it in messages; by the suffix its format is found."""
        if self.page is not None:
            return f"{self.files[0]}/{self.page:03}.npy"
        return f"{'+'.join(map(str, self.files))}.npy"

    @property
    def name(self) -> str:
        """Returns the name of the file that it might be."""
        return PurePath(str(self)).name

    @property
    def stem(self) -> str:
        """Returns this name without suffix."""
        return PurePath(str(self)).stem

    @property
    def suffix(self) -> str:
        """Returns that of its format."""
        return ".npy"

    @property
    def parent(self) -> AnyPath:
        """Returns the folder of its first file."""
        return self.files[0].parent

    def stamp(self) -> str:
        """Returns a text that changes when a file does; see `storage.stamp`."""
        return " ".join((*map(storage.stamp, self.files), str(self.page)))

    def header(self, axes: int | None, largest: int = LARGEST) -> Header:
        """Reads what its files say of it, with so many axes of pixels, or two; see `Format`."""
        axes = axes or 2
        if self.page is not None:
            found = _header(self.files[0], axes + 1, largest)
            return found._replace(shape=found.shape[1:], spacing=found.spacing[1:])
        headers = [_header(file, axes, largest, splits_grey=True) for file in self.files]
        self._check_alike([(one.shape, one.dtype) for one in headers])
        return headers[0]._replace(channels=sum(one.channels for one in headers))

    def read(self, axes: int, largest: int = LARGEST, window: Window | None = None) -> np.ndarray:
        """Reads it, or the window of it: [*n, C]."""
        if self.page is not None:
            found = _header(self.files[0], axes + 1, largest)
            place = slice(self.page, self.page + 1), *(window or whole(found.shape[1:]))
            return _read(self.files[0], axes + 1, largest, place)[0]
        images = [_read(file, axes, largest, window, splits_grey=True) for file in self.files]
        self._check_alike([(one.shape[:-1], one.dtype.name) for one in images])
        return np.concatenate(images, axis=-1)

    def encode(self, axes: int, largest: int = LARGEST) -> bytes:
        """Returns the bytes of a .npy file that holds it."""
        image, buffer = self.read(axes, largest), io.BytesIO()
        np.save(buffer, image[..., 0] if image.shape[-1] == 1 else image)
        return buffer.getvalue()

    def _check_alike(self, found: list[tuple[tuple[int, ...], str]]) -> None:
        first, (shape, dtype) = self.files[0], found[0]
        for file, (size, kind) in zip(self.files, found, strict=True):
            if (size, kind) != (shape, dtype):
                raise UserError(
                    f"{file} is {written(size)} of {kind} and {first} is {written(shape)} of "
                    f"{dtype}; files whose channels are one image (config.data.folder.images) must "
                    "have one size and one type. Convert what differs."
                )


def files_of(image: AnyPath | Part) -> tuple[AnyPath, ...]:
    """Returns the files that an image lies in."""
    return image.files if isinstance(image, Part) else (image,)


def count_pages(file: AnyPath, largest: int = LARGEST) -> int:
    """Returns the number of pages of a file, each an image of two axes.

    Raises:
        UserError: It cannot be read, or has none.
    """
    return _header(file, 3, largest).shape[0]


def _with(file: AnyPath, read: Any, largest: int) -> Any:
    if file.suffix.lower() in FOLDERS:
        return storage.read_folder_with(file, lambda: read(io.BytesIO()))
    return storage.read_with(file, read, largest)


def _header(file: AnyPath, axes: int, largest: int, *, splits_grey: bool = False) -> Header:
    def read(stream: IO[bytes]) -> Header:
        found = find_format(file.name).header(stream, str(file), axes)
        if splits_grey and _is_grey(stream, file, found.channels, found.dtype):
            return found._replace(channels=1)
        return found

    return _with(file, read, largest)


def _read(
    file: AnyPath,
    axes: int,
    largest: int,
    window: Window | None,
    *,
    splits_grey: bool = False,
) -> np.ndarray:
    def read(stream: IO[bytes]) -> np.ndarray:
        image = find_format(file.name).read(stream, str(file), axes, window)
        if splits_grey and _is_grey(stream, file, image.shape[-1], image.dtype.name):
            return image[..., :1]
        return image

    return _with(file, read, largest)


def _is_grey(stream: IO[bytes], file: AnyPath, channels: int, dtype: str) -> bool:
    """Tells whether a file holds one channel where its format gives three equal ones."""
    if (channels, dtype) != (3, "uint8") or file.suffix.lower() in (".npy", ".npz", *FOLDERS):
        return False
    stream.seek(0)
    return holds_grey(stream.read(), str(file))
