"""How images are split by the rules of a config: what each is, and which split it comes to."""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from unet_jax.data import storage
from unet_jax.data.base import PairSource
from unet_jax.data.split_rules import KEY, Rules
from unet_jax.data.splitting import deal, deal_groups, rank_sets, split_off, split_off_groups
from unet_jax.data.table import read_table
from unet_jax.errors import UserError
from unet_jax.process import records
from unet_jax.process.console import follow
from unet_jax.process.runtime import cache_dir
from unet_jax.process.whole import write_whole


class Facts(NamedTuple):
    """What the splits of some images depend on.

    Attributes:
        ids: Names of all N images.
        strata: A sortable value for each.
        groups: The group of each; () where each stands for itself.
        traits: What each has that groups are balanced by; () for nothing.
        rules: How they are split.
        says: Groups and strata in words, such as ", 7 groups by group_folders=1".
    """

    ids: Sequence[str]
    strata: Sequence[Any]
    groups: Sequence[str]
    traits: Sequence[Collection[str]]
    rules: Rules
    says: str


def find_facts(
    rules: Rules,
    images: PairSource,
    position: Mapping[str, Collection[int]],
    path: str,
    names: Sequence[str],
    strata: Sequence[Any] = (),
    strata_say: str = "",
) -> Facts:
    """Finds out what the splits of some images depend on.

    Args:
        rules: How they are split.
        images: Those that are in any split.
        position: Indices of the pairs that a name in a table may mean.
        path: The data's directory.
        names: Of all pairs, as a pattern or folders find groups in them.
        strata: Of all pairs, where no rule says what a group or a stratum is; () for none.
        strata_say: What these are.

    Returns:
        The facts of all pairs; of those in no split they mean nothing.

    Raises:
        UserError: The pattern, the folders, the table or a mask do not fit.
    """
    ids = {index: images.pairs.ids[index] for index in images.indices}
    count = len(images.pairs.ids)
    values = _read_columns(rules, rules.columns(), ids, position, path)
    groups = _find_groups(rules, ids, names, values)
    kinds: dict[int, list[str]] = {index: [] for index in ids}
    says = [f"{len(set(groups.values()))} groups by {rules.grouping()}"] if groups else []
    if rules.stratify_column:
        says.append(f"strata by {rules.stratify_column}")
        for index in ids:
            kinds[index].append(f"{rules.stratify_column} {values[index][-1]}")
    if rules.stratify_classes:
        says.append("strata by the classes of each image")
        for index, held in zip(ids, _held_classes(images), strict=True):
            kinds[index] += [f"class {k}" for k in held]
    is_given = bool(strata) and not rules.is_set()
    if is_given:
        says.append(f"strata by {strata_say}")
    elif rules.stratify_classes or rules.stratify_column:
        ranks = dict(zip(ids, rank_sets(list(kinds.values())), strict=True))
        strata = [ranks.get(index, 0) for index in range(count)]
    else:
        strata = [""] * count
    has_traits = bool(groups) and any(kinds.values())
    return Facts(
        images.pairs.ids,
        strata,
        [groups.get(index, "") for index in range(count)] if groups else (),
        [kinds.get(index, []) for index in range(count)] if has_traits else (),
        rules,
        "".join(f", {part}" for part in says),
    )


def groups_of(
    rules: Rules,
    images: PairSource,
    position: Mapping[str, Collection[int]],
    path: str,
    names: Sequence[str],
) -> list[str]:
    """Finds the groups of the images of a split, also of one that a run keeps.

    Args:
        rules: What a group is.
        images: The split.
        position: See `find_facts`.
        path: Likewise.
        names: Likewise.

    Returns:
        The group of every image; [] where each stands for itself.

    Raises:
        UserError: The pattern, the folders or the table do not fit.
    """
    if not rules.grouping():
        return []
    ids = {index: images.pairs.ids[index] for index in images.indices}
    columns = (rules.group_column,) if rules.group_column else ()
    values = _read_columns(rules, columns, ids, position, path)
    found = _find_groups(rules, ids, names, values)
    return [found[index] for index in images.indices]


def _read_columns(
    rules: Rules,
    columns: Sequence[str],
    ids: Mapping[int, str],
    position: Mapping[str, Collection[int]],
    path: str,
) -> dict[int, tuple[str, ...]]:
    """Reads columns of the table for some images; {} of none."""
    if not columns:
        return {}
    file = storage.below(storage.as_path(path, "config.data.path"), rules.table, f"{KEY}.table")
    return read_table(file, rules.name_column, columns, position, ids)


def _find_groups(
    rules: Rules,
    ids: Mapping[int, str],
    names: Sequence[str],
    values: Mapping[int, tuple[str, ...]],
) -> dict[int, str]:
    """Returns the group of every image; {} where each stands for itself."""
    if not rules.grouping():
        return {}
    if rules.group_column:
        return {index: values[index][0] for index in ids}
    if rules.group_folders:
        found = {index: _folders(names[index], rules.group_folders) for index in ids}
        lack = "lie in fewer folders than that"
    else:
        found = {index: _matched(names[index], rules.group_pattern) for index in ids}
        lack = "have no such part in their names"
    without = [ids[index] for index, group in found.items() if not group]
    if without:
        raise UserError(
            f"{KEY}.{rules.grouping()}: {len(without)} of {len(ids)} images {lack}, the first is "
            f"{without[0]!r}; change it so that every image has a group."
        )
    return found


def _folders(name: str, depth: int) -> str:
    folders = name.split("/")[:-1]
    return "/".join(folders[:depth]) if len(folders) >= depth else ""


def _matched(name: str, pattern: str) -> str:
    found = re.search(pattern, name)
    if not found:
        return ""
    parts = found.groups() or (found[0],)
    return "\n".join(part or "" for part in parts).strip("\n")


def _held_classes(images: PairSource) -> list[list[int]]:
    """Returns the classes that each image holds; files that have not changed are read once."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        stamps = list(pool.map(images.pairs.stamp, images.indices))
        text = repr((stamps, sorted(images.label_map.items()), images.by_class))
        file = cache_dir() / "classes" / f"{hashlib.sha256(text.encode()).hexdigest()}.json"
        recalled = records.recall(file, [[records.Count]])
        if recalled is not None and len(recalled) == len(images):
            return recalled
        found = pool.map(images.held_classes, range(len(images)))
        held = follow(found, "reading the classes of the masks", len(images))
    with contextlib.suppress(OSError):  # it only saves time
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, json.dumps(held).encode())
    return held


def take_share(
    facts: Facts, indices: Sequence[int], fraction: float, seed: int, key: str
) -> tuple[list[int], list[int]]:
    """Splits a share off some images.

    Args:
        facts: Of all images.
        indices: Those to split.
        fraction: The share, in (0, 1).
        seed: Of the choice.
        key: The config key of the share.

    Returns:
        Indices kept and indices split off, each in the order of `indices`.

    Raises:
        UserError: There is only one group.
    """
    if not facts.groups:
        ids, strata = [facts.ids[i] for i in indices], [facts.strata[i] for i in indices]
        parts = split_off(ids, strata, fraction, seed)
    else:
        groups = [facts.groups[i] for i in indices]
        if len(set(groups)) < 2:
            raise UserError(
                f"{key}={fraction} cannot be split off {len(indices)} images that are "
                f"{len(set(groups))} group by {KEY}.{facts.rules.grouping()}, which stays whole; "
                "change what a group is, add images, or give the split a list."
            )
        parts = split_off_groups(groups, fraction, seed, _traits(facts, indices))
    return [indices[i] for i in parts[0]], [indices[i] for i in parts[1]]


def take_fold(facts: Facts, indices: Sequence[int], seed: int) -> tuple[list[int], list[int]]:
    """Splits the validation fold of the rules off some images.

    Args:
        facts: Of all images.
        indices: Those that are dealt to folds.
        seed: Of the folds.

    Returns:
        Indices of the other folds and of the fold, each in the order of `indices`.

    Raises:
        UserError: There are more folds than images or groups.
    """
    fold, folds, groups = facts.rules.fold, facts.rules.folds, [*facts.groups]
    ids, strata = [facts.ids[i] for i in indices], [facts.strata[i] for i in indices]
    of = [groups[i] for i in indices] if groups else ids
    if folds > len(set(of)):
        what = f"groups by {KEY}.{facts.rules.grouping()}" if groups else "images"
        raise UserError(
            f"config.data.folds={folds} is more than the {len(set(of))} {what} outside the test "
            "split; lower it."
        )
    if groups:
        fold_of = deal_groups(of, folds, seed, _traits(facts, indices))
    else:
        fold_of = deal(ids, strata, folds, seed)
    return (
        [i for i, own in zip(indices, fold_of, strict=True) if own != fold],
        [i for i, own in zip(indices, fold_of, strict=True) if own == fold],
    )


def take_val(
    facts: Facts, indices: Sequence[int], fraction: float, seed: int
) -> tuple[list[int], list[int]]:
    """Splits validation off some images: a fold where the rules have folds, else a share.

    Args:
        facts: Of all images.
        indices: Those to split.
        fraction: The share.
        seed: Of the choice.

    Returns:
        Indices for training and for validation, each in the order of `indices`.

    Raises:
        UserError: There are too few images or groups.
    """
    if facts.rules.folds:
        return take_fold(facts, indices, seed)
    return take_share(facts, indices, fraction, seed, "config.data.val_fraction")


def say_val(rules: Rules, fraction: float) -> str:
    """Says how validation is split off, as the header does."""
    return f"val fold {rules.fold} of {rules.folds}" if rules.folds else f"val {fraction:g}"


def _traits(facts: Facts, indices: Sequence[int]) -> list[Collection[str]]:
    return [facts.traits[i] for i in indices] if facts.traits else []


def check_whole(facts: Facts, splits: Mapping[str, Sequence[int]]) -> None:
    """Checks that no list divides a group.

    Args:
        facts: Of all images.
        splits: Indices by split.

    Raises:
        UserError: A group has images in two splits.
    """
    first: dict[str, tuple[str, int]] = {}
    for split, indices in splits.items() if facts.groups else ():
        for index in indices:
            group = facts.groups[index]
            other, earlier = first.setdefault(group, (split, index))
            if other != split:
                raise UserError(
                    f"the group {group!r} by {KEY}.{facts.rules.grouping()} has images in {other} "
                    f"and in {split}, such as {facts.ids[earlier]!r} and {facts.ids[index]!r}; "
                    "a group stays whole: change the lists or folders that divide it."
                )
