"""Archives that `numpy.savez` wrote, of one array, or with one that is named as what it is."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np

from unet_jax.data.formats.base import Header, Mask, Shape, check_claim, may_pass
from unet_jax.data.formats.npy import Stored, write_array
from unet_jax.data.retry import one_line
from unet_jax.data.sample import Window
from unet_jax.errors import UserError
from unet_jax.process.whole import write_whole, writing_whole

_IMAGE, _MASK = "image", "mask"  # the names of arrays where there are several


class Npz:
    """The format of .npz files, compressed or not; see `Npy` for the array.

    Where an archive holds several arrays, an image is the one named "image", a mask "mask". Its
    checksum is verified whenever it is read, so that damage is an error.
    """

    is_folder = False

    def mask_suffix(self, axes: int) -> str:
        """Returns that of the mask; see `Format`."""
        return ".npz"

    def header(self, file: IO[bytes], name: str, axes: int | None) -> Header:
        """Reads the header, which is in the first bytes of the array; see `Format`."""
        with _Archive(file, name) as archive:
            return archive.array(_MASK if axes is None else _IMAGE, all_of_it=False).header(axes)

    def read(
        self, file: IO[bytes], name: str, axes: int, window: Window | None = None
    ) -> np.ndarray:
        """Reads an image; see `Format`."""
        with _Archive(file, name) as archive:
            return archive.array(_IMAGE).image(axes, window)

    def read_mask(self, file: IO[bytes], name: str, window: Window | None = None) -> Mask:
        """Reads a mask; see `Format`."""
        with _Archive(file, name) as archive:
            return archive.array(_MASK).mask(window)

    def write_mask(self, file: Path, ids: np.ndarray, num_classes: int) -> None:
        """Writes a mask; see `Format`."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, mask=ids)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, buffer.getvalue())

    def reads_windows(self, file: IO[bytes], name: str, axes: int) -> bool:
        """Returns False: arrays are unpacked whole; see `Format`."""
        return False

    def write_windows(
        self, file: Path, read: Callable[[Window], np.ndarray], shape: Shape, num_classes: int
    ) -> None:
        """Writes a mask row by row; see `Format`."""
        member = zipfile.ZipInfo(f"{_MASK}.npy")  # of 1980, whenever it is written
        member.compress_type = zipfile.ZIP_DEFLATED
        with (
            writing_whole(file) as stream,
            zipfile.ZipFile(stream, "w") as archive,
            archive.open(member, "w", force_zip64=True) as opened,
        ):
            write_array(opened, read, shape)


class _Archive:
    """An open archive; use it as a context, in which what damage raises is a `UserError`."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        """Takes the open file and its name."""
        self._file, self._name = file, name

    def __enter__(self) -> "_Archive":
        """Does nothing yet."""
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Says what could not be read."""
        is_other = isinstance(error, UserError) or (error is not None and may_pass(error))
        if isinstance(error, Exception) and not is_other:
            raise UserError(
                f"{self._name} cannot be read as an npz file ({one_line(error)}); replace it or "
                "take it out of the data."
            ) from None

    def array(self, name: str, *, all_of_it: bool = True) -> Stored:
        """Finds an array.

        Args:
            name: That it has, if there are several.
            all_of_it: Whether to read and verify it; else only its first bytes.

        Returns:
            The array.
        """
        archive = zipfile.ZipFile(self._file)
        names = [n.removesuffix(".npy") for n in archive.namelist() if n.endswith(".npy")]
        if len(names) != 1 and names.count(name) != 1:
            raise UserError(
                f"{self._name} holds {len(names)} arrays ({', '.join(names[:10])}), none or "
                f"several named {name!r}; save one array, or name one {name!r}."
            )
        member = archive.getinfo(f"{names[0] if len(names) == 1 else name}.npy")
        with archive.open(member) as stream:
            if not all_of_it:
                return Stored(stream, self._name)
            check_claim((member.file_size,), 1, member.compress_size, self._name)
            return Stored(io.BytesIO(stream.read()), self._name)
