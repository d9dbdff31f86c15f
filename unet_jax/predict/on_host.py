"""Counting on the host while the device goes on: every process its share of the images."""

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, Self

import jax
import numpy as np

from unet_jax.data.images import Batch
from unet_jax.data.sample import Source
from unet_jax.metrics.base import Outcome
from unet_jax.metrics.make import Metrics, count
from unet_jax.process.multihost import gather_arrays

Counts = dict[str, np.ndarray]


class HostCounts:
    """What the metrics that count on the host find in the images of a source.

    Use it as a context, whose threads count.
    """

    def __init__(self, metrics: Metrics, source: Source, workers: int) -> None:
        """Plans to count.

        Args:
            metrics: Of the evaluation, some of which may count on the host.
            source: The images.
            workers: Threads.
        """
        self._metrics, self._source, self._workers = metrics, source, workers
        self._counting: list[tuple[int, Future[Counts]]] = []

    def __enter__(self) -> Self:
        """Starts the threads."""
        self._pool = ThreadPoolExecutor(self._workers)
        return self

    def __exit__(self, *error: object) -> None:
        """Waits for the threads."""
        self._pool.shutdown()

    def add(self, batch: Batch, outcome: Outcome) -> None:
        """Starts to count this process's images of a batch."""
        outcomes = list(self._cut(batch, outcome))
        wait([counted for _, counted in self._counting])  # so that few batches are held
        self._counting += [(index, self._pool.submit(self._count, own)) for index, own in outcomes]

    def result(self) -> dict[int, Counts]:
        """Returns the counts of every image, whichever process counted it, by index."""
        if all(metric.on_device for metric in self._metrics.values()):
            return {}
        rows = {index: counted.result() for index, counted in self._counting}
        names = next(iter(rows.values()), {})
        own = {name: np.stack([row[name] for row in rows.values()]) for name in names}
        return {
            index: {name: array[row] for name, array in found.items()}
            for found in gather_arrays(own | {"index": np.array(list(rows), np.int64)})
            for row, index in enumerate(found.pop("index").tolist())
        }

    def _cut(self, batch: Batch, outcome: Outcome) -> Iterator[tuple[int, Outcome]]:
        """Fetches what is read on the host, and cuts each image's to its own size, [1, *n]."""
        arrays = jax.device_get(outcome)
        for row, (index, size) in enumerate(zip(batch["index"], batch["sizes"], strict=True)):
            # Mostly the rows that this process has read.
            if row * jax.process_count() // batch["batch_size"] != jax.process_index():
                continue
            place = (slice(row, row + 1), *map(slice, size))
            own = Outcome(*(x[place] if isinstance(x, np.ndarray) else x for x in arrays))
            sample = batch["samples"].get(index) or self._source.read(index)
            objects = None if sample.objects is None else sample.objects[None]
            yield index, own._replace(spacing=sample.spacing, objects=objects)

    def _count(self, outcome: Outcome) -> Counts:
        """Counts one image."""
        own: Mapping[str, Any] = count(self._metrics, outcome, on_device=False)
        return {name: array[0] for name, array in own.items()}
