"""Lists of classes with their colours, as data sets ship them beside their masks.

class_dict.csv has a line a class, name,r,g,b, as Kaggle's copies of CamVid and DeepGlobe;
labelmap.txt is what CVAT exports with its segmentation masks, name:r,g,b:parts:actions.
"""

import csv
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from unet_jax.data import storage
from unet_jax.data.files import read_text, say_once
from unet_jax.data.storage import AnyPath
from unet_jax.errors import UserError

Colour = tuple[int, int, int]
VOID = frozenset(("void", "unlabeled", "unlabelled", "unknown", "ignore", "ignored"))
"""Names, in small letters, of what is no class but pixels that nobody labelled."""

_KEYS = "config.data.folder.class_names, label_map or ignore_values"
_HEADER = ("name", "r", "g", "b")
_Rows = Iterator[tuple[int, str, list[str]]]  # line, name and numbers


class ClassList(NamedTuple):
    """What such a list says, as the keys of `folder.open_folder`."""

    class_names: tuple[str, ...]
    label_map: tuple[tuple[Colour, int], ...]
    ignore_values: tuple[Colour, ...]


def find_class_list(root: AnyPath) -> ClassList | None:
    """Reads the list that lies in a folder, and says so.

    Args:
        root: The folder.

    Returns:
        Its classes, those of `VOID` ignored; None where there is no list.

    Raises:
        UserError: The list cannot be read, or has two lines for one name or colour.
    """
    for name, rows in _READERS.items():
        if storage.has_file(root / name):
            return _read(root / name, rows)
    return None


def _read(file: AnyPath, rows: Callable[[AnyPath, str], _Rows]) -> ClassList:
    colours: dict[str, Colour] = {}
    for line, name, numbers in rows(file, read_text(file, "a list of classes")):
        are_bytes = len(numbers) == 3 and all(re.fullmatch(r"\d{1,3}", n) for n in numbers)
        red, green, blue = map(int, numbers) if are_bytes else (256, 256, 256)
        if not name or max(red, green, blue) > 255:
            raise UserError(
                f"{file}, line {line} must have a name and a colour of three numbers from 0 to "
                f"255; mend it, or say what masks mean with {_KEYS}."
            )
        colour = red, green, blue
        if name in colours or colour in colours.values():
            raise UserError(
                f"{file}, line {line} has the name or the colour of another line, {name!r} "
                f"{colour}; leave one, or say what masks mean with {_KEYS}."
            )
        colours[name] = colour
    kept = [name for name in colours if name.lower() not in VOID]
    void = [name for name in colours if name.lower() in VOID]
    says = f", {', '.join(void)} ignored" if void else ""
    say_once(f"{file}: {len(kept)} classes by colour{says}; {_KEYS} would count more")
    label_map = tuple((colours[name], k) for k, name in enumerate(kept))
    return ClassList(tuple(kept), label_map, tuple(colours[name] for name in void))


def _csv(file: AnyPath, text: str) -> _Rows:
    lines = text.split("\n")
    reader = csv.reader(lines, skipinitialspace=True)
    header = [value.strip().lower() for value in next(reader, [])]
    if sorted(header) != sorted(_HEADER):
        raise UserError(
            f"{file} has the columns {', '.join(header)}; a list of classes has "
            f"{', '.join(_HEADER)}. Mend it, or say what masks mean with {_KEYS}."
        )
    places = [header.index(name) for name in _HEADER]
    for row in reader:
        if any(value.strip() for value in row):
            values = [row[i].strip() if i < len(row) else "" for i in places]
            yield reader.line_num, values[0], values[1:]


def _labelmap(file: AnyPath, text: str) -> _Rows:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            name, _, rest = line.partition(":")
            yield number, name.strip(), [n.strip() for n in rest.partition(":")[0].split(",")]


_READERS = {"class_dict.csv": _csv, "labelmap.txt": _labelmap}
