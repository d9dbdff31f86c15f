"""The images to predict: found by the names that the command line gives, and read."""

import copy
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from unet_jax.data.files import SUFFIXES, list_images, read_header, read_image
from unet_jax.data.formats import FOLDERS
from unet_jax.data.formats.base import Header
from unet_jax.data.layouts.matching import is_several
from unet_jax.data.layouts.pages import PAGE
from unet_jax.data.layouts.patterns import find_channels
from unet_jax.data.parts import Part, count_pages
from unet_jax.data.sample import Sample, Spec, Window, check_spec, whole
from unet_jax.data.sources import Loading
from unet_jax.errors import UserError
from unet_jax.models.pretrained.torch_layout import listed
from unet_jax.predict.opened import Opened, Results
from unet_jax.predict.planned import same_folder
from unet_jax.process.console import console
from unet_jax.process.multihost import in_any
from unet_jax.process.paths import local_path
from unet_jax.process.regular import LARGEST, irregular_kind


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


class Images:
    """Images to predict, as a source without labels.

    Attributes:
        ids: Names.
        files: By index.
        headers: By index.
    """

    def __init__(
        self, files: Mapping[str, Path | Part], headers: Sequence[Header], largest: int = LARGEST
    ) -> None:
        """Takes the files by id, their headers, and MiB of the largest."""
        self.ids, self.files = tuple(files), tuple(files.values())
        self.headers, self._largest = tuple(headers), largest
        self._size: tuple[int, ...] | None = None

    def __len__(self) -> int:
        return len(self.files)

    @property
    def spec(self) -> Spec:
        """Returns the spec of the first image; see `Source`."""
        return self.headers[0].spec()

    def shape(self, index: int) -> tuple[int, ...]:
        """Returns the pixels along each axis without decoding; see `Source`."""
        return self.headers[int(index)].shape

    def reduced(self, size: tuple[int, ...]) -> "Images":
        """Returns the source that decodes JPEG files at a reduced scale; see `Reducible`."""
        other = copy.copy(self)
        other._size = size
        return other

    def read(self, index: int, window: Window | None = None) -> Sample:
        """Decodes one image; see `Source`."""
        file, header = self.files[int(index)], self.headers[int(index)]
        image = read_image(file, len(header.shape), self._largest, window, self._size)
        size = tuple(part.stop - part.start for part in window or whole(header.shape))
        is_of_header = image.shape[:-1] in (size, self._size) and image.dtype == header.dtype
        if not is_of_header or image.shape[-1] != header.channels:
            raise UserError(f"{file} has changed while it was read.")
        return Sample(image, None, file.stem, header.spacing)

    def only(self, spec: Spec) -> tuple["Images", dict[str, str]]:
        """Leaves out images that are not of a kind.

        Args:
            spec: The kind.

        Returns:
            The others, and why these are left out, by id.

        Raises:
            UserError: No image is left.
        """
        failed = {}
        for name, file, header in zip(self.ids, self.files, self.headers, strict=True):
            try:
                whose = "what the model was trained on has"
                check_spec(str(file), header.spec(), spec, whose)
            except UserError as error:
                failed[name] = str(error)
        if len(failed) == len(self):
            raise UserError(next(iter(failed.values())))
        kept = [i for i, name in enumerate(self.ids) if name not in failed]
        return self.pick(kept), failed

    def pick(self, indices: Sequence[int]) -> "Images":
        """Returns some of the images."""
        files = {self.ids[i]: self.files[i] for i in indices}
        return Images(files, [self.headers[i] for i in indices], self._largest)

    def opened(self, index: int, results: Results) -> Opened:
        """Returns an image of which nothing is read yet, with where its results go."""
        return Opened(self.files[index], self.headers[index], self._largest, results)


def open_images(
    files: Mapping[str, Path | Part], loading: Loading
) -> tuple[Images, dict[str, str]]:
    """Reads the headers of all images, and names in one line those that are left out.

    All processes leave the same ones out.

    Args:
        files: By id.
        loading: How many threads read, and the largest file.

    Returns:
        The images that can be read so far, and why others cannot, by id.

    Raises:
        UserError: None can be read.
    """

    def attempt(file: Path | Part) -> Header | UserError:
        try:
            return read_header(file, loading.largest_file, len(loading.image_size))
        except UserError as error:
            return error

    with ThreadPoolExecutor(loading.workers) as pool:
        found = list(pool.map(attempt, files.values()))
    is_lost = in_any([isinstance(header, UserError) for header in found])
    good, headers, failed = {}, [], {}
    for (name, file), header, flag in zip(files.items(), found, is_lost, strict=True):
        if isinstance(header, UserError):
            failed[name] = str(header)
        elif flag:
            failed[name] = elsewhere(file)
        else:
            good[name] = file
            headers.append(header)
    if not good:
        more = f" (none of the {len(files)} images can be read)" if len(files) > 1 else ""
        raise UserError(f"{next(iter(failed.values()))}{more}")
    if failed:
        names = listed((str(files[name]) for name in failed), most=10)
        console.print(
            f"{len(failed)} of {len(files)} images cannot be read and are left out: {names}"
        )
    return Images(good, headers, loading.largest_file), failed


def elsewhere(file: Path | Part) -> str:
    """Says of an image that only another process cannot read it."""
    return f"{file} cannot be read by another process, which tells why."
