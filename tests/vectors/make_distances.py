"""Measures masks with MONAI and MedPy and stores what they say; tests read it without them.

    pip install monai medpy
    python tests/vectors/make_distances.py

Run it again only to add a case or a version, never to make a failing test pass. It writes
distances.json: "versions" by library, "tolerance", that of the surface Dice, and "cases" by name:

    shape, spacing    of both masks, and of their pixels
    truth, guess      pixels in C order, a text of 0 and 1
    monai             HD, HD95, ASSD (symmetric), NSD (without subvoxels), Dice
    medpy             HD, HD95, ASSD, Dice

Python's JSON has NaN and Infinity too; null is where a library raises an error.
"""

import importlib.metadata
import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
TOLERANCE = 1.5


def noise(seed: int, shape: tuple[int, ...], share: float) -> np.ndarray:
    """Draws a mask, the same one with every release of NumPy."""
    raw = np.random.PCG64(seed).random_raw(int(np.prod(shape)))
    return (raw >> np.uint64(40)).reshape(shape) < share * 2**24


def box(shape: tuple[int, ...], *sides: tuple[int, int]) -> np.ndarray:
    """Makes a mask that is on in a box."""
    mask = np.zeros(shape, bool)
    mask[tuple(slice(*side) for side in sides)] = True
    return mask


def cases() -> Iterator[tuple[str, np.ndarray, np.ndarray, tuple[float, ...]]]:
    """Yields a name, the truth, the guess and the spacing."""
    one, wide = (1.0, 1.0), (12, 17)
    none, blob = np.zeros(wide, bool), box(wide, (3, 9), (4, 12))
    yield "noise", noise(0, wide, 0.3), noise(1, wide, 0.3), one
    yield "dense noise", noise(2, (9, 11), 0.7), noise(3, (9, 11), 0.7), one
    yield "near", blob, blob ^ noise(4, wide, 0.06), one
    yield "moved box", blob, np.roll(blob, (1, 2), (0, 1)), one
    yield "equal", blob, blob, one
    yield "empty truth", none, blob, one
    yield "empty guess", blob, none, one
    yield "both empty", none, none, one
    yield "one pixel each", box(wide, (2, 3), (2, 3)), box(wide, (9, 10), (14, 15)), one
    yield "one pixel and a box", box(wide, (6, 7), (15, 16)), blob, one
    yield "at the edge", box(wide, (0, 5), (0, 9)), box(wide, (0, 12), (10, 17)), one
    yield "everywhere", np.ones(wide, bool), box(wide, (1, 11), (1, 16)), one
    yield "anisotropic", noise(5, wide, 0.3), noise(6, wide, 0.3), (0.5, 3.0)
    solid = (5, 6, 4)
    yield "volume", noise(7, solid, 0.4), noise(8, solid, 0.4), (1.0, 1.0, 1.0)
    yield (
        "anisotropic volume",
        box(solid, (1, 4), (1, 5), (0, 3)),
        noise(9, solid, 0.4),
        (3.0, 0.5, 0.5),
    )


def attempt(function: Callable[[], Any]) -> float | None:
    """Returns a number, or None where there is an error instead."""
    try:
        return float(function())
    except (RuntimeError, ValueError):
        return None


def ask_monai(truth: np.ndarray, guess: np.ndarray, spacing: tuple[float, ...]) -> dict[str, Any]:
    """Measures with MONAI."""
    import torch
    from monai import metrics

    y, y_pred = (torch.tensor(mask)[None, None].float() for mask in (truth, guess))
    both: dict[str, Any] = {"y_pred": y_pred, "y": y, "include_background": True}
    sides = {"spacing": list(spacing)}
    distance, average = metrics.compute_hausdorff_distance, metrics.compute_average_surface_distance
    dice, thresholds = metrics.compute_surface_dice, {"class_thresholds": [TOLERANCE]}
    return {
        "HD": attempt(lambda: distance(**both, **sides)),
        "HD95": attempt(lambda: distance(**both, **sides, percentile=95)),
        "ASSD": attempt(lambda: average(**both, **sides, symmetric=True)),
        "NSD": attempt(lambda: dice(**both, **sides, **thresholds)),
        "Dice": attempt(lambda: metrics.compute_dice(**both)),
    }


def ask_medpy(truth: np.ndarray, guess: np.ndarray, spacing: tuple[float, ...]) -> dict[str, Any]:
    """Measures with MedPy."""
    from medpy.metric import binary

    given: dict[str, Any] = {"voxelspacing": spacing, "connectivity": 1}
    return {
        "HD": attempt(lambda: binary.hd(guess, truth, **given)),
        "HD95": attempt(lambda: binary.hd95(guess, truth, **given)),
        "ASSD": attempt(lambda: binary.assd(guess, truth, **given)),
        "Dice": attempt(lambda: binary.dc(guess, truth)),
    }


def main() -> None:
    """Writes the file."""
    warnings.simplefilter("ignore")  # of masks that are empty
    found = {}
    for name, truth, guess, spacing in cases():
        masks = {"truth": truth, "guess": guess}
        found[name] = {
            "shape": truth.shape,
            "spacing": spacing,
            **{key: "".join(map(str, mask.ravel().astype(int))) for key, mask in masks.items()},
            "monai": ask_monai(truth, guess, spacing),
            "medpy": ask_medpy(truth, guess, spacing),
        }
    versions = {name: importlib.metadata.version(name) for name in ("monai", "medpy")}
    lines = [f"  {json.dumps(name)}: {json.dumps(case)}" for name, case in found.items()]
    start = json.dumps({"versions": versions, "tolerance": TOLERANCE})[:-1]
    (HERE / "distances.json").write_text(start + ', "cases": {\n' + ",\n".join(lines) + "\n}}\n")


if __name__ == "__main__":
    main()
