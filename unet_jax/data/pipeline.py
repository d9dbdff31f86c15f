"""Batches from a source: training batches are a pure function of (seed, step)."""

import collections
from collections.abc import Iterator
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
    process: tuple[int, int] = (0, 1),
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
        process: (index, count) of this process; it reads rows index*B/count up to
            (index+1)*B/count of every batch, so that the whole batch does not depend on the count.

    Yields:
        {"image": uint8 [b, H, W, 3], "label": uint8 [b, H, W] in 0..K-1, "weight": uint8
        [b, H, W], 0 where the label is to be ignored}, with b = B / count.
    """
    index, count = process
    share = batch_size // count
    order: Any = grain.MapDataset.range(len(source)).seed(seed).shuffle().repeat()

    def example(row: int) -> Batch:
        step, column = divmod(row, share)
        position = step * batch_size + index * share + column
        loaded = source[int(order[position])]
        rng = np.random.default_rng((seed, position))
        return _train_example(loaded["image"], loaded["label"], loading, rng)

    batches = grain.MapDataset.range(stop * share).map(example).batch(share)
    options = grain.ReadOptions(
        num_threads=loading.workers, prefetch_buffer_size=2 * loading.workers
    )
    yield from batches[start:].to_iter_dataset(options)


def eval_batches(source: Source, loading: Loading, *, batch_size: int) -> Iterator[dict[str, Any]]:
    """Yields every picture once, with its label at its own resolution.

    Pictures are gathered by the size of their canvas, their own size rounded up, so that few shapes
    are compiled and what a picture is padded with does not depend on the others in its batch.

    Args:
        source: The pictures.
        loading: Their size, fit and threads.
        batch_size: B; the last batch of each size is filled up with pictures of weight 0.

    Yields:
        "image" uint8 [B, h, w, 3], "label" uint8 [B, H, W], "weight" uint8 [B, H, W] (0 for what is
        ignored, outside the picture, or filled up), "size" float32 [B, 2] (the label's own height
        and width), and "index", a list of the at most B pictures' indices in the source.
    """
    examples = grain.MapDataset.range(len(source)).map(
        lambda index: _eval_example(source[index], int(index), loading)
    )
    ahead = max(2 * batch_size, loading.workers)
    options = grain.ReadOptions(num_threads=loading.workers, prefetch_buffer_size=ahead)
    waiting = collections.defaultdict(list)
    for example in examples.to_iter_dataset(options):
        key = example["image"].shape, example["label"].shape
        waiting[key].append(example)
        if len(waiting[key]) == batch_size:
            yield _stack(waiting.pop(key), batch_size)
    for group in waiting.values():
        yield _stack(group, batch_size)


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


def _eval_example(loaded: dict[str, Any], index: int, loading: Loading) -> dict[str, Any]:
    image, label = loaded["image"], loaded["label"]
    size = label.shape
    canvas = round_up(size[0]), round_up(size[1])
    if loading.fit == "resize":
        image = resize_image(image, loading.image_size)
    else:
        image = _pad_image(image, canvas)
    labels = _label_and_weight(_pad_label(label, canvas))
    return {"image": image, **labels, "size": np.array(size, np.float32), "index": index}


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


def _stack(examples: list[dict[str, Any]], batch_size: int) -> dict[str, Any]:
    missing = batch_size - len(examples)
    arrays = {
        key: np.stack([example[key] for example in examples] + [examples[-1][key]] * missing)
        for key in ("image", "label", "weight", "size")
    }
    arrays["weight"][len(examples) :] = 0
    return {**arrays, "index": [example["index"] for example in examples]}
