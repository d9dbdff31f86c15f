"""Large images to predict: files of which windows are read, and where their results go."""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from unet_jax.data.files import AnyFile, read_image, reads_windows
from unet_jax.data.formats.base import Header
from unet_jax.data.sample import Window, whole, written
from unet_jax.errors import UserError
from unet_jax.predict.windows import Read
from unet_jax.process.capacity import host_memory, write_bytes

_WHOLE = "with percentiles of each image (config.data.normalise) is"
_CURES = {
    True: "use percentiles of the training images, or another kind",
    False: "convert it to a tiled TIFF file or OME-Zarr",
}
_COPIES = 3  # of an image, that decoding it whole may hold at once


class Results(NamedTuple):
    """The files of an image.

    Attributes:
        masks: The mask, or one for every class.
        overlays: The image with the classes over it; () for none.
        values: Ids in the masks are below it.
        store: Folder of what is kept until they are written.
    """

    masks: tuple[Path, ...]
    overlays: tuple[Path, ...]
    values: int
    store: Path

    @property
    def files(self) -> tuple[Path, ...]:
        """Returns all of them."""
        return (*self.masks, *self.overlays)


class Opened(NamedTuple):
    """A large image to predict.

    Attributes:
        file: Its file.
        header: What the file says of itself.
        largest: MiB that it may have.
        results: Where its results go.
    """

    file: AnyFile
    header: Header
    largest: int
    results: Results

    def reader(self, *, is_whole: bool) -> Read:
        """Returns what reads its windows.

        Args:
            is_whole: Whether it has to be in memory in any case.

        Raises:
            UserError: It is decoded whole, and there is too little memory for that.
        """
        axes = len(self.header.shape)
        if not is_whole and reads_windows(self.file, axes, self.largest):
            return self._window
        taken = math.prod(self.header.shape) * self.header.channels
        taken *= _COPIES * np.dtype(self.header.dtype).itemsize
        if taken > host_memory():
            raise UserError(
                f"{self.file} ({written(self.header.shape)} pixels) "
                f"{_WHOLE if is_whole else 'is of a format that is'} decoded whole, which takes "
                f"{write_bytes(taken)}, and there are {write_bytes(host_memory())}: "
                f"{_CURES[is_whole]}."
            )
        return self._check(read_image(self.file, axes, self.largest), whole(self.header.shape))

    def _window(self, window: Window) -> np.ndarray:
        image = read_image(self.file, len(window), self.largest, window)
        self._check(image, window)
        return image

    def _check(self, image: np.ndarray, window: Window) -> Read:
        size = tuple(part.stop - part.start for part in window)
        if image.shape != (*size, self.header.channels) or image.dtype != self.header.dtype:
            raise UserError(f"{self.file} has changed while it was read.")
        return image.__getitem__
