"""Pictures and masks in files, and lists of their names."""

import collections
import functools
import os
import re
import unicodedata
from collections.abc import Callable, Container, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from unet_jax.data import headers, images, storage
from unet_jax.data.base import Encoded
from unet_jax.data.storage import AnyPath, AnyPathT
from unet_jax.errors import UserError
from unet_jax.logs import console

SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".gif", ".webp", ".tif", ".tiff")
# Files of images too, which are not read. A folder that is an image, .zarr, counts as one.
UNREAD = frozenset(
    (
        *(".nii", ".nii.gz", ".dcm", ".dicom", ".mha", ".mhd", ".nrrd", ".nhdr", ".mgz", ".mgh"),
        *(".npy", ".npz", ".exr", ".hdr", ".pfm", ".zarr", ".heic", ".heif", ".avif", ".jxl"),
        *(".jp2", ".j2k", ".j2c", ".jpx", ".jpe", ".jif", ".ppm", ".pgm", ".pbm", ".pnm", ".pam"),
        *(".tga", ".psd", ".xcf", ".svg", ".ico", ".icns", ".dds", ".pcx", ".fits", ".ras", ".sgi"),
        *(".apng", ".mpo", ".dng", ".raw", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf"),
        *(".svs", ".ndpi", ".scn", ".mrxs", ".czi", ".lif", ".nd2", ".ims", ".lsm", ".qptiff"),
    )
)
_HEADER_BYTES = 1 << 16


class FilePairs:
    """Pairs of a picture file and a mask file; see `base.Pairs`."""

    def __init__(self, ids: Sequence[str], files: Sequence[tuple[AnyPath, AnyPath]]) -> None:
        """Takes the names, and the (picture, mask) files in the same order."""
        self.ids, self.files = tuple(ids), tuple(files)

    def read(self, index: int) -> Encoded:
        """Reads one pair; see `Pairs`."""
        image, mask = self.files[index]
        image_bytes, mask_bytes = storage.read_bytes(image), storage.read_bytes(mask)
        return Encoded(image_bytes, mask_bytes, str(image), str(mask))

    def size(self, index: int) -> tuple[int, int]:
        """Reads the size from the header of the mask's file; see `Pairs`."""
        return read_size(self.files[index][1])

    def stamp(self, index: int) -> str:
        """Joins both files' names, sizes and times; see `Pairs`."""
        return " ".join(storage.stamp(file) for file in self.files[index])

    @property
    def place(self) -> str:
        """Returns the folder that holds all masks; see `Pairs`."""
        return os.path.commonpath({str(mask.parent) for _, mask in self.files})


def read_size(file: AnyPath) -> tuple[int, int]:
    """Reads a picture's size without decoding it.

    Args:
        file: The picture.

    Returns:
        (height, width) as viewers show it.

    Raises:
        UserError: It cannot be read, or is no picture.
    """
    start, exif = storage.read_with(file, _read_header)
    try:
        return images.read_size(start, str(file), exif)
    except UserError:
        if len(start) < _HEADER_BYTES:
            raise
    # A header may be longer, such as with a preview or a colour profile in it.
    return images.read_size(storage.read_bytes(file), str(file))


def _read_header(stream: Any) -> tuple[bytes, bytes | None]:
    """Reads a first part, and the EXIF block where a larger file may have it behind that part."""
    start = stream.read(_HEADER_BYTES)
    is_long_png = len(start) == _HEADER_BYTES and start.startswith(headers.PNG)
    return start, headers.png_exif(stream) if is_long_png else None


def list_pictures(
    folder: AnyPathT, key: str, without: Callable[[Path], bool] = lambda _: False
) -> dict[str, AnyPathT]:
    """Lists the pictures below a folder, and says what is passed over.

    Args:
        folder: The folder; subfolders count, links are followed, hidden files and folders are not
            read.
        key: The config key that leads to it, for errors.
        without: Tells of a local subfolder whether it is left out.

    Returns:
        Files by id: the path below the folder, without suffix, its accents composed (NFC), so that
        it is the same on every file system.

    Raises:
        UserError: The folder is missing or holds no image, some images are of a kind that is not
            read, two files share an id, or a link leads nowhere or round in a circle.
    """
    if not storage.is_folder(folder):
        raise UserError(f"{folder} is not a folder; put the pictures there or change {key}.")
    found: dict[str, AnyPathT] = {}
    unread, passed = [], []
    for file in _below(folder, without):
        if _kind(file) not in SUFFIXES:
            (unread if _kind(file) in UNREAD else passed).append(file)
            continue
        name = unicodedata.normalize("NFC", file.relative_to(folder).with_suffix("").as_posix())
        if name in found:
            raise UserError(f"{found[name]} and {file} have the same name; rename one of them.")
        found[name] = file
    read = f"images are read from {', '.join(SUFFIXES)} files of 8 bits"
    if unread:
        raise UserError(
            f"{len(unread)} files in {folder} are images of a kind that is not read "
            f"({_count(unread)}), the first is {unread[0]}; {read}. Convert them, volumes slice by "
            "slice, or take them out."
        )
    if not found:
        there = _count(passed) if passed else "no files"
        raise UserError(f"{folder} holds no images but {there}; {read}. Change {key}.")
    if passed:
        say_once(f"{folder}: {_count(passed)} passed over, such as {passed[0].name}")
    return found


@functools.cache
def say_once(line: str) -> None:
    """Prints a line, once in a process however often the data are opened."""
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def _kind(file: AnyPath) -> str:
    """Returns a file's suffix in small letters, or "hidden"."""
    name = file.name.lower()
    if name.startswith("."):
        return "hidden"
    return ".nii.gz" if name.endswith(".nii.gz") else file.suffix.lower()


def _count(files: Sequence[AnyPath]) -> str:
    kinds = collections.Counter(_kind(file) or "without suffix" for file in files)
    return ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))


def _below(
    folder: AnyPath, without: Callable[[Path], bool], above: tuple[tuple[int, int], ...] = ()
) -> Iterator[Any]:
    """Yields the files below a folder, and hidden folders, in order."""
    if isinstance(folder, Path):
        place = folder.stat()
        if (place.st_dev, place.st_ino) in above:
            raise UserError(f"{folder} is a link to a folder that it lies in; remove the link.")
        above = (*above, (place.st_dev, place.st_ino))
    folders = storage.local_folders(folder) if isinstance(folder, Path) else None
    for entry in sorted(storage.entries(folder)):
        kind = _kind(entry)
        if kind in ("hidden", ".zarr"):
            is_folder = False
        elif folders is not None:
            is_folder = entry in folders
        else:  # by its name first: that needs no question to the store
            is_folder = kind not in {*SUFFIXES, *UNREAD} and storage.is_folder(entry)
        if not is_folder:
            _check_link(entry)
            yield entry
        elif not (isinstance(entry, Path) and without(entry)):
            yield from _below(entry, without, above)


def _check_link(file: AnyPath) -> None:
    is_image = _kind(file) in {*SUFFIXES, "hidden"}  # reading it says what is wrong with it
    if not is_image and isinstance(file, Path) and file.is_symlink() and not file.exists():
        raise UserError(
            f"{file} is a link to {os.readlink(file)}, which leads nowhere; mend or remove it."
        )


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
    try:
        data = storage.ask(file, file.read_bytes)
        is_utf_16 = data.startswith((b"\xff\xfe", b"\xfe\xff"))
        text = data.decode("utf-16" if is_utf_16 else "utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read as a list of names: {error}.") from None
    lines = [line.strip() for line in re.split(r"\r\n|\r|\n", unicodedata.normalize("NFC", text))]
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
