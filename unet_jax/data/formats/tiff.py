"""TIFF files, by tifffile: any number of channels and pages, 8 to 64 bits, tiles, BigTIFF, OME.

Photographs, which are what viewers show as 8-bit grey, indexed or RGB images, are decoded by
Pillow as in every other format; so are compressions that tifffile needs imagecodecs for where
Pillow knows them. TIFF has no checksums: damage may give other pixels without a word.
"""

import contextlib
import functools
import io
import logging
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn

import numpy as np

from unet_jax.data.formats.axes import CHANNELS, Axes, find_axes
from unet_jax.data.formats.base import (
    Header,
    Mask,
    Shape,
    as_ids,
    as_image,
    bands,
    check_claim,
    dtype_of,
    may_pass,
)
from unet_jax.data.formats.headers import turned
from unet_jax.data.formats.pillow import Pillow
from unet_jax.data.formats.tiff_parts import read_part
from unet_jax.data.retry import one_line
from unet_jax.data.sample import Window
from unet_jax.errors import UserError
from unet_jax.process.whole import write_whole, writing_whole

if TYPE_CHECKING:
    import tifffile

_TILE = 512  # pixels of a tile's side, in files of tiles that are written
_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_ALPHA = _PREMULTIPLIED, _ = 1, 2  # of the tag ExtraSamples
_COLOURS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3}  # channels by the tag PhotometricInterpretation
_AS_STORED = (0, 1, 2)  # of these, what is stored is what Pillow gives, or its complement
_MIN_IS_WHITE, _MIN_IS_BLACK, _PALETTE = 0, 1, 3
# Of the tag Compression, without loss: none, LZW, Deflate, PackBits, LZMA, Zstandard, PNG.
_LOSSLESS = (1, 5, 8, 32946, 32773, 34925, 34926, 50000, 34933)


class Tiff:
    """The format of TIFF files.

    An image has two axes, or as many as the network; further axes must be channels: samples of a
    pixel in either layout, or an axis that OME, ImageJ or tifffile's own metadata calls C. Pages
    are the first axis of a volume. 8-bit grey, indexed and RGB images become RGB and lose their
    transparency, as in other formats; all others keep their channels and their type.
    """

    is_folder = False

    def mask_suffix(self, axes: int) -> str:
        """Returns that of the mask; see `Format`."""
        return ".png" if axes == 2 else ".tif"

    def header(self, file: IO[bytes], name: str, axes: int | None) -> Header:
        """Reads the header; see `Format`."""
        with _opened(file, name) as found:
            if found is not None:
                is_own = found.is_ids if axes is None else axes != 2 or found.is_as_stored
                if is_own or not found.is_photograph:
                    return found.header(axes)
        file.seek(0)
        return Pillow().header(file, name, axes)

    def read(
        self, file: IO[bytes], name: str, axes: int, window: Window | None = None
    ) -> np.ndarray:
        """Reads an image; see `Format`."""
        with _opened(file, name) as found:
            if found is not None and (axes != 2 or not found.is_photograph):
                return as_image(found.read(axes, window), name)
            if found is not None and found.is_as_stored:
                return found.read_rgb(window)
        file.seek(0)
        return Pillow().read(file, name, axes, window)

    def read_mask(self, file: IO[bytes], name: str, window: Window | None = None) -> Mask:
        """Reads a mask; see `Format`."""
        with _opened(file, name) as found:
            if found is not None and (found.is_ids or not found.is_photograph):
                found.check_mask()
                return Mask(as_ids(found.read(None, window)[..., 0], name), None)
        file.seek(0)
        return Pillow().read_mask(file, name, window)

    def write_mask(self, file: Path, ids: np.ndarray, num_classes: int) -> None:
        """Writes a mask, of which each slice is a page; see `Format`."""
        buffer = io.BytesIO()
        axes = {"axes": "QYX"[-ids.ndim :]}
        _library().imwrite(
            buffer, ids, photometric="minisblack", metadata=axes, compression="zlib", software=False
        )
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, buffer.getvalue())

    def reads_windows(self, file: IO[bytes], name: str, axes: int) -> bool:
        """Tells whether tiles or strips are decoded alone; see `Format`."""
        with _opened(file, name) as found:
            return found is not None and found.reads_windows(axes)

    def write_windows(
        self, file: Path, read: Callable[[Window], np.ndarray], shape: Shape, num_classes: int
    ) -> None:
        """Writes a mask as a BigTIFF file of tiles, of which each slice is a page; see `Format`."""
        with (
            writing_whole(file) as stream,
            _library().TiffWriter(stream, bigtiff=True) as writer,
        ):
            writer.write(
                _tiles(read, shape),
                shape=shape,
                dtype=np.uint8,
                tile=(_TILE, _TILE),
                photometric="minisblack",
                metadata={"axes": "QYX"[-len(shape) :]},
                compression="zlib",
                software=False,
                maxworkers=1,
            )


def _tiles(read: Callable[[Window], np.ndarray], shape: Shape) -> Iterator[np.ndarray]:
    """Yields the tiles of a mask's pages in order, all of them of one size."""
    for window in bands(shape, _TILE, 0):
        band = read(window).reshape(-1, shape[-1])
        ends = (0, _TILE - len(band)), (0, -shape[-1] % _TILE)
        band = np.pad(band, ends)
        for column in range(0, band.shape[1], _TILE):
            yield np.ascontiguousarray(band[:, column : column + _TILE])


@functools.cache
def _library() -> Any:
    import tifffile

    tifffile.logger().setLevel(logging.CRITICAL + 1)  # what matters is raised
    return tifffile


@contextlib.contextmanager
def _opened(file: IO[bytes], name: str) -> Iterator["_Opened | None"]:
    """Opens a TIFF file; None where the content is of another format, whatever the suffix."""
    start = file.read(4)
    file.seek(0)
    if start not in _MAGIC:
        yield None
        return
    try:
        # Files that this one may name are not opened.
        alone = {"_multifile": False, "is_mmstack": False, "is_ndtiff": False}
        with _library().TiffFile(file, **alone) as tiff:
            yield _Opened(tiff, file, name)
    except UserError:
        raise
    except Exception as error:  # damaged files raise many kinds, and codecs have their own
        if may_pass(error):
            raise
        raise UserError(
            f"{name} cannot be read as a TIFF file ({one_line(error)[:200]}); {_cure(error)}."
        ) from None


def _cure(error: Exception) -> str:
    if "imagecodecs" in str(error):
        return (
            "install what decodes it with pip install 'unet-jax[tiff]', or save the file with "
            "another compression"
        )
    return "replace it or take it out of the data"


class _Opened:
    """The image in an open file, of which no pixel is read yet."""

    def __init__(self, tiff: "tifffile.TiffFile", file: IO[bytes], name: str) -> None:
        """Finds the one series of pages that is the image."""
        series = [one for one in tiff.series if not _is_preview(one)] or list(tiff.series)
        if len(series) != 1:
            raise UserError(
                f"{name} holds {len(series)} images of different kinds, {len(tiff.pages)} frames "
                "or pages; it must hold one. Save each as a file of its own."
            )
        self._series: Any = series[0]
        self._key: Any = self._series.keyframe
        self._file, self._name = file, name
        if 0 in self._series.shape or self._key.dtype is None:
            raise UserError(
                f"{name} cannot be read as a TIFF file (its values are of "
                f"{self._key.bitspersample} bits and of no known type); save it in another."
            )
        self._axes = self._series.axes

    @functools.cached_property
    def is_photograph(self) -> bool:
        """Whether viewers show the image as it is: one page, 8 bits or less, grey or in colour."""
        key, sizes = self._key, dict(zip(self._axes, self._series.shape, strict=True))
        colours = _COLOURS.get(int(key.photometric))
        extra = tuple(map(int, key.extrasamples))
        return (
            math.prod(self._series.shape) == math.prod(key.shape)
            and (sizes["Y"], sizes["X"], 1) == (key.imagelength, key.imagewidth, key.imagedepth)
            and key.bitspersample <= 8
            and int(key.sampleformat) in (1, 4)
            and (colours is None or key.samplesperpixel == colours + len(extra))
            and extra in ((), *((kind,) for kind in _ALPHA))
        )

    @functools.cached_property
    def is_as_stored(self) -> bool:
        """Whether a photograph's values are those stored, which every decoder gives alike."""
        key = self._key
        return (
            self.is_photograph
            and key.bitspersample == 8
            and int(key.photometric) in _AS_STORED
            and _PREMULTIPLIED not in tuple(map(int, key.extrasamples))
            and int(key.compression) in _LOSSLESS
            and _can_decode(key)
        )

    @property
    def is_ids(self) -> bool:
        """Whether a photograph's values are those stored, and may be class ids."""
        is_grey = int(self._key.photometric) == _MIN_IS_BLACK and self._key.samplesperpixel == 1
        return self.is_as_stored and is_grey

    def header(self, axes: int | None) -> Header:
        """Returns the header; see `Format`."""
        place, sizes = self._find(axes), self._series.shape
        shape, channels = place.shape(sizes), place.count(sizes)
        orientation = _orientation(self._key)
        if orientation > 4:
            shape = (*shape[:-2], shape[-1], shape[-2])
        dtype = self._key.dtype.name if axes is None else dtype_of(self._key.dtype, self._name)
        if axes == 2 and self.is_photograph:
            channels = 3
        return Header(shape, channels, dtype, (1.0,) * len(shape), orientation)

    def reads_windows(self, axes: int) -> bool:
        """Returns whether `read`, or `read_rgb`, decodes no more of an image than a window."""
        is_own = axes != 2 or not self.is_photograph or self.is_as_stored
        return is_own and _orientation(self._key) == 1 and self._has_parts()

    def check_mask(self) -> None:
        """Checks what a mask must not be.

        Raises:
            UserError: It has several channels, lost what it held, or counts from white.
        """
        key, channels = self._key, self._find(None).count(self._series.shape)
        if channels > 1:
            raise UserError(
                f"{self._name} is a mask of {channels} channels; a mask must have one, which holds "
                "class ids. Convert it first."
            )
        if int(key.compression) not in _LOSSLESS:
            raise UserError(
                f"{self._name} is a mask in a TIFF file with {_name_of(key)} compression, "
                "which may not keep pixels as they were. Make it again from the original as PNG."
            )
        if int(key.photometric) in (_MIN_IS_WHITE, _PALETTE):
            raise UserError(
                f"{self._name} is a mask in a TIFF file that counts from white to black or has a "
                "palette of more than 8 bits; save its numbers as they are."
            )

    def read(self, axes: int | None, window: Window | None) -> np.ndarray:
        """Reads the pixels, or the window of them.

        Args:
            axes: Of pixels; None for a mask, whose axes are all of pixels but for one of length 1.
            window: The part; None for all.

        Returns:
            [*n, C] in the file's type.
        """
        if int(self._key.photometric) == _PALETTE:
            raise UserError(
                f"{self._name} has a palette of {self._key.bitspersample} bits; save it as RGB."
            )
        place, sizes = self._find(axes), self._series.shape
        orientation = _orientation(self._key)
        self._check_parts()
        values: np.ndarray
        if window is not None and orientation == 1 and self._has_parts():
            values, window = self._read_part(place.window(sizes, window)), None
        else:
            check_claim(sizes, self._key.dtype.itemsize, self._size(), self._name)
            values = self._series.asarray(maxworkers=1).reshape(sizes)
        image = turned(place.arrange(values), orientation, len(place.pixels) - 2)
        return image if window is None else image[window]

    def read_rgb(self, window: Window | None) -> np.ndarray:
        """Reads a window of a photograph that is `is_as_stored`: uint8 [*n, 3]."""
        values = self.read(2, window)
        if int(self._key.photometric) == _MIN_IS_WHITE:
            values = 255 - values
        colours = values[..., :3] if values.shape[-1] >= 3 else values[..., :1].repeat(3, axis=-1)
        return np.ascontiguousarray(colours)

    def _find(self, axes: int | None) -> Axes:
        """Tells axes of pixels and channels apart."""
        place = find_axes(self._axes, self._series.shape, axes)
        return place or self._refuse_axes(axes)

    def _refuse_axes(self, axes: int | None) -> NoReturn:
        sizes = self._series.shape
        found = f"{' x '.join(map(str, sizes))}, axes {self._axes}"
        count = math.prod(
            n for n, letter in zip(sizes, self._axes, strict=True) if letter not in "YX" + CHANNELS
        )
        if count > 1:
            raise UserError(
                f"{self._name} holds {count} frames or pages ({found}); it must hold one. Save "
                "each as a file of its own; or, where they are channels, as one page of so many "
                "samples or with the axes CYX in the file's metadata; or, where they are slices of "
                "a volume, give config.data.image_size three numbers."
            )
        raise UserError(
            f"{self._name} holds an image of {found}; expected {axes or '2 or 3'} axes of pixels."
        )

    def _size(self) -> int:
        return self._file.seek(0, io.SEEK_END)

    def _check_parts(self) -> None:
        """Checks that there is a tile or strip for every pixel; tifffile would leave some out."""
        series, key = self._series, self._key
        if series.dataoffset is not None:
            return
        for page in series:
            found = 0 if page is None else min(len(page.dataoffsets), len(page.databytecounts))
            if int(key.planarconfig) not in (1, 2) or found < math.prod(key.chunked):
                raise ValueError(
                    f"it has {found} tiles or strips of {math.prod(key.chunked)} a page, in the "
                    f"layout {int(key.planarconfig)}"
                )

    def _has_parts(self) -> bool:
        """Whether parts can be decoded alone: pages are planes, and of one layout."""
        key, series = self._key, self._series
        is_plain = key.imagedepth == 1 and key.jpegheader is None and series.transform is None
        return is_plain and series.shape[len(series.shape) - len(key.shape) :] == key.shape

    def _read_part(self, slices: Window) -> np.ndarray:
        """Reads a part of a series; no tile or strip beside it is decoded."""
        sizes = [part.stop - part.start for part in slices]
        check_claim(sizes, self._key.dtype.itemsize, self._size(), self._name)
        return read_part(self._series, slices)


def _is_preview(series: Any) -> bool:
    return bool(series.keyframe.is_reduced)


def _can_decode(page: Any) -> bool:
    """Whether there is a decoder of a page's compression."""
    if int(page.compression) == 1:
        return True
    try:
        _library().TIFF.DECOMPRESSORS[int(page.compression)]
    except KeyError:
        return False
    return True


def _name_of(page: Any) -> str:
    """Returns what a page's compression is called, or its number."""
    return getattr(page.compression, "name", str(page.compression))


def _orientation(page: Any) -> int:
    """Returns how a page lies for a viewer; 1 where that is as it is stored."""
    found = page.tags.valueof(274, default=1)
    return found if isinstance(found, int) and found in range(1, 9) else 1
