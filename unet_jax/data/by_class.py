"""Masks of classes that may overlap: a file for every class of an image, NAME_CLASS.png."""

import unicodedata
from collections.abc import Callable, Mapping, Sequence

from unet_jax.data.exclude import UnpairedError
from unet_jax.data.formats.base import MOST_VALUE
from unet_jax.data.storage import AnyPath
from unet_jax.errors import UserError
from unet_jax.task import IGNORE

_KEY = "config.data.folder"
_NOT_IN_NAMES = "/\\\0"
OVERLAY = "overlay"  # the other file that a prediction leaves beside the masks
BESIDE = (OVERLAY, "ids", "colours", "probability", "entropy", "disagreement")
"""Files that it may leave there, such as NAME_ids.png, which are images to other commands."""


def mask_name(image: str, class_name: str, suffix: str = "") -> str:
    """Returns the name, without ending, of the mask of one class of an image."""
    return unicodedata.normalize("NFC", f"{image}_{class_name}{suffix}")


def values_by_class(
    class_names: Sequence[str], label_map: Sequence[object], ignore_values: Sequence[int]
) -> dict[int, int]:
    """Makes the meaning of the values of a mask of one class: 0 is off, all others are on.

    Args:
        class_names: K names.
        label_map: () since there are no ids to map.
        ignore_values: Values of pixels that count neither in the loss nor in the scores.

    Returns:
        0, 1 or `IGNORE` by value.

    Raises:
        UserError: A name cannot be a part of a file's name, or there is a label map.
    """
    for name in class_names:
        if not name or set(name) & set(_NOT_IN_NAMES) or name.casefold() == OVERLAY:
            raise UserError(
                f"{_KEY}.class_names has {name!r}, which cannot be a part of a file's name as "
                f"{_KEY}.by_class=True has them, such as NAME_disk.png, and as no other file has "
                f"(NAME_{OVERLAY}.png); give another name."
            )
    if label_map:
        raise UserError(
            f"{_KEY}.label_map={label_map} has no effect with {_KEY}.by_class=True, where 0 is off "
            "and every other value on; leave it empty."
        )
    return {0: 0, **dict.fromkeys(range(1, MOST_VALUE + 1), 1)} | dict.fromkeys(
        ignore_values, IGNORE
    )


def match_masks(
    images: Mapping[str, AnyPath],
    masks: Mapping[str, AnyPath],
    class_names: Sequence[str],
    suffix: str,
    is_out: Callable[[str, AnyPath], bool],
    *,
    must_match: bool,
) -> dict[str, tuple[AnyPath, ...]]:
    """Finds the masks of every image.

    Args:
        images: Files by id.
        masks: Likewise.
        class_names: K names.
        suffix: What the name of a mask has behind that of its class.
        is_out: Tells of an image without all its masks, or of a mask without an image, by name and
            file, whether it is left out.
        must_match: Whether an image without all its masks, or a mask without an image, is an error;
            else both are left out.

    Returns:
        By id of an image, its file and those of its K masks.

    Raises:
        UserError: A mask, or the image of one, is missing, or a file would be the mask of two.
    """
    wanted: dict[str, tuple[str, str]] = {}
    for image in images:
        for class_name in class_names:
            name = mask_name(image, class_name, suffix)
            if name in wanted and name in masks:
                (one, first), other = wanted[name], class_name
                raise UserError(
                    f"{masks[name]} would be the mask of class {first!r} of {one} and of class "
                    f"{other!r} of {image}; rename one of the images."
                )
            wanted[name] = image, class_name
    missing = [
        n for n in wanted if n not in masks and not is_out(wanted[n][0], images[wanted[n][0]])
    ]
    if missing and must_match:
        image, class_name = wanted[missing[0]]
        raise UnpairedError(
            f"{len(missing)} of the {len(wanted)} masks of {len(images)} images are missing, the "
            f"first is that of class {class_name!r} of {images[image]}: add {missing[0]}.png to "
            "the masks, with 0 everywhere where there is nothing of the class, or change "
            f"{_KEY}.class_names, {_KEY}.mask_suffix or {_KEY}.by_class=True.",
            list(dict.fromkeys(images[wanted[name][0]] for name in missing)),
        )
    alone = [f for name, f in masks.items() if name not in wanted and not is_out(name, f)]
    if alone and must_match:
        raise UnpairedError(
            f"{len(alone)} of {len(masks)} masks are of no image or of no class, the first is "
            f"{alone[0]}; with {_KEY}.by_class=True a mask is NAME_CLASS{suffix}.png, of one of "
            f"{', '.join(class_names)}. Rename or remove it, or change {_KEY}.class_names.",
            alone,
        )
    whole: dict[str, tuple[AnyPath, ...]] = {}
    for image, file in images.items():
        names = [mask_name(image, class_name, suffix) for class_name in class_names]
        if all(name in masks for name in names):
            whole[image] = (file, *(masks[name] for name in names))
    return whole
