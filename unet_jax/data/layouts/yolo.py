"""Polygons as YOLO's tools write them: labels/train/NAME.txt for images/train/NAME.jpg."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import yaml

from unet_jax.data import storage
from unet_jax.data.base import IGNORE
from unet_jax.data.files import list_images, say_once
from unet_jax.data.layouts.base import SPLIT_WORDS, Found, Given, Layout, refuse_reader
from unet_jax.data.layouts.drawn import DrawnPairs
from unet_jax.data.layouts.folders import splits_of
from unet_jax.data.layouts.polygons import draw_polygon, paint, read_points
from unet_jax.data.storage import AnyPath
from unet_jax.errors import UserError

BACKGROUND = "background"
_PAGES = ("data.yaml", "dataset.yaml", "data.yml", "dataset.yml")


def _page(root: AnyPath) -> AnyPath | None:
    """Finds the file that names the classes."""
    return next((root / name for name in _PAGES if storage.has_file(root / name)), None)


def _names(file: AnyPath) -> tuple[str, ...]:
    try:
        content = yaml.safe_load(storage.read_bytes(file))
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{file} cannot be read as YAML ({reason}); write it anew.") from None
    found: Any = content.get("names") if isinstance(content, Mapping) else None
    if isinstance(found, Mapping) and [*found] == [*range(len(found))]:
        found = [*found.values()]
    if not isinstance(found, list) or not 0 < len(found) < IGNORE - 1:
        raise UserError(
            f"{file} must have names: a list of 1 to {IGNORE - 2} classes, or their names by "
            "number from 0 on."
        )
    return (BACKGROUND, *map(str, found))


def _folders(root: AnyPath) -> dict[str, tuple[AnyPath, AnyPath]]:
    """Returns folders of images and of labels, by "" or by the name of a split's folder."""
    if all(storage.is_folder(root / name) for name in ("images", "labels")):
        return {"": (root / "images", root / "labels")}
    return {
        entry.name: (entry / "images", entry / "labels")
        for entry in sorted(storage.entries(root), key=str)
        if entry.name.lower() in SPLIT_WORDS and storage.is_folder(entry / "images")
    }


def _find(root: AnyPath, given: Given) -> Found:
    refuse_reader(given, "YOLO's labels are drawn from polygons")
    page = _page(root)
    assert page is not None, "the layout fits"
    names = _names(page)
    ids, files, empty = [], [], 0
    for split, (images, labels) in _folders(root).items():
        for name, image in list_images(images, "config.data.path").items():
            ids.append(f"{split}/{name}" if split else name)
            files.append((image, labels / f"{name}.txt"))
            empty += not storage.has_file(files[-1][1])
    if empty == len(files):
        raise UserError(f"{root} holds no labels/NAME.txt for any of {len(files)} images.")
    if empty:
        say_once(f"{root}: {empty} of {len(ids)} images have no labels: all is background")

    def draw(data: bytes, name: str, shape: tuple[int, int]) -> np.ndarray:
        return draw_lines(data, name, shape, len(names))

    pairs = DrawnPairs(ids, files, draw, given.largest)
    splits = splits_of(ids)
    return Found(pairs, splits, names, reads_lists=not splits)


def draw_lines(data: bytes, name: str, shape: tuple[int, int], num_classes: int) -> np.ndarray:
    """Draws the polygons of an image: value 0 is background, k + 1 the class k of a line.

    Smaller objects cover larger ones.

    Args:
        data: A line for each: the class, then x, y, x, y, ... as shares of width and height.
        name: The file, for errors.
        shape: (height, width) of the image.
        num_classes: K, with the background.

    Returns:
        uint8 [H, W].

    Raises:
        UserError: A line is none.
    """
    parts = []
    for number, line in enumerate(data.decode("utf-8-sig", "replace").splitlines(), start=1):
        words, what = line.split(), f"{name}, line {number},"
        if not words:
            continue
        if not re.fullmatch(r"\d+(\.0*)?", words[0]) or float(words[0]) >= num_classes - 1:
            raise UserError(
                f"{what} begins with {words[0]!r}; it must be a class, 0 to {num_classes - 2}, as "
                "the names have them."
            )
        if len(words) == 5:
            raise UserError(
                f"{what} is a box and no polygon, which cannot train; export the polygons of the "
                "segmentation."
            )
        points = read_points(words[1:], what) * shape[::-1]
        parts.append((int(float(words[0])) + 1, draw_polygon(points, shape)))
    return paint(parts, shape, small_on_top=True)


YOLO = Layout(
    lambda root: (
        _page(root) is not None
        and bool(found := _folders(root))
        and any(storage.is_folder(labels) for _, labels in found.values())
    ),
    _find,
    "data.yaml with names, images/train/NAME.jpg, labels/train/NAME.txt of polygons",
)
