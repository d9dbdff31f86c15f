"""What predicts large images, and what is checked before it does."""

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from unet_jax.data.parts import Part
from unet_jax.data.pipeline import Size
from unet_jax.data.storage import stamp
from unet_jax.data.streamed import can_stream
from unet_jax.errors import UserError
from unet_jax.predict.opened import Opened
from unet_jax.predict.predictor import Predictor
from unet_jax.predict.store import is_of
from unet_jax.predict.tiling import Chosen
from unet_jax.process.capacity import write_bytes

MASKS = {2: (".png", ".tif", ".npy", ".zarr"), 3: (".tif", ".npy", ".zarr")}
"""Suffixes of masks that can be asked for, by the number of axes."""


class Work(NamedTuple):
    """What predicts large images.

    Attributes:
        step: Of `make_mask_step`.
        variables: {"params", "batch_stats"}.
        batch_size: See `Tiling.reading`.
        of: What decides on the results beside the images and their tiles, as JSON writes it.
    """

    step: Predictor
    variables: Any
    batch_size: int
    of: Mapping[str, Any]

    @property
    def is_whole(self) -> bool:
        """Returns whether an image has to be in memory, since black and white are found in it."""
        how = self.step.loading.normalise
        return how.is_of_image and not can_stream(how, self.step.spec)

    def choose(self) -> Chosen:
        """Returns the reads; see `Tiling.choose`."""
        return self.step.tiling.choose(self.variables, self.batch_size)

    def identity(self, image: Opened) -> dict[str, Any]:
        """Returns all that the bytes of an image's masks follow from."""
        chosen, file, tiling = self.choose(), image.file, self.step.tiling
        return {
            **self.of,
            "image": [str(file), file.stamp() if isinstance(file, Part) else stamp(file)],
            "size": image.header.shape,
            "tiles": [chosen.lengths, chosen.rows, tiling.halo, tiling.settings],
        }


def check_large(work: Work, images: Mapping[str, Opened], output: Path, *, replace: bool) -> None:
    """Checks what can go wrong with the results of large images, before any is predicted.

    Args:
        work: What predicts them.
        images: By name.
        output: Folder of the results.
        replace: Whether results that are there may be replaced.

    Raises:
        UserError: There is too little space for them; or results that are there are not what a
            killed prediction of the same image by the same model left.
    """
    sizes = [image.header.shape for image in images.values()]
    masks = max((len(image.results.masks) for image in images.values()), default=0)
    check_space(output, sizes, masks)
    for image in () if replace else images.values():
        there = [file for file in image.results.files if file.exists()]
        if there and not is_of(image.results.store, work.identity(image)):
            raise UserError(
                f"{there[0]} is there already, and another model, image or tile made it; replace "
                "it with --replace, or give another --output."
            )


def check_suffix(suffix: str, axes: int) -> None:
    """Checks the suffix that masks are to have.

    Args:
        suffix: Value of --mask_suffix; "" for that of the image's format.
        axes: Of the images.

    Raises:
        UserError: No mask of so many axes has it.
    """
    if suffix and suffix not in MASKS[axes]:
        raise UserError(
            f"--mask_suffix={suffix!r:.80} is none that masks of {axes} axes can have; allowed are "
            f"{', '.join(MASKS[axes])}."
        )


def check_space(output: Path, sizes: Sequence[Size], masks: int) -> None:
    """Checks that there is space for the masks of large images, before any is predicted.

    Args:
        output: Folder of the results, which need not be there.
        sizes: [*n] of the images.
        masks: Of each image.

    Raises:
        UserError: There is too little.
    """
    pixels = [math.prod(size) * masks for size in sizes]
    needed = sum(pixels) + max(pixels, default=0)  # results, and the store of one image
    there = next(path for path in (output, *output.parents) if path.exists())
    found = os.statvfs(there)
    free = found.f_bavail * found.f_frsize
    if needed > free:
        raise UserError(
            f"--output={output} has {write_bytes(free)} free, and the masks of {len(sizes)} large "
            f"images may take {write_bytes(needed)}: free some space or give another --output."
        )
