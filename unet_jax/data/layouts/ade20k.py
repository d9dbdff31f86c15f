"""ADE20K as its scene parsing challenge gave it out (Zhou et al., 2017): 150 classes, 0 ignored."""

import re

from unet_jax.data import storage
from unet_jax.data.base import IGNORE
from unet_jax.data.layouts.base import Found, Given, Layout
from unet_jax.data.layouts.patterns import find_patterns
from unet_jax.data.storage import AnyPath

COUNT = 150
VALUES = {0: IGNORE, **{k + 1: k for k in range(COUNT)}}
_FILE = "objectInfo150.txt"  # its lines: number, shares and counts, then names


def _place(root: AnyPath) -> AnyPath | None:
    for place in (root, root / "ADEChallengeData2016"):
        if all(storage.is_folder(place / name / "training") for name in ("images", "annotations")):
            return place
    return None


def _names(place: AnyPath) -> tuple[str, ...]:
    """Reads the classes' names, the first of several; their numbers where the file is missing."""
    names = {k: str(k) for k in range(1, COUNT + 1)}
    if storage.has_file(place / _FILE):
        text = storage.read_bytes(place / _FILE).decode("utf-8", "replace")
        for number, words in re.findall(r"^(\d+)\s+\S+\s+\d+\s+\d+\s+\d+\s+(.+)$", text, re.M):
            first = words.split(",")[0].strip()
            taken = first in names.values() or int(number) not in names
            names |= {} if taken else {int(number): first}
    return tuple(names.values())


def _find(root: AnyPath, given: Given) -> Found:
    place = _place(root) or root
    names = {"images": "images/{split}/{name}.jpg", "masks": "annotations/{split}/{name}.png"}
    found = find_patterns(place, given._replace(**names))
    return found._replace(class_names=_names(place), values=VALUES)


ADE20K = Layout(
    # Without its names or its name, a folder of images/training may be of anybody.
    lambda root: (
        (place := _place(root)) is not None
        and (storage.has_file(place / _FILE) or place.name == "ADEChallengeData2016")
    ),
    _find,
    "images/training/NAME.jpg, annotations/training/NAME.png of 150 classes, 0 is ignored",
)
