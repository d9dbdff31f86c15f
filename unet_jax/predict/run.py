"""Prediction: images in, masks in their own size and overlays out."""

import copy
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from rich.progress import Progress

from unet_jax.config import check_sections
from unet_jax.data.files import read_header, read_image
from unet_jax.data.formats.base import Header
from unet_jax.data.images import Batch
from unet_jax.data.parts import Part
from unet_jax.data.sample import Sample, Spec, Window, check_spec, whole
from unet_jax.data.sources import Loading, read_loading, read_patterns
from unet_jax.defaults import complete
from unet_jax.errors import MissingResultsError, UserError
from unet_jax.models.pretrained.torch_layout import listed
from unet_jax.predict.eval_step import make_mask_step
from unet_jax.predict.fits import say_other_scale
from unet_jax.predict.inputs import find_images
from unet_jax.predict.large import Work, check_large, check_suffix, predict_all
from unet_jax.predict.opened import Opened, Results
from unet_jax.predict.predictor import cut
from unet_jax.predict.store import store_folder
from unet_jax.predict.values import OtherValues
from unet_jax.predict.write import Writer, check_output, plan_results
from unet_jax.process.console import console
from unet_jax.process.multihost import in_any, is_first, wait_for_all
from unet_jax.process.paths import local_path
from unet_jax.process.regular import LARGEST
from unet_jax.restore import mask_classes, restore
from unet_jax.runs import layout
from unet_jax.runs import workdir as run_dir


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
            failed[name] = _elsewhere(file)
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


def _elsewhere(file: Path | Part) -> str:
    return f"{file} cannot be read by another process, which tells why."


def predict_run(
    config: ConfigDict,
    workdir: Path,
    *,
    inputs: Sequence[str],
    output: str | Path | None,
    checkpoint: str,
    mask_suffix: str = "",
    replace: bool = False,
) -> None:
    """Writes a mask and an overlay for every image, none of them over an input.

    An image that cannot be read has no result and does not keep the others from theirs: those
    whose headers are broken are named before the model is loaded, and all are listed at the end.

    Args:
        config: The run's config.
        workdir: The run's directory.
        inputs: Files and folders; see `find_images`.
        output: Folder, by default "predictions" in the run's directory; NAME.png is an indexed PNG
            of class ids in the image's own size, or an array of them where the image's format has
            that (see `Format.mask_suffix`), and NAME_overlay.png the image (of a volume the middle
            slice) with the classes over it. Of classes that may overlap each has a mask of 0 and
            1, NAME_CLASS.png.
        checkpoint: "best" or "latest".
        mask_suffix: Of the files of the masks, one of `MASKS`; "" for that of the image's format.
        replace: Whether results that are there are replaced.

    Raises:
        UserError: The run or an input is missing, no image can be read, or the results cannot be
            written where they are asked for; then none is. See `plan_results`. Or the disk is full.
        MissingResultsError: Some images could not be read; all others have their results.
    """
    folder = workdir / "predictions" if output is None else local_path(output, "--output")
    check_output(folder)
    check_sections(config)
    config = complete(config)
    files = find_images(inputs, folder, read_patterns(config.data))
    by_class = mask_classes(config, workdir, checkpoint)
    loading = read_loading(config.data)
    axes = len(loading.image_size)
    check_suffix(mask_suffix, axes)
    stores = {name: store_folder(folder, name) for name in files}
    begun = [name for name, store in stores.items() if store.exists()]
    how = {"axes": axes, "suffix": mask_suffix, "replace": replace}
    planned = plan_results(files, folder, by_class, **how, begun=begun)
    results = dict(zip(files, planned, strict=True))
    for line in run_dir.check_same(workdir, config):
        console.print(line)
    wait_for_all("the results are planned")  # before the first process writes any
    images, failed = open_images(files, loading)
    trained = restore(config, workdir, checkpoint)
    network = trained.network
    images, others = images.only(network.spec)
    failed |= others
    say_other_scale(images, network.loading, workdir)
    step, size = make_mask_step(network), network.settings.batch_size
    step.check(trained.variables, images, size)  # before anything is written
    writer = Writer(folder, results, trained.class_names) if is_first() else None
    values = OtherValues(network.spec, network.loading.normalise)
    are_large = [step.tiling.is_large(header.shape) for header in images.headers]
    small = images.pick([i for i, is_large in enumerate(are_large) if not is_large])
    again = {name: files[name] for name in small.ids if name in begun}  # large ones once
    plan_results(again, folder, by_class, **how)
    whose = [str(workdir), trained.step, _checkpoint_time(workdir, trained.step)]
    work = Work(step, trained.variables, size, {"run": whose})
    kept = 2 if by_class else len(trained.class_names)
    large = {
        name: images.opened(i, Results(*results[name], kept, stores[name]))
        for i, name in enumerate(images.ids)
        if are_large[i]
    }
    check_large(work, large, folder, replace=replace)
    if len(small):
        batches = step.batches(trained.variables, small, size)
        failed |= _predict(batches, small, writer, values)
    failed |= predict_all(work, large, values)
    if line := values.line():
        console.print(line)
    classes = ", ".join(f"{k} {name}" for k, name in enumerate(trained.class_names))
    masks = f"masks of each of {', '.join(by_class)}" if by_class else f"masks (classes: {classes})"
    console.print(f"{len(files) - len(failed)} {masks} and overlays: {folder}")
    for name in (name for name in files if name in failed):
        console.print(failed[name])
    if failed:
        raise MissingResultsError(
            f"{len(failed)} of {len(files)} images could not be read and were not predicted, see "
            f"the list above; all others have their results in {folder}."
        )


def _checkpoint_time(workdir: Path, step: int) -> int:
    """Returns when a checkpoint was written, which tells it from another one of that step."""
    return (workdir / layout.CHECKPOINTS / str(step)).stat().st_mtime_ns


def _predict(
    batches: Iterable[tuple[Batch, dict[str, Any]]],
    images: Images,
    writer: Writer | None,
    values: OtherValues,
) -> dict[str, str]:
    """Runs over the batches and writes their results.

    Args:
        batches: Of `Predictor.batches`, with their results.
        images: Their source.
        writer: Of the first process; None on all others.
        values: Looks at every image that this process reads.

    Returns:
        Why images could not be decoded, by id; the same ids on every process.
    """
    lost, errors = [False] * len(images), {}
    with Progress(console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("predicting", total=len(images))
        for batch, result in batches:
            errors |= batch["errors"]
            for index, sample in batch["samples"].items():
                values.look(str(images.files[index]), sample.image)
            is_read = np.asarray(result["is_read"])  # by whichever process
            labels = cut(result["prediction"], batch) if writer else {}
            for row, index in enumerate(batch["index"]):
                if is_read[row] and writer:
                    image = batch["samples"].get(index) or _read(images, index)
                    if isinstance(image, Sample):
                        sink = writer.open(images.ids[index], image.image)
                        sink.add(whole(image.image.shape[:-1]), labels[index])
                        sink.close()
                    else:
                        errors[index] = image
                lost[index] = not is_read[row] or index in errors
                progress.advance(task)
    failed = {}
    for index, is_lost in enumerate(in_any(lost)):  # waits until the first process is done
        if is_lost:
            failed[images.ids[index]] = errors.get(index) or _elsewhere(images.files[index])
    return failed


def _read(images: Images, index: int) -> Sample | str:
    """Reads an image that another process has read; returns why, where this one cannot."""
    try:
        return images.read(index)
    except UserError as error:
        return str(error)
