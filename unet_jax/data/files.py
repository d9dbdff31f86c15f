"""Images and masks in files, and lists of their names."""

import collections
import functools
import io
import os
import re
import unicodedata
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import numpy as np

from unet_jax.data import formats, storage
from unet_jax.data.base import Encoded, MaskReader, read_each
from unet_jax.data.formats import FOLDERS, FORMATS, find_format
from unet_jax.data.formats.base import Header
from unet_jax.data.parts import Part
from unet_jax.data.sample import Window
from unet_jax.data.storage import AnyPath, AnyPathT
from unet_jax.errors import UserError
from unet_jax.process.console import console
from unet_jax.process.regular import LARGEST

T = TypeVar("T")
AnyFile = AnyPath | Part
"""Where an image lies."""

SUFFIXES = tuple(FORMATS)
# Files of images too, which are not read.
UNREAD = frozenset(
    (
        *(".nii", ".nii.gz", ".dcm", ".dicom", ".mha", ".mhd", ".nrrd", ".nhdr", ".mgz", ".mgh"),
        *(".exr", ".hdr", ".pfm", ".heic", ".heif", ".avif", ".jxl"),
        *(".jp2", ".j2k", ".j2c", ".jpx", ".jpe", ".jif", ".ppm", ".pgm", ".pbm", ".pnm", ".pam"),
        *(".tga", ".psd", ".xcf", ".svg", ".ico", ".icns", ".dds", ".pcx", ".fits", ".ras", ".sgi"),
        *(".apng", ".mpo", ".dng", ".raw", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf"),
        *(".svs", ".ndpi", ".scn", ".mrxs", ".czi", ".lif", ".nd2", ".ims", ".lsm", ".qptiff"),
    )
)


class FilePairs:
    """Pairs of an image file and its mask file, or files by class; see `base.Pairs`."""

    def __init__(
        self,
        ids: Sequence[str],
        files: Sequence[tuple[AnyFile, ...]],
        largest: int = LARGEST,
        *,
        reader: MaskReader = read_each,
        weights: Sequence[tuple[AnyPath, ...]] = (),
    ) -> None:
        """Describes the pairs; nothing is read.

        Args:
            ids: Their names.
            files: The (image, mask, ...) of each, in the same order.
            largest: MiB of the largest file that is read.
            reader: How masks are read.
            weights: Of each the files that are black where its pixels do not count, in the same
                order; () where all pixels count.
        """
        self.ids, self.files, self._largest = tuple(ids), tuple(files), largest
        self.reader, self.weights = reader, tuple(weights) or ((),) * len(self.ids)

    def weighed(self, weights: Mapping[str, AnyPath]) -> "FilePairs":
        """Returns the pairs with one more file of black pixels for some, by id."""
        found = zip(self.ids, self.weights, strict=True)
        more = [(*own, *([weights[name]] if name in weights else [])) for name, own in found]
        return FilePairs(self.ids, self.files, self._largest, reader=self.reader, weights=more)

    def names(self, index: int) -> tuple[str, ...]:
        """Returns the names of a pair's files; see `Pairs`."""
        return tuple(map(str, self.files[index]))

    def read(self, index: int) -> Encoded:
        """Reads one pair; see `Pairs`."""
        names = self.names(index)
        image, *masks = (read_encoded(file, self._largest) for file in self.files[index])
        encoded = Encoded(image, tuple(masks), names[0], names[1:], self.reader)
        files = self.weights[index]
        weights = tuple(read_encoded(file, self._largest) for file in files)
        return encoded._replace(weights=weights, weight_names=tuple(map(str, files)))

    def header(self, index: int) -> Header:
        """Reads the header of the image, which has as many axes as its mask; see `Pairs`."""
        return read_header(self.files[index][0], self._largest, len(self.shape(index)))

    def shape(self, index: int) -> tuple[int, ...]:
        """Reads the pixels from the header of the first mask's file; see `Pairs`."""
        return read_header(self.files[index][1], self._largest).shape

    def stamp(self, index: int) -> str:
        """Joins all files' names, sizes and times, and how masks are read; see `Pairs`."""
        files = (*self.files[index], *self.weights[index])
        name = getattr(self.reader, "__qualname__", None)  # of a function, whose repr changes
        how = () if self.reader is read_each else (name or repr(self.reader),)
        return " ".join((*map(_stamp, files), *how))

    @property
    def place(self) -> str:
        """Returns the folder that holds all masks; see `Pairs`."""
        return os.path.commonpath({str(mask.parent) for _, *masks in self.files for mask in masks})


def _stamp(file: AnyFile) -> str:
    return file.stamp() if isinstance(file, Part) else storage.stamp(file)


def read_header(file: AnyFile, largest: int = LARGEST, axes: int | None = None) -> Header:
    """Reads the header of an image or a mask, without decoding it.

    Args:
        file: The file.
        largest: MiB that it may have.
        axes: How many axes of pixels an image has; None for a mask.

    Returns:
        The header, with the pixels as viewers show them.

    Raises:
        UserError: It cannot be read, or is no image.
    """
    if isinstance(file, Part):
        return file.header(axes, largest)

    def read(stream: Any) -> Header:
        return find_format(file.name).header(stream, str(file), axes)

    return _read_with(file, read, largest)


def read_encoded(file: AnyFile, largest: int = LARGEST) -> bytes:
    """Reads an image or a mask without decoding it; of a folder nothing, which its format reads."""
    if isinstance(file, Part):
        return file.encode(2, largest)
    if file.suffix.lower() in FOLDERS:
        return storage.read_folder_with(file, bytes)
    return storage.read_bytes(file, largest)


def _read_with(file: AnyPath, read: Callable[[Any], T], largest: int) -> T:
    """Reads what a function wants of an open file; see `Format` for folders."""
    if file.suffix.lower() not in FOLDERS:
        return storage.read_with(file, read, largest)
    return storage.read_folder_with(file, lambda: read(io.BytesIO()))


def read_image(
    file: AnyFile,
    axes: int,
    largest: int = LARGEST,
    window: Window | None = None,
    size: tuple[int, ...] | None = None,
) -> np.ndarray:
    """Reads an image.

    Args:
        file: The file.
        axes: How many axes of pixels it has.
        largest: MiB that it may have.
        window: The part to read; None for all.
        size: As of `formats.read_image`; pages and joined channels come as they are.

    Returns:
        [*n, C].

    Raises:
        UserError: It cannot be read, or is no image.
    """
    if isinstance(file, Part):
        return file.read(axes, largest, window)

    def read(stream: Any) -> np.ndarray:
        return formats.read_image(stream, str(file), axes, window, size)

    return _read_with(file, read, largest)


def reads_windows(file: AnyFile, axes: int, largest: int = LARGEST) -> bool:
    """Tells whether `read_image` reads a window of an image without decoding the rest.

    Args:
        file: The file.
        axes: How many axes of pixels it has.
        largest: MiB that it may have.

    Returns:
        Whether it does; of pages and joined channels it may not.

    Raises:
        UserError: It cannot be read.
    """
    if isinstance(file, Part):
        return False

    def read(stream: Any) -> bool:
        return find_format(file.name).reads_windows(stream, str(file), axes)

    return _read_with(file, read, largest)


def list_images(
    folder: AnyPathT,
    key: str,
    without: Callable[[Path], bool] = lambda _: False,
    is_out: Callable[[str, Any], bool] = lambda *_: False,
) -> dict[str, AnyPathT]:
    """Lists the images below a folder, and says what is passed over.

    Args:
        folder: The folder; subfolders count, links are followed, hidden files and folders are not
            read.
        key: The config key that leads to it, for errors.
        without: Tells of a local subfolder whether it is left out.
        is_out: Tells of one of two files that share an id, by that and its path, whether it is
            left out.

    Returns:
        Files by id: the path below the folder, without suffix, its accents composed (NFC), so that
        it is the same on every file system.

    Raises:
        UserError: The folder is missing or holds no image, some images are of a kind that is not
            read, two files share an id, or a link leads nowhere or round in a circle.
    """
    if not storage.is_folder(folder):
        raise UserError(f"{folder} is not a folder; put the images there or change {key}.")
    found: dict[str, AnyPathT] = {}
    unread: list[tuple[AnyPath, str]] = []
    passed: list[tuple[AnyPath, str]] = []
    for file, kind in _below(folder, without):
        if kind not in SUFFIXES:
            (unread if kind in UNREAD else passed).append((file, kind))
            continue
        name = unicodedata.normalize("NFC", file.relative_to(folder).with_suffix("").as_posix())
        if name in found and is_out("", file):
            continue
        if name in found and not is_out("", found[name]):
            raise UserError(f"{found[name]} and {file} have the same name; rename one of them.")
        found[name] = file
    read = f"images are read from {', '.join(SUFFIXES)} files"
    if unread:
        raise UserError(
            f"{len(unread)} files in {folder} are images of a kind that is not read "
            f"({_count(unread)}), the first is {unread[0][0]}; {read}. Convert them, volumes "
            "to .npy, or take them out."
        )
    if not found:
        there = _count(passed) if passed else "no files"
        raise UserError(f"{folder} holds no images but {there}; {read}. Change {key}.")
    if passed:
        say_once(f"{folder}: {_count(passed)} passed over, such as {passed[0][0].name}")
    return found


@functools.cache
def say_once(line: str) -> None:
    """Prints a line, once in a process however often the data are opened."""
    console.print(line)


def _kind(file: AnyPath) -> str:
    """Returns a file's suffix in small letters, or "hidden"."""
    name = file.name.lower()
    if name.startswith("."):
        return "hidden"
    return ".nii.gz" if name.endswith(".nii.gz") else file.suffix.lower()


def _count(files: Sequence[tuple[AnyPath, str]]) -> str:
    kinds = collections.Counter(kind or "without suffix" for _, kind in files)
    return ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))


def _below(
    folder: AnyPath, without: Callable[[Path], bool], above: tuple[tuple[int, int], ...] = ()
) -> Iterator[tuple[Any, str]]:
    """Yields the files below a folder, and hidden folders, in order, each with its kind."""
    if isinstance(folder, Path):
        place = folder.stat()
        if (place.st_dev, place.st_ino) in above:
            raise UserError(f"{folder} is a link to a folder that it lies in; remove the link.")
        above = (*above, (place.st_dev, place.st_ino))
    others: dict[Any, str] = storage.local_kinds(folder) if isinstance(folder, Path) else {}
    for entry in sorted(storage.entries(folder)):
        kind = _kind(entry)
        if kind == "hidden" or kind in FOLDERS:
            is_folder = False
        elif isinstance(entry, Path):
            is_folder = others.get(entry) == "directory"
        else:  # by its name first: that needs no question to the store
            is_folder = kind not in {*SUFFIXES, *UNREAD} and storage.is_folder(entry)
        if not is_folder:
            _check_link(entry)
            is_named = kind in {*SUFFIXES, *UNREAD, "hidden"}  # reading it says what it is
            yield entry, kind if is_named else others.get(entry) or kind
        elif not (isinstance(entry, Path) and without(entry)):
            is_empty = True
            for file in _below(entry, without, above):
                is_empty = False
                yield file
            if is_empty and kind in SUFFIXES:
                yield entry, "directory"


def _check_link(file: AnyPath) -> None:
    is_image = _kind(file) in {*SUFFIXES, "hidden"}  # reading it says what is wrong with it
    if not is_image and isinstance(file, Path) and file.is_symlink() and not file.exists():
        raise UserError(
            f"{file} is a link to {os.readlink(file)}, which leads nowhere; mend or remove it."
        )


def read_text(file: AnyPath, what: str) -> str:
    r"""Reads a text file.

    Args:
        file: The file, in UTF-8, or in UTF-16 with a byte-order mark.
        what: What it should be, for the error.

    Returns:
        The text, its accents composed (NFC), with "\n" at the end of lines.

    Raises:
        UserError: It cannot be read, or is no text.
    """
    data = storage.read_bytes(file)
    is_utf_16 = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        text = data.decode("utf-16" if is_utf_16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{file} cannot be read as {what}: {error}.") from None
    return re.sub(r"\r\n|\r", "\n", unicodedata.normalize("NFC", text))


def read_list(file: AnyPath, *, known: Container[str] = (), first_word: bool = False) -> list[str]:
    """Reads a list of names, one a line; lines that begin with # do not count.

    Args:
        file: The list, in UTF-8, or in UTF-16 with a byte-order mark.
        known: Names that there are, which count though they begin with #.
        first_word: Whether a name ends at the first blank of its line, with other facts behind it.

    Returns:
        The names in the list's order, their accents composed (NFC).

    Raises:
        UserError: The list cannot be read, names one twice, or one that is no path below a folder.
    """
    lines = [line.strip() for line in read_text(file, "a list of names").split("\n")]
    names = [line for line in lines if line and (line[0] != "#" or line in known)]
    if first_word:
        names = [line.split()[0] for line in names]
    for name in names:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise UserError(
                f"{file} names {name!r}, which leads out of the folder; write paths below it."
            )
    twice = [name for name, count in collections.Counter(names).items() if count > 1]
    if twice:
        raise UserError(f"{file} names {min(twice)} more than once ({len(twice)} such names).")
    return names
