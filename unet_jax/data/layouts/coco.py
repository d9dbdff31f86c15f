"""Annotations of COCO (Lin et al., 2014): polygons and runs of pixels, one JSON file a split."""

import collections
import json
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from unet_jax.data import storage
from unet_jax.data.base import IGNORE
from unet_jax.data.files import SUFFIXES
from unet_jax.data.layouts.base import SPLIT_WORDS, Found, Given, Layout, refuse_reader
from unet_jax.data.layouts.drawn import DrawnPairs, read_json, take
from unet_jax.data.layouts.polygons import draw_polygon, draw_runs, paint, read_points, read_runs
from unet_jax.data.storage import AnyPath
from unet_jax.errors import UserError

BACKGROUND = "background"
_IN_ONE_FOLDER = re.compile(r"instances_(\w+?)\d*\.json")  # annotations/instances_train2017.json
_BESIDE_IMAGES = ("_annotations.coco.json", "annotations.json", "instances.json", "coco.json")


class _File(NamedTuple):
    """A JSON file, the folder that holds its images, and its split ("" where none is named)."""

    file: AnyPath
    images: tuple[AnyPath, ...]
    split: str


def _files(root: AnyPath) -> list[_File]:
    """Finds JSON files: annotations/instances_SPLIT.json, or SPLIT/_annotations.coco.json."""
    found = []
    folder = root / "annotations"
    for file in sorted(storage.entries(folder), key=str) if storage.is_folder(folder) else ():
        word = _IN_ONE_FOLDER.fullmatch(file.name)
        if word and word[1].lower() in SPLIT_WORDS:
            name = file.name.removeprefix("instances_").removesuffix(".json")
            places = (root / name, root / "images" / name, root / word[1], root / "images")
            found.append(_File(file, places, SPLIT_WORDS[word[1].lower()]))
    for entry in [] if found else sorted(storage.entries(root), key=str):
        split = SPLIT_WORDS.get(entry.name.lower(), "")
        if split and storage.is_folder(entry):
            names = [name for name in _BESIDE_IMAGES if storage.has_file(entry / name)]
            found += [_File(entry / name, (entry, entry / "images"), split) for name in names[:1]]
    if found:
        return found
    names = [name for name in _BESIDE_IMAGES if storage.has_file(root / name)]
    return [_File(root / name, (root, root / "images"), "") for name in names[:1]]


def _find(root: AnyPath, given: Given) -> Found:
    refuse_reader(given, "COCO's labels are drawn from polygons")
    ids, files, annotations, names = [], [], [], None
    splits: dict[str, list[str]] = {}
    for one in _files(root):
        content = read_json(storage.read_bytes(one.file, given.largest), str(one.file))
        own, records = _records(content, str(one.file))
        if names not in (None, own):
            raise UserError(
                f"{one.file} has other categories than the file before it; all must have the same."
            )
        names = own
        for file_name, record in records.items():
            image = _image(one, file_name, must_match=given.must_match)
            if image is not None:
                stem = PurePosixPath(file_name).with_suffix("").as_posix()
                ids.append(f"{one.split}/{stem}" if one.split else stem)
                files.append((image, one.file))
                annotations.append(json.dumps(record).encode())
                if one.split:
                    splits.setdefault(one.split, []).append(ids[-1])
    twice = [name for name, count in collections.Counter(ids).items() if count > 1]
    if twice:
        raise UserError(f"{root}: two images are called {twice[0]!r}; rename one of them.")
    pairs = DrawnPairs(ids, files, draw, given.largest, annotations)
    class_names = (BACKGROUND, *(names or {}).values())
    return Found(pairs, splits, class_names, reads_lists=not splits)


def _records(content: dict[str, Any], file: str) -> tuple[dict[int, str], dict[str, Any]]:
    """Returns names of categories by id, and by image its size and its (class, shape, crowd)."""
    categories = {
        take(one, "id", int, f"{file}: a category"): take(one, "name", str, f"{file}: a category")
        for one in take(content, "categories", list, file)
    }
    names = dict(sorted(categories.items()))
    if not 0 < len(names) < IGNORE - 1 or len(set(names.values())) < len(names):
        raise UserError(
            f"{file} has {len(names)} categories; they must be 1 to {IGNORE - 2}, of different "
            "names."
        )
    value = {number: k for k, number in enumerate(names, start=1)}
    objects = collections.defaultdict(list)
    for one in take(content, "annotations", list, file):
        what = f"{file}: the annotation {one.get('id') if isinstance(one, dict) else one}"
        category = take(one, "category_id", int, what)
        if category not in value:
            raise UserError(f"{what} is of category {category}, which is none of {[*value]}.")
        objects[take(one, "image_id", int, what)].append(
            [value[category], one.get("segmentation"), one.get("id")]
        )
    records: dict[str, Any] = {}
    for one in take(content, "images", list, file):
        what = f"{file}: an image"
        number, name = take(one, "id", int, what), take(one, "file_name", str, what)
        size = [take(one, key, int, f"{file}: {name}") for key in ("height", "width")]
        records[name] = {"size": size, "objects": objects.pop(number, [])}
    if objects:
        raise UserError(
            f"{file} has annotations of the image {next(iter(objects))}, which it has not."
        )
    return names, records


def _image(one: _File, name: str, *, must_match: bool) -> AnyPath | None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or path.suffix.lower() not in SUFFIXES:
        raise UserError(
            f"{one.file} names {name!r}; it must be a path below the folder of the images, of an "
            f"image that is read ({', '.join(SUFFIXES)})."
        )
    found = next((place / name for place in one.images if storage.has_file(place / name)), None)
    if found is None and must_match:
        raise UserError(
            f"{one.file} names {name!r}, which is not in {' or '.join(map(str, one.images))}; put "
            "it there."
        )
    return found


def draw(data: bytes, name: str, shape: tuple[int, int]) -> np.ndarray:
    """Draws the objects of an image: value 0 is background, k the k-th category by its id.

    Smaller objects cover larger ones. A polygon's parts are one object together.

    Args:
        data: Its size and its objects.
        name: The file, for errors.
        shape: (height, width) of the image.

    Returns:
        uint8 [H, W].

    Raises:
        UserError: An object is none, or the size is another.
    """
    record = json.loads(data)
    if tuple(record["size"]) != tuple(shape):
        raise UserError(
            f"{name} gives an image {record['size'][0]}x{record['size'][1]} (height x width) that "
            f"has {shape[0]}x{shape[1]} as viewers show it; they must be the same."
        )
    parts = [
        (value, draw_segmentation(segmentation, shape, f"{name}: the annotation {number}"))
        for value, segmentation, number in record["objects"]
    ]
    return paint(parts, shape, small_on_top=True)


def draw_segmentation(segmentation: Any, shape: tuple[int, int], what: str) -> np.ndarray:
    """Draws what COCO calls a segmentation: polygons, or runs, as a list or compressed.

    Args:
        segmentation: As the JSON has it.
        shape: (height, width) of the image.
        what: Where it stands, for the error.

    Returns:
        bool [H, W].

    Raises:
        UserError: It is none.
    """
    if isinstance(segmentation, list) and segmentation:
        polygons = [read_points(p if isinstance(p, list) else [], what) for p in segmentation]
        return np.logical_or.reduce([draw_polygon(points, shape) for points in polygons])
    if not isinstance(segmentation, Mapping) or [*shape] != segmentation.get("size"):
        raise UserError(
            f"{what} has no segmentation of its image's size, {shape[0]}x{shape[1]}: polygons or "
            "runs of pixels. Boxes alone cannot train; take it out or draw it."
        )
    counts = segmentation.get("counts")
    runs = read_runs(counts, what) if isinstance(counts, str) else counts
    return draw_runs(runs if isinstance(runs, list) else [], shape, what)


COCO = Layout(
    lambda root: bool(_files(root)),
    _find,
    "annotations/instances_train.json, train/NAME.jpg; or train/_annotations.coco.json",
)
