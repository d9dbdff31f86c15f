"""Masks of images that need not fit into memory, for the library: into arrays and files."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import Progress

from unet_jax.data.formats import find_format
from unet_jax.errors import UserError
from unet_jax.predict.inputs import Images
from unet_jax.predict.large import predict_large, run_parts
from unet_jax.predict.opened import Results
from unet_jax.predict.store import remove_store, store_folder
from unet_jax.predict.work import MASKS, Work, check_large
from unet_jax.process.console import console


def check_mask(mask: Any, size: tuple[int, ...], classes: int) -> None:
    """Checks where a mask is to go, before anything is predicted.

    Args:
        mask: See `Run.stream`.
        size: [*n] of the image.
        classes: K of classes that may overlap; 0 where a pixel has one.

    Raises:
        UserError: It has another shape, or cannot be such a file.
    """
    if not isinstance(mask, str | os.PathLike):
        expected = (*size, classes) if classes else size
        shape = getattr(mask, "shape", expected)
        if not hasattr(mask, "__setitem__") or tuple(shape) != expected:
            what = type(mask).__name__ if shape == expected else f"of the shape {tuple(shape)}"
            raise UserError(
                f"mask is {what}; expected a file, or what takes mask[window] = part, of the shape "
                f"{expected}."
            )
        return
    file, allowed = Path(mask).expanduser(), ", ".join(MASKS[len(size)])
    if classes:
        raise UserError(
            f"mask={os.fspath(mask)!r} is one file, and the run's classes may overlap; give an "
            f"array of the shape {(*size, classes)}."
        )
    if file.suffix not in MASKS[len(size)]:
        raise UserError(f"mask={os.fspath(mask)!r} must end in one of {allowed}.")
    if not file.parent.is_dir():
        raise UserError(f"mask={os.fspath(mask)!r}: the folder {file.parent} is not there.")
    if file.exists():
        raise UserError(f"mask={os.fspath(mask)!r} is there already; remove it, or give another.")


def write_mask(mask: str | os.PathLike[str], ids: np.ndarray, classes: int) -> None:
    """Writes a mask uint8 [*n], whole or not at all; see `check_mask`."""
    file = Path(mask).expanduser()
    find_format(file.name).write_mask(file, ids, classes)


def stream_large(work: Work, source: Images, mask: Any, classes: int) -> None:
    """Predicts a large image part by part; see `Run.stream`.

    Args:
        work: What predicts it.
        source: The image.
        mask: Where its classes go.
        classes: Values in it are below it.

    Raises:
        UserError: A part cannot be read; into a file, all others are kept.
    """
    is_file = isinstance(mask, str | os.PathLike)
    file = Path(mask).expanduser() if is_file else Path()
    store = store_folder(file.parent, file.name)
    image = source.opened(0, Results((file,), (), classes, store))
    if not is_file:
        for part in run_parts(work, image, image.reader(is_whole=work.is_whole)):
            if part.error:
                raise UserError(part.error)
            mask[part.kept] = part.values["prediction"]
        return
    check_large(work, {file.name: image}, file.parent, replace=False)
    with Progress(console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(file.name, total=None)

        def progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        if error := predict_large(work, image, progress=progress):
            raise UserError(error)
    remove_store(store)
