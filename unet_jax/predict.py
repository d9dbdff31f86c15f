"""Prediction: pictures in, masks in their own size and overlays out."""

import os
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
from unet_jax.eval_step import EvalStep, cut_predictions
from unet_jax.evaluate import make_eval_settings, say_other_scale
from unet_jax.logs import console
from unet_jax.multihost import is_first, wait_for_all
from unet_jax.predictions import plan_results, same_folder
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


def find_pictures(inputs: Sequence[str], output: Path) -> Pictures:
    """Finds the pictures to predict.

    Args:
        inputs: Files and folders.
        output: Folder of the results, which is left out where it lies in one of the inputs.

    Returns:
        The pictures; ids are file names, or paths below a folder, without suffix.

    Raises:
        UserError: One does not exist, is no picture, or two would have the same output.
    """
    if not inputs:
        raise UserError("--input is missing; give pictures or folders of pictures.")
    files: dict[str, Path] = {}
    for text in inputs:
        path = local_path(text, "--input")
        if path.is_dir():
            found = _list_input(path, output)
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


def _list_input(folder: Path, output: Path) -> dict[str, Path]:
    """Lists the pictures below a folder but not in the output; says how many are left out."""

    def is_output(below: Path) -> bool:
        if not same_folder(below, output):
            return False
        if count := sum(file.suffix.lower() in SUFFIXES for file in below.rglob("*")):
            console.print(
                f"{below}, the folder of the results, is left out of --input={folder}; images in "
                f"it: {count}",
                markup=False,
                soft_wrap=True,
            )
        return True

    return list_pictures(folder, "--input", without=is_output)


def local_path(text: str | Path, flag: str) -> Path:
    """Makes the path that a flag gives, in which ~ is the home directory.

    Args:
        text: The flag's value.
        flag: Its name, for the error.

    Returns:
        The path, without "..": what lies behind one may depend on folders that are not there yet.

    Raises:
        UserError: It is empty or not on this machine.
    """
    if not text or "://" in str(text):
        raise UserError(f"{flag}={text} must be a path on this machine, or mounted.")
    try:
        path = Path(text).expanduser()
    except RuntimeError:
        raise UserError(f"{flag}={text}: the home directory is not known.") from None
    return Path(os.path.realpath(path)) if ".." in path.parts else path


def predict_run(
    config: ConfigDict,
    workdir: Path,
    *,
    inputs: Sequence[str],
    output: str | Path | None,
    checkpoint: str,
    replace: bool = False,
) -> None:
    """Writes a mask and an overlay for every picture, none of them over an input.

    Args:
        config: The run's config.
        workdir: The run's directory.
        inputs: Files and folders.
        output: Folder, by default "predictions" in the run's directory; NAME.png is an indexed PNG
            of class ids in the picture's own size, and NAME_overlay.png the picture with the
            classes over it.
        checkpoint: "best" or "latest".
        replace: Whether results that are there are replaced.

    Raises:
        UserError: The run or a picture is missing or cannot be read, or the results cannot be
            written where they are asked for; then none is. See `plan_results`.
    """
    check_sections(config)
    folder = workdir / "predictions" if output is None else local_path(output, "--output")
    pictures = find_pictures(inputs, folder)
    images = dict(zip(pictures.ids, pictures.files, strict=True))
    results = plan_results(images, folder, replace=replace)
    for line in run_dir.check_same(workdir, config):
        console.print(line, markup=False)
    wait_for_all("the results are planned")  # before the first process writes any
    keys = ("image_size", "fit", "workers", "context")
    given = {key: config.data[key] for key in keys if key in config.data}
    loading = call(make_loading, "config.data", given)
    settings = call(make_eval_settings, "config.eval", config.eval)
    trained = restore(config, workdir, checkpoint, loading.image_size)
    check_batch_size("config.eval.batch_size", settings.batch_size, trained.shardings)
    say_other_scale(pictures, loading, workdir)
    step = EvalStep(trained.model, loading, trained.shardings)
    step.check(trained.variables, pictures, settings.batch_size)  # before anything is written
    batches = step.batches(trained.variables, pictures, settings.batch_size)
    with Progress(console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("predicting", total=len(pictures))
        for batch, result in batches:
            labels = cut_predictions(result["prediction"], batch) if is_first() else {}
            for index, label in labels.items():
                figures.save_indexed_png(results[index].mask, label, len(trained.class_names))
                shown = figures.overlay(pictures[index]["image"], label)
                figures.save_png(results[index].overlay, shown)
                progress.advance(task)
    classes = ", ".join(f"{k} {name}" for k, name in enumerate(trained.class_names))
    console.print(f"{len(pictures)} masks (classes: {classes}) and overlays: {folder}")
