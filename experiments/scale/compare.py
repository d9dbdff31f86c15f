"""Compares two finished runs, byte for byte, but for what the clock makes."""

import json
from pathlib import Path

import numpy as np

WALL_CLOCK = ("images_per_s", "data_wait")


def records(workdir: Path) -> list[dict[str, float]]:
    """Returns a run's metrics without those that the clock makes."""
    file = workdir / "metrics.jsonl"
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    return [
        {name: value for name, value in json.loads(line).items() if name not in WALL_CLOCK}
        for line in lines
        if line.endswith("\n")
    ]


def have_same_records(first: Path, second: Path) -> bool:
    """Tells whether two runs have the same metrics and results."""
    texts = [(run / "results.json").read_text() for run in (first, second)]
    return records(first) == records(second) and texts[0] == texts[1]


def different_bytes(first: Path, second: Path, step: int) -> int:
    """Counts the bytes in which two runs' states of a step differ."""
    from unet_jax.checkpoint import read_arrays

    a, b = (read_arrays(run / "checkpoints" / str(step)) for run in (first, second))
    if {path: x.shape for path, x in a.items()} != {path: x.shape for path, x in b.items()}:
        return max(sum(x.nbytes for x in a.values()), 1)
    views = [(np.ravel(a[path]).view(np.uint8), np.ravel(b[path]).view(np.uint8)) for path in a]
    return int(sum(np.sum(x != y) for x, y in views))
