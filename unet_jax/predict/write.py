"""Where the results of a prediction go: planned and checked whole, then written."""

import errno
import os
import tempfile
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from unet_jax import figures
from unet_jax.data.by_class import OVERLAY, mask_name
from unet_jax.data.formats import find_format
from unet_jax.data.parts import Part, files_of
from unet_jax.data.sample import Window
from unet_jax.errors import UserError
from unet_jax.process.whole import PART_LENGTH, remove_leftovers

_NOWHERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)  # of a path that leads to no file
_ELSEWHERE = "give another --output"


class Result(NamedTuple):
    """The files that a prediction writes for one image.

    Attributes:
        masks: The mask, or one for every class where classes may overlap.
        overlay: The image with the classes over it.
    """

    masks: tuple[Path, ...]
    overlay: Path

    @property
    def files(self) -> tuple[Path, ...]:
        """Returns all of them."""
        return (*self.masks, self.overlay)


def plan_results(
    images: Mapping[str, Path | Part],
    output: Path,
    by_class: Sequence[str] = (),
    *,
    axes: int = 2,
    suffix: str = "",
    begun: Collection[str] = (),
    replace: bool = False,
) -> list[Result]:
    """Plans the files of a prediction; writes nothing.

    Files are told apart by what they are and not by how they are spelled, so that links, and file
    systems that take names of another case or composition for the same, lead to no input. Two
    results whose names differ only in case or in how accents are composed count as one on every
    file system, since they would be one where they are copied to another.

    Args:
        images: The input files by name.
        output: Folder of the results: NAME.png, or as the image's format has it, and
            NAME_overlay.png.
        by_class: Classes that have a mask each, NAME_CLASS.png; () for one mask of all.
        axes: Of pixels: 2 of images, 3 of volumes.
        suffix: Of the masks; "" for that of the image's format.
        begun: Names of images of which a killed prediction left a part, which is finished.
        replace: Whether files that are there may be replaced.

    Returns:
        The files, in the images' order.

    Raises:
        UserError: A result would be written over an input, two results have one name, one is there
            already, or the folder cannot be written.
    """
    results = []
    for name, image in images.items():
        own_suffix = suffix or find_format(_files(image)[0].name).mask_suffix(axes)
        names = [mask_name(name, class_name) for class_name in by_class] or [name]
        masks = tuple(output / f"{own}{own_suffix}" for own in names)
        results.append(Result(masks, output / f"{name}_{OVERLAY}.png"))
    files = [file for result in results for file in result.files]
    _check_folders(files, output)
    _check_names([_files(image)[0] for image in images.values()], results)
    _check_inputs([file for image in images.values() for file in _files(image)], files)
    pairs = zip(images, results, strict=True)
    new = [file for name, result in pairs if name not in begun for file in result.files]
    _check_existing(new, output, replace=replace)
    return results


def _files(image: Path | Part) -> tuple[Path, ...]:
    """Returns the local files that an image lies in."""
    return tuple(map(Path, files_of(image)))


def check_output(output: Path) -> None:
    """Checks that a folder can take results, before anything is listed or loaded; writes nothing.

    Args:
        output: The folder of the results, which need not be there.

    Raises:
        UserError: It, or what it would lie in, is no folder or cannot be written, or its path
            cannot be one.
    """
    if "\0" in str(output):
        raise UserError(f"--output={str(output)!r} has a character that no path has; {_ELSEWHERE}.")
    _check_folder(output / "x", output)


class Writer:
    """Writes the results of a prediction, each file whole or not at all."""

    def __init__(
        self, output: Path, results: Mapping[str, Result], class_names: Sequence[str]
    ) -> None:
        """Takes what was planned, by id; removes what a killed prediction left there."""
        self._output, self._results, self._classes = output, results, len(class_names)
        self._written = 0
        for folder in {file.parent for result in results.values() for file in result.files}:
            remove_leftovers(folder)

    def open(self, name: str, image: np.ndarray) -> "MaskSink":
        """Begins the mask and the overlay of an image.

        Args:
            name: Its id.
            image: [*n, C]; of a volume the overlay shows the middle slice.

        Returns:
            What takes the classes of its pixels, and writes both files when it is closed.
        """
        return MaskSink(self, name, image)

    def write(self, name: str, image: np.ndarray, label: np.ndarray) -> None:
        """Writes the mask and the overlay of an image.

        Args:
            name: Its id.
            image: [*n, C].
            label: uint8 [*n]; or [*n, K] of 0 and 1, of K masks.

        Raises:
            UserError: They cannot be written, such as on a full disk.
        """
        result, axes = self._results[name], image.ndim - 1
        shown = figures.flat_image(image), figures.flat_label(label, axes)
        is_by_class = label.ndim > axes
        masks = np.moveaxis(label, -1, 0) if is_by_class else [label]
        try:
            for file, mask in zip(result.masks, masks, strict=True):
                values = 2 if is_by_class else self._classes
                find_format(file.name).write_mask(file, np.ascontiguousarray(mask), values)
            figures.save_png(result.overlay, figures.overlay(*shown))
        except OSError as error:
            is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            cure = "Free some space" if is_full else "Mend it"
            raise UserError(
                f"{'the disk is full' if is_full else 'a result cannot be written'} "
                f"({result.masks[0]}: {error.strerror}): {self._written} of {len(self._results)} "
                f"images have their results in {self._output}. {cure} and predict again with "
                "--replace, or give another --output."
            ) from error
        self._written += 1


class MaskSink:
    """Gathers the classes of an image's pixels in memory; a `predictor.Sink`."""

    def __init__(self, writer: Writer, name: str, image: np.ndarray) -> None:
        """Takes who writes, the image's id and the image [*n, C]."""
        self._writer, self._name, self._image = writer, name, image
        self._parts: list[tuple[Window, np.ndarray]] = []

    def add(self, window: Window, decision: np.ndarray) -> None:
        """Takes the classes of a window's pixels; see `Sink`."""
        self._parts.append((window, decision))

    def close(self) -> None:
        """Writes the mask and the overlay; see `Writer.write`."""
        pixels = self._image.ndim - 1
        by_class = self._parts[0][1].shape[pixels:]
        label = np.zeros((*self._image.shape[:-1], *by_class), np.uint8)
        for window, decision in self._parts:
            label[window] = decision
        self._writer.write(self._name, self._image, label)


def same_folder(first: Path, second: Path) -> bool:
    """Tells whether two paths lead to one folder, which need not be there."""
    found = _identity(first)
    return found is not None and found == _identity(second)


def _check_folders(files: Sequence[Path], output: Path) -> None:
    """Checks that every folder is there, or can be made, and takes files of these names."""
    longest: dict[Path, Path] = {}
    for file in files:
        longest[file.parent] = max(file, longest.get(file.parent, file), key=_length)
    for file in longest.values():
        _check_folder(file, output)


def _check_folder(file: Path, output: Path) -> None:
    """Checks that the folder of a file is there, or can be made, and takes a file of this name."""
    parent = file.parent
    folder = next(path for path in (parent, *parent.parents) if os.path.lexists(path))
    if not folder.is_dir():
        raise UserError(
            f"--output={output} cannot be written: {folder} is no folder; {_ELSEWHERE}."
        )
    try:
        tempfile.TemporaryFile(dir=folder).close()  # leaves nothing
        most, longest = (os.pathconf(folder, name) for name in ("PC_NAME_MAX", "PC_PATH_MAX"))
    except OSError as error:
        raise UserError(
            f"--output={output} cannot be written: {folder}: {error.strerror}; {_ELSEWHERE}."
        ) from None
    for name in parent.relative_to(folder).parts:
        if len(os.fsencode(name)) > most:
            raise UserError(
                f"--output={output} cannot be written: the folder name {name[:40]}... is longer "
                f"than {most} bytes; {_ELSEWHERE}."
            )
    if _length(file) > most:
        raise UserError(
            f"{file} cannot be written: its name is longer than {most} bytes; rename the image."
        )
    if len(os.fsencode(parent)) + 1 + max(_length(file), PART_LENGTH) >= longest:
        raise UserError(
            f"{file} cannot be written: its path is longer than {longest} bytes; {_ELSEWHERE}."
        )


def _length(file: Path) -> int:
    return len(os.fsencode(file.name))


def _check_names(images: Sequence[Path], results: Sequence[Result]) -> None:
    """Checks that no two files have one name, and that none is the folder of another."""
    both = zip(images, results, strict=True)
    pairs = [(image, file) for image, result in both for file in result.files]
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
        if identity := _identity(image):  # else it is a dead link, which reading tells
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
