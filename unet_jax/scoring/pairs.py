"""Which predicted mask belongs to which true one, by the names of their files."""

import os
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path, PurePath
from typing import NamedTuple

from unet_jax.data import storage
from unet_jax.data.by_class import BESIDE
from unet_jax.data.files import list_images, say_once
from unet_jax.data.layouts.matching import is_pattern, match, parse
from unet_jax.data.storage import AnyPath
from unet_jax.errors import UserError

PREDICTIONS, TRUTH, FIELD = "--predictions", "--truth", "--field_of_view"
_SHOWN = 5  # names that an error lists
Files = dict[str, AnyPath]


class Pair(NamedTuple):
    """The masks of one image.

    Attributes:
        id: Its name.
        prediction: The file, or one for every class where classes may overlap.
        truth: Likewise.
        field: The file that is black outside the field of view; None where all pixels are inside.
    """

    id: str
    prediction: tuple[AnyPath, ...]
    truth: tuple[AnyPath, ...]
    field: AnyPath | None = None


def find_pairs(
    predictions: str,
    truth: str,
    field_of_view: str = "",
    *,
    suffix: str = "",
    layers: Sequence[str] = (),
    names: Collection[str] | None = None,
) -> list[Pair]:
    """Pairs the files of two folders by their names; nothing but names is read.

    A name is the path below the folder, without what stands behind the last dot. Each of the three
    may also be a pattern, such as "DRIVE/test/1st_manual/{name}_manual1.gif": then the letters that
    its placeholders stand for are the name; * stands for any. What `--mode=predict` writes
    beside its masks, such as NAME_overlay.png, is passed over; see `by_class.BESIDE`.

    Args:
        predictions: Folder of the predicted masks, or pattern.
        truth: Likewise of the true ones.
        field_of_view: Likewise of the files that are black outside the field of view; "" for none.
        suffix: What a true mask's name has behind that of its image, as
            config.data.folder.mask_suffix; a predicted one's may have it.
        layers: Names of the classes that have a mask each, NAME_CLASS.png; () for one mask of all.
        names: Those that count, which both must have, whatever others there are; None for all.

    Returns:
        The pairs, by name; one or more.

    Raises:
        UserError: A folder is missing or empty, a file has no partner, or two have one name.
    """
    true = _by_image(_without(_list(truth, TRUTH), suffix, TRUTH), layers, TRUTH)
    found = _list(predictions, PREDICTIONS)
    masks = {n: file for n, file in found.items() if n in true or not _is_beside(n, true, found)}
    guessed = _by_image(_without(masks, suffix, PREDICTIONS, must=False), layers, PREDICTIONS)
    if names is not None:
        true, guessed = (
            _named(files, names, flag) for files, flag in ((true, TRUTH), (guessed, PREDICTIONS))
        )
    _check_partners(true, guessed, TRUTH, PREDICTIONS)
    _check_partners(guessed, true, PREDICTIONS, TRUTH)
    fields = _list(field_of_view, FIELD) if field_of_view else {}
    if field_of_view:
        _check_partners(true, {name: (file,) for name, file in fields.items()}, TRUTH, FIELD)
    pairs = [Pair(name, guessed[name], true[name], fields.get(name)) for name in sorted(true)]
    for pair in pairs:
        for one, other in zip(pair.prediction, pair.truth, strict=True):
            if _is_one(one, other):
                raise UserError(
                    f"{PREDICTIONS}={predictions} and {TRUTH}={truth} lead to one file, {other}, "
                    "so that masks would be their own truth; give two folders."
                )
    return pairs


def _is_beside(name: str, *masks: Collection[str]) -> bool:
    """Tells whether a prediction left a file beside one of these masks."""
    stem, _, end = name.rpartition("_")
    return end in BESIDE and any(stem in names for names in masks)


def _named(
    files: Mapping[str, tuple[AnyPath, ...]], names: Collection[str], flag: str
) -> dict[str, tuple[AnyPath, ...]]:
    """Returns the masks of some names, all of which must be there."""
    if missing := sorted(name for name in names if name not in files):
        raise UserError(
            f"{flag} lacks {len(missing)} of {len(names)} masks: {_some(missing)}. There the first "
            f"is {min(files)!r}; add them, or give a pattern, such as 'masks/{{name}}_mask.png'."
        )
    return {name: files[name] for name in names}


def _list(text: str, flag: str) -> Files:
    """Returns the files of a folder, or those that a pattern matches, by name."""
    if not text:
        raise UserError(f"{flag} is missing; give a folder of masks.")
    root = storage.as_path(text, flag)
    if not is_pattern(text) or storage.is_folder(root):
        return list_images(root, flag)
    parts = PurePath(root).parts
    first = next(i for i, part in enumerate(parts) if is_pattern(part))
    pattern = parse("/".join(parts[first:]), flag)
    if not pattern.names:
        raise UserError(
            f"{flag}={text} has no placeholder for the name of an image; write {{name}} where it "
            "is, such as 'masks/{name}_mask.png'."
        )
    above = Path(*parts[:first]) if isinstance(root, Path) else type(root)(*parts[:first])
    if not storage.is_folder(above):
        raise UserError(f"{flag}={text}: {above} is not a folder.")
    files: Files = {}
    for one in match(above, pattern)[0]:
        name = "/".join(one.values[key] for key in sorted(pattern.names))
        if name in files:
            raise UserError(f"{flag}={text} matches {files[name]} and {one.file} for {name!r}.")
        files[name] = one.file
    if not files:
        raise UserError(f"{flag}={text} matches no file in {above}.")
    return files


def _without(files: Files, suffix: str, flag: str, *, must: bool = True) -> Files:
    """Returns files by their names without a suffix; those that must have it and lack it go."""
    if not suffix:
        return files
    found: Files = {}
    others = []
    for name, file in files.items():
        if must and not name.endswith(suffix):
            others.append(file)
            continue
        short = name.removesuffix(suffix)
        if short in found:
            raise UserError(
                f"{flag}: {found[short]} and {file} have the same name but for "
                f"config.data.folder.mask_suffix={suffix!r}; rename one of them."
            )
        found[short] = file
    if not found:
        raise UserError(
            f"{flag}: none of the {len(files)} files has config.data.folder.mask_suffix="
            f"{suffix!r} at the end of its name, such as {others[0]}; change it."
        )
    if others:
        say_once(
            f"{flag}: {len(others)} without config.data.folder.mask_suffix={suffix!r} passed over, "
            f"such as {others[0].name}"
        )
    return found


def _by_image(files: Files, layers: Sequence[str], flag: str) -> Mapping[str, tuple[AnyPath, ...]]:
    """Returns the mask of every image, or those of its classes in their order."""
    if not layers:
        return {name: (file,) for name, file in files.items()}
    ends = {f"_{unicodedata.normalize('NFC', name)}": name for name in layers}
    found: dict[str, dict[str, AnyPath]] = {}
    for name, file in files.items():
        end = max((end for end in ends if name.endswith(end)), key=len, default="")
        if not end:
            raise UserError(
                f"{flag}: {file} is of no class; where classes may overlap, each has a mask "
                f"NAME_CLASS.png, of {', '.join(layers)}. Rename or remove it, or change "
                "config.data.folder.class_names."
            )
        found.setdefault(name.removesuffix(end), {})[ends[end]] = file
    for name, own in found.items():
        if missing := [layer for layer in layers if layer not in own]:
            raise UserError(
                f"{flag}: {name!r} has no mask of {_some(missing)}, beside "
                f"{next(iter(own.values()))}; add NAME_CLASS.png, with 0 everywhere where there is "
                "nothing of the class."
            )
    return {name: tuple(own[layer] for layer in layers) for name, own in found.items()}


def _check_partners(
    here: Mapping[str, tuple[AnyPath, ...]],
    there: Mapping[str, tuple[AnyPath, ...]],
    flag: str,
    other: str,
) -> None:
    """Checks that each name of one folder is in the other one."""
    if alone := sorted(here.keys() - there.keys()):
        raise UserError(
            f"{len(alone)} of {len(here)} masks of {flag} have no partner of the same name in "
            f"{other}: {_some(alone)}. There the first is {min(there)!r}. Add or remove files, or "
            "where names differ, give patterns, such as --truth='masks/{name}_mask.png'."
        )


def _some(names: Sequence[str]) -> str:
    """Joins the first few of some names."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more}"


def _is_one(one: AnyPath, other: AnyPath) -> bool:
    if isinstance(one, Path) and isinstance(other, Path):
        return os.path.exists(one) and os.path.exists(other) and os.path.samefile(one, other)
    return one == other
