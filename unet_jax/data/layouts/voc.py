"""PASCAL VOC (Everingham et al., 2010): 20 classes and background, borders ignored."""

from unet_jax.data import storage
from unet_jax.data.base import IGNORE
from unet_jax.data.files import read_list, say_once
from unet_jax.data.layouts.base import Found, Given, Layout
from unet_jax.data.layouts.patterns import find_patterns
from unet_jax.data.storage import AnyPath
from unet_jax.errors import UserError

CLASS_NAMES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat"),
    *("chair", "cow", "dining table", "dog", "horse", "motorbike", "person", "potted plant"),
    *("sheep", "sofa", "train", "tv monitor"),
)
VALUES = {**{k: k for k in range(len(CLASS_NAMES))}, 255: IGNORE}
_BELOW = ("", "VOC2012", "VOC2007", "VOCdevkit/VOC2012", "VOCdevkit/VOC2007")


def _place(root: AnyPath) -> AnyPath | None:
    """Returns the folder that holds the images' folder; archives unpack to folders above it."""
    for below in _BELOW:
        place = root / below if below else root
        if all(storage.is_folder(place / name) for name in ("JPEGImages", "SegmentationClass")):
            return place
    return None


def _find(root: AnyPath, given: Given) -> Found:
    place = _place(root) or root
    # Most images are there for other tasks and have no mask.
    names = {"images": "JPEGImages/{name}.*", "masks": "SegmentationClass/{name}.png"}
    found = find_patterns(place, given._replace(**names, must_match=False))
    splits = {}
    for split in ("train", "val", "test"):
        file = place / "ImageSets" / "Segmentation" / f"{split}.txt"
        if not storage.has_file(file):
            continue
        listed, there = read_list(file), set(found.pairs.ids)
        missing = [name for name in listed if name not in there]
        if missing and (split != "test" or len(missing) < len(listed)) and given.must_match:
            raise UserError(
                f"{file} names {missing[0]!r} ({len(missing)} such names), which has no image in "
                "JPEGImages/ or no mask in SegmentationClass/; put it there or take its name out."
            )
        if missing:
            say_once(f"{file}: {len(missing)} images without masks passed over")
        splits[split] = [name for name in listed if name in there]
    splits = {split: names for split, names in splits.items() if names}
    return found._replace(splits=splits, class_names=CLASS_NAMES, values=VALUES)


VOC = Layout(
    lambda root: _place(root) is not None,
    _find,
    "JPEGImages/NAME.jpg, SegmentationClass/NAME.png, ImageSets/Segmentation/train.txt, val.txt",
)
