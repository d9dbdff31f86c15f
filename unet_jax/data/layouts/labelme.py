"""Polygons as LabelMe writes them: a NAME.json beside each image NAME.jpg."""

import json

import numpy as np

from unet_jax.data import storage
from unet_jax.data.files import list_images
from unet_jax.data.layouts.base import KEY, Found, Given, Layout, refuse_reader
from unet_jax.data.layouts.drawn import DrawnPairs, read_json, take
from unet_jax.data.layouts.folders import splits_of
from unet_jax.data.layouts.polygons import draw_polygon, paint, read_points
from unet_jax.data.storage import AnyPath
from unet_jax.errors import UserError

_IGNORED = ("_background_", "__ignore__")  # labels that LabelMe's own exporter knows
_VALUE_IGNORED = 255
_KINDS = ("polygon", "rectangle")


def _first(folder: AnyPath, depth: int = 1) -> AnyPath | None:
    """Finds the first JSON file of a folder, or of those in it."""
    entries = sorted(storage.entries(folder), key=str)
    found = next((entry for entry in entries if entry.name.lower().endswith(".json")), None)
    if found is None and depth:
        below = (_first(e, 0) for e in entries if storage.is_folder(e))
        found = next((file for file in below if file is not None), None)
    return found


def _fits(root: AnyPath) -> bool:
    file = _first(root)
    if file is None:
        return False
    try:
        return {"shapes", "imagePath"} <= set(json.loads(storage.read_bytes(file)))
    except (ValueError, TypeError, RecursionError):
        return False


def _find(root: AnyPath, given: Given) -> Found:
    refuse_reader(given, "LabelMe's labels are drawn from polygons")
    images = list_images(root, "config.data.path")
    files = {name: (image, image.with_suffix(".json")) for name, image in images.items()}
    alone = [image for image, file in files.values() if not storage.has_file(file)]
    if alone and given.must_match:
        raise UserError(
            f"{len(alone)} of {len(files)} images have no LabelMe file, the first is {alone[0]}; "
            f"add {alone[0].stem}.json, or take the images out."
        )
    files = {name: pair for name, pair in files.items() if storage.has_file(pair[1])}
    names = given.class_names
    if not names:
        found = sorted({label for _, file in files.values() for label in _labels(file)})
        written = ("background", *(label for label in found if label not in _IGNORED))
        raise UserError(
            f"{root} holds LabelMe files, which do not say the order of the classes; give it, such "
            f"as {KEY}.class_names={written}: the first is where nothing is drawn."
        )

    def draw(data: bytes, name: str, shape: tuple[int, int]) -> np.ndarray:
        return draw_shapes(data, name, shape, names)

    pairs = DrawnPairs(tuple(files), [*files.values()], draw, given.largest)
    splits = splits_of(pairs.ids)
    values = {**{k: k for k in range(len(names))}, _VALUE_IGNORED: 255}
    return Found(pairs, splits, values=values, reads_lists=True)


def _labels(file: AnyPath) -> list[str]:
    content = read_json(storage.read_bytes(file), str(file))
    shapes = take(content, "shapes", list, str(file))
    return [take(shape, "label", str, f"{file}: a shape") for shape in shapes]


def draw_shapes(
    data: bytes, name: str, shape: tuple[int, int], class_names: tuple[str, ...]
) -> np.ndarray:
    """Draws the shapes of an image, later ones over earlier ones, as LabelMe shows them.

    Args:
        data: The JSON.
        name: Its file, for errors.
        shape: (height, width) of the image.
        class_names: K names; the first is where nothing is drawn.

    Returns:
        uint8 [H, W] of class ids; 255 where the label is "__ignore__".

    Raises:
        UserError: A shape is none, of no class, or the image has another size.
    """
    content = read_json(data, name)
    size = content.get("imageHeight"), content.get("imageWidth")
    if None not in size and size != tuple(shape):
        raise UserError(
            f"{name} is of an image {size[0]}x{size[1]} (height x width) that has "
            f"{shape[0]}x{shape[1]} as viewers show it; they must be the same."
        )
    parts = []
    for number, one in enumerate(take(content, "shapes", list, name)):
        what = f"{name}: the shape {number}"
        label, kind = take(one, "label", str, what), one.get("shape_type", "polygon")
        if label not in (*class_names, *_IGNORED):
            raise UserError(
                f"{what} has the label {label!r}, which is none of {KEY}.class_names="
                f"{class_names}; add it there or mend the file."
            )
        if kind not in _KINDS:
            raise UserError(f"{what} is a {kind}; allowed are {', '.join(_KINDS)}. Draw it anew.")
        corners = [
            n
            for pair in take(one, "points", list, what)
            for n in (pair if isinstance(pair, list) else [pair])
        ]
        if kind == "rectangle" and len(corners) == 4:
            x0, y0, x1, y1 = corners
            corners = [x0, y0, x1, y0, x1, y1, x0, y1]
        inside = draw_polygon(read_points(corners, what), shape)
        value = {"_background_": 0, "__ignore__": _VALUE_IGNORED}.get(label)
        parts.append((class_names.index(label) if value is None else value, inside))
    return paint(parts, shape, small_on_top=False)


LABELME = Layout(_fits, _find, "NAME.jpg with NAME.json of polygons")
