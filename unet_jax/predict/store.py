"""Masks of a large image on disk while they are predicted, part by part, so that a kill loses none.

A store is a folder: a file for each mask, row by row; one for the small image of the overlay; and a
journal, which names in its first line what the store is of, and in every further line a part that
is there. A part's pixels are on disk before its line is.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unet_jax.data.pipeline import Size
from unet_jax.data.sample import Window, whole
from unet_jax.errors import UserError
from unet_jax.process.whole import write_text

_JOURNAL, _DONE, _SMALL = "journal", "done", "small"


def store_folder(output: Path, name: str) -> Path:
    """Returns the folder of an image's store, among the results.

    Args:
        output: Folder of the results.
        name: The image's id.
    """
    digest = hashlib.sha256(name.encode()).hexdigest()[:16]
    return output / f".unet_jax_{digest}.tiles"


class Store:
    """The masks of a large image, and which parts of them are there.

    Attributes:
        size: [*n] of the image.
        done: Numbers of the parts that are there.
    """

    def __init__(self, folder: Path, of: Mapping[str, Any], size: Size, masks: int, small: Size):
        """Opens a store, or makes it anew where there is none, or one of something else.

        Args:
            folder: Its folder.
            of: What it is of: all that its bytes follow from, as JSON writes it.
            size: [*n] of the image.
            masks: How many masks.
            small: Shape of the small image, with its channels; uint8 or any other bytes of it.

        Raises:
            UserError: Another process writes it, or the disk is full.
        """
        self.size, self._folder, self._masks, self._small = size, folder, masks, small
        self._header = json.dumps(of, sort_keys=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        if _header_of(folder) != self._header:
            shutil.rmtree(folder, ignore_errors=True)
            self._make()
        self._journal = os.open(folder / _JOURNAL, os.O_RDWR | os.O_APPEND)
        try:
            fcntl.flock(self._journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._journal)
            raise UserError(
                f"{folder.parent} is being written by another prediction; wait for its end, stop "
                "it, or give another --output."
            ) from None
        except OSError:
            pass  # a file system without locks
        _cut_half_line(self._journal)
        names = [*map(str, range(masks)), _SMALL]
        is_done = self.is_finished
        self._files = [] if is_done else [os.open(folder / name, os.O_RDWR) for name in names]
        self.done = _parts_of(folder)

    def _make(self) -> None:
        self._folder.mkdir()
        lengths = [_pixels(self.size)] * self._masks + [_pixels(self._small)]
        for name, length in zip([*map(str, range(self._masks)), _SMALL], lengths, strict=True):
            with (self._folder / name).open("wb") as file:
                file.truncate(length)
        write_text(self._folder / _JOURNAL, self._header + "\n")  # the last, so that all is there

    @property
    def is_finished(self) -> bool:
        """Returns whether the results were written of it."""
        return is_finished(self._folder)

    def put(self, number: int, window: Window, masks: Sequence[np.ndarray]) -> None:
        """Keeps a part.

        Args:
            number: Of the part.
            window: Its pixels.
            masks: uint8 [*m] of each mask.
        """
        for file, mask in zip(self._files, masks, strict=False):
            _write_window(file, self.size, window, mask)
            os.fdatasync(file)
        _write_all(self._journal, f"{number}\n".encode())
        self.done.add(number)

    def put_small(self, window: Window, values: np.ndarray) -> None:
        """Keeps a part of the small image, uint8 [*m, bytes]; several threads may."""
        _write_window(self._files[-1], self._small, (*window, slice(0, self._small[-1])), values)

    def read(self, mask: int, window: Window) -> np.ndarray:
        """Reads a window of a mask, uint8 [*m]."""
        return _read_window(self._files[mask], self.size, window)

    def read_small(self) -> np.ndarray:
        """Reads the small image, as it was kept."""
        return _read_window(self._files[-1], self._small, whole(self._small))

    def finish(self) -> None:
        """Notes that the results are written, and frees the space."""
        write_text(self._folder / _DONE, "")
        self.close()
        for name in [*map(str, range(self._masks)), _SMALL]:
            (self._folder / name).unlink(missing_ok=True)

    def close(self) -> None:
        """Closes all files; what is kept stays."""
        for place in (*self._files, self._journal):
            with contextlib.suppress(OSError):
                os.close(place)
        self._files, self._journal = [], -1

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def is_finished(folder: Path) -> bool:
    """Tells whether the results of a store were written."""
    return (folder / _DONE).exists()


def is_of(folder: Path, of: Mapping[str, Any]) -> bool:
    """Tells whether there is a store of something; see `Store`."""
    return _header_of(folder) == json.dumps(of, sort_keys=True)


def remove_store(folder: Path) -> None:
    """Removes a store that is of no more use."""
    shutil.rmtree(folder, ignore_errors=True)


def _header_of(folder: Path) -> str | None:
    """Returns what a store says it is of; None where there is none that is whole."""
    try:
        with (folder / _JOURNAL).open() as file:
            line = file.readline()
    except (OSError, UnicodeDecodeError):
        return None
    return line[:-1] if line.endswith("\n") else None


def _cut_half_line(journal: int) -> None:
    """Cuts off what a killed process began to write."""
    data = os.pread(journal, os.fstat(journal).st_size, 0)
    os.ftruncate(journal, data.rfind(b"\n") + 1)


def _parts_of(folder: Path) -> set[int]:
    """Returns the parts that a journal names; half a line at its end does not count."""
    _, *lines = (folder / _JOURNAL).read_text(errors="replace").split("\n")[:-1]
    return {int(line) for line in lines if line.isdecimal()}


def _pixels(shape: Sequence[int]) -> int:
    return int(np.prod(shape, dtype=np.int64))


def _runs(shape: Sequence[int], window: Window) -> tuple[list[int], int]:
    """Returns the first byte of each run of a window that is one piece of the file, and its length.

    The runs are in the order of the window's bytes.
    """
    while len(shape) > 1 and window[-1] == slice(0, shape[-1]):  # whole rows are one piece
        n, part = shape[-1], window[-2]
        shape = (*shape[:-2], shape[-2] * n)
        window = (*window[:-2], slice(part.start * n, part.stop * n))
    starts = np.zeros((), np.int64)
    for n, part in zip(shape[:-1], window[:-1], strict=True):
        starts = np.add.outer(starts * n, np.arange(part.start, part.stop))
    last = window[-1]
    return (starts * shape[-1] + last.start).ravel().tolist(), last.stop - last.start


def _write_window(file: int, shape: Sequence[int], window: Window, values: np.ndarray) -> None:
    starts, length = _runs(shape, window)
    data = np.ascontiguousarray(values).data.cast("B")
    for number, start in enumerate(starts):
        rest = data[number * length : (number + 1) * length]
        while rest:
            count = os.pwrite(file, rest, start)
            rest, start = rest[count:], start + count


def _read_window(file: int, shape: Sequence[int], window: Window) -> np.ndarray:
    starts, length = _runs(shape, window)
    parts = [os.pread(file, length, start) for start in starts]
    if any(len(part) < length for part in parts):
        raise OSError(errno.EIO, "a store of masks is truncated")
    size = [part.stop - part.start for part in window]
    return np.frombuffer(bytearray().join(parts), np.uint8).reshape(size)


def _write_all(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]
