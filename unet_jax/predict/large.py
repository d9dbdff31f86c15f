"""Masks of images that are too large for one piece, in memory that does not grow with them."""

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import jax
import numpy as np
from rich.progress import MofNCompleteColumn, Progress, TaskID

from unet_jax import figures
from unet_jax.data.formats import find_format
from unet_jax.data.normalise import Normalise
from unet_jax.data.sample import Window
from unet_jax.data.streamed import find_ends
from unet_jax.errors import UserError
from unet_jax.predict.opened import Opened, Results
from unet_jax.predict.preview import Preview
from unet_jax.predict.store import Store, is_finished, remove_store
from unet_jax.predict.tiled import Done, Large
from unet_jax.predict.values import OtherValues
from unet_jax.predict.windows import Read
from unet_jax.predict.work import Work
from unet_jax.process.console import console
from unet_jax.process.multihost import in_any, is_first


def predict_all(work: Work, images: Mapping[str, Opened], values: OtherValues) -> dict[str, str]:
    """Predicts large images one after the other; see `predict_large`.

    Args:
        work: What predicts them.
        images: By name.
        values: Looks at every window that this process reads.

    Returns:
        Why the results of some are not there, by name.
    """
    if not images:
        return {}
    sizes = [image.header.shape for image in images.values()]
    console.print(work.step.tiling.describe(sizes, work.choose().lengths))
    failed = {}
    columns = *Progress.get_default_columns(), MofNCompleteColumn()
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        all_images = bar.add_task("large images", total=len(images))
        for name, image in images.items():
            parts = bar.add_task(name, total=None)
            look = partial(values.look, str(image.file))

            def progress(done: int, total: int, parts: TaskID = parts) -> None:
                bar.update(parts, completed=done, total=total)

            if error := predict_large(work, image, look, progress):
                failed[name] = error
            bar.remove_task(parts)
            bar.advance(all_images)
    if is_first() and not failed:  # else the same command goes on from them
        for image in images.values():
            remove_store(image.results.store)
    return failed


def predict_large(
    work: Work,
    image: Opened,
    look: Callable[[np.ndarray], None] = lambda image: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> str:
    """Predicts a large image, or what a killed prediction left of it, and writes its results.

    All processes call it; the first one writes.

    Args:
        work: What predicts it.
        image: The image.
        look: Takes every window that is read.
        progress: Is told how many parts are there, of how many.

    Returns:
        Why a part of it cannot be read, and which; "" where its results are there. The parts that
        can be read are kept, and the next call goes on from them.

    Raises:
        UserError: The results cannot be written.
    """
    step, results, size = work.step, image.results, image.header.shape
    preview, store = Preview(image.header), None
    total = step.tiling.count(size, work.choose().lengths)
    if is_first():
        if is_finished(results.store) and not all(file.exists() for file in results.files):
            remove_store(results.store)  # somebody took its results away
        identity = work.identity(image)
        store = Store(results.store, identity, size, len(results.masks), preview.shape)
    with store or contextlib.nullcontext():
        if in_any([store is not None and store.is_finished])[0]:
            progress(total, total)
            return ""
        there = [store is not None and number in store.done for number in range(total)]
        todo = [number for number, is_there in enumerate(in_any(there)) if not is_there]
        reader, error = _try_reader(image, is_whole=work.is_whole)
        if reader is None:
            return error
        watched = _watched(reader, look, preview, store)
        found = run_parts(work, image, reader, watched, todo)
        errors = []
        progress(total - len(todo), total)
        for part in found:
            if part.error:
                errors.append(part.error)
            elif store is not None:
                if jax.process_count() > 1:  # another process may have read it
                    watched(part.kept)
                label = part.values["prediction"]
                by_class = label.ndim > len(size)
                masks = list(np.moveaxis(label, -1, 0)) if by_class else [label]
                store.put(part.number, part.kept, masks)
                progress(len(store.done), total)
        if errors:
            return f"{errors[0]} ({len(errors)} of its {total} parts; all others are kept)"
        if store is not None:
            _write(store, results, preview)
            store.finish()
    return ""


def run_parts(
    work: Work,
    image: Opened,
    reader: Read,
    watched: Read | None = None,
    todo: Sequence[int] | None = None,
) -> Iterator[Done]:
    """Predicts a large image part by part.

    Args:
        work: What predicts it.
        image: The image.
        reader: Reads its windows.
        watched: Reads those that are predicted; None for `reader`.
        todo: Numbers of the parts to predict, in order; None for all.

    Returns:
        The parts, in order.
    """
    how, size, read = work.step.loading.normalise, image.header.shape, watched or reader
    if how.is_of_image:
        read = _scaled(read, how, find_ends(how, work.step.spec, size, reader))
    given = Large(str(image.file), size, read)
    return work.step.tiling.run(work.variables, given, work.batch_size, ("is_read",), todo)


def _try_reader(image: Opened, *, is_whole: bool) -> tuple[Read | None, str]:
    """Returns what reads windows, or why one process has none."""
    reader, error = None, ""
    try:
        reader = image.reader(is_whole=is_whole)
    except UserError as found:
        error = str(found)
    if in_any([reader is None])[0]:
        return None, error or _elsewhere(image)
    return reader, ""


def _scaled(read: Read, normalise: Normalise, ends: Sequence[tuple[float, float]]) -> Read:
    """Returns what reads windows with black 0 and white 1."""
    return lambda window: normalise.scale(read(window), ends)


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
    for file in results.overlays:
        file.parent.mkdir(parents=True, exist_ok=True)
        figures.save_png(file, figures.overlay(shown, label))
