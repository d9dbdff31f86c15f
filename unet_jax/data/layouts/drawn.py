"""Images whose labels are drawn from annotations, such as polygons in a text."""

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from unet_jax.data import storage
from unet_jax.data.base import Encoded
from unet_jax.data.files import FilePairs, read_header
from unet_jax.data.formats.base import Header, Mask
from unet_jax.data.sample import Window
from unet_jax.data.storage import AnyPath
from unet_jax.errors import UserError
from unet_jax.process.regular import LARGEST

Draw = Callable[[bytes, str, tuple[int, int]], np.ndarray]
"""From the encoded annotation of an image, its name for errors and the image's (height, width) to
values uint8 [H, W]."""


class DrawnPairs(FilePairs):
    """Pairs of an image file and an annotation; see `base.Pairs`."""

    def __init__(
        self,
        ids: Sequence[str],
        files: Sequence[tuple[AnyPath, AnyPath]],
        draw: Draw,
        largest: int = LARGEST,
        annotations: Sequence[bytes] | None = None,
    ) -> None:
        """Describes the pairs.

        Args:
            ids: Their names.
            files: The (image, annotation) of each; an annotation that is not there holds nothing.
            draw: How a label is drawn.
            largest: MiB of the largest file that is read.
            annotations: What is encoded for each image where one file holds those of many; None to
                read it from its file.
        """
        super().__init__(ids, files, largest)
        self._paths = tuple(files)
        self._draw, self._annotations = draw, annotations

    def read(self, index: int) -> Encoded:
        """Reads one pair; see `Pairs`."""
        image, file = self._paths[index]
        data = self._annotation(index)
        height, width = self.shape(index)
        reader = functools.partial(_draw_mask, self._draw, (height, width))
        return Encoded(
            storage.read_bytes(image, self._largest), (data,), str(image), (str(file),), reader
        )

    def _annotation(self, index: int) -> bytes:
        if self._annotations is not None:
            return self._annotations[index]
        file = self._paths[index][1]
        return storage.read_bytes(file, self._largest) if storage.has_file(file) else b""

    def header(self, index: int) -> Header:
        """Reads the header of the image; see `Pairs`."""
        return read_header(self.files[index][0], self._largest, 2)

    def shape(self, index: int) -> tuple[int, ...]:
        """Reads the pixels from the header of the image; see `Pairs`."""
        return self.header(index).shape

    def stamp(self, index: int) -> str:
        """Joins both files' names, sizes and times; see `Pairs`."""
        there = [file for file in self._paths[index] if storage.has_file(file)]
        return " ".join((*map(storage.stamp, there), self._draw.__module__))


def _draw_mask(
    draw: Draw,
    shape: tuple[int, int],
    masks: Sequence[bytes],
    names: Sequence[str],
    window: Window | None,
) -> list[Mask]:
    drawn = [draw(data, name, shape) for data, name in zip(masks, names, strict=True)]
    return [Mask(ids if window is None else ids[window], None) for ids in drawn]


def read_json(data: bytes, name: str) -> dict[str, Any]:
    """Reads a JSON object.

    Args:
        data: The text.
        name: Its file, for the error.

    Returns:
        The object.

    Raises:
        UserError: It is none.
    """
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{name} cannot be read as JSON ({error}); write it anew.") from None
    if not isinstance(found, dict):
        raise UserError(f"{name} holds a JSON {type(found).__name__}; it must hold an object.")
    return found


def take(record: Any, key: str, kind: type, what: str) -> Any:
    """Returns the value of a key of a JSON object.

    Raises:
        UserError: There is none of that kind.
    """
    value = record.get(key) if isinstance(record, Mapping) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        raise UserError(f"{what} lacks {key!r}, which must be a {kind.__name__}; write it anew.")
    return value
