"""Checks every picture and mask before a run spends time on them."""

import collections
import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from rich.progress import track

from unet_jax.data import images
from unet_jax.data.base import PairSource, Source
from unet_jax.errors import UserError
from unet_jax.runtime import cache_dir


def check(source: Source, split: str) -> None:
    """Decodes every pair of a split and checks sizes and mask values.

    A split that passed is remembered by its files' names, sizes and times, and not read again.

    Args:
        source: The split; one that is drawn and not read has nothing to check.
        split: Its name, for the progress line.

    Raises:
        UserError: A file cannot be decoded, a pair's sizes differ, or masks hold values that are
            no class.
    """
    if not isinstance(source, PairSource):
        return  # drawn, not read
    stamps = [source.pairs.stamp(index) for index in source.indices]
    text = repr((stamps, sorted(source.label_map.items())))
    passed = cache_dir() / "checked" / hashlib.sha256(text.encode()).hexdigest()
    if passed.exists():
        return
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(lambda index: _check_pair(source, index), source.indices)
        description = f"checking the {split} pictures"
        found = list(track(results, description, len(source), transient=True))
    _check_values(source, found, split)
    passed.parent.mkdir(parents=True, exist_ok=True)
    passed.touch()


def _check_pair(source: PairSource, index: int) -> np.ndarray:
    """Decodes a pair; returns the different values of its mask."""
    encoded = source.pairs.read(index)
    image = images.decode_image(encoded.image, encoded.image_name)
    mask = images.decode_mask(encoded.mask, encoded.mask_name)
    if image.shape[:2] != mask.shape:
        (h, w), (mask_h, mask_w) = image.shape[:2], mask.shape
        raise UserError(
            f"{encoded.image_name} is {h}x{w} (height x width) but its mask {encoded.mask_name} is "
            f"{mask_h}x{mask_w}; a pair must have one size."
        )
    return np.unique(mask)


def _check_values(source: PairSource, found: Iterable[np.ndarray], split: str) -> None:
    files = collections.Counter(int(value) for values in found for value in values)
    wrong = sorted(set(files) - set(source.label_map))
    if not wrong:
        return
    first = next(
        source.pairs.read(index).mask_name
        for index, values in zip(source.indices, found, strict=True)
        if set(wrong) & set(values.tolist())
    )
    counts = ", ".join(f"{value} in {files[value]}" for value in sorted(files)[:20])
    more = ", ..." if len(files) > 20 else ""
    raise UserError(
        f"masks of the {split} split hold values that are no class: "
        f"{', '.join(map(str, wrong[:20]))}{', ...' if len(wrong) > 20 else ''}; the first such "
        f"file is {first}. Allowed are {sorted(source.label_map)}; found are (value in how many "
        f"files): {counts}{more}. Map values to classes with "
        f"config.data.folder.label_map=(({wrong[0]}, CLASS), ...), or leave their pixels out with "
        f"config.data.folder.ignore_values=({wrong[0]},)."
    )
