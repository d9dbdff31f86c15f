"""Batches for training: a pure function of (seed, step)."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import grain
import numpy as np

from unet_jax.data import foreground
from unet_jax.data.base import IGNORE
from unet_jax.data.maps import draw_maps
from unet_jax.data.resize import resize_image, resize_label
from unet_jax.data.sample import Sample, Source, reduced
from unet_jax.data.sources import Loading

Batch = dict[str, Any]
Size = tuple[int, ...]
"""Pixels along each axis."""


def train_batches(
    source: Source,
    loading: Loading,
    *,
    batch_size: int,
    seed: int,
    start: int,
    stop: int,
    rows: Sequence[int] | None = None,
) -> Iterator[Batch]:
    """Yields the batches of the steps start..stop-1, decoded ahead by threads.

    Every epoch is shuffled anew and every image comes `loading.crops` times in it; an epoch's
    last images and the next one's first may share a batch. Batch `step` is the same wherever
    the run began.

    Args:
        source: The images.
        loading: Their size, fit and threads.
        batch_size: B, over all processes.
        seed: Of the order and the random crops.
        start: First step.
        stop: One past the last step.
        rows: b rows of every batch, in 0..B-1, that this process reads, so that the whole batch
            does not depend on who reads it; None for all.

    Yields:
        {"image": [b, *n, C], "label": uint8 [b, *n] in 0..K-1 or [b, *n, L] of 0 and 1, "weight":
        uint8 [b, *n], 0 where the label is to be ignored}, and where `loading.maps` names any,
        "extras": float32 [b, *n] or [b, *n, channels] by name.
    """
    source = reduced(source, loading.reduced_size)
    own = range(batch_size) if rows is None else rows
    parts = len(source) * loading.crops
    order: Any = grain.MapDataset.range(parts).seed(seed).shuffle().repeat()

    def example(row: int) -> Batch:
        step, column = divmod(row, len(own))
        position = step * batch_size + int(own[column])
        sample = source.read(int(order[position]) // loading.crops)
        on_classes = foreground.is_on(position, loading.foreground)
        rng = np.random.default_rng((seed, position))
        return _train_example(sample, loading, rng, on_classes=on_classes)

    batches = grain.MapDataset.range(stop * len(own)).map(example).batch(len(own))
    options = grain.ReadOptions(
        num_threads=loading.workers, prefetch_buffer_size=2 * loading.workers
    )
    yield from batches[start:].to_iter_dataset(options)


def seen_share(sizes: Sequence[Size], loading: Loading) -> float:
    """Returns how much of its images an epoch of random crops sees, as a share of their pixels.

    Args:
        sizes: [*n] of every image.
        loading: With `fit` "crop".

    Returns:
        The pixels of all crops, with those seen twice, over those of all images; 1 would be enough
        to see all once if no crops met.
    """
    largest = [max(1, n - 2 * loading.context) for n in loading.image_size]
    inside = [math.prod(map(min, size, largest)) for size in sizes]
    return loading.crops * sum(inside) / sum(map(math.prod, sizes))


def _train_example(
    sample: Sample, loading: Loading, rng: np.random.Generator, *, on_classes: bool
) -> Batch:
    image, label, size = loading.normalise.prepare(sample.image), sample.truth(), loading.image_size
    objects = sample.objects
    if loading.fit == "resize":
        image, label = resize_image(image, size), resize_label(label, size)
        objects = None if objects is None else resize_label(objects, size)
        given, corner = label, [0] * len(size)
    else:
        given = label
        image, label = _mirror(image, label, loading.context)
        label = pad_label(label, size)
        starts = _starts_on_classes(label, loading, rng) if on_classes else None
        if starts is None:
            starts = [int(rng.integers(label.shape[a] - n + 1)) for a, n in enumerate(size)]
        image, label = _crop(image, label, size, starts)
        corner = [start - loading.context for start in starts]
    batch = {"image": image, **label_and_weight(label, len(size))}
    if loading.maps:
        batch["extras"] = draw_maps(loading.maps, given, objects, corner, size)
    return batch


def _mirror(image: np.ndarray, label: np.ndarray, pixels: int) -> tuple[np.ndarray, np.ndarray]:
    axes = image.ndim - 1
    image = np.pad(image, _ends([(pixels, pixels)] * axes, image), mode="symmetric")
    ends = _ends([(pixels, pixels)] * axes, label)
    return image, np.pad(label, ends, constant_values=IGNORE)


def _starts_on_classes(
    label: np.ndarray, loading: Loading, rng: np.random.Generator
) -> list[int] | None:
    """Returns where a crop starts whose middle is on a chosen class, moved to lie in the label."""
    size = loading.image_size
    pixel = foreground.pick_pixel(label, len(size), loading.foreground_classes, rng)
    if pixel is None:
        return None
    return [
        min(max(0, place - n // 2), whole - n)
        for place, n, whole in zip(pixel, size, label.shape, strict=False)
    ]


def _crop(
    image: np.ndarray, label: np.ndarray, size: Size, starts: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    image = np.pad(image, _ends(_padding(image, size), image), mode="edge")
    window = tuple(slice(start, start + n) for start, n in zip(starts, size, strict=True))
    return image[window], label[window]


def _padding(array: np.ndarray, size: Size) -> list[tuple[int, int]]:
    """Tells how much to add behind the pixels of each axis for at least a size."""
    return [(0, max(0, n - array.shape[axis])) for axis, n in enumerate(size)]


def _ends(pixels: Sequence[tuple[int, int]], array: np.ndarray) -> list[tuple[int, int]]:
    """Returns what `np.pad` adds to every axis, to those behind the pixels nothing."""
    return [*pixels, *[(0, 0)] * (array.ndim - len(pixels))]


def pad_label(label: np.ndarray, size: Size) -> np.ndarray:
    """Adds ignored pixels behind those of a label [*n] or [*n, L] for at least a size."""
    return np.pad(label, _ends(_padding(label, size), label), constant_values=IGNORE)


def label_and_weight(label: np.ndarray, axes: int) -> Batch:
    """Splits what is ignored off a label.

    Args:
        label: uint8 [*n] or [*n, L], with `IGNORE`.
        axes: Of pixels.

    Returns:
        "label" with 0 for `IGNORE`, and "weight" uint8 [*n], 0 where a pixel has one.
    """
    known = label != IGNORE
    weight = known if label.ndim == axes else known.all(axis=-1)
    return {"label": np.where(known, label, 0), "weight": weight.astype(np.uint8)}
