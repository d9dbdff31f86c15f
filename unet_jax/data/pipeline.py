"""Batches from a source: training batches are a pure function of (seed, step)."""

import collections
import functools
import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grain
import numpy as np

from unet_jax.data.base import IGNORE, Source
from unet_jax.data.images import resize_image, resize_label
from unet_jax.data.sources import Loading

Batch = dict[str, np.ndarray]


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

    Every epoch is shuffled anew and every picture comes once in it; an epoch's last pictures and
    the next one's first may share a batch. Batch `step` is the same wherever the run began.

    Args:
        source: The pictures.
        loading: Their size, fit and threads.
        batch_size: B, over all processes.
        seed: Of the order and the random crops.
        start: First step.
        stop: One past the last step.
        rows: b rows of every batch, in 0..B-1, that this process reads, so that the whole batch
            does not depend on who reads it; None for all.

    Yields:
        {"image": uint8 [b, H, W, 3], "label": uint8 [b, H, W] in 0..K-1, "weight": uint8
        [b, H, W], 0 where the label is to be ignored}.
    """
    own = range(batch_size) if rows is None else rows
    order: Any = grain.MapDataset.range(len(source)).seed(seed).shuffle().repeat()

    def example(row: int) -> Batch:
        step, column = divmod(row, len(own))
        position = step * batch_size + int(own[column])
        loaded = source[int(order[position])]
        rng = np.random.default_rng((seed, position))
        return _train_example(loaded["image"], loaded["label"], loading, rng)

    batches = grain.MapDataset.range(stop * len(own)).map(example).batch(len(own))
    options = grain.ReadOptions(
        num_threads=loading.workers, prefetch_buffer_size=2 * loading.workers
    )
    yield from batches[start:].to_iter_dataset(options)


def eval_batches(
    source: Source,
    loading: Loading,
    *,
    batch_size: int,
    rows: Sequence[int] | None = None,
    multiple: int = 1,
) -> Iterator[dict[str, Any]]:
    """Yields every picture once, with its label at its own resolution.

    Pictures are gathered by the size of their canvas, their own size rounded up, so that few shapes
    are compiled and what a picture is padded with does not depend on the others in its batch.

    Args:
        source: The pictures.
        loading: Their size, fit and threads.
        batch_size: B, over all processes; the last batch of each size is filled up with pictures
            of weight 0.
        rows: b rows of every batch, in 0..B-1, that this process reads; None for all.
        multiple: What the height of a canvas must be a multiple of.

    Yields:
        "image" uint8 [b, h, w, 3], "label" uint8 [b, H, W], "weight" uint8 [b, H, W] (0 for what is
        ignored, outside the picture, or filled up), "size" float32 [b, 2] (the label's own height
        and width); and of the at most B pictures of the whole batch, whoever reads them, "index",
        the indices in the source, and "sizes", the same heights and widths as integers.
    """
    own = range(batch_size) if rows is None else rows
    sizes = _sizes(source, loading.workers)
    groups = _group_by_canvas([_canvas(size, multiple) for size in sizes], batch_size)

    def example(row: int) -> Batch:
        batch, column = divmod(row, len(own))
        (canvas, indices), position = groups[batch], int(own[column])
        loaded = source[indices[min(position, len(indices) - 1)]]
        return _eval_example(loaded, canvas, loading, is_filler=position >= len(indices))

    examples = grain.MapDataset.range(len(groups) * len(own)).map(example)
    ahead = max(2 * len(own), loading.workers)
    options = grain.ReadOptions(num_threads=loading.workers, prefetch_buffer_size=ahead)
    loaded = iter(examples.to_iter_dataset(options))
    for _, indices in groups:
        share = list(itertools.islice(loaded, len(own)))
        arrays = {key: np.stack([one[key] for one in share]) for key in share[0]}
        yield {**arrays, "index": indices, "sizes": [sizes[index] for index in indices]}


@functools.lru_cache(maxsize=8)
def _sizes(source: Source, workers: int) -> list[tuple[int, int]]:
    """Returns every picture's height and width, from headers alone."""
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(source.size, range(len(source))))


def _canvas(size: tuple[int, int], multiple: int) -> tuple[int, int]:
    height, width = map(round_up, size)
    return -(-height // multiple) * multiple, width


def _group_by_canvas(
    canvases: Sequence[tuple[int, int]], batch_size: int
) -> list[tuple[tuple[int, int], list[int]]]:
    """Gathers at most `batch_size` indices of one canvas each, in the order they come."""
    full, waiting = [], collections.defaultdict(list)
    for index, canvas in enumerate(canvases):
        waiting[canvas].append(index)
        if len(waiting[canvas]) == batch_size:
            full.append((canvas, waiting.pop(canvas)))
    return [*full, *waiting.items()]


def round_up(pixels: int) -> int:
    """Rounds a length up, to few different ones and so few shapes to compile.

    Args:
        pixels: A height or width, above 0.

    Returns:
        A multiple of 32 up to 256, one of four lengths per octave above; less than 32 more, or
        less than a quarter more.
    """
    multiple = max(32, 2 ** (pixels - 1).bit_length() // 8)
    return -(-pixels // multiple) * multiple


def _train_example(
    image: np.ndarray, label: np.ndarray, loading: Loading, rng: np.random.Generator
) -> Batch:
    if loading.fit == "resize":
        image = resize_image(image, loading.image_size)
        label = resize_label(label, loading.image_size)
    else:
        image, label = _mirror(image, label, loading.context)
        image, label = _random_crop(image, label, loading.image_size, rng)
    return {"image": image, **_label_and_weight(label)}


def _mirror(image: np.ndarray, label: np.ndarray, pixels: int) -> tuple[np.ndarray, np.ndarray]:
    sides = ((pixels, pixels), (pixels, pixels))
    image = np.pad(image, (*sides, (0, 0)), mode="symmetric")
    return image, np.pad(label, sides, constant_values=IGNORE)


def _random_crop(
    image: np.ndarray, label: np.ndarray, size: tuple[int, int], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    image, label = _pad_image(image, size), _pad_label(label, size)
    top, left = (rng.integers(label.shape[axis] - size[axis] + 1) for axis in (0, 1))
    window = np.s_[top : top + size[0], left : left + size[1]]
    return image[window], label[window]


def _eval_example(
    loaded: dict[str, Any], canvas: tuple[int, int], loading: Loading, *, is_filler: bool
) -> Batch:
    image, label = loaded["image"], loaded["label"]
    size = label.shape
    if loading.fit == "resize":
        image = resize_image(image, loading.image_size)
    else:
        image = _pad_image(image, canvas)
    labels = _label_and_weight(_pad_label(label, canvas))
    if is_filler:
        labels["weight"] = np.zeros_like(labels["weight"])
    return {"image": image, **labels, "size": np.array(size, np.float32)}


def _padding(shape: tuple[int, ...], size: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    """Tells how much to add below and to the right for at least a size."""
    return tuple((0, max(0, size[axis] - shape[axis])) for axis in (0, 1))


def _pad_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.pad(image, (*_padding(image.shape, size), (0, 0)), mode="edge")


def _pad_label(label: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.pad(label, _padding(label.shape, size), constant_values=IGNORE)


def _label_and_weight(label: np.ndarray) -> Batch:
    known = label != IGNORE
    return {"label": np.where(known, label, 0), "weight": known.astype(np.uint8)}
