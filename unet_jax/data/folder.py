"""A user's own images and masks in folders."""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from unet_jax.data import storage
from unet_jax.data.base import Dataset, PairSource, pick
from unet_jax.data.class_lists import find_class_list
from unet_jax.data.exclude import Exclusion, UnpairedError
from unet_jax.data.files import FilePairs, list_images, read_list, say_once
from unet_jax.data.labels import Labels, make_labels, make_reader
from unet_jax.data.layouts import find_pairs
from unet_jax.data.layouts.base import SPLIT_WORDS, Found, Given
from unet_jax.data.parts import Part, files_of
from unet_jax.data.sample import Source
from unet_jax.data.split_rules import NO_RULES, Rules
from unet_jax.data.splits import (
    Facts,
    check_whole,
    find_facts,
    groups_of,
    say_val,
    take_share,
    take_val,
)
from unet_jax.data.storage import AnyPath
from unet_jax.errors import UserError
from unet_jax.process.regular import LARGEST
from unet_jax.task import BACKGROUND, IGNORE

SPLITS = ("train", "val", "test")
_HOW = "write one name a line, as a path below the folder of the images, with or without suffix"

INSTANCES = "config.data.folder.instances=True"


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
    label_map: tuple[tuple[Any, int], ...] = (),
    ignore_values: tuple[Any, ...] = (),
    nearest: bool = False,
    instances: bool = False,
    weight: str = "",
    layout: str = "",
    test_fraction: float = 0.0,
    lists: str = "",
    exclude: tuple[str, ...] = (),
    ignore_masks: str = "",
    largest_file: int = LARGEST,
    kept: Mapping[str, Iterable[str]] | None = None,
    rules: Rules = NO_RULES,
) -> Dataset:
    """Opens PATH/images/NAME.jpg with PATH/masks/NAME.png, or NAME_CLASS.png; reads names.

    Where `images` and `masks` are left at their defaults and PATH has no such folders, its layout
    is recognised by the names in it, and said; `layout` names it instead. `images` and `masks` may
    also be patterns that pair files, such as "{split}/{name}.jpg" and "{split}_masks/{name}.png": a
    placeholder stands for the same letters wherever it is, * for any, neither for "/"; {split} says
    which split an image belongs to (train, training, val, valid, validation, test or testing).
    Several patterns for `images`, with a comma between them, name the files whose channels are one
    image; patterns that end with /{page} stand for the pages of files, of which the last fifth is
    for validation.

    Where PATH/train.txt, val.txt or test.txt are there, they list the names of a split, one a line,
    as paths below the folder of the images, with or without suffix. Without train.txt, the
    images that no list names are for training; with it, they are left out. Lists count more than
    folders of splits below the images' (images/train/NAME.jpg); layouts and patterns that say the
    splits read those of `lists` alone. Of the training images, shares are split off for test and
    validation where nothing says which these are.

    Args:
        path: The directory; gs://BUCKET/FOLDER and s3://BUCKET/FOLDER are read through etils.epath.
        val_fraction: Share of the training images kept for validation.
        split_seed: Of the splits.
        images: Folder of the images, below `path`, or a pattern.
        masks: Folder of the masks, below `path`, or a pattern.
        mask_suffix: What a mask's name has after the image's (by class after the class), such
            as "_mask".
        by_class: Whether there is a mask for every class of an image, NAME_CLASS.png, 0 where the
            class is not, so that classes may overlap. It goes with config.task.kind="multilabel".
        class_names: K names; the mask value k is class k. () for those of a layout that has its
            own, or of class_dict.csv or labelmap.txt in PATH, which name the colours too where
            nothing here does.
        label_map: (mask value, class id) pairs; with them, values that are not named are errors.
            Several values may share a class. A value may be a range, such as "1-255"; or all may
            be colours (red, green, blue), by which masks are then read, whatever their palettes.
        ignore_values: Mask values (or ranges, or colours) of pixels that count neither in the loss
            nor in the scores.
        nearest: Whether a value or colour that is not named counts as the nearest one that is, for
            masks that JPEG or soft edges changed; the smaller value, or the colour named first,
            where two are as near.
        instances: Whether a mask's values number objects, each one that `label_map` makes a class
            other than the background: then objects that touch have a border between them, for the
            border weights of the loss. Elsewhere objects are what is connected.
        weight: With patterns, that of the files that are black where pixels count neither in the
            loss nor in the scores, such as fields of view; one file may be for several images.
        layout: Name of the layout, one of those in `layouts.LAYOUTS`; "" to recognise it.
        test_fraction: Share of the training images kept for the test; of the pages of a file, the
            last ones, and the last fifth of those before them for validation.
        lists: Folder of the lists: below `path`, or anywhere where it begins with / or ~ or is
            remote; "" for `path` itself.
        exclude: Images that are left out of every split: ids, or ends of paths of images or masks,
            in which * stands for any letters but "/". Also a file without a partner, or one of two
            that share a name, can be left out.
        ignore_masks: Folder of images that are black where pixels of a label count neither in the
            loss nor in the scores, each of the name of the id that it is for, such as an audit of
            labels writes; labels of other ids count whole. Where it lies is as for `lists`.
        largest_file: MiB of the largest file that is read.
        kept: Ids by split of a run that keeps its own splits; see `sources.open_data`.
        rules: Folds, groups and strata. With folds, images for training and for validation are
            dealt to them together, whatever says which these are.

    Returns:
        The splits.

    Raises:
        UserError: Something is missing or does not fit.
    """
    if not 0 <= test_fraction < 1:
        raise UserError(f"config.data.folder.test_fraction={test_fraction} must be in [0, 1).")
    if instances and by_class:
        raise UserError(
            f"{INSTANCES} is for masks of one class a pixel; set it or by_class to False."
        )
    root = _open_root(path, images, masks)
    is_open = not (class_names or label_map or ignore_values or by_class)
    if is_open and (listed := find_class_list(root)):
        class_names, label_map, ignore_values = listed
    default = (0, 255) if by_class else range(len(class_names))
    reader = make_reader(label_map, ignore_values, default, nearest=nearest)
    layers = class_names if by_class else ()
    exclusion = Exclusion(exclude)
    given = Given(
        *(images, masks, mask_suffix, weight, layers, class_names, reader, largest_file, exclusion)
    )
    if class_names or by_class:  # what is wrong with them is told before any folder is listed
        make_labels(class_names, label_map, ignore_values, by_class=by_class)
    given = given._replace(must_match=kept is None, test_fraction=test_fraction)
    found = find_pairs(root, layout, given)
    if ignore_masks:
        found = found._replace(pairs=_ignoring(found.pairs, root, ignore_masks))
    files = [[one for image in pair for one in files_of(image)] for pair in found.pairs.files]
    named = zip(found.pairs.ids, files, strict=True)
    out = {i for i, (name, paths) in enumerate(named) if exclusion.has(name, *paths)}
    labels = _labels(found, class_names, label_map, ignore_values, by_class=by_class)
    if instances:
        _check_instances(labels)
    split_by = ""
    if kept is None:
        splits = _begin_splits(found, _listed(found, root, lists, exclusion), rules)
        exclusion.check_used()
        splits = {name: [i for i in of if i not in out] for name, of in splits.items()}
        used = sorted({index for indices in splits.values() for index in indices})
        images_used = PairSource(found.pairs, used, labels.values, by_class=by_class)
        facts = find_facts(rules, images_used, _positions(found.pairs), path, _names(found))
        split_by = _draw(facts, splits, val_fraction, test_fraction, split_seed)
        check_whole(facts, splits)
        place = root / images if storage.is_folder(root / images) else root
        _say_left_out(found.pairs.ids, splits, place, out)
        if exclude:
            names = sorted(exclusion.names)
            say_once(
                f"{root}: {len(names)} left out by config.data.folder.exclude, such as {names[0]}"
            )
    else:
        splits = {split: pick(found.pairs.ids, names) for split, names in kept.items()}
    make = functools.partial(PairSource, by_class=by_class, instances=instances)
    sources = _sources(make, found.pairs, splits, labels.values)
    grouping = functools.partial(_groups, found, rules, path)
    return Dataset(
        sources, labels.class_names, by_class=by_class, split_by=split_by, grouping=grouping
    )


def _groups(found: Found, rules: Rules, path: str, source: Source) -> list[str]:
    """Returns the groups of a split's images; without a rule, pages of a stack are one group."""
    assert isinstance(source, PairSource)
    if rules.grouping():
        return groups_of(rules, source, _positions(found.pairs), path, _names(found))
    images = [found.pairs.files[index][0] for index in source.indices]
    stacks = [x.files[0] for x in images if isinstance(x, Part) and x.page is not None]
    return [str(stack) for stack in stacks] if len(stacks) == len(images) else []


def _ignoring(pairs: FilePairs, root: AnyPath, text: str) -> FilePairs:
    """Adds to pairs the files that say which of their pixels do not count."""
    key = "config.data.folder.ignore_masks"
    folder = storage.below(root, text, key)
    weights = list_images(folder, key)
    if not weights.keys() & set(pairs.ids):
        raise UserError(
            f"{key}={text!r} holds no file for any image: its first is for {next(iter(weights))!r} "
            f"and the first image is {pairs.ids[0]!r}; name the files by the ids of the images."
        )
    say_once(f"{folder}: parts of {len(weights.keys() & set(pairs.ids))} labels are ignored")
    return pairs.weighed(weights)


def _listed(found: Found, root: AnyPath, lists: str, exclusion: Exclusion) -> dict[str, list[int]]:
    """Returns the splits that lists name, or else the layout."""
    folder, listed = _lists_folder(root, lists), {}
    if lists or found.reads_lists:
        listed = _read_lists(folder, found.pairs, exclusion)
    named = {n: pick(found.pairs.ids, found.splits[n]) for n in SPLITS if n in found.splits}
    return listed or named


def _names(found: Found) -> list[str]:
    """Returns the names of images without the part that says their split.

    So a patient with images in train/ and in val/ is one group.
    """
    names = []
    for name in found.pairs.ids:
        parts = name.split("/")
        word = next((part for part in parts if part.lower() in SPLIT_WORDS), "")
        if found.splits and word and len(parts) > 1:
            parts.remove(word)
        names.append("/".join(parts))
    return names


def _begin_splits(
    found: Found, listed: Mapping[str, list[int]], rules: Rules
) -> dict[str, list[int]]:
    """Returns the splits that are listed, and all that others are drawn from as "train"."""
    splits = dict(listed)
    val = splits.pop("val", []) if rules.folds else []
    if "train" in splits:
        splits["train"] = [*splits["train"], *val]
    else:
        rest = {*range(len(found.pairs.ids))}.difference(*splits.values())
        splits["train"] = sorted(rest)
    return splits


def _open_root(path: str, images: str, masks: str) -> AnyPath:
    root = storage.as_path(path, "config.data.path")
    if not path or not storage.is_folder(root):
        raise UserError(
            f"config.data.path={path!r} is not a directory; give the one that holds "
            f"{images}/ and {masks}/."
        )
    return root


def _sources(
    make: Callable[..., PairSource],
    pairs: FilePairs,
    splits: Mapping[str, list[int]],
    values: dict[int, int],
) -> dict[str, PairSource]:
    used = {pairs.ids[index] for indices in splits.values() for index in indices}
    return {name: make(pairs, indices, values, used=used) for name, indices in splits.items()}


def _check_instances(labels: Labels) -> None:
    """Checks that the values of masks can number objects."""
    of_classes = [k for k in labels.values.values() if k not in (BACKGROUND, IGNORE)]
    if len(of_classes) == len(set(of_classes)):
        raise UserError(
            f"{INSTANCES} needs masks of several values for a class, one for each object; "
            f"config.data.folder.label_map names {len(of_classes)} for as many classes: name a "
            "range, such as ((0, 0), ('1-65535', 1)), or set it to False."
        )


def _labels(
    found: Found,
    class_names: tuple[str, ...],
    label_map: tuple[Any, ...],
    ignore_values: tuple[Any, ...],
    *,
    by_class: bool,
) -> Labels:
    """Makes the meaning of masks; what the config names counts more than the layout's own."""
    own = len(found.class_names)
    if own and class_names and len(class_names) != own and not label_map:
        raise UserError(
            f"config.data.folder.class_names={class_names} has {len(class_names)} names, and "
            f"the masks of this layout {own} classes ({', '.join(found.class_names)}); give "
            "() for these, as many names, or config.data.folder.label_map too."
        )
    names, values = class_names or found.class_names, found.values
    return make_labels(names, label_map, ignore_values, by_class=by_class, values=values)


def _lists_folder(root: AnyPath, lists: str) -> AnyPath:
    folder = storage.below(root, lists, "config.data.folder.lists") if lists else root
    names = [f"{split}.txt" for split in SPLITS]
    if lists and not any(storage.has_file(folder / name) for name in names):
        raise UserError(
            f"config.data.folder.lists={lists!r}: {folder} holds no {', '.join(names)}; give the "
            "folder that does."
        )
    return folder


def _read_lists(folder: AnyPath, pairs: FilePairs, exclusion: Exclusion) -> dict[str, list[int]]:
    """Reads the lists that are there: indices of images by split."""
    position = _positions(pairs)
    owner: dict[int, AnyPath] = {}
    listed: dict[str, list[int]] = {}
    for split in SPLITS:
        file = folder / f"{split}.txt"
        if not storage.has_file(file):
            continue
        listed[split], missing = [], []
        for name in read_list(file, known=position):
            found = position.get(name) or position.get(PurePosixPath(name).as_posix(), [])
            if not found:
                missing += [] if exclusion.has_name(name) else [name]
                continue
            if len(found) > 1:
                raise UserError(f"{file} names {name!r}, but there are two such images; {_HOW}.")
            (index,) = found
            if index in owner:
                raise UserError(f"{name!r} is in {owner[index]} and in {file}; leave it in one.")
            owner[index] = file
            listed[split].append(index)
        if missing:
            raise UnpairedError(
                f"{file} names {missing[0]!r}, but there is no such image; {_HOW}, or name it in "
                f"config.data.folder.exclude ({len(missing)} such names).",
                missing,
            )
    return listed


def _positions(pairs: FilePairs) -> dict[str, list[int]]:
    """Returns the indices of the images that a name in a list may mean."""
    position: dict[str, list[int]] = {}
    for index, (name, (image, *_)) in enumerate(zip(pairs.ids, pairs.files, strict=True)):
        for text in (name, f"{name}{image.suffix}"):
            position.setdefault(text, []).append(index)
    return position


def _say_left_out(
    ids: Sequence[str], splits: Mapping[str, list[int]], images: AnyPath, out: set[int]
) -> None:
    used = {index for indices in splits.values() for index in indices} | out
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
    says = [f"{name} as given" for name in SPLITS if name in splits and name != "train"]
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
