"""Pictures and masks in files, and lists of their names."""

from collections.abc import Sequence
from pathlib import Path

from unet_jax.data.base import Encoded
from unet_jax.errors import UserError

SUFFIXES = (".png", ".jpg", ".jpeg")


class FilePairs:
    """Pairs of a picture file and a mask file; see `base.Pairs`."""

    def __init__(self, ids: Sequence[str], files: Sequence[tuple[Path, Path]]) -> None:
        """Takes the names, and the (picture, mask) files in the same order."""
        self.ids, self.files = tuple(ids), tuple(files)

    def read(self, index: int) -> Encoded:
        """Reads one pair; see `Pairs`."""
        image, mask = self.files[index]
        try:
            return Encoded(image.read_bytes(), mask.read_bytes(), str(image), str(mask))
        except OSError as error:
            raise UserError(f"{error.filename} cannot be read: {error.strerror}.") from None

    def stamp(self, index: int) -> str:
        """Joins both files' names, sizes and times; see `Pairs`."""
        try:
            stats = [(file, file.stat()) for file in self.files[index]]
        except OSError as error:
            raise UserError(f"{error.filename} cannot be read: {error.strerror}.") from None
        return " ".join(f"{file} {s.st_size} {s.st_mtime_ns}" for file, s in stats)


def list_pictures(folder: Path, key: str) -> dict[str, Path]:
    """Lists the pictures below a folder.

    Args:
        folder: The folder; subfolders count, hidden files and folders do not.
        key: The config key that leads to it, for errors.

    Returns:
        Files by id: the path below the folder, without suffix.

    Raises:
        UserError: The folder is missing, or two files share an id.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; put the pictures there or change {key}.")
    found: dict[str, Path] = {}
    for file in sorted(folder.rglob("*")):
        relative = file.relative_to(folder)
        is_hidden = any(part.startswith(".") for part in relative.parts)
        if is_hidden or file.suffix.lower() not in SUFFIXES:
            continue
        name = relative.with_suffix("").as_posix()
        if name in found:
            raise UserError(f"{found[name]} and {file} have the same name; rename one of them.")
        found[name] = file
    return found


def read_list(file: Path) -> list[str]:
    """Reads a list of ids: the first word of each line; lines that begin with # do not count.

    Args:
        file: The list.

    Returns:
        The ids in the list's order.

    Raises:
        UserError: The list cannot be read, or names an id twice.
    """
    try:
        words = [line.split() for line in file.read_text().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read as a list of names: {error}.") from None
    ids = [line[0] for line in words if line and not line[0].startswith("#")]
    twice = (
        sorted({name for name in ids if ids.count(name) > 1}) if len(set(ids)) < len(ids) else []
    )
    if twice:
        raise UserError(f"{file} names {twice[0]} more than once ({len(twice)} such names).")
    return ids
