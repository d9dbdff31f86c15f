"""Where the results of a prediction go: planned and checked whole, before any is written."""

import errno
import os
import tempfile
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from unet_jax.data.formats import find_format
from unet_jax.data.parts import Part, files_of
from unet_jax.errors import UserError
from unet_jax.predict.outputs import DEFAULT, OUTPUTS
from unet_jax.process.whole import PART_LENGTH

_NOWHERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)  # of a path that leads to no file
_ELSEWHERE = "give another --output"


class Result(NamedTuple):
    """The files that a prediction writes for one image, or for all of them together.

    Attributes:
        by_output: By name in `OUTPUTS`.
    """

    by_output: Mapping[str, tuple[Path, ...]]

    @property
    def files(self) -> tuple[Path, ...]:
        """Returns all of them."""
        return tuple(file for files in self.by_output.values() for file in files)


class Plan(NamedTuple):
    """The files that a prediction writes.

    Attributes:
        results: By id of an image.
        common: Of the whole prediction.
    """

    results: Mapping[str, Result]
    common: Result

    @property
    def files(self) -> list[Path]:
        """Returns all of them."""
        found = [file for result in self.results.values() for file in result.files]
        return [*found, *self.common.files]


def plan_results(
    images: Mapping[str, Path | Part],
    output: Path,
    by_class: Sequence[str] = (),
    *,
    outputs: Sequence[str] = DEFAULT,
    axes: int = 2,
    suffix: str = "",
    begun: Collection[str] = (),
    replace: bool = False,
) -> Plan:
    """Plans the files of a prediction; writes nothing.

    Files are told apart by what they are and not by how they are spelled, so that links, and file
    systems that take names of another case or composition for the same, lead to no input. Two
    results whose names differ only in case or in how accents are composed count as one on every
    file system, since they would be one where they are copied to another.

    Args:
        images: The input files by name.
        output: Folder of the results.
        by_class: Classes that have a mask each, NAME_CLASS.png; () for one mask of all.
        outputs: What is written, names in `OUTPUTS`.
        axes: Of pixels: 2 of images, 3 of volumes.
        suffix: Of the masks; "" for that of the image's format.
        begun: Names of images of which a killed prediction left a part, which is finished.
        replace: Whether files that are there may be replaced.

    Returns:
        The files.

    Raises:
        UserError: A result would be written over an input, two results have one name, one is there
            already, or the folder cannot be written.
    """
    kinds = {name: OUTPUTS[name] for name in outputs}
    results = {}
    for name, image in images.items():
        own = suffix or find_format(_files(image)[0].name).mask_suffix(axes)
        results[name] = Result(
            {
                key: tuple(output / file for file in kind.files(name, own, by_class))
                for key, kind in kinds.items()
            }
        )
    common = {key: tuple(output / file for file in kind.common) for key, kind in kinds.items()}
    plan = Plan(results, Result(common))
    firsts = [str(_files(image)[0]) for image in images.values()]
    _check_folders(plan.files, output)
    _check_names([*firsts, "all images"], [*results.values(), plan.common])
    _check_inputs([file for image in images.values() for file in _files(image)], plan.files)
    new = [file for name in results if name not in begun for file in results[name].files]
    _check_existing([*new, *plan.common.files], output, replace=replace)
    return plan


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


def _check_names(images: Sequence[str], results: Sequence[Result]) -> None:
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
    taken: dict[str, str] = {}
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
