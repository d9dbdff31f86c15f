"""CamVid as SegNet's authors gave it out (Badrinarayanan et al., 2017): 11 classes and void."""

from unet_jax.data import storage
from unet_jax.data.base import IGNORE
from unet_jax.data.layouts.base import Found, Given, Layout
from unet_jax.data.layouts.patterns import find_patterns
from unet_jax.data.storage import AnyPath

CLASS_NAMES = (
    *("sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car"),
    *("pedestrian", "bicyclist"),
)
VALUES = {**{k: k for k in range(len(CLASS_NAMES))}, len(CLASS_NAMES): IGNORE}
_VIDEOS = ("0001TP_", "0006R0_", "0016E5_", "Seq05VD_")


def _fits(root: AnyPath) -> bool:
    if not all(storage.is_folder(root / name) for name in ("train", "trainannot")):
        return False
    return any(entry.name.startswith(_VIDEOS) for entry in storage.entries(root / "trainannot"))


def _find(root: AnyPath, given: Given) -> Found:
    files = given._replace(images="{split}/{name}.*", masks="{split}annot/{name}.png")
    return find_patterns(root, files)._replace(class_names=CLASS_NAMES, values=VALUES)


CAMVID = Layout(_fits, _find, "train/NAME.png, trainannot/NAME.png of 11 classes, 11 is void")
