"""Pictures and masks in files, and lists of their names."""

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from unet_jax.data import images, storage
from unet_jax.data.base import Encoded
from unet_jax.data.storage import AnyPath, AnyPathT
from unet_jax.errors import UserError

SUFFIXES = (".png", ".jpg", ".jpeg")
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


def read_size(file: AnyPath) -> tuple[int, int]:
    """Reads a picture's size without decoding it.

    Args:
        file: The picture.

    Returns:
        (height, width).

    Raises:
        UserError: It cannot be read, or is no picture.
    """
    start = storage.read_bytes(file, _HEADER_BYTES)
    try:
        return images.read_size(start, str(file))
    except UserError:
        if len(start) < _HEADER_BYTES:
            raise
    # A header may be longer, such as with a preview or a colour profile in it.
    return images.read_size(storage.read_bytes(file), str(file))


def list_pictures(
    folder: AnyPathT, key: str, without: Callable[[Path], bool] = lambda _: False
) -> dict[str, AnyPathT]:
    """Lists the pictures below a folder.

    Args:
        folder: The folder; subfolders count, hidden files and folders do not.
        key: The config key that leads to it, for errors.
        without: Tells of a local subfolder whether it is left out.

    Returns:
        Files by id: the path below the folder, without suffix.

    Raises:
        UserError: The folder is missing, or two files share an id.
    """
    if not storage.is_folder(folder):
        raise UserError(f"{folder} is not a folder; put the pictures there or change {key}.")
    found: dict[str, AnyPathT] = {}
    for file in sorted(_below(folder, without)):
        relative = file.relative_to(folder)
        is_hidden = any(part.startswith(".") for part in relative.parts)
        if is_hidden or file.suffix.lower() not in SUFFIXES:
            continue
        name = relative.with_suffix("").as_posix()
        if name in found:
            raise UserError(f"{found[name]} and {file} have the same name; rename one of them.")
        found[name] = file
    return found


def _below(folder: AnyPath, without: Callable[[Path], bool]) -> Iterable[Any]:
    """Returns all files below a folder."""
    files: list[Any] = []
    if isinstance(folder, Path):
        for top, folders, names in os.walk(folder):
            folders[:] = [name for name in folders if not without(Path(top, name))]
            files.extend(Path(top, name) for name in names)
        return files
    for entry in storage.entries(folder):
        # By its name first: that needs no question to the store.
        is_file = entry.suffix.lower() in SUFFIXES or not storage.is_folder(entry)
        files.extend([entry] if is_file else _below(entry, without))
    return files


def read_list(file: AnyPath) -> list[str]:
    """Reads a list of ids: the first word of each line; lines that begin with # do not count.

    Args:
        file: The list.

    Returns:
        The ids in the list's order.

    Raises:
        UserError: The list cannot be read, or names an id twice.
    """
    try:
        text = storage.ask(file, file.read_bytes).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read as a list of names: {error}.") from None
    words = [line.split() for line in text.splitlines()]
    ids = [line[0] for line in words if line and not line[0].startswith("#")]
    twice = (
        sorted({name for name in ids if ids.count(name) > 1}) if len(set(ids)) < len(ids) else []
    )
    if twice:
        raise UserError(f"{file} names {twice[0]} more than once ({len(twice)} such names).")
    return ids
