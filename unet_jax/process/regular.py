"""Opening files that people name: only regular ones, whose reading ends."""

import os
import stat
from pathlib import Path
from typing import BinaryIO

from unet_jax.errors import UserError

LARGEST = 1024  # MiB; no image that Pillow decodes is larger

_KINDS = {
    stat.S_IFDIR: "directory",
    stat.S_IFIFO: "FIFO",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
}


def irregular_kind(path: Path) -> str:
    """Tells what a path leads to where that is no regular file.

    Args:
        path: The path; links are followed.

    Returns:
        Such as "FIFO" or "directory"; "" for a regular file, and where there is nothing.
    """
    try:
        return _kind(os.stat(path))
    except (OSError, ValueError):
        return ""


def open_regular(path: Path, largest: int | None = None) -> BinaryIO:
    """Opens a file to read it, unless reading might hang or never end.

    Args:
        path: The file; links are followed.
        largest: MiB that it may have, the config's data.largest_file; None for any number.

    Returns:
        The open binary file.

    Raises:
        OSError: It cannot be opened.
        UserError: It is no regular file, or larger.
    """
    _check(path, os.stat(path), largest)  # a device may act when it is opened
    stream = open(path, "rb", opener=_without_waiting)  # noqa: SIM115
    try:
        _check(path, os.fstat(stream.fileno()), largest)  # another file may have come since
    except BaseException:
        stream.close()
        raise
    return stream


def check_size(path: object, size: int, largest: int | None) -> None:
    """Checks that a file is not too large; see `open_regular`.

    Args:
        path: The file, for the error.
        size: Its bytes.
        largest: MiB.

    Raises:
        UserError: It is larger.
    """
    if largest is not None and size > largest * 2**20:
        raise UserError(
            f"{path} has {size / 2**20:,.1f} MiB, and files of up to "
            f"config.data.largest_file={largest} MiB are read; raise it or take the file out."
        )


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # a FIFO would wait for its writer


def _check(path: Path, found: os.stat_result, largest: int | None) -> None:
    if kind := _kind(found):
        raise UserError(f"{path} is a {kind} and no regular file; replace it or take it out.")
    check_size(path, found.st_size, largest)


def _kind(found: os.stat_result) -> str:
    if stat.S_ISREG(found.st_mode):
        return ""
    return _KINDS.get(stat.S_IFMT(found.st_mode), "special file")
