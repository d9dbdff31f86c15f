"""Batches of whole images, each once: for evaluation with labels, for prediction without."""

import collections
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

import grain
import numpy as np

from unet_jax.data.normalise import RANGE, Normalise
from unet_jax.data.pipeline import Size, label_and_weight, pad_label
from unet_jax.data.sample import Sample, Source, reduced
from unet_jax.errors import UserError

Batch = dict[str, Any]


class Fit(Protocol):
    """How whole images come to a network, and its logits back to their pixels."""

    def canvas(self, size: Size) -> Size:
        """Returns the size of the array that holds a label of this size, in its corner."""
        ...

    def read(self, canvas: Size) -> Size:
        """Returns the size of what the network reads for a canvas."""
        ...

    def put(self, image: np.ndarray, canvas: Size) -> np.ndarray:
        """Makes of an image [*n, C] what the network reads for a canvas."""
        ...

    def back(self, logits: Any, size: Any, canvas: Size) -> Any:
        """Makes of the network's logits [B, *m, K] those of the labels' own pixels.

        Args:
            logits: Of a batch of what `put` made.
            size: float32 [B, axes], the labels' own sizes.
            canvas: [*n].

        Returns:
            [B, *n, K]; what lies outside a label's size means nothing.
        """
        ...


class Example(NamedTuple):
    """What one row of a batch is made of.

    Attributes:
        arrays: By name.
        sample: The image as it was read; None where it is of no use or cannot be read.
        error: Why it cannot be read; "" where it can.
    """

    arrays: dict[str, np.ndarray]
    sample: Sample | None = None
    error: str = ""


def image_batches(
    source: Source,
    fit: Fit,
    *,
    with_labels: bool,
    batch_size: int,
    workers: int,
    rows: Callable[[int], Sequence[int]] = range,
    share: int = 1,
    normalise: Normalise = RANGE,
    reduced_size: Size | None = None,
) -> Iterator[Batch]:
    """Yields every image once, with its label at its own resolution or without.

    Images are gathered by the size of their canvas, so that what an image is padded with does not
    depend on the others in its batch.

    Args:
        source: The images.
        fit: How they come to the network.
        with_labels: Whether their labels come too. Without, an image that cannot be read comes
            blank, so that the others go on.
        batch_size: B, over all processes; less where fewer images have a canvas. The last batch of
            each canvas is filled up with blank images of weight 0.
        workers: Threads that decode.
        rows: From B to the b of its rows 0..B-1 that this process reads.
        share: What B must be a multiple of.
        normalise: What becomes of the images' values.
        reduced_size: What `fit` resizes images to, where JPEG files are decoded at a reduced scale
            for it; None to decode them as they are. The samples are whole images in any case.

    Yields:
        "image" [b, *m, C], and "size" float32 [b, axes], of the image or label; with labels "label"
        uint8 [b, *n] or [b, *n, L] and "weight" uint8 [b, *n] (0 for what is ignored, outside the
        image, or filled up), without "is_read" bool [b] (False for what cannot be read, or filled
        up). Of the whole batch, whoever reads it, "batch_size", B, "canvas", [*n], and of its at
        most B images "index", the indices in the source, and "sizes", their sizes as integers. Of
        the images that this process reads, by index, "samples", with labels without the pixels of
        the image, and "errors", why one cannot be read.
    """
    make = _labelled if with_labels else _unlabelled
    example = make(source, reduced(source, reduced_size), fit, normalise)
    sizes = read_sizes(source, workers)
    groups = [
        group._replace(rows=tuple(map(int, rows(group.batch_size))))
        for group in _group_by_canvas([fit.canvas(size) for size in sizes], batch_size, share)
    ]
    places = [(group, row) for group in groups for row in group.rows if row < len(group.indices)]

    def load(place: int) -> Example:
        group, row = places[place]
        return example(group.indices[row], group.canvas)

    loading = grain.MapDataset.range(len(places)).map(load)
    ahead = max(2 * max(len(group.rows) for group in groups), workers)
    options = grain.ReadOptions(num_threads=workers, prefetch_buffer_size=ahead)
    loaded = iter(loading.to_iter_dataset(options) if places else ())
    for group in groups:
        indices = [group.indices[row] for row in group.rows if row < len(group.indices)]
        own = list(itertools.islice(loaded, len(indices)))
        # A process may have no image of a batch; it fills up with something of the same shapes.
        like = own[0] if own else example(group.indices[0], group.canvas)
        filler = {name: np.zeros_like(array) for name, array in like.arrays.items()}
        filler["size"] = np.array(group.canvas, np.float32)
        filled = [one.arrays for one in own] + [filler] * (len(group.rows) - len(own))
        yield {
            **{name: np.stack([one[name] for one in filled]) for name in filler},
            "batch_size": group.batch_size,
            "canvas": group.canvas,
            "index": group.indices,
            "sizes": [sizes[index] for index in group.indices],
            "samples": {i: one.sample for i, one in zip(indices, own, strict=True) if one.sample},
            "errors": {i: one.error for i, one in zip(indices, own, strict=True) if one.error},
        }


def _labelled(
    source: Source, read: Source, fit: Fit, normalise: Normalise
) -> Callable[[int, Size], Example]:
    """Returns what makes an example with its label, of an index and a canvas."""

    def example(index: int, canvas: Size) -> Example:
        sample = read.read(index)
        label = sample.truth()
        arrays = label_and_weight(pad_label(label, canvas), len(canvas))
        size = np.array(label.shape[: len(canvas)], np.float32)
        image = fit.put(normalise.prepare(sample.image), canvas)
        kept = sample._replace(image=sample.image[..., :0].copy())  # without its pixels
        return Example({"image": image, **arrays, "size": size}, kept)

    return example


def _unlabelled(
    source: Source, read: Source, fit: Fit, normalise: Normalise
) -> Callable[[int, Size], Example]:
    """Returns what makes an example without a label, also where the image cannot be read."""
    spec = source.spec

    def example(index: int, canvas: Size) -> Example:
        try:
            sample, error = source.read(index), ""
            size, image = sample.image.shape[:-1], sample.image
            if read is not source:
                image = read.read(index).image
        except UserError as found:
            sample, error, size = None, str(found), source.shape(index)
            image = np.zeros((*size, spec.channels), spec.dtype)
        array = fit.put(normalise.prepare(image), canvas)
        arrays = {"image": array, "size": np.array(size, np.float32)}
        arrays["is_read"] = np.array(not error)
        return Example(arrays, sample, error)

    return example


@functools.lru_cache(maxsize=8)
def read_sizes(source: Source, workers: int) -> list[Size]:
    """Reads every image's size, from headers alone.

    Args:
        source: The images.
        workers: Threads that read.

    Returns:
        [*n] by index.
    """
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(source.shape, range(len(source))))


class _Group(NamedTuple):
    """A batch of images of one canvas, and the rows of it that this process reads."""

    canvas: Size
    indices: list[int]
    batch_size: int
    rows: tuple[int, ...] = ()


def _group_by_canvas(canvases: Sequence[Size], batch_size: int, share: int) -> list[_Group]:
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
