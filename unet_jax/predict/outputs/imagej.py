"""Objects as regions of interest of ImageJ: an archive that its ROI Manager opens."""

import io
import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from unet_jax.figures import palette
from unet_jax.predict.outputs.base import Output, Predicted, write
from unet_jax.predict.outputs.contours import Holes, trace
from unet_jax.predict.outputs.objects import find_objects

# Offsets and values as ij.io.RoiDecoder of ImageJ 1.54 has them; all numbers are big-endian.
_VERSION, _RECTANGLE, _TRACED = 228, 1, 8
_HEADER = 64  # bytes of each of the two headers
_MOVE, _LINE, _CLOSE = 0.0, 1.0, 4.0  # parts of a path
_MOST = 2**15 - 1  # of a coordinate in 16 bits
_OPAQUE = 0xFF000000


class ImageJ(Output):
    """NAME_rois.zip, a region for each object, as ImageJ's own wand traces them.

    A region with holes is a composite one. Corners are those of pixels, as ImageJ has them, and
    whole numbers, which both kinds hold exactly up to 16,777,216. The group of a region is its
    class id, its name has the class.
    """

    said: ClassVar[str] = "regions (ImageJ)"
    axes: ClassVar[tuple[int, ...]] = (2,)

    def __init__(self, class_names: Sequence[str]) -> None:
        """Begins to count; see `Output`."""
        super().__init__(class_names)
        self._holes = Holes()

    @classmethod
    def files(cls, name: str, suffix: str, by_class: Sequence[str]) -> tuple[str, ...]:
        """Returns the file; see `Output`."""
        return (f"{name}_rois.zip",)

    def add(self, found: Predicted, files: Sequence[Path]) -> None:
        """Writes the file; see `Output`."""
        colours, buffer, count = palette(len(self.class_names)), io.BytesIO(), 0
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for k, numbers in find_objects(found, self.class_names):
                for rings in trace(numbers):
                    count += 1
                    self._holes.look(found.name, rings)
                    name = f"{count:05}-{self.class_names[k]}"
                    entry = zipfile.ZipInfo(f"{name.replace('/', '_')}.roi")  # of 1980, always
                    entry.compress_type = zipfile.ZIP_DEFLATED
                    archive.writestr(entry, encode(rings, name, k, colours[k]))
        write(files[0], buffer.getvalue())

    def close(self, files: Sequence[Path]) -> list[str]:
        """Counts the objects that have holes; see `Output`."""
        return self._holes.lines("imagej", "they are composite regions, and exact")


def encode(rings: Sequence[np.ndarray], name: str, group: int, colour: np.ndarray) -> bytes:
    """Encodes a region as the bytes of a .roi file.

    Args:
        rings: Its contours, the outer one first, [n, 2] whole x and y of their corners.
        name: What ImageJ calls it.
        group: 0 to 255; 0 is none.
        colour: uint8 [3] RGB.

    Returns:
        The bytes.
    """
    outer = rings[0]
    low, high = outer.min(axis=0), outer.max(axis=0)
    is_simple = len(rings) == 1 and high.max() <= _MOST and len(outer) < 2**16
    if is_simple:
        path, corners, kind = (outer - low).T.astype(">i2").tobytes(), len(outer), _TRACED
    else:
        parts = [part for ring in rings for part in _path(ring)]
        path, corners, kind = np.array(parts, ">f4").tobytes(), 0, _RECTANGLE
    header, more, text = bytearray(_HEADER), bytearray(_HEADER), name.encode("utf-16-be")
    struct.pack_into(">4shBx", header, 0, b"Iout", _VERSION, kind)
    box = np.minimum([low[1], low[0], high[1], high[0]], 2**16 - 1)  # of a path ImageJ finds it
    struct.pack_into(">5H", header, 8, *box.tolist(), corners)
    struct.pack_into(">iI", header, 36, 0 if is_simple else len(path) // 4, _argb(colour))
    struct.pack_into(">i", header, 60, _HEADER + len(path))
    struct.pack_into(">ii", more, 16, 2 * _HEADER + len(path), len(text) // 2)
    struct.pack_into(">B", more, 30, group)
    return bytes(header) + path + bytes(more) + text


def _path(ring: np.ndarray) -> list[float]:
    lines = [number for x, y in ring.tolist() for number in (_LINE, x, y)]
    return [_MOVE, *lines[1:], _CLOSE]


def _argb(colour: np.ndarray) -> int:
    red, green, blue = colour.tolist()
    return _OPAQUE | red << 16 | green << 8 | blue
