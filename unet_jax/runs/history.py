"""What the figures of a run are drawn from: what each evaluation showed, on the disk."""

import io
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from unet_jax.process.whole import write_whole
from unet_jax.runs import layout
from unet_jax.runs.intact import read_arrays, read_counts

OF_END = ("curves", "sizes", "worst", "errors")
"""Figures of the evaluation of the best step; where the last one is, all are that can be drawn."""
OVER_TIME, CURVES = "predictions_over_time.png", "learning_curves.png"
_CONFUSION, _EXTREME = "confusion", "extreme_"


class Material(NamedTuple):
    """What an evaluation left.

    Attributes:
        predictions: uint8 [*n] by index, of the images that are shown.
        confusion: int [K, K] of the split, or [K, 2, 2] of independent classes; None where an older
            version left none.
        extremes: As `predictions`, of the images that stand out by their score.
    """

    predictions: dict[int, np.ndarray]
    confusion: np.ndarray | None
    extremes: dict[int, np.ndarray]


def save(
    workdir: Path,
    step: int,
    predictions: Mapping[int, np.ndarray],
    confusion: np.ndarray,
    extremes: Mapping[int, np.ndarray] = MappingProxyType({}),
) -> None:
    """Leaves what the figures of an evaluation are drawn from.

    Figures of an earlier evaluation of this step go first: those that are there are always of the
    material that is there.

    Args:
        workdir: The run's directory.
        step: Steps taken.
        predictions: uint8 [*n], or [*n, K] by class, by index, of the images that are shown.
        confusion: int [K, K] of the split, or [K, 2, 2] of independent classes.
        extremes: As `predictions`, of the images that stand out by their score.
    """
    for figure in (*figures_of(workdir, step), *_figures_of_end(workdir, f"{step:08d}")):
        figure.unlink(missing_ok=True)
    arrays = {str(index): label for index, label in predictions.items()}
    arrays |= {f"{_EXTREME}{index}": label for index, label in extremes.items()}
    write_arrays(_file(workdir, step), arrays | {_CONFUSION: confusion})


def write_arrays(file: Path, arrays: Mapping[str, np.ndarray], **more: np.ndarray) -> None:
    """Writes an npz file of arrays by name, whole or not at all; its folder is made."""
    file.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    named: dict[str, Any] = {**arrays, **more}
    np.savez_compressed(buffer, **named)
    write_whole(file, buffer.getvalue())


def steps(workdir: Path, until: int | None = None) -> list[int]:
    """Returns the steps whose material is there, sorted.

    Args:
        workdir: The run's directory.
        until: The last one that counts, since later ones will be evaluated again; None for all.
    """
    files = _folder(workdir).glob("*.npz")
    found = sorted(int(file.stem) for file in files if file.stem.isdecimal())
    return [step for step in found if until is None or step <= until]


def load(workdir: Path, step: int) -> Material | None:
    """Reads the material of a step; None where it is not what a run wrote.

    Args:
        workdir: The run's directory.
        step: One of `steps`.
    """
    try:
        arrays = read_arrays(_file(workdir, step))
        counts = workdir / layout.EVALUATIONS / f"val_{step:08d}.npz"
        if _CONFUSION not in arrays and counts.exists():  # of an older version
            by_image = read_counts(counts)[1].get("overlap/confusion")
            arrays |= {} if by_image is None else {_CONFUSION: by_image.sum(axis=0)}
        confusion = arrays.pop(_CONFUSION, None)
        extremes = {
            int(name.removeprefix(_EXTREME)): arrays.pop(name)
            for name in list(arrays)
            if name.startswith(_EXTREME)
        }
        shown = {int(index): arrays[index] for index in sorted(arrays, key=int)}
        return Material(shown, confusion, extremes)
    except ValueError:
        return None


def load_counts(workdir: Path, step: int) -> dict[str, np.ndarray]:
    """Reads what was counted of every validation image; {} where it is not what a run wrote.

    Args:
        workdir: The run's directory.
        step: Of the evaluation.
    """
    try:
        return read_counts(workdir / layout.EVALUATIONS / f"val_{step:08d}.npz")[1]
    except ValueError:
        return {}


def figures_of(workdir: Path, step: int) -> tuple[Path, Path]:
    """Returns the files of the figures of one evaluation, the last one to be written last."""
    names = f"confusion_{step:08d}.png", f"predictions_{step:08d}.png"
    return workdir / layout.FIGURES / names[0], workdir / layout.FIGURES / names[1]


def _figures_of_end(workdir: Path, step: str) -> list[Path]:
    return [
        file for kind in OF_END for file in (workdir / layout.FIGURES).glob(f"{kind}_{step}.png")
    ]


def remove_end(workdir: Path) -> None:
    """Removes the figures that the evaluation of the best step alone has: another may be the best.

    Args:
        workdir: The run's directory.
    """
    for figure in _figures_of_end(workdir, "[0-9]" * 8 + "*"):
        figure.unlink()


def lacks_end(workdir: Path, step: int) -> bool:
    """Tells whether a figure is missing that the evaluation of the best step alone has."""
    if (workdir / layout.FIGURES / f"errors_{step:08d}.png").exists():
        return False
    material = load(workdir, step) if step in steps(workdir) else None
    return material is not None and bool(material.predictions)


def missing(workdir: Path, until: int | None = None) -> list[int]:
    """Returns the steps of which a figure is missing that can be drawn.

    Args:
        workdir: The run's directory.
        until: See `steps`.

    Returns:
        The steps, sorted; the figures of all evaluations together are those of the last one.
    """
    found = steps(workdir, until)
    of_all = [workdir / layout.FIGURES / name for name in (OVER_TIME, CURVES)]
    some = []
    for step in found:
        files = [*figures_of(workdir, step), *(of_all if step == found[-1] else [])]
        if all(file.exists() for file in files):
            continue
        material = load(workdir, step)
        if material and material.predictions and material.confusion is not None:
            some.append(step)
    return some


def _folder(workdir: Path) -> Path:
    return workdir / layout.FIGURES / "history"


def _file(workdir: Path, step: int) -> Path:
    return _folder(workdir) / f"{step:08d}.npz"
