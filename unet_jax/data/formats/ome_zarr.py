"""Folders of OME-Zarr, and of Zarr arrays alone, versions 2 and 3, by tensorstore.

Chunks have checksums only where whoever wrote them asked for it (the codec crc32c); damage to them
is then an error. A chunk that is missing has the array's fill value, as the format has it.
"""

import functools
import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import IO, Any, NoReturn

import numpy as np

from unet_jax.data.formats.axes import Axes, find_axes
from unet_jax.data.formats.base import (
    Header,
    Mask,
    Shape,
    as_ids,
    as_image,
    bands,
    check_claim,
    dtype_of,
    split_channels,
)
from unet_jax.data.formats.tiff import Tiff
from unet_jax.data.retry import one_line
from unet_jax.data.sample import Window
from unet_jax.errors import UserError
from unet_jax.process.regular import irregular_kind, open_regular
from unet_jax.process.whole import folder_whole

_CHANNEL_NAMES = ("c", "channel", "channels", "band", "bands")
_MOST_METADATA = 16  # MiB
_CHUNK = 1024  # pixels of a chunk's side, in folders that are written
_SMALL = 2**26  # bytes of an array that may be in a folder of any size


class OmeZarr:
    """The format of .zarr folders.

    Of an image of several resolutions the first is read, which is the largest. An array without
    names of its axes is [*n] or [*n, C]. Only the chunks of a window are read.
    """

    is_folder = True

    def mask_suffix(self, axes: int) -> str:
        """Returns that of the mask; see `Format`."""
        return Tiff().mask_suffix(axes)

    def header(self, file: IO[bytes], name: str, axes: int | None) -> Header:
        """Reads the header; see `Format`."""
        return _Opened(name).header(axes)

    def read(
        self, file: IO[bytes], name: str, axes: int, window: Window | None = None
    ) -> np.ndarray:
        """Reads an image; see `Format`."""
        return as_image(_Opened(name).read(axes, window), name)

    def read_mask(self, file: IO[bytes], name: str, window: Window | None = None) -> Mask:
        """Reads a mask; see `Format`."""
        opened = _Opened(name)
        if (channels := opened.header(None).channels) > 1:
            raise UserError(
                f"{name} is a mask of {channels} channels; a mask must have one, which holds class "
                "ids. Convert it first."
            )
        return Mask(as_ids(opened.read(None, window)[..., 0], name), None)

    def write_mask(self, file: Path, ids: np.ndarray, num_classes: int) -> None:
        """Writes a mask; see `Format`."""
        self.write_windows(file, ids.__getitem__, ids.shape, num_classes)

    def reads_windows(self, file: IO[bytes], name: str, axes: int) -> bool:
        """Returns True; see `Format`."""
        return True

    def write_windows(
        self, file: Path, read: Callable[[Window], np.ndarray], shape: Shape, num_classes: int
    ) -> None:
        """Writes a mask as OME-Zarr 0.4, chunk row by chunk row; see `Format`."""
        import tensorstore

        with folder_whole(file) as folder:
            spec = {
                "driver": "zarr",
                "kvstore": {"driver": "file", "path": f"{folder / '0'}/"},
                "metadata": {
                    "shape": list(shape),
                    "chunks": [1] * (len(shape) - 2) + [_CHUNK, _CHUNK],
                    "dtype": "|u1",
                    "compressor": {"id": "zlib", "level": 6},
                    "dimension_separator": "/",
                    "fill_value": 0,
                },
                "create": True,
            }
            array = tensorstore.open(spec).result()
            for window in bands(shape, _CHUNK):
                array[window].write(read(window)).result()
            (folder / ".zgroup").write_text(json.dumps({"zarr_format": 2}))
            (folder / ".zattrs").write_text(json.dumps(_attributes(len(shape))))


def _attributes(axes: int) -> dict[str, Any]:
    """Returns what OME-Zarr says of a mask of one resolution."""
    scale = {"type": "scale", "scale": [1.0] * axes}
    image = {
        "version": "0.4",
        "axes": [{"name": name, "type": "space"} for name in "zyx"[-axes:]],
        "datasets": [{"path": "0", "coordinateTransformations": [scale]}],
    }
    return {"multiscales": [image], "image-label": {"version": "0.4"}}


class _Opened:
    """The array of an image, of which no chunk is read yet."""

    def __init__(self, name: str) -> None:
        """Reads the metadata."""
        import tensorstore

        self._name = name
        _check_files(name)
        path, self._letters, self._scale = _find_array(Path(name))
        spec = {"driver": "auto", "kvstore": {"driver": "file", "path": f"{path}/"}}
        try:
            self._array = tensorstore.open(spec, open=True, read=True).result()
        except Exception as error:  # tensorstore raises several kinds
            self._fail(error)
        self._shape = tuple(self._array.shape)
        if not self._shape or min(self._shape) < 1 or any(self._array.domain.origin):
            raise UserError(f"{name} holds an array of shape {self._shape}; it must hold numbers.")
        self._dtype = np.dtype(self._array.dtype.numpy_dtype)

    def _fail(self, error: Exception) -> NoReturn:
        raise UserError(
            f"{self._name} cannot be read as a Zarr folder ({one_line(error)[:300]}); replace it "
            "or take it out of the data."
        ) from None

    def header(self, axes: int | None) -> Header:
        """Returns the header; see `Format`."""
        place = self._place(axes)
        dtype = self._dtype.name if axes is None else dtype_of(self._dtype, self._name)
        spacing = tuple(self._scale[i] if self._scale else 1.0 for i in place.pixels)
        return Header(place.shape(self._shape), place.count(self._shape), dtype, spacing)

    def read(self, axes: int | None, window: Window | None) -> np.ndarray:
        """Reads the pixels, or the window of them, as [*n, C] in the array's type."""
        place = self._place(axes)
        window = tuple(slice(0, n) for n in place.shape(self._shape)) if window is None else window
        slices = place.window(self._shape, window)
        claimed = [part.stop - part.start for part in slices]
        if math.prod(claimed) * self._dtype.itemsize > _SMALL:
            check_claim(claimed, self._dtype.itemsize, _size(self._name), self._name)
        try:
            values = self._array[slices].read().result()
        except Exception as error:
            self._fail(error)
        return place.arrange(values)

    def _place(self, axes: int | None) -> Axes:
        if not self._letters:
            found = len(self._shape) if axes is None else axes
            split_channels(self._shape, found, self._name)
            pixels = tuple(range(found))
            return Axes(pixels, tuple(range(found, len(self._shape))))
        place = find_axes(self._letters, self._shape, axes)
        if place is None:
            raise UserError(
                f"{self._name} holds an image of {' x '.join(map(str, self._shape))}, axes "
                f"{self._letters}; expected {axes or '2 or 3'} axes of pixels longer than 1. Save "
                "each part as an image of its own, or give config.data.image_size as many numbers."
            )
        return place


@functools.lru_cache(maxsize=1 << 16)
def _check_files(name: str) -> None:
    """Checks that a folder holds only what can be read without waiting; links lead to files."""
    if not os.path.isdir(name):
        kind = "missing" if not os.path.lexists(name) else "no folder, as a Zarr image is"
        raise UserError(f"{name} is {kind}; replace it or take it out of the data.")
    for folder, folders, files in os.walk(name):
        for entry in (os.path.join(folder, file) for file in files):
            if kind := irregular_kind(Path(entry)):
                raise UserError(f"{entry} is a {kind} and no regular file; take it out.")
        for entry in (os.path.join(folder, one) for one in folders):
            if os.path.islink(entry):
                raise UserError(f"{entry} is a link to a folder; put the folder in its place.")


def _size(name: str) -> int:
    """Returns the bytes of all files of a folder."""
    walked = os.walk(name)
    return sum(os.path.getsize(os.path.join(f, file)) for f, _, files in walked for file in files)


def _find_array(folder: Path) -> tuple[Path, str, tuple[float, ...]]:
    """Finds the array of an image.

    Args:
        folder: That of the image.

    Returns:
        The array's folder, and by axis its letter and the length of a pixel's side; both empty
        where they are not told.
    """
    metadata = _read_json(folder / "zarr.json")
    if metadata.get("node_type") == "array":
        names = metadata.get("dimension_names") or ()
        is_named = isinstance(names, list) and all(isinstance(name, str) for name in names)
        return folder, _letters(names) if is_named else "", ()
    if (folder / ".zarray").exists():
        return folder, "", ()
    attributes = metadata.get("attributes") or _read_json(folder / ".zattrs")
    try:
        scales = (attributes.get("ome") or attributes)["multiscales"][0]
        first = scales["datasets"][0]
        path = PurePosixPath(first["path"])
        names = [axis["name"] if isinstance(axis, dict) else axis for axis in scales["axes"]]
        transforms = [*first.get("coordinateTransformations", ()), {"type": "none"}]
        scale = next((t["scale"] for t in transforms if t["type"] == "scale"), None)
        spacing = tuple(map(float, scale)) if scale else ()
        letters = _letters(names)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{folder} is no Zarr array, and does not tell in which of its arrays an OME-Zarr "
            f"image is ({type(error).__name__}: {one_line(error)}); write one array, or OME-Zarr."
        ) from None
    if path.is_absolute() or ".." in path.parts:
        raise UserError(f"{folder} names {str(path)!r}, which leads out of it; mend its metadata.")
    return folder / path, letters, spacing if len(spacing) == len(letters) else ()


def _letters(names: Any) -> str:
    """Returns a letter for each axis, as `find_axes` takes them: the last two are Y and X."""
    letters = ["C" if name.lower() in _CHANNEL_NAMES else "Z" for name in names]
    others = [index for index, letter in enumerate(letters) if letter != "C"]
    for index, letter in zip(reversed(others), "XY", strict=False):
        letters[index] = letter
    return "".join(letters)


def _read_json(file: Path) -> Mapping[str, Any]:
    """Reads a file of metadata; empty where it is not there."""
    try:
        with open_regular(file, _MOST_METADATA) as stream:
            found = json.loads(stream.read())
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} cannot be read ({one_line(error)}); replace the image.") from None
    return found if isinstance(found, dict) else {}
