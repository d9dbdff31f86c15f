"""Who writes into a folder: one process at a time, and whoever comes second learns who it is.

A lock is taken by flock(2), which ends with the process however that ends. It belongs to what was
opened, so it also keeps two threads of one process apart, and is not lost when this process reads
the file and closes it again, as a lock of lockf(3) would be. Children inherit it only where they do
not start a program of their own, which closes the file, and none does so here. Network file systems
take it to their server as they would lockf's.
"""

import contextlib
import errno
import fcntl
import os
import re
import shlex
import socket
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from unet_jax.errors import UserError

LOCK = ".lock"
TRAINING, PACK, SWEEP = "a training", "a pack of trials", "a sweep"
PATIENCE = 1.0  # seconds for which a process that was just killed may still hold its locks
_MARK = "unet_jax: "  # before the holder; a lock file that says something else is not ours
_MOST = 4096  # bytes of a lock file that are read
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK


@contextlib.contextmanager
def owned(folder: Path, work: str) -> Iterator[None]:
    """Keeps every other owner out of a folder, which is made, for a while.

    Where the file system has no locks it says so and goes on, and a folder that this process cannot
    write needs no owner. Reading takes none.

    Args:
        folder: The folder; if it was made and holds nothing in the end, it goes again.
        work: What is done there, such as "a training", for those who come second.

    Raises:
        UserError: Another process owns the folder, or it cannot be made.
    """
    place: int | None = None
    try:
        made = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            place = _take(folder / LOCK, PATIENCE)
    except BlockingIOError as error:
        raise UserError(
            f"--workdir={folder} is in use by {error}; wait for its end, stop it, or choose "
            "another directory."
        ) from None
    except (OSError, ValueError) as error:
        where = f" ({error.filename})" if isinstance(error, OSError) else ""
        raise UserError(
            f"--workdir={folder} cannot be written: {getattr(error, 'strerror', error)}{where}; "
            "choose another directory."
        ) from None
    try:
        if place is not None:
            _write_holder(place, work)
        yield
    finally:
        if place is not None:
            _release(folder / LOCK, place)
        for path in made:
            with contextlib.suppress(OSError):  # it holds something now
                path.rmdir()


@contextlib.contextmanager
def turn(file: Path) -> Iterator[None]:
    """Waits until no other process changes a file, and keeps the others waiting for a while.

    Args:
        file: What is read, changed and written; its folder is there.
    """
    lock = file.with_name(f".{file.name}.lock")
    place = _take(lock, None)
    try:
        yield
    finally:
        _release(lock, place)


def _take(lock: Path, patience: float | None) -> int:
    """Opens a lock file and locks it; within some seconds, or with None whenever it is free.

    Raises:
        BlockingIOError: Another process holds it; the message names it.
    """
    end = None if patience is None else time.monotonic() + patience
    while True:
        place = os.open(lock, _FLAGS, 0o666)
        try:
            if not stat.S_ISREG(os.fstat(place).st_mode):
                raise OSError(errno.EEXIST, "it is no regular file", str(lock))
            fcntl.flock(place, fcntl.LOCK_EX | (0 if end is None else fcntl.LOCK_NB))
            # Whoever held it has deleted it; others may hold the one that is there now.
            if _is_still(lock, place):
                return place
        except BlockingIOError:
            if end is not None and time.monotonic() > end:
                holder = _read_holder(place)
                os.close(place)
                raise BlockingIOError(holder) from None
            time.sleep(0.05)
        except OSError as error:
            if error.errno in _NO_LOCKS:
                print(
                    f"{lock.parent} has no locks ({error.strerror}): let nobody else write there."
                )
                return place
            os.close(place)
            raise
        os.close(place)


def _is_still(lock: Path, place: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.stat(lock), os.fstat(place))
    return False


def _release(lock: Path, place: int) -> None:
    try:
        if _is_ours(place) and _is_still(lock, place):
            lock.unlink(missing_ok=True)  # while it is held, or it might be another's by now
    finally:
        os.close(place)


def _is_ours(place: int) -> bool:
    text = os.pread(place, _MOST, 0)
    return not text or text.startswith(_MARK.encode())


def _write_holder(place: int, work: str) -> None:
    if not _is_ours(place):
        return
    program, *rest = sys.orig_argv
    command = shlex.join([Path(program).name, *rest])
    since = time.strftime("%Y-%m-%d %H:%M")
    who = f"process {os.getpid()} on {socket.gethostname()}, since {since}, `{command}`"
    os.ftruncate(place, 0)
    os.pwrite(place, f"{_MARK}{work}: {who}\n".encode(errors="replace"), 0)


def _read_holder(place: int) -> str:
    found = os.pread(place, _MOST, 0).decode(errors="replace").partition("\n")[0]
    is_ours = found.startswith(_MARK)
    return re.sub(r"\s+", " ", found.removeprefix(_MARK)) if is_ours else "another process"
