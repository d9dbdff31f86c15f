"""Which images are to be predicted, by the names that the command line gives."""

import os
from collections.abc import Sequence
from pathlib import Path

from unet_jax.data.files import SUFFIXES, list_images
from unet_jax.data.formats import FOLDERS
from unet_jax.data.layouts.matching import is_several
from unet_jax.data.layouts.pages import PAGE
from unet_jax.data.layouts.patterns import find_channels
from unet_jax.data.parts import Part, count_pages
from unet_jax.errors import UserError
from unet_jax.predict.write import same_folder
from unet_jax.process.console import console
from unet_jax.process.paths import local_path
from unet_jax.process.regular import irregular_kind


def find_images(inputs: Sequence[str], output: Path, patterns: str = "") -> dict[str, Path | Part]:
    """Finds the images to predict; nothing but names, and numbers of pages, is read.

    Args:
        inputs: Files and folders; or FILE/{page} for the pages of a file.
        output: Folder of the results, which is left out where it lies in one of the inputs.
        patterns: config.data.folder.images; several patterns of files whose channels are one image
            say which these are in each folder.

    Returns:
        Files by id: file names, or paths below a folder, without suffix.

    Raises:
        UserError: One does not exist, is no image, or two would have the same output.
    """
    if not inputs:
        raise UserError("--input is missing; give images or folders of images.")
    files: dict[str, Path | Part] = {}
    for text in inputs:
        path = local_path(text.removesuffix(PAGE), "--input")
        is_image = path.suffix.lower() in SUFFIXES
        if text.endswith(PAGE) and is_image and os.path.exists(path):
            found = {f"{path.stem}/{n:03}": Part((path,), n) for n in range(count_pages(path))}
        elif os.path.isdir(path) and is_several(patterns):
            found = find_channels(path, patterns)
        elif os.path.isdir(path) and path.suffix.lower() not in FOLDERS:
            found = _list_input(path, output)
        elif is_image and (os.path.isfile(path) or os.path.isdir(path)):
            found = {path.stem: path}
        elif not os.path.lexists(path):
            raise UserError(f"--input={text!s:.200} does not exist.")
        else:
            kind = irregular_kind(path)
            raise UserError(
                f"--input={text!s:.200} is {f'a {kind} and ' if kind else ''}neither a folder nor "
                f"a {', '.join(SUFFIXES)} file."
            )
        for name in found.keys() & files.keys():
            raise UserError(f"{files[name]} and {found[name]} would have the same output.")
        files |= found
    if not files:
        raise UserError(f"--input={','.join(inputs)} holds no {', '.join(SUFFIXES)} files.")
    return files


def _list_input(folder: Path, output: Path) -> dict[str, Path]:
    """Lists the images below a folder but not in the output; says how many are left out."""

    def is_output(below: Path) -> bool:
        if not same_folder(below, output):
            return False
        if count := sum(file.suffix.lower() in SUFFIXES for file in below.rglob("*")):
            console.print(
                f"{below}, the folder of the results, is left out of --input={folder}; images in "
                f"it: {count}",
            )
        return True

    return list_images(folder, "--input", without=is_output)
