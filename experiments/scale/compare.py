"""Compares two finished runs, byte for byte, but for what the clock makes."""

from pathlib import Path

import numpy as np
from PIL import Image

from unet_jax.runs import layout
from unet_jax.runs.logs import read_lines

WALL_CLOCK = ("images_per_s", "data_wait")


def records(workdir: Path) -> list[dict[str, float]]:
    """Returns a run's metrics without those that the clock makes."""
    return [
        {name: value for name, value in line.items() if name not in WALL_CLOCK}
        for line in read_lines(workdir / layout.METRICS)
    ]


def find_other(first: Path, second: Path) -> list[str]:
    """Names what two runs do not have alike, of metrics, results, figures and kept checkpoints."""
    texts = [(run / layout.RESULTS).read_text() for run in (first, second)]
    kept = [sorted(x.name for x in (run / layout.CHECKPOINTS).iterdir()) for run in (first, second)]
    other = [layout.METRICS] * (records(first) != records(second))
    other += [layout.RESULTS] * (texts[0] != texts[1])
    other += [f"checkpoints {kept}"] * (kept[0] != kept[1])
    a, b = (_read_figures(run) for run in (first, second))
    return other + sorted(name for name in {*a, *b} if a.get(name) != b.get(name))


def _read_figures(workdir: Path) -> dict[str, bytes]:
    """Returns by name the pixels of a run's figures, without those that the clock makes."""
    from unet_jax.figures.curves import SPEED_PANEL
    from unet_jax.runs.history import CURVES

    found = {}
    for file in (workdir / layout.FIGURES).rglob("*"):
        if file.suffix != ".png":
            found[str(file.relative_to(workdir))] = b"" if file.is_dir() else file.read_bytes()
            continue
        with Image.open(file) as image:
            pixels = np.array(image)
        if file.name == CURVES:
            pixels[SPEED_PANEL] = 0
        found[str(file.relative_to(workdir))] = repr(pixels.shape).encode() + pixels.tobytes()
    return found


def different_bytes(first: Path, second: Path, step: int) -> int:
    """Counts the bytes in which two runs' states of a step differ."""
    from unet_jax.runs.checkpoint import read_arrays

    a, b = (read_arrays(run / layout.CHECKPOINTS / str(step)) for run in (first, second))
    if {path: x.shape for path, x in a.items()} != {path: x.shape for path, x in b.items()}:
        return max(sum(x.nbytes for x in a.values()), 1)
    views = [(np.ravel(a[path]).view(np.uint8), np.ravel(b[path]).view(np.uint8)) for path in a]
    return int(sum(np.sum(x != y) for x, y in views))
