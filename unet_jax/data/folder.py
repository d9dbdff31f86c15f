"""A user's own images and masks in folders."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath

from unet_jax.data import storage
from unet_jax.data.base import IGNORE, Dataset, PairSource, pick
from unet_jax.data.by_class import match_masks, values_by_class
from unet_jax.data.files import FilePairs, list_images, read_list, say_once
from unet_jax.data.splits import (
    NO_RULES,
    Facts,
    Rules,
    check_whole,
    find_facts,
    say_val,
    take_share,
    take_val,
)
from unet_jax.data.storage import AnyPath
from unet_jax.errors import UserError
from unet_jax.process.regular import LARGEST

SPLITS = ("train", "val", "test")


def open_folder(
    path: str,
    val_fraction: float,
    split_seed: int,
    *,
    images: str = "images",
    masks: str = "masks",
    mask_suffix: str = "",
    by_class: bool = False,
    class_names: tuple[str, ...] = (),
    label_map: tuple[tuple[int, int], ...] = (),
    ignore_values: tuple[int, ...] = (),
    test_fraction: float = 0.0,
    lists: str = "",
    largest_file: int = LARGEST,
    kept: Mapping[str, Iterable[str]] | None = None,
    rules: Rules = NO_RULES,
) -> Dataset:
    """Opens PATH/images/NAME.jpg with PATH/masks/NAME.png, or NAME_CLASS.png; reads names.

    Where PATH/train.txt, val.txt or test.txt are there, they list the names of a split, one a line,
    as paths below the folder of the images, with or without suffix. Without train.txt, the
    images that no list names are for training; with it, they are left out. Of the training
    images, shares are split off for test and validation where those have no list.

    Args:
        path: The directory; gs://BUCKET/FOLDER and s3://BUCKET/FOLDER are read through etils.epath.
        val_fraction: Share of the training images kept for validation.
        split_seed: Of the splits.
        images: Folder of the images, below `path`.
        masks: Folder of the masks, below `path`.
        mask_suffix: What a mask's name has after the image's (by class after the class), such
            as "_mask".
        by_class: Whether there is a mask for every class of an image, NAME_CLASS.png, 0 where the
            class is not, so that classes may overlap. It goes with config.task.kind="multilabel".
        class_names: K names; the mask value k is class k.
        label_map: (mask value, class id) pairs; with them, values that are not named are errors.
        ignore_values: Mask values of pixels that count neither in the loss nor in the scores.
        test_fraction: Share of the training images kept for the test.
        lists: Folder of the lists: below `path`, or anywhere where it begins with / or ~ or is
            remote; "" for `path` itself.
        largest_file: MiB of the largest file that is read.
        kept: Ids by split of a run that keeps its own splits; see `sources.open_data`.
        rules: Folds, groups and strata.

    Returns:
        The splits.

    Raises:
        UserError: Something is missing or does not fit.
    """
    if not 0 <= test_fraction < 1:
        raise UserError(f"config.data.folder.test_fraction={test_fraction} must be in [0, 1).")
    root = _open_root(path, images, masks)
    values = _label_map(class_names, label_map, ignore_values, by_class=by_class)
    layers, must_match = class_names if by_class else (), kept is None
    pairs = _pairs(root, images, masks, mask_suffix, layers, largest_file, must_match=must_match)
    split_by = ""
    if kept is None:
        given = _lists_folder(root, lists)
        listed = _read_lists(given, pairs)
        if rules.folds and "val" in listed:
            raise UserError(
                f"config.data.folds={rules.folds} draws the val split, which {given / 'val.txt'} "
                "lists; set config.data.folds=0, or take the list out."
            )
        rest = {*range(len(pairs.ids))}.difference(*listed.values())
        splits = {**listed, "train": listed.get("train", sorted(rest))}
        taking = sorted({index for indices in splits.values() for index in indices})
        images_of = PairSource(pairs, taking, values, by_class=by_class)
        facts = find_facts(rules, images_of, _positions(pairs), path)
        split_by = _draw(facts, splits, val_fraction, test_fraction, split_seed)
        check_whole(facts, splits)
        _say_left_out(pairs.ids, splits, root / images)
    else:
        splits = {split: pick(pairs.ids, names) for split, names in kept.items()}
    sources = _sources(pairs, splits, values, by_class=by_class)
    return Dataset(sources, tuple(class_names), by_class=by_class, split_by=split_by)


def _open_root(path: str, images: str, masks: str) -> AnyPath:
    root = storage.as_path(path, "config.data.path")
    if not path or not storage.is_folder(root):
        raise UserError(
            f"config.data.path={path!r} is not a directory; give the one that holds "
            f"{images}/ and {masks}/."
        )
    return root


def _sources(
    pairs: FilePairs, splits: Mapping[str, list[int]], values: dict[int, int], *, by_class: bool
) -> dict[str, PairSource]:
    used = {pairs.ids[index] for indices in splits.values() for index in indices}
    return {
        name: PairSource(pairs, indices, values, used=used, by_class=by_class)
        for name, indices in splits.items()
    }


def _pairs(
    root: AnyPath,
    images: str,
    masks: str,
    mask_suffix: str,
    layers: tuple[str, ...],
    largest: int,
    *,
    must_match: bool,
) -> FilePairs:
    """Lists the images with their masks; `layers` are the classes that have one each, if so."""
    image_files = list_images(root / images, "config.data.path or config.data.folder.images")
    found = list_images(root / masks, "config.data.path or config.data.folder.masks")
    if storage.is_same(root / images, root / masks):
        raise UserError(
            f"config.data.folder.images={images!r} and config.data.folder.masks={masks!r} are one "
            "folder, so that images would be their own masks; give the masks a folder of their own."
        )
    if layers:
        whole = match_masks(image_files, found, layers, mask_suffix, must_match=must_match)
        return FilePairs(tuple(whole), list(whole.values()), largest)
    mask_of = {n.removesuffix(mask_suffix): f for n, f in found.items() if n.endswith(mask_suffix)}
    others = [file for name, file in found.items() if not name.endswith(mask_suffix)]
    for kind, here, there, other in (
        ("image", image_files, mask_of, f"{masks}/NAME{mask_suffix}.png"),
        ("mask", mask_of, image_files, f"{images}/NAME.jpg or .png"),
    ):
        alone = [file for name, file in here.items() if name not in there]
        if alone and must_match:
            partner = "mask" if kind == "image" else "image"
            raise UserError(
                f"{len(alone)} of {len(here)} {kind}s have no {partner}, the first is {alone[0]}; "
                f"add {other} of the same name, remove them, or change "
                "config.data.folder.mask_suffix."
            )
    if others:
        say_once(
            f"{root / masks}: {len(others)} without config.data.folder.mask_suffix={mask_suffix!r} "
            f"passed over, such as {others[0].name}"
        )
    whole = {name: (file, mask_of[name]) for name, file in image_files.items() if name in mask_of}
    return FilePairs(tuple(whole), list(whole.values()), largest)


def _label_map(
    class_names: tuple[str, ...],
    label_map: tuple[tuple[int, int], ...],
    ignore_values: tuple[int, ...],
    *,
    by_class: bool,
) -> dict[int, int]:
    count, least = len(class_names), 1 if by_class else 2
    are_texts = all(isinstance(name, str) for name in class_names)
    if not are_texts or not least <= count < IGNORE or len(set(class_names)) < count:
        raise UserError(
            f"config.data.folder.class_names={class_names} must be {least} to {IGNORE - 1} "
            "different names, one per class; the files of Oxford-IIIT Pet, which have their own, "
            "are those of config.data.source='pets'."
        )
    pairs = label_map or tuple((k, k) for k in range(count))
    for value in ignore_values:
        if type(value) is not int or value not in range(256):
            raise UserError(
                f"config.data.folder.ignore_values has {value!r}; each entry must be a mask value, "
                "0 to 255."
            )
    if by_class:
        return values_by_class(class_names, label_map, ignore_values)
    seen: dict[int, int] = {}
    for pair in pairs:
        if not (
            isinstance(pair, tuple)
            and [type(number) for number in pair] == [int, int]
            and pair[0] in range(256)
            and pair[1] in range(count)
        ):
            raise UserError(
                f"config.data.folder.label_map has {pair}; each entry must be (mask value 0 to "
                f"255, class id 0 to {count - 1})."
            )
        value, class_id = pair
        is_ignored = bool(label_map) and value in ignore_values
        if value in seen or is_ignored:
            other = f"class {seen[value]}" if value in seen else "config.data.folder.ignore_values"
            raise UserError(
                f"config.data.folder.label_map gives the mask value {value} to class {class_id} "
                f"and it is in {other} too; leave it in one place."
            )
        seen[value] = class_id
    return dict(pairs) | dict.fromkeys(ignore_values, IGNORE)


def _lists_folder(root: AnyPath, lists: str) -> AnyPath:
    folder = storage.below(root, lists, "config.data.folder.lists") if lists else root
    names = [f"{split}.txt" for split in SPLITS]
    if lists and not any(storage.has_file(folder / name) for name in names):
        raise UserError(
            f"config.data.folder.lists={lists!r}: {folder} holds no {', '.join(names)}; give the "
            "folder that does."
        )
    return folder


def _read_lists(folder: AnyPath, pairs: FilePairs) -> dict[str, list[int]]:
    """Reads the lists that are there: indices of images by split."""
    position = _positions(pairs)
    owner: dict[int, AnyPath] = {}
    listed: dict[str, list[int]] = {}
    for split in SPLITS:
        file = folder / f"{split}.txt"
        if not storage.has_file(file):
            continue
        listed[split] = []
        for name in read_list(file, known=position):
            found = position.get(name) or position.get(PurePosixPath(name).as_posix(), [])
            if len(found) != 1:
                raise UserError(
                    f"{file} names {name!r}, but there "
                    f"{'are two such images' if found else 'is no such image'}; write one name "
                    "a line, as a path below the folder of the images, with or without suffix."
                )
            (index,) = found
            if index in owner:
                raise UserError(f"{name!r} is in {owner[index]} and in {file}; leave it in one.")
            owner[index] = file
            listed[split].append(index)
    return listed


def _positions(pairs: FilePairs) -> dict[str, list[int]]:
    """Returns the indices of the images that a name in a list may mean."""
    position: dict[str, list[int]] = {}
    for index, (name, (image, *_)) in enumerate(zip(pairs.ids, pairs.files, strict=True)):
        for text in (name, f"{name}{image.suffix}"):
            position.setdefault(text, []).append(index)
    return position


def _say_left_out(ids: Sequence[str], splits: Mapping[str, list[int]], images: AnyPath) -> None:
    used = {index for indices in splits.values() for index in indices}
    left_out = [name for index, name in enumerate(ids) if index not in used]
    if left_out:
        say_once(f"{images}: {len(left_out)} in no list passed over, such as {left_out[0]}")


def _draw(
    facts: Facts,
    splits: dict[str, list[int]],
    val_fraction: float,
    test_fraction: float,
    seed: int,
) -> str:
    """Draws from the training images the splits that have no list; says how."""
    says = [f"{name} from a list" for name in SPLITS if name in splits and name != "train"]
    if "test" not in splits and test_fraction:
        key = "config.data.folder.test_fraction"
        parts = take_share(facts, splits["train"], test_fraction, seed, key)
        splits["train"], splits["test"] = parts
        says.append(f"test {test_fraction:g}")
    if "val" not in splits:
        parts = take_val(facts, splits["train"], val_fraction, seed + 1)
        splits["train"], splits["val"] = parts
        says.append(say_val(facts.rules, val_fraction))
    return f"{', '.join(says)}{facts.says}, seed {seed}"
