"""Where the results of a prediction go: planned and checked whole before anything is written."""

import errno
import os
import tempfile
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from unet_jax.errors import UserError

_NOWHERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)  # of a path that leads to no file
_ELSEWHERE = "give another --output"


class Result(NamedTuple):
    """The files that a prediction writes for one image."""

    mask: Path
    overlay: Path


def plan_results(
    images: Mapping[str, Path], output: Path, *, replace: bool = False
) -> list[Result]:
    """Plans the files of a prediction; writes nothing.

    Files are told apart by what they are and not by how they are spelled, so that links, and file
    systems that take names of another case or composition for the same, lead to no input. Two
    results whose names differ only in case or in how accents are composed count as one on every
    file system, since they would be one where they are copied to another.

    Args:
        images: The input files by name.
        output: Folder of the results, NAME.png and NAME_overlay.png.
        replace: Whether files that are there may be replaced.

    Returns:
        The files, in the images' order.

    Raises:
        UserError: A result would be written over an input, two results have one name, one is there
            already, or the folder cannot be written.
    """
    results = [Result(output / f"{name}.png", output / f"{name}_overlay.png") for name in images]
    files = [file for result in results for file in result]
    _check_folders(files, output)
    _check_names(list(images.values()), results)
    _check_inputs(list(images.values()), files)
    _check_existing(files, output, replace=replace)
    return results


def same_folder(first: Path, second: Path) -> bool:
    """Tells whether two paths lead to one folder, which need not be there."""
    found = _identity(first)
    return found is not None and found == _identity(second)


def _check_folders(files: Sequence[Path], output: Path) -> None:
    """Checks that every folder is there, or can be made, and takes files of these names."""
    longest: dict[Path, Path] = {}
    for file in files:
        longest[file.parent] = max(file, longest.get(file.parent, file), key=_length)
    for parent, file in longest.items():
        folder = next(path for path in (parent, *parent.parents) if os.path.lexists(path))
        if not folder.is_dir():
            raise UserError(f"--output={output} cannot be written: {folder} is no folder.")
        try:
            tempfile.TemporaryFile(dir=folder).close()  # leaves nothing
            most = os.pathconf(folder, "PC_NAME_MAX")
        except OSError as error:
            raise UserError(
                f"--output={output} cannot be written: {folder}: {error.strerror}; {_ELSEWHERE}."
            ) from None
        if _length(file) > most:
            raise UserError(
                f"{file} cannot be written: its name is longer than {most} bytes; rename the image."
            )


def _length(file: Path) -> int:
    return len(os.fsencode(file.name))


def _check_names(images: Sequence[Path], results: Sequence[Result]) -> None:
    """Checks that no two files have one name, and that none is the folder of another."""
    pairs = [(image, file) for image, files in zip(images, results, strict=True) for file in files]
    example = {file.parent: image for image, file in pairs}
    real = {folder: Path(os.path.realpath(folder)) for folder in example}
    folders = {
        _one_spelling(above): image
        for folder, image in example.items()
        for above in (real[folder], *real[folder].parents)
    }
    taken: dict[str, Path] = {}
    for image, file in pairs:
        key = _one_spelling(real[file.parent] / file.name)
        if key in taken:
            raise UserError(
                f"the results of {taken[key]} and {image} would have one name, {file} (case and "
                "composed accents do not tell names apart); rename one of the images, or predict "
                "them one by one with an --output each."
            )
        if key in folders:
            raise UserError(
                f"{file}, a result of {image}, would have the name of the folder for the results "
                f"of {folders[key]}; rename one of the images, or predict them one by one with an "
                "--output each."
            )
        taken[key] = image


def _one_spelling(path: Path) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", str(path)).casefold())


def _check_inputs(images: Sequence[Path], files: Sequence[Path]) -> None:
    inputs: dict[tuple[int, int], Path] = {}
    for image in images:
        identity = _identity(image)
        if identity is None:
            raise UserError(f"{image} cannot be read: no such file; remove it or mend the link.")
        inputs[identity] = image
    meet = [(file, inputs[found]) for file in files if (found := _identity(file)) in inputs]
    if meet:
        file, image = meet[0]
        raise UserError(
            f"{file} would be written over the input {image} ({len(meet)} of {len(files)} files to "
            f"be written are inputs); {_ELSEWHERE}."
        )


def _check_existing(files: Sequence[Path], output: Path, *, replace: bool) -> None:
    existing = [file for file in files if os.path.lexists(file)]
    for file in existing:
        is_dead_link = file.is_symlink() and _identity(file) is None
        if not (is_dead_link or file.is_file()):
            raise UserError(f"{file} is no file and is not replaced; move it or {_ELSEWHERE}.")
    if existing and not replace:
        raise UserError(
            f"--output={output} holds {len(existing)} of the {len(files)} files to be written, the "
            f"first is {existing[0]}; replace them with --replace if an earlier prediction wrote "
            f"them, or {_ELSEWHERE}."
        )


def _identity(path: Path) -> tuple[int, int] | None:
    """Returns what tells a file or folder from any other; None where the path leads to none."""
    try:
        stat = path.stat()
    except OSError as error:
        if error.errno in _NOWHERE:
            return None
        raise UserError(f"{path} cannot be read or written: {error.strerror}.") from None
    return stat.st_dev, stat.st_ino
