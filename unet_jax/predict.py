"""Prediction: pictures in, masks in their own size and overlays out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from rich.progress import Progress

from unet_jax import figures
from unet_jax import workdir as run_dir
from unet_jax.config import call, check_sections
from unet_jax.data import storage
from unet_jax.data.base import IGNORE
from unet_jax.data.files import SUFFIXES, list_pictures, read_size
from unet_jax.data.images import decode_image
from unet_jax.data.sources import make_loading
from unet_jax.errors import UserError
from unet_jax.evaluate import crop_predictions, make_eval_settings, make_eval_step, run_batches
from unet_jax.logs import console
from unet_jax.multihost import is_first
from unet_jax.sharding import check_batch_size
from unet_jax.trained import restore


class Pictures:
    """Pictures without labels, as a source whose every pixel is ignored."""

    def __init__(self, files: dict[str, Path]) -> None:
        """Takes the files by id."""
        self.ids, self.files = tuple(files), tuple(files.values())

    def __len__(self) -> int:
        return len(self.files)

    def size(self, index: int) -> tuple[int, int]:
        """Returns (height, width) without decoding."""
        return read_size(self.files[int(index)])

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Decodes one picture; see `base.Source`."""
        file = self.files[int(index)]
        image = decode_image(storage.read_bytes(file), str(file))
        return {
            "image": image,
            "label": np.full(image.shape[:2], IGNORE, np.uint8),
            "id": file.stem,
        }


def find_pictures(inputs: Sequence[str]) -> Pictures:
    """Finds the pictures to predict.

    Args:
        inputs: Files and folders.

    Returns:
        The pictures; ids are file names, or paths below a folder, without suffix.

    Raises:
        UserError: One does not exist, is no picture, or two would have the same output.
    """
    if not inputs:
        raise UserError("--input is missing; give pictures or folders of pictures.")
    files: dict[str, Path] = {}
    for text in inputs:
        path = Path(text).expanduser()
        if path.is_dir():
            found = list_pictures(path, "--input")
        elif path.is_file() and path.suffix.lower() in SUFFIXES:
            found = {path.stem: path}
        else:
            raise UserError(f"--input={text} is neither a folder nor a {', '.join(SUFFIXES)} file.")
        for name in found.keys() & files.keys():
            raise UserError(f"{files[name]} and {found[name]} would have the same output.")
        files |= found
    if not files:
        raise UserError(f"--input={','.join(inputs)} holds no {', '.join(SUFFIXES)} files.")
    return Pictures(files)


def predict_run(
    config: ConfigDict, workdir: Path, *, inputs: Sequence[str], output: Path, checkpoint: str
) -> None:
    """Writes a mask and an overlay for every picture.

    Args:
        config: The run's config.
        workdir: The run's directory.
        inputs: Files and folders.
        output: Folder; NAME.png is an indexed PNG of class ids in the picture's own size, and
            NAME_overlay.png the picture with the classes over it.
        checkpoint: "best" or "latest".

    Raises:
        UserError: The run or a picture is missing or cannot be read.
    """
    check_sections(config)
    for line in run_dir.check_same(workdir, config):
        console.print(line, markup=False)
    pictures = find_pictures(inputs)
    keys = ("image_size", "fit", "workers", "context")
    given = {key: config.data[key] for key in keys if key in config.data}
    loading = call(make_loading, "config.data", given)
    settings = call(make_eval_settings, "config.eval", config.eval)
    trained = restore(config, workdir, checkpoint, loading.image_size)
    check_batch_size("config.eval.batch_size", settings.batch_size, trained.shardings)
    step = make_eval_step(trained.model, trained.shardings)
    batches = run_batches(
        step, trained.variables, pictures, loading, settings.batch_size, trained.shardings
    )
    with Progress(console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("predicting", total=len(pictures))
        for batch, result in batches:
            labels = crop_predictions(result["prediction"], batch) if is_first() else {}
            for index, label in labels.items():
                file = output / f"{pictures.ids[index]}.png"
                figures.save_indexed_png(file, label, len(trained.class_names))
                shown = figures.overlay(pictures[index]["image"], label)
                figures.save_png(file.with_name(f"{file.stem}_overlay.png"), shown)
                progress.advance(task)
    classes = ", ".join(f"{k} {name}" for k, name in enumerate(trained.class_names))
    console.print(f"{len(pictures)} masks (classes: {classes}) and overlays: {output}")
