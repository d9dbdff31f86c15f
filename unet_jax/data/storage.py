"""Files and folders, on this machine or in an object store (gs://, s3://).

All reading goes through here, so that what fails for a moment is tried again.
"""

import hashlib
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from etils import epath

from unet_jax.data import retry
from unet_jax.errors import UserError
from unet_jax.process.paths import expand
from unet_jax.process.regular import LARGEST, check_size, irregular_kind, open_regular

AnyPath = Path | epath.Path
AnyPathT = TypeVar("AnyPathT", bound=AnyPath)
T = TypeVar("T")

_EXTRAS = {"gs://": "gcs", "s3://": "s3"}  # the extra of this package that reads them
REMOTE = tuple(_EXTRAS)


def as_path(text: str, key: str) -> AnyPath:
    """Makes a path of a text.

    Args:
        text: A local path, in which ~ is the home directory, or gs://... or s3://...
        key: The config key that holds it, for the error.

    Returns:
        A `pathlib.Path` where it is local, else an `epath.Path`.

    Raises:
        UserError: It is of another kind of store.
    """
    if text.startswith(REMOTE):
        return epath.Path(text)
    if "://" in text:
        raise UserError(
            f"{key}={text!r} cannot be read; allowed are local paths and those that begin with "
            f"{' or '.join(REMOTE)}. Copy the data there or to this machine."
        )
    return expand(text, key)


def below(root: AnyPath, text: str, key: str) -> AnyPath:
    """Makes a path of a text: below a root, but where it begins with / or ~ or is remote.

    Args:
        root: The root.
        text: See `as_path`.
        key: The config key that holds it, for the error.

    Returns:
        The path.

    Raises:
        UserError: It is of another kind of store.
    """
    path = as_path(text, key)
    return root / text if isinstance(path, Path) and not path.is_absolute() else path


def is_folder(path: AnyPath) -> bool:
    """Tells whether a path is a folder that exists."""
    return path.is_dir() if isinstance(path, Path) else _is_there(path, folder=True)


def has_file(path: AnyPath) -> bool:
    """Tells whether there is something to read; locally, reading says where it is no file."""
    return os.path.lexists(path) if isinstance(path, Path) else _is_there(path, folder=False)


def is_same(one: AnyPath, other: AnyPath) -> bool:
    """Tells whether two paths that are there are one folder, whatever they are called."""
    both_local = isinstance(one, Path) and isinstance(other, Path)
    return one.samefile(other) if both_local else one == other


def entries(folder: AnyPathT) -> list[AnyPathT]:
    """Lists the files and folders in a folder, not those below them.

    Args:
        folder: The folder.

    Returns:
        Their paths, in no order.

    Raises:
        UserError: It cannot be listed.
    """
    found = _read(folder, lambda: list(folder.iterdir()))
    return [entry for entry in found if entry != folder]  # stores may list a folder in itself


def local_kinds(folder: Path) -> dict[Path, str]:
    """Tells what is in a local folder besides regular files; these are not looked at.

    Args:
        folder: The folder.

    Returns:
        By path "directory", "FIFO" and the like, of what links lead to; a link to a regular file
        or to nothing is "".

    Raises:
        UserError: It cannot be listed.
    """

    def scan() -> dict[Path, str]:
        with os.scandir(folder) as found:
            others = [folder / e.name for e in found if not e.is_file(follow_symlinks=False)]
        return {path: irregular_kind(path) for path in others}

    return _read(folder, scan)


def missing(files: Sequence[AnyPath]) -> list[AnyPath]:
    """Finds out which files are not there.

    Args:
        files: The files.

    Returns:
        Those that are missing, in the same order.

    Raises:
        UserError: A remote folder cannot be listed.
    """
    listed: set[AnyPath] = set()
    # One listing is fast where asking for thousands of remote files one by one is not.
    for folder in {file.parent for file in files if not isinstance(file, Path)}:
        if is_folder(folder):
            listed.update(entries(folder))
    return [
        file for file in files if not (file.exists() if isinstance(file, Path) else file in listed)
    ]


def read_bytes(path: AnyPath, largest: int = LARGEST) -> bytes:
    """Reads a file.

    Args:
        path: The file.
        largest: MiB that it may have.

    Returns:
        The bytes.

    Raises:
        UserError: It cannot be read, is no regular file or larger; the message names it.
    """
    return read_with(path, lambda stream: stream.read(), largest)


def read_with(path: AnyPath, read: Callable[[Any], T], largest: int = LARGEST) -> T:
    """Opens a file and reads of it what a function wants.

    Args:
        path: The file.
        read: The function; it takes the open binary file, and is called again where it failed for
            a moment.
        largest: MiB that the file may have; a remote one is looked at where its size is told.

    Returns:
        What it returns.

    Raises:
        UserError: The file cannot be read, is no regular file or larger; the message names it.
    """

    def opened() -> T:
        if isinstance(path, Path):
            with open_regular(path, largest) as stream:
                return read(stream)
        with path.open("rb") as stream:
            check_size(path, getattr(stream, "size", None) or 0, largest)
            return read(stream)

    return _read(path, opened)


def read_folder_with(path: AnyPath, read: Callable[[], T]) -> T:
    """Calls a function that reads a folder; see `read_with`.

    Args:
        path: The folder.
        read: The function, which finds it by its name.

    Returns:
        What it returns.

    Raises:
        UserError: The folder cannot be read, or is not on this machine.
    """
    if not isinstance(path, Path):
        raise UserError(
            f"{path} is an image that is a folder, and such are read from this machine alone; copy "
            "it here."
        )
    return _read(path, read)


def digest_folder(path: Path) -> bytes:
    """Returns a text that tells the contents of a folder: every file's name and sha256.

    Args:
        path: The folder.

    Returns:
        A line for each file, in the order of their names.

    Raises:
        UserError: One cannot be read, or is no regular file.
    """

    def digest(name: str) -> str:
        return read_with(
            path / name, lambda stream: hashlib.file_digest(stream, "sha256")
        ).hexdigest()

    names = [name for name, _, _ in _read(path, lambda: _files_below(path))]
    return "".join(f"{name} {digest(name)}\n" for name in names).encode(errors="surrogateescape")


def _files_below(folder: Path) -> list[tuple[str, int, int]]:
    """Returns name, size and time of every file below a folder, in the order of their names."""
    files = (Path(above, name) for above, _, names in os.walk(folder) for name in names)
    found = ((file.relative_to(folder).as_posix(), file.stat()) for file in files)
    return sorted((name, one.st_size, one.st_mtime_ns) for name, one in found)


def stamp(path: AnyPath) -> str:
    """Returns a text that changes when a file does: its name, size and time.

    Args:
        path: The file.

    Returns:
        The text.

    Raises:
        UserError: It cannot be read.
    """
    if isinstance(path, Path):
        local = _read(path, path.stat)
        if stat.S_ISDIR(local.st_mode):
            return f"{path} {_read(path, lambda: _files_below(path))}"
        return f"{path} {local.st_size} {local.st_mtime_ns}"
    remote = _read(path, path.stat)
    time = remote.mtime or _read(path, lambda: _modified(path))
    return f"{path} {remote.length} {time}"


def _modified(path: epath.Path) -> str:
    """Returns a remote file's time where epath has none, as for s3://."""
    import fsspec.core

    system, name = fsspec.core.url_to_fs(str(path))
    try:
        return str(system.modified(name))
    except NotImplementedError:
        return ""


def _is_there(path: epath.Path, *, folder: bool) -> bool:
    # epath's own is_dir() takes a failure of the network for a missing folder.
    def is_directory() -> bool | None:
        try:
            return path.stat().is_directory
        except FileNotFoundError:
            return None

    return _read(path, is_directory) is folder


def _read(path: AnyPath, read: Callable[[], T]) -> T:
    """Does what `ask` does; what cannot get better is a `UserError` too."""
    try:
        return ask(path, read)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {retry.reason(error)}.") from None


def ask(path: AnyPath, read: Callable[[], T]) -> T:
    """Calls a function that reads something of a path, again where it fails for a moment.

    Args:
        path: The path.
        read: The function.

    Returns:
        What it returns.

    Raises:
        OSError: What cannot get better, such as a missing file.
        UserError: It failed every time, or the package that reads such paths is missing.
    """
    # The libraries behind remote paths raise many kinds for a failure of the network.
    kinds = (OSError,) if isinstance(path, Path) else (Exception,)
    try:
        return retry.again(read, str(path), kinds)
    except ImportError as error:
        extra = next((e for start, e in _EXTRAS.items() if str(path).startswith(start)), "")
        raise UserError(
            f"{path} cannot be read: {retry.reason(error)}, for instance with "
            f"pip install 'unet-jax[{extra}]'."
        ) from None
