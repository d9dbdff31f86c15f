"""Cityscapes (Cordts et al., 2016): the 19 classes that its benchmark scores."""

from unet_jax.data import storage
from unet_jax.data.base import IGNORE
from unet_jax.data.files import FilePairs, say_once
from unet_jax.data.layouts.base import KEY, Found, Given, Layout
from unet_jax.data.layouts.matching import match, parse
from unet_jax.data.layouts.patterns import find_patterns
from unet_jax.data.storage import AnyPath

CLASS_NAMES = (
    *("road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign"),
    *("vegetation", "terrain", "sky", "person", "rider", "car", "truck", "bus", "train"),
    *("motorcycle", "bicycle"),
)
LABEL_IDS = (7, 8, 11, 12, 13, 17, *range(19, 29), 31, 32, 33)
"""The values of these classes in files called labelIds."""
VALUES = {
    "labelTrainIds": {**{k: k for k in range(len(CLASS_NAMES))}, 255: IGNORE},
    # 0 to 33 are all there are; the number of licence plates, -1, is 255 in a file.
    "labelIds": {
        **dict.fromkeys((*range(34), 255), IGNORE),
        **{value: k for k, value in enumerate(LABEL_IDS)},
    },
}


def _find(root: AnyPath, given: Given) -> Found:
    patterns = {kind: f"gtFine/{{split}}/{{city}}/{{name}}_gtFine_{kind}.png" for kind in VALUES}
    kind = next(
        (k for k, text in patterns.items() if match(root, parse(text, f"{KEY}.masks"))[0]),
        "labelIds",
    )
    images = "leftImg8bit/{split}/{city}/{name}_leftImg8bit.png"
    found = find_patterns(root, given._replace(images=images, masks=patterns[kind]))
    pairs, test = found.pairs, set(found.splits.get("test", ()))
    if test:
        say_once(f"{root}: {len(test)} images of 'test' passed over, whose masks are all void")
        kept = [
            (i, files) for i, files in zip(pairs.ids, pairs.files, strict=True) if i not in test
        ]
        ids, files = zip(*kept, strict=True)
        pairs = FilePairs(ids, files, given.largest, reader=given.reader)
    splits = {split: ids for split, ids in found.splits.items() if split != "test"}
    return Found(pairs, splits, CLASS_NAMES, VALUES[kind])


CITYSCAPES = Layout(
    lambda root: all(storage.is_folder(root / name) for name in ("leftImg8bit", "gtFine")),
    _find,
    "leftImg8bit/train/CITY/NAME_leftImg8bit.png, gtFine/train/CITY/NAME_gtFine_labelIds.png",
)
