"""Batches from a source: training batches are a pure function of (seed, step)."""

import collections
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

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

    Every epoch is shuffled anew and every picture comes `loading.crops` times in it; an epoch's
    last pictures and the next one's first may share a batch. Batch `step` is the same wherever
    the run began.

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
    parts = len(source) * loading.crops
    order: Any = grain.MapDataset.range(parts).seed(seed).shuffle().repeat()

    def example(row: int) -> Batch:
        step, column = divmod(row, len(own))
        position = step * batch_size + int(own[column])
        loaded = source[int(order[position]) // loading.crops]
        rng = np.random.default_rng((seed, position))
        return _train_example(loaded["image"], loaded["label"], loading, rng)

    batches = grain.MapDataset.range(stop * len(own)).map(example).batch(len(own))
    options = grain.ReadOptions(
        num_threads=loading.workers, prefetch_buffer_size=2 * loading.workers
    )
    yield from batches[start:].to_iter_dataset(options)


class Fit(Protocol):
    """How whole images come to a network, and its logits back to their pixels."""

    def canvas(self, size: tuple[int, int]) -> tuple[int, int]:
        """Returns (height, width) of the array that holds a label of this size, in its corner."""
        ...

    def read(self, canvas: tuple[int, int]) -> tuple[int, int]:
        """Returns (height, width) of what the network reads for a canvas."""
        ...

    def put(self, image: np.ndarray, canvas: tuple[int, int]) -> np.ndarray:
        """Makes of an image uint8 [h, w, 3] what the network reads for a canvas."""
        ...

    def back(self, logits: Any, size: Any, canvas: tuple[int, int]) -> Any:
        """Makes of the network's logits [B, h, w, K] those of the labels' own pixels.

        Args:
            logits: Of a batch of what `put` made.
            size: float32 [B, 2], the labels' own heights and widths.
            canvas: (H, W).

        Returns:
            [B, H, W, K]; what lies outside a label's size means nothing.
        """
        ...


def eval_batches(
    source: Source,
    fit: Fit,
    *,
    batch_size: int,
    workers: int,
    rows: Callable[[int], Sequence[int]] = range,
    share: int = 1,
) -> Iterator[dict[str, Any]]:
    """Yields every image once, with its label at its own resolution.

    Images are gathered by the size of their canvas, so that what an image is padded with does not
    depend on the others in its batch.

    Args:
        source: The images.
        fit: How they come to the network.
        batch_size: B, over all processes; less where fewer images have a canvas. The last batch of
            each canvas is filled up with images of weight 0.
        workers: Threads that decode.
        rows: From B to the b of its rows 0..B-1 that this process reads.
        share: What B must be a multiple of.

    Yields:
        "image" uint8 [b, h, w, 3], "label" uint8 [b, H, W], "weight" uint8 [b, H, W] (0 for what is
        ignored, outside the image, or filled up), "size" float32 [b, 2] (the label's own height and
        width); "batch_size", B; and of the at most B images of the whole batch, whoever reads them,
        "index", the indices in the source, and "sizes", the same heights and widths as integers.
    """
    sizes = read_sizes(source, workers)
    groups = [
        group._replace(rows=tuple(rows(group.batch_size)))
        for group in _group_by_canvas([fit.canvas(size) for size in sizes], batch_size, share)
    ]
    places = [(group, int(position)) for group in groups for position in group.rows]

    def example(place: int) -> Batch:
        group, position = places[place]
        loaded = source[group.indices[min(position, len(group.indices) - 1)]]
        is_filler = position >= len(group.indices)
        return _eval_example(loaded, group.canvas, fit, is_filler=is_filler)

    examples = grain.MapDataset.range(len(places)).map(example)
    ahead = max(2 * max(len(group.rows) for group in groups), workers)
    options = grain.ReadOptions(num_threads=workers, prefetch_buffer_size=ahead)
    loaded = iter(examples.to_iter_dataset(options))
    for group in groups:
        own = list(itertools.islice(loaded, len(group.rows)))
        arrays = {key: np.stack([one[key] for one in own]) for key in own[0]}
        own_sizes = [sizes[index] for index in group.indices]
        whole = {"batch_size": group.batch_size, "index": group.indices, "sizes": own_sizes}
        yield {**arrays, **whole}


@functools.lru_cache(maxsize=8)
def read_sizes(source: Source, workers: int) -> list[tuple[int, int]]:
    """Reads every image's height and width, from headers alone.

    Args:
        source: The images.
        workers: Threads that read.

    Returns:
        (height, width) by index.
    """
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(source.size, range(len(source))))


class _Group(NamedTuple):
    """A batch of images of one canvas, and the rows of it that this process reads."""

    canvas: tuple[int, int]
    indices: list[int]
    batch_size: int
    rows: tuple[int, ...] = ()


def _group_by_canvas(
    canvases: Sequence[tuple[int, int]], batch_size: int, share: int
) -> list[_Group]:
    """Gathers indices of one canvas each, in the order they come, in batches of one size each."""
    counts = collections.Counter(canvases)
    most = {c: min(batch_size, -(-n // share) * share) for c, n in counts.items()}
    full, waiting = [], collections.defaultdict(list)
    for index, canvas in enumerate(canvases):
        waiting[canvas].append(index)
        if len(waiting[canvas]) == most[canvas]:
            full.append((canvas, waiting.pop(canvas)))
    groups = [*full, *waiting.items()]
    return [_Group(canvas, indices, most[canvas]) for canvas, indices in groups]


def seen_share(sizes: Sequence[tuple[int, int]], loading: Loading) -> float:
    """Returns how much of its images an epoch of random crops sees, as a share of their pixels.

    Args:
        sizes: (height, width) of every image.
        loading: With `fit` "crop".

    Returns:
        The pixels of all crops, with those seen twice, over those of all images; 1 would be enough
        to see all once if no crops met.
    """
    context, crop = 2 * loading.context, loading.image_size
    inside = [
        min(h, max(1, crop[0] - context)) * min(w, max(1, crop[1] - context)) for h, w in sizes
    ]
    return loading.crops * sum(inside) / sum(h * w for h, w in sizes)


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
    loaded: dict[str, Any], canvas: tuple[int, int], fit: Fit, *, is_filler: bool
) -> Batch:
    image, label = loaded["image"], loaded["label"]
    labels = _label_and_weight(_pad_label(label, canvas))
    if is_filler:
        labels["weight"] = np.zeros_like(labels["weight"])
    return {"image": fit.put(image, canvas), **labels, "size": np.array(label.shape, np.float32)}


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
