"""Masks of images that are too large for one piece, in memory that does not grow with them."""

import math
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from rich.progress import MofNCompleteColumn, Progress, TaskID

from unet_jax import figures
from unet_jax.data.files import AnyFile, read_image, reads_windows
from unet_jax.data.formats import find_format
from unet_jax.data.formats.base import Header
from unet_jax.data.pipeline import Size
from unet_jax.data.sample import Window, whole, written
from unet_jax.data.storage import stamp
from unet_jax.data.streamed import can_stream, find_ends
from unet_jax.errors import UserError
from unet_jax.predict.predictor import Predictor
from unet_jax.predict.store import MOST_SIDE, Store, remove_store
from unet_jax.predict.tiled import Large
from unet_jax.predict.values import OtherValues
from unet_jax.predict.windows import Read
from unet_jax.process.capacity import host_memory, write_bytes
from unet_jax.process.console import console
from unet_jax.process.multihost import in_any, is_first

MASKS = {2: (".png", ".tif", ".npy", ".zarr"), 3: (".tif", ".npy", ".zarr")}
"""Suffixes of masks that can be asked for, by the number of axes."""

_WHOLE = "with percentiles of each image (config.data.normalise) is"
_CURES = {
    True: "use percentiles of the training images, or another kind",
    False: "convert it to a tiled TIFF file or OME-Zarr",
}
_COPIES = 3  # of an image, that decoding it whole may hold at once


class Opened(NamedTuple):
    """A large image to predict.

    Attributes:
        file: Its file.
        header: What the file says of itself.
        largest: MiB that it may have.
    """

    file: AnyFile
    header: Header
    largest: int

    def reader(self, *, is_whole: bool) -> Read:
        """Returns what reads its windows.

        Args:
            is_whole: Whether it has to be in memory in any case.

        Raises:
            UserError: It is decoded whole, and there is too little memory for that.
        """
        axes = len(self.header.shape)
        if not is_whole and reads_windows(self.file, axes, self.largest):
            return self._window
        taken = math.prod(self.header.shape) * self.header.channels
        taken *= _COPIES * np.dtype(self.header.dtype).itemsize
        if taken > host_memory():
            raise UserError(
                f"{self.file} ({written(self.header.shape)} pixels) "
                f"{_WHOLE if is_whole else 'is of a format that is'} decoded whole, which takes "
                f"{write_bytes(taken)}, and there are {write_bytes(host_memory())}: "
                f"{_CURES[is_whole]}."
            )
        return self._check(read_image(self.file, axes, self.largest), whole(self.header.shape))

    def _window(self, window: Window) -> np.ndarray:
        image = read_image(self.file, len(window), self.largest, window)
        self._check(image, window)
        return image

    def _check(self, image: np.ndarray, window: Window) -> Read:
        size = tuple(part.stop - part.start for part in window)
        if image.shape != (*size, self.header.channels) or image.dtype != self.header.dtype:
            raise UserError(f"{self.file} has changed while it was read.")
        return image.__getitem__


class Preview:
    """The small image of which an overlay is made: every so many pixels, of a volume its middle.

    Attributes:
        shape: [h, w, bytes], as a store keeps it.
    """

    def __init__(self, header: Header) -> None:
        """Plans it."""
        *before, height, width = header.shape
        self._step = -(-max(height, width) // MOST_SIDE)
        self._middle = tuple(n // 2 for n in before)
        self._channels = 3 if header.channels >= 3 else 1
        self._dtype = np.dtype(header.dtype)
        self._rows = slice(0, height, self._step)
        size = -(-height // self._step), -(-width // self._step)
        self.shape = (*size, self._channels * self._dtype.itemsize)

    def part(self, window: Window, image: np.ndarray) -> tuple[Window, np.ndarray] | None:
        """Takes its pixels out of a window of the image; None where there are none."""
        *before, rows, columns = window
        place = []
        for part, middle in zip(before, self._middle, strict=True):
            if not part.start <= middle < part.stop:
                return None
            place.append(middle - part.start)
        found, inside = [], []
        for part in (rows, columns):
            first, last = (-(-end // self._step) for end in (part.start, part.stop))
            if first == last:
                return None
            found.append(slice(first, last))
            inside.append(slice(first * self._step - part.start, None, self._step))
        values = np.ascontiguousarray(image[(*place, *inside)][..., : self._channels])
        return tuple(found), values.view(np.uint8).reshape(*values.shape[:2], -1)

    def image(self, values: np.ndarray) -> np.ndarray:
        """Returns the small image [h, w, C] of the bytes that a store kept."""
        return np.ascontiguousarray(values).view(self._dtype).reshape(*self.shape[:2], -1)

    def label(self, read: Callable[[Window], np.ndarray], width: int) -> np.ndarray:
        """Reads the same pixels of a mask, uint8 [h, w]."""
        middle = tuple(slice(n, n + 1) for n in self._middle)
        rows = range(self._rows.start, self._rows.stop, self._rows.step)
        lines = [read((*middle, slice(row, row + 1), slice(0, width))).ravel() for row in rows]
        return np.stack([line[:: self._step] for line in lines])


class Results(NamedTuple):
    """The files of an image.

    Attributes:
        masks: The mask, or one for every class.
        overlay: The image with the classes over it.
        values: Ids in the masks are below it.
        store: Folder of what is kept until they are written.
    """

    masks: tuple[Path, ...]
    overlay: Path
    values: int
    store: Path


def predict_large(
    step: Predictor,
    variables: Any,
    batch_size: int,
    image: Opened,
    results: Results,
    of: Mapping[str, Any],
    look: Callable[[np.ndarray], None] = lambda image: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> str:
    """Predicts a large image, or what a killed prediction left of it, and writes its results.

    All processes call it; the first one writes.

    Args:
        step: Of `make_mask_step`.
        variables: {"params", "batch_stats"}.
        batch_size: See `Tiling.reading`.
        image: The image.
        results: Where its results go.
        of: What decides on them beside the image and its tiles.
        look: Takes every window that is read.
        progress: Is told how many parts are there, of how many.

    Returns:
        Why a part of it cannot be read, and which; "" where its results are there. The parts that
        can be read are kept, and the next call goes on from them.

    Raises:
        UserError: The results cannot be written.
    """
    size, preview = image.header.shape, Preview(image.header)
    lengths, rows, _ = step.tiling.choose(variables, batch_size)
    total = step.tiling.count(size, lengths)
    identity = {
        **of,
        "image": [str(image.file), stamp(image.file) if isinstance(image.file, Path) else ""],
        "size": size,
        "tiles": [lengths, rows, step.tiling.halo, step.tiling.settings],
    }
    how, spec = step.loading.normalise, step.spec
    is_whole = how.is_of_image and not can_stream(how, spec)
    store = None
    if is_first():
        store = Store(results.store, identity, size, len(results.masks), preview.shape)
    try:
        there = [store is not None and number in store.done for number in range(total)]
        if in_any([store is not None and store.is_finished])[0]:
            progress(total, total)
            return ""
        todo = [number for number, is_there in enumerate(in_any(there)) if not is_there]
        try:
            reader, error = image.reader(is_whole=is_whole), ""
        except UserError as found:
            reader, error = None, str(found)
        if in_any([reader is None])[0] or reader is None:
            return error or _elsewhere(image)
        watched = _watched(reader, look, preview, store)
        read = watched
        if how.is_of_image:
            ends = find_ends(how, spec, size, reader)

            def read(window: Window) -> np.ndarray:
                return how.scale(watched(window), ends)

        found = step.tiling.run(
            variables, Large(str(image.file), size, read), batch_size, ("is_read",), todo
        )
        progress(total - len(todo), total)
        lost = [""] * total
        for part in found:
            lost[part.number] = part.error
            if not part.error and store is not None:
                if jax.process_count() > 1:  # another process may have read it
                    watched(part.kept)
                label = part.values["prediction"]
                by_class = label.ndim > len(size)
                masks = list(np.moveaxis(label, -1, 0)) if by_class else [label]
                store.put(part.number, part.kept, masks)
                progress(len(store.done), total)
        if errors := [error for error in lost if error]:
            return f"{errors[0]} ({len(errors)} of its {total} parts; all others are kept)"
        if store is not None:
            _write(store, results, preview)
            store.finish()
        return ""
    finally:
        if store is not None:
            store.close()


def predict_all(
    step: Predictor,
    variables: Any,
    batch_size: int,
    images: Mapping[str, Opened],
    results: Mapping[str, Results],
    of: Mapping[str, Any],
    values: OtherValues,
) -> dict[str, str]:
    """Predicts large images one after the other; see `predict_large`.

    Args:
        step: Of `make_mask_step`.
        variables: {"params", "batch_stats"}.
        batch_size: See `Tiling.reading`.
        images: By name.
        results: Where each one's results go.
        of: See `predict_large`.
        values: Looks at every window that this process reads.

    Returns:
        Why the results of some are not there, by name.
    """
    sizes = [image.header.shape for image in images.values()]
    lengths = step.tiling.choose(variables, batch_size).lengths
    console.print(step.tiling.describe(sizes, lengths))
    failed = {}
    bar = Progress(*Progress.get_default_columns(), MofNCompleteColumn(), console=console)
    bar.disable = not console.is_terminal
    with bar:
        all_images = bar.add_task("large images", total=len(images))
        for name, image in images.items():
            tiles = bar.add_task(name, total=None)
            look = partial(values.look, str(image.file))

            def progress(done: int, total: int, tiles: TaskID = tiles) -> None:
                bar.update(tiles, completed=done, total=total)

            given = step, variables, batch_size, image, results[name], of
            if error := predict_large(*given, look, progress):
                failed[name] = error
            bar.remove_task(tiles)
            bar.advance(all_images)
    if is_first() and not failed:  # else the same command goes on from them
        for own in results.values():
            remove_store(own.store)
    return failed


def _elsewhere(image: Opened) -> str:
    return f"{image.file} cannot be read by another process, which tells why."


def _watched(
    read: Read, look: Callable[[np.ndarray], None], preview: Preview, store: Store | None
) -> Read:
    """Returns what reads windows, and keeps what the small image needs of them."""
    lock = threading.Lock()

    def watched(window: Window) -> np.ndarray:
        pixels = read(window)
        with lock:
            look(pixels)
            part = preview.part(window, pixels)
            if part is not None and store is not None:
                store.put_small(*part)
        return pixels

    return watched


def _write(store: Store, results: Results, preview: Preview) -> None:
    """Writes the masks and the overlay of what is kept."""
    readers = [partial(store.read, number) for number in range(len(results.masks))]
    for file, read in zip(results.masks, readers, strict=True):
        find_format(file.name).write_windows(file, read, store.size, results.values)
    shown = figures.flat_image(preview.image(store.read_small()))
    labels = [preview.label(read, store.size[-1]) for read in readers]
    label = labels[0] if len(labels) == 1 else np.stack(labels, axis=-1)
    results.overlay.parent.mkdir(parents=True, exist_ok=True)
    figures.save_png(results.overlay, figures.overlay(shown, label))


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
