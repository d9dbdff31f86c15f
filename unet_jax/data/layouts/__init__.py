"""Layouts of data sets: one file each, recognised by the names of files and folders."""

from unet_jax.config import choose
from unet_jax.data import storage
from unet_jax.data.files import say_once
from unet_jax.data.layouts.ade20k import ADE20K
from unet_jax.data.layouts.base import KEY, Found, Given, Layout, OtherSourceError
from unet_jax.data.layouts.camvid import CAMVID
from unet_jax.data.layouts.cityscapes import CITYSCAPES
from unet_jax.data.layouts.coco import COCO
from unet_jax.data.layouts.folders import FOLDERS, SPLIT_FOLDERS
from unet_jax.data.layouts.labelme import LABELME
from unet_jax.data.layouts.matching import is_pattern
from unet_jax.data.layouts.objects import OBJECTS
from unet_jax.data.layouts.pages import STACKS
from unet_jax.data.layouts.patterns import find_patterns
from unet_jax.data.layouts.voc import VOC
from unet_jax.data.layouts.yolo import YOLO
from unet_jax.data.storage import AnyPath
from unet_jax.errors import UserError

LAYOUTS: dict[str, Layout] = {
    "camvid": CAMVID,
    "voc": VOC,
    "cityscapes": CITYSCAPES,
    "ade20k": ADE20K,
    "coco": COCO,
    "yolo": YOLO,
    "labelme": LABELME,
    "split_folders": SPLIT_FOLDERS,
    "folders": FOLDERS,
    "objects": OBJECTS,
    "stacks": STACKS,
}
"""By name, in the order in which they are tried: what is more special comes first."""


def find_pairs(root: AnyPath, layout: str, given: Given) -> Found:
    """Finds the images of a folder, with their masks.

    Args:
        root: The folder.
        layout: Name of its layout; "" for that of its folders' names.
        given: What the config says of the files.

    Returns:
        The pairs, and what the layout says of splits and classes.

    Raises:
        UserError: There is no such layout, or the folder is not laid out so.
    """
    if is_pattern(given.images) or is_pattern(given.masks):
        if layout:
            raise UserError(
                f"{KEY}.layout={layout!r} and the patterns {KEY}.images={given.images!r} and "
                f"{KEY}.masks={given.masks!r} both say where files lie; leave one of them out."
            )
        return find_patterns(root, given)
    if given.weight:
        raise UserError(
            f"{KEY}.weight={given.weight!r} needs patterns for images and masks too, such as "
            f"{KEY}.images='images/{{name}}.png' and {KEY}.masks='masks/{{name}}.png'."
        )
    if layout:
        chosen = choose(LAYOUTS, f"{KEY}.layout", layout)
        if not chosen.fits(root):
            raise UserError(
                f"config.data.path: {root} is not laid out as {KEY}.layout={layout!r} says "
                f"({chosen.is_like}); change one of them."
            )
        return chosen.find(root, given)
    return _recognise(root, given)


def _recognise(root: AnyPath, given: Given) -> Found:
    are_default = (given.images, given.masks) == Given()[:2]
    if not are_default or all(storage.is_folder(root / name) for name in Given()[:2]):
        return FOLDERS.find(root, given)
    if storage.is_folder(root / "annotations" / "trimaps"):
        raise OtherSourceError(
            f"config.data.path: {root} holds Oxford-IIIT Pet; set config.data.source='pets'.",
            "pets",
        )
    name = next((name for name, one in LAYOUTS.items() if one.fits(root)), None)
    if name is None:
        return FOLDERS.find(root, given)  # says what is missing
    found = LAYOUTS[name].find(root, given)
    counts = ", ".join(f"{len(ids)} {split}" for split, ids in found.splits.items())
    say_once(
        f"{root}: read as {KEY}.layout={name!r} ({LAYOUTS[name].is_like}): "
        f"{counts or f'{len(found.pairs.ids)} images'}"
    )
    return found
