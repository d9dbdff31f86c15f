"""A run's own splits: the ids of its images with fingerprints of their contents, in split.json.

A run draws its splits when it begins. From then on they are these images, whatever files are added
to the data, and wherever the data are copied to.
"""

import contextlib
import hashlib
import json
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from unet_jax.config import call
from unet_jax.data import storage
from unet_jax.data.base import Dataset, PairSource
from unet_jax.data.sample import Source
from unet_jax.data.sets.pets import ENCODED_ANEW
from unet_jax.data.sources import Loading, open_data
from unet_jax.errors import UserError
from unet_jax.process import records
from unet_jax.process.console import console, follow
from unet_jax.process.runtime import cache_dir
from unet_jax.process.whole import write_whole
from unet_jax.runs import layout
from unet_jax.runs import workdir as run_dir

THREADS = 16  # most of them wait for a disk or a store
_HALF = 16  # hexadecimal digits of each file's sha256

# Fingerprints by id, in the order of the images, by name of the split.
Splits = dict[str, dict[str, str]]


def read(workdir: Path) -> Splits | None:
    """Reads the splits that a run keeps.

    Args:
        workdir: The run's directory.

    Returns:
        The splits; None where there are none, as in runs of older versions.

    Raises:
        UserError: The file is not what a run wrote.
    """
    advice = "put it back, or train again with --overwrite"
    shape = {"train": {str: str}, "val": {str: str}, str: {str: str}}
    return records.read_json(workdir / layout.SPLIT, shape, "what a run wrote", advice)


def take(dataset: Dataset) -> Splits:
    """Takes the splits of a data set as those of a run; every file is read once.

    Args:
        dataset: As it was drawn.

    Returns:
        Its splits. A file of the test split that cannot be read has no fingerprint.
    """
    return {
        name: dict(zip(source.ids, fingerprints(source, name, strict=name != "test"), strict=True))
        for name, source in dataset.splits.items()
    }


def settle(
    dataset: Dataset, workdir: Path, kept: Splits | None, *, overwrite: bool = False
) -> str | None:
    """Settles which splits a run keeps, when it begins or goes on.

    Args:
        dataset: What it trains on.
        workdir: Its directory.
        kept: What it keeps already.
        overwrite: Whether it begins anew.

    Returns:
        Text of its split.json; None for a run that goes on without one, which it says.
    """
    if kept is None and run_dir.has_steps(workdir) and not overwrite:
        say_drawn(workdir)
        return None
    return json.dumps(take(dataset) if kept is None else kept, indent=0) + "\n"


def say_drawn(workdir: Path) -> None:
    """Says that a run of an older version keeps no splits."""
    console.print(
        f"{workdir} has no {layout.SPLIT}: it is of an older version, so its splits are drawn "
        "from the files that are there now.",
    )


def open_kept(
    section: Mapping[str, Any], kept: Splits | None, reads: Collection[str], *, says: bool = True
) -> tuple[Dataset, Loading]:
    """Opens data with the splits that a run keeps.

    Args:
        section: The data section of its config.
        kept: The splits; None draws them from the files that are there.
        reads: Names of the splits that will be read; their contents must be what they were.
        says: Whether the console says what else has changed.

    Returns:
        The splits, and how to load them; see `sources.open_data`.

    Raises:
        UserError: The data do not fit, or images of a split that will be read are missing or
            changed.
    """
    dataset, loading = call(open_data, "config.data", section, kept=kept)
    if kept is None:
        return dataset, loading
    if added := [name for name in reads if name not in kept]:
        others = {name: _draw_unseen(section, name, kept) for name in added}
        dataset = dataset._replace(splits={**dataset.splits, **others})
    lines = []
    for name, ids in kept.items():
        is_read = name in reads
        if not is_read and (not says or _path(section).startswith(storage.REMOTE)):
            continue  # a store is not asked for thousands of files that nobody reads
        text = _find_changes(dataset.splits[name], name, ids, section, is_read=is_read)
        if text and is_read:
            raise UserError(
                f"{text}; a run keeps its own splits, in {layout.SPLIT}: put these files back, or "
                "train on what is there in another --workdir or with --overwrite."
            )
        lines += [f"{text}; this split is not read now."] if text else []
    lines += _count_unseen(dataset, kept)
    if lines and says:
        console.print(" ".join(lines))
    return dataset._replace(split_by=f"as the run drew them, in {layout.SPLIT}"), loading


def open_run(
    section: Mapping[str, Any], workdir: Path, split: str, *, says: bool = True
) -> tuple[Dataset, Loading]:
    """Opens the data of a run to read one of its splits; see `open_kept`.

    Args:
        section: The data section of its config.
        workdir: Its directory.
        split: Name of the split.
        says: Whether the console says what has changed.

    Returns:
        The splits, and how to load them.

    Raises:
        UserError: The data do not fit, or images of the split are missing or changed.
    """
    kept = read(workdir)
    if kept is None and says:
        say_drawn(workdir)
    return open_kept(section, kept, (split,), says=says)


def fingerprints(source: Source, split: str, *, strict: bool = True) -> list[str]:
    """Returns a fingerprint of the contents of every image and its mask.

    They are remembered by the files' names, sizes and times; files that have not changed since are
    not read again.

    Args:
        source: The images.
        split: Its name, for the progress line.
        strict: Whether a file that cannot be read is an error.

    Returns:
        The first 16 hexadecimal digits of the sha256 of the image's bytes, then of the mask's; ""
        for what cannot be read, and for images that are drawn.

    Raises:
        UserError: A file cannot be read.
    """
    if not isinstance(source, PairSource):
        return [""] * len(source)
    pairs = source.pairs

    def attempt(ask: Any, index: int) -> str:
        try:
            return ask(index)
        except UserError:
            if strict:
                raise
            return ""

    def digest(index: int) -> str:
        contents = pairs.read(index).contents()
        parts = (hashlib.sha256(data).hexdigest() for data in contents)
        return "".join(part[:_HALF] for part in parts)

    with ThreadPoolExecutor(THREADS) as pool:
        stamps = list(pool.map(lambda index: attempt(pairs.stamp, index), source.indices))
        key = hashlib.sha256(repr(stamps).encode()).hexdigest()
        remembered = cache_dir() / "contents" / f"{key}.json"
        recalled = records.recall(remembered, [str])
        if recalled is not None and len(recalled) == len(source):
            return recalled
        found = pool.map(lambda index: attempt(digest, index), source.indices)
        description = f"reading the {split} images"
        result = follow(found, description, len(source))
    with contextlib.suppress(OSError):  # it only saves time
        remembered.parent.mkdir(parents=True, exist_ok=True)
        write_whole(remembered, json.dumps(result).encode())
    return result


def pick_split(dataset: Dataset, name: str) -> Source:
    """Returns a split of a data set.

    Args:
        dataset: The data set.
        name: "train", "val" or "test".

    Returns:
        The split.

    Raises:
        UserError: The data set has no such split.
    """
    if name in dataset.splits:
        return dataset.splits[name]
    needs = " It needs test.txt or config.data.folder.test_fraction=0.2, set before training."
    raise UserError(
        f"--split={name!r} is not in the data; allowed are {', '.join(dataset.splits)}."
        f"{needs if name == 'test' else ''}"
    )


def _draw_unseen(section: Mapping[str, Any], name: str, kept: Splits) -> Source:
    """Draws a split that the run did not have, such as a test list that came later."""
    drawn, _ = call(open_data, "config.data", section, kept=None)
    source = pick_split(drawn, name)
    seen = [image for image in source.ids if any(image in ids for ids in kept.values())]
    if seen:
        raise UserError(
            f"{len(seen)} of the {len(source)} images of the {name} split are in splits that this "
            f"run had when it began, the first is {seen[0]!r}; take them out of the list."
        )
    return source


def _find_changes(
    source: Source, name: str, kept: Mapping[str, str], section: Mapping[str, Any], *, is_read: bool
) -> str:
    """Says which images of a split are missing or changed; "" where none is."""
    found = dict(zip(source.ids, fingerprints(source, name, strict=is_read), strict=True))
    missing = [image for image in kept if image not in found]
    changed = [
        image for image, old in kept.items() if image in found and _differ(image, old, found[image])
    ]
    if not missing and not changed:
        return ""
    if missing:
        where = f"config.data.path={_path(section)!r}"
        if {"source": "", **section}["source"] == "folder":
            where += ", as images, masks and mask_suffix of config.data.folder name them"
        first = f"{missing[0]!r}, whose image or mask is not in {where}"
    else:
        first = _changed_file(source, changed[0], kept, found)
    return (
        f"the {name} split is not what it was when the run began: of {len(kept)} images "
        f"{len(missing)} are missing and {len(changed)} have changed, the first is {first}"
    )


def _differ(image: str, old: str, new: str) -> bool:
    if not old:
        return False  # nobody could read it when the run began, or it is drawn
    if image in ENCODED_ANEW:  # the same image, as JPEG or not
        old, new = old[_HALF:], new[_HALF:]
    return old != new


def _changed_file(
    source: Any, image: str, kept: Mapping[str, str], found: Mapping[str, str]
) -> str:
    if not found[image]:
        return repr(image)  # which cannot be read
    encoded = source.pairs.read(source.indices[list(source.ids).index(image)])
    is_image = kept[image][:_HALF] != found[image][:_HALF]
    return encoded.image_name if is_image else ", ".join(encoded.mask_names)


def _count_unseen(dataset: Dataset, kept: Splits) -> list[str]:
    """Says how many images of the data no split of the run has."""
    sources = [source for source in dataset.splits.values() if isinstance(source, PairSource)]
    there = {image for source in sources for image in source.pairs.ids}
    count = len(there.difference(*kept.values()))
    if not count:
        return []
    are = "image that this run has not seen is" if count == 1 else "images that this run has not "
    are += "" if count == 1 else "seen are"
    return [f"{count} {are} left out."]


def _path(section: Mapping[str, Any]) -> str:
    return {"path": "", **section}["path"]
