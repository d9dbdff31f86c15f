"""Files and folders that are written whole or not at all, and what a killed writer leaves.

Whoever writes holds a lock on the temporary file or folder, which ends with the process however it
ends. What nobody holds is left over; the next one to write there removes it.
"""

import contextlib
import fcntl
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_PART = re.compile(r"\.unet_jax_[0-9a-f]{16}\.tmp")
PART_LENGTH = len(".unet_jax_.tmp") + 16  # bytes of a temporary name


def write_whole(target: Path, data: bytes) -> None:
    """Writes a file so that its path holds either the old file or the whole new one.

    Args:
        target: The file; its folder is there.
        data: What to write.

    Raises:
        OSError: It cannot be written; nothing of it is left.
    """
    # Not `tempfile`: its files are readable by their owner only, and would stay so.
    # Without the target's name, which may be as long as names can be.
    part = target.with_name(f".unet_jax_{secrets.token_hex(8)}.tmp")
    with part.open("xb") as stream:
        try:
            _hold(stream.fileno())
            stream.write(data)
            stream.flush()
            if part.exists():  # else it was removed before it was held
                part.replace(target)
                return
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    write_whole(target, data)


@contextlib.contextmanager
def writing_whole(target: Path) -> Iterator[BinaryIO]:
    """Writes a file piece by piece, so that its path holds either the old or the whole new one.

    Args:
        target: The file; its folder is made.

    Yields:
        The open file, which takes the target's place at the end.

    Raises:
        OSError: It cannot be written; nothing of it is left.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part, stream = _make_part(target)
    try:
        with stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
            part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _make_part(target: Path) -> tuple[Path, BinaryIO]:
    while True:
        part = target.with_name(f".unet_jax_{secrets.token_hex(8)}.tmp")
        stream = part.open("x+b")
        _hold(stream.fileno())
        if part.exists():  # else it was removed before it was held
            return part, stream
        stream.close()


@contextlib.contextmanager
def folder_whole(target: Path) -> Iterator[Path]:
    """Makes a folder of files, so that its path holds either the old or the whole new one.

    Args:
        target: The folder; the one that it lies in is made.

    Yields:
        The folder to write into, which takes the target's place at the end.

    Raises:
        OSError: It cannot be written; nothing of it is left.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".unet_jax_{secrets.token_hex(8)}.tmp")
    part.mkdir()
    place = os.open(part, os.O_RDONLY)
    _hold(place)
    try:
        yield part
        if target.exists():
            old = target.with_name(f".unet_jax_{secrets.token_hex(8)}.tmp")
            target.rename(old)
            part.rename(target)
            shutil.rmtree(old, ignore_errors=True)
        else:
            part.rename(target)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    finally:
        os.close(place)


@contextlib.contextmanager
def temporary_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """Makes a folder that is there for a while; removes those that killed processes left.

    Args:
        parent: Where.
        prefix: Of its name.

    Yields:
        The folder.
    """
    remove_leftovers(parent, re.compile(rf"{re.escape(prefix)}[a-z0-9_]{{8}}"))
    folder, place = _make_held(parent, prefix)
    try:
        yield folder
    finally:
        os.close(place)
        shutil.rmtree(folder, ignore_errors=True)


def _make_held(parent: Path, prefix: str) -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        with contextlib.suppress(FileNotFoundError):
            place = os.open(folder, os.O_RDONLY)
            _hold(place)
            if folder.exists():  # else it was removed before it was held
                return folder, place
            os.close(place)


def remove_leftovers(folder: Path, names: re.Pattern[str] = _PART) -> None:
    """Removes temporary files, or folders, that no live process holds.

    Args:
        folder: Where they lie, which need not be there.
        names: What their whole names match; by default those of `write_whole`.
    """
    with contextlib.suppress(OSError):
        for path in [path for path in folder.iterdir() if names.fullmatch(path.name)]:
            _remove_unheld(path)


def _remove_unheld(path: Path) -> None:
    with contextlib.suppress(OSError):  # it is held, or another process was faster
        place = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        finally:
            os.close(place)


def _hold(place: int) -> None:
    # Where a file system has no locks, nothing there is ever taken for a leftover.
    with contextlib.suppress(OSError):
        fcntl.flock(place, fcntl.LOCK_EX)  # only who removes it may hold it, and not for long


def write_text(file: Path, text: str) -> None:
    """Writes a text file whole or not at all."""
    write_whole(file, text.encode())
