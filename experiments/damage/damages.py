"""Ten ways to damage a file, or a folder, of what a program wrote."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

Damage = Callable[[Path, Path | None, random.Random], None]
NEWER = {"written_by_a_newer_version": {"format": 99}}


class Unfit(Exception):
    """A damage makes no sense for a file."""


def _clear(file: Path) -> None:
    if file.is_dir() and not file.is_symlink():
        shutil.rmtree(file)
    else:
        file.unlink(missing_ok=True)


def _bytes(file: Path) -> bytes:
    if not file.is_file() or not file.stat().st_size:
        raise Unfit
    return file.read_bytes()


def _remove(file: Path, other: Path | None, rng: random.Random) -> None:
    _clear(file)


def _empty(file: Path, other: Path | None, rng: random.Random) -> None:
    is_folder = file.is_dir()
    _clear(file)
    file.mkdir() if is_folder else file.write_bytes(b"")


def _cut(file: Path, other: Path | None, rng: random.Random) -> None:
    file.write_bytes(_bytes(file)[: len(_bytes(file)) // 2])


def _flip(file: Path, other: Path | None, rng: random.Random) -> None:
    data = bytearray(_bytes(file))
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    file.write_bytes(data)


def _junk(file: Path, other: Path | None, rng: random.Random) -> None:
    data = _bytes(file)
    middle = len(data) // 2
    file.write_bytes(data[:middle] + b"\xff\x00junk\n" + rng.randbytes(40) + b"\n" + data[middle:])


def _retype(file: Path, other: Path | None, rng: random.Random) -> None:
    _bytes(file)
    file.write_text("[1]\n")


def _age(file: Path, other: Path | None, rng: random.Random) -> None:
    """Makes a JSON file, or the last line of one, that of a newer version."""
    *lines, last = _bytes(file).decode(errors="replace").rstrip("\n").rpartition("\n")
    whole = json.loads
    try:
        found, before = whole("".join(lines) + last), ""
    except ValueError:
        try:
            found, before = whole(last), "".join(lines)
        except ValueError:
            raise Unfit from None
    newer = found | NEWER if isinstance(found, dict) else [*found, NEWER]
    file.write_text(before + json.dumps(newer) + "\n")


def _turn(file: Path, other: Path | None, rng: random.Random) -> None:
    """Puts a folder where a file is meant, and the other way round."""
    is_folder = file.is_dir()
    _clear(file)
    if is_folder:
        file.write_text("a file\n")
    else:
        file.mkdir()
        (file / "note").write_text("not ours\n")


def _link(file: Path, other: Path | None, rng: random.Random) -> None:
    _clear(file)
    file.symlink_to("/no/such/file")


def _swap(file: Path, other: Path | None, rng: random.Random) -> None:
    if other is None or not other.exists() or (other.is_file() and _bytes(other) == _bytes(file)):
        raise Unfit
    _clear(file)
    shutil.copytree(other, file) if other.is_dir() else shutil.copy(other, file)


DAMAGES: dict[str, Damage] = {
    "removed": _remove,
    "empty": _empty,
    "cut": _cut,
    "one bit": _flip,
    "junk": _junk,
    "other type": _retype,
    "too new": _age,
    "folder for file": _turn,
    "link to nothing": _link,
    "of another run": _swap,
}
"""By name; each takes the file, that of another run in its place, if there is, and draws."""
