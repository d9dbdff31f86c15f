"""Counting on the host: each process its own images, and every image once."""

import numpy as np
import pytest

from unet_jax.data.sample import Sample
from unet_jax.metrics.base import Outcome
from unet_jax.metrics.surface import Surface
from unet_jax.predict import on_host

SIZES = [(5, 3), (4, 4), (1, 6), (5, 6), (2, 2), (3, 5), (4, 1)]


@pytest.mark.parametrize("processes", [1, 2, 3, 8])
def test_processes_count_every_image_once(processes, monkeypatch):
    rng = np.random.default_rng(0)
    labels = [rng.integers(0, 2, size) for size in SIZES]
    guesses = [rng.integers(0, 2, size) for size in SIZES]
    batches = [([0, 1, 2, 3], 4), ([4, 5, 6], 4)]
    shares, seen = [], []

    def put(arrays, indices, rows):
        canvas = np.zeros((rows, 5, 6), np.int64)
        for row, index in enumerate(indices):
            canvas[(row, *map(slice, SIZES[index]))] = arrays[index]
        return canvas

    def gathered(own):
        shares.append(own)
        return [dict(one) for one in shares]

    monkeypatch.setattr(on_host, "gather_arrays", gathered)
    monkeypatch.setattr(on_host.jax, "process_count", lambda: processes)
    metric = Surface(("a", "b"), units="pixels")
    for process in range(processes):
        monkeypatch.setattr(on_host.jax, "process_index", lambda own=process: own)
        with on_host.HostCounts({"surface": metric}, None, 2) as counts:
            for indices, rows in batches:
                samples = {i: Sample(None, None, "", (1.0, 1.0)) for i in indices}
                batch = {"index": indices, "sizes": [SIZES[i] for i in indices]}
                batch |= {"samples": samples, "batch_size": rows}
                arrays = (put(x, indices, rows) for x in (guesses, labels))
                ones = np.ones((rows, 5, 6), np.uint8)
                counts.add(batch, Outcome(None, None, *arrays, ones))
            found = counts.result()
        seen += [len(shares[-1]["index"])]
    assert sum(seen) == len(SIZES)
    assert max(seen) <= -(-4 // processes) * 2
    assert sorted(found) == list(range(len(SIZES)))
    for index, own in found.items():
        arrays = guesses[index], labels[index], np.ones(SIZES[index], np.uint8)
        alone = metric.count(Outcome(None, None, *(x[None] for x in arrays), None, (1.0, 1.0)))
        for name, array in alone.items():
            np.testing.assert_array_equal(own[f"surface/{name}"], array[0], strict=True)
