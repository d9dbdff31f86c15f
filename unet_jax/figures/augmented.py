"""Rows of images before and after their augmentation, with mask, weight and maps."""

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from unet_jax.figures.colours import IGNORED, overlay
from unet_jax.figures.pages import legend_entries, save_pages, shown, shown_mask

FRAME = 150


class Example(NamedTuple):
    """One image of a batch, before or after its augmentation.

    Attributes:
        image: uint8 [H, W, 3].
        label: uint8 [H, W] class ids, or uint8 [H, W, K] of 0 and 1.
        weight: float32 [H, W], 0 where a pixel does not count.
        extras: By name, float32 [H, W].
    """

    image: np.ndarray
    label: np.ndarray
    weight: np.ndarray
    extras: Mapping[str, np.ndarray]


def augmentation_sheet(
    path: str | os.PathLike[str],
    pairs: Sequence[tuple[Example, Example]],
    class_names: Sequence[str],
    title: str,
    ids: Sequence[str],
) -> None:
    """Writes a PNG with a row per image: image, mask, weight and maps, before and after.

    Masks lie over the image, hatched in grey where the weight is 0; weights and maps are grey,
    from their smallest value on the page, black, to their largest, white.

    Args:
        path: file to write; missing folders are made.
        pairs: N >= 1, before and after.
        class_names: K names, by class id.
        title: heading of the figure.
        ids: N names of the rows.

    Raises:
        ValueError: if there is no image.
    """
    if not pairs:
        raise ValueError("augmentation_sheet needs at least one image")
    flat = [each for pair in pairs for each in pair]
    names = ["weight", *flat[0].extras]
    ranges = {name: _range([_maps(each)[name] for each in flat]) for name in names}
    rows = []
    for name, pair in zip(ids, pairs, strict=True):
        tiles = [tile for each in pair for tile in _tiles(each, ranges)]
        rows.append((name, tiles, [""] * len(tiles)))
    said = [f"{name} {low:.3g} to {high:.3g}" for name, (low, high) in ranges.items()]
    kinds = ["image", "mask", *said]
    headings = [*kinds, *(f"augmented {kind}" for kind in ("image", "mask", *names))]
    legend = legend_entries([_known(each) for each in flat], [], class_names, errors=False)
    save_pages(path, title, headings, rows, legend)


def _maps(example: Example) -> dict[str, np.ndarray]:
    return {"weight": example.weight, **example.extras}


def _range(maps: Sequence[np.ndarray]) -> tuple[float, float]:
    low, high = min(float(m.min()) for m in maps), max(float(m.max()) for m in maps)
    return min(low, 0.0), high if high > low else low + 1


def _known(example: Example) -> np.ndarray:
    """Returns the label with `IGNORED` where the weight is 0."""
    label, weight = example.label, example.weight
    counts = weight.reshape(weight.shape + (1,) * (label.ndim - weight.ndim)) > 0
    return np.where(counts, label, IGNORED).astype(np.uint8)


def _tiles(example: Example, ranges: Mapping[str, tuple[float, float]]) -> list[np.ndarray]:
    small = shown(example.image)
    tiles = [small, overlay(small, shown_mask(_known(example)))]
    for name, values in _maps(example).items():
        low, high = ranges[name]
        grey = np.rint((values - low) * (255 / (high - low))).astype(np.uint8)
        tile = np.pad(shown(grey)[1:-1, 1:-1], 1, constant_values=FRAME)  # or white would not show
        tiles.append(tile[..., None].repeat(3, axis=-1))
    return tiles
