"""A folder for each image, with a file for each object, as in the Data Science Bowl of 2018."""

import io
from collections.abc import Sequence

import numpy as np

from unet_jax.data import storage
from unet_jax.data.files import FilePairs, list_images
from unet_jax.data.formats import find_format
from unet_jax.data.formats.base import Mask
from unet_jax.data.layouts.base import Found, Given, Layout, refuse_reader
from unet_jax.data.sample import Window, written
from unet_jax.data.storage import AnyPath
from unet_jax.errors import UserError

CLASS_NAMES = ("background", "object")
_NAMES = ("images", "masks")


def read_objects(masks: Sequence[bytes], names: Sequence[str], window: Window | None) -> list[Mask]:
    """Makes one mask of those of an image's objects: 1 where any is above 0; see `MaskReader`."""
    union: np.ndarray | None = None
    for data, name in zip(masks, names, strict=True):
        ids = find_format(name).read_mask(io.BytesIO(data), name, window).ids
        if union is not None and union.shape != ids.shape:
            raise UserError(
                f"{name} is {written(ids.shape)} but {names[0]}, an object of the same image, is "
                f"{written(union.shape)}; all must have the image's size."
            )
        union = ids > 0 if union is None else union | (ids > 0)
    assert union is not None, "an image has an object at least"
    return [Mask(union.astype(np.uint8), None)]


def _fits(root: AnyPath) -> bool:
    folders = sorted((e for e in storage.entries(root) if not e.name.startswith(".")), key=str)
    first = next((entry for entry in folders if storage.is_folder(entry)), None)
    return first is not None and all(storage.is_folder(first / name) for name in _NAMES)


def _find(root: AnyPath, given: Given) -> Found:
    refuse_reader(given, "this layout has a file for each object")
    ids, files = [], []
    for folder in sorted(storage.entries(root), key=str):
        if folder.name.startswith(".") or not storage.is_folder(folder):
            continue
        found = [
            [*list_images(folder / name, "config.data.path").values()]
            if storage.is_folder(folder / name)
            else []
            for name in _NAMES
        ]
        images, masks = found
        if len(images) == 1 and masks:
            ids.append(folder.name)
            files.append((images[0], *masks))
        elif given.must_match:
            raise UserError(
                f"{folder} holds {len(images)} images in images/ and {len(masks)} masks in masks/; "
                "it must hold one image, and a mask for each object."
            )
    pairs = FilePairs(ids, files, given.largest, reader=read_objects)
    return Found(pairs, class_names=CLASS_NAMES, reads_lists=True)


OBJECTS = Layout(_fits, _find, "NAME/images/NAME.png, NAME/masks/OBJECT.png, 0 where it is not")
