"""Prediction: images in, masks in their own size and what else is asked for out."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from rich.progress import Progress

from unet_jax.config import check_sections
from unet_jax.data.images import Batch
from unet_jax.data.sample import Sample
from unet_jax.data.sources import read_loading, read_patterns
from unet_jax.defaults import complete
from unet_jax.errors import MissingResultsError, UserError
from unet_jax.predict.averaging import (
    MAPS,
    Member,
    describe,
    find_members,
    make_predicts,
    open_members,
)
from unet_jax.predict.cleaner import Cleaner, make_cleaner
from unet_jax.predict.fits import say_other_scale
from unet_jax.predict.inputs import Images, elsewhere, find_images, open_images
from unet_jax.predict.large import predict_all
from unet_jax.predict.opened import Results
from unet_jax.predict.outputs import DEFAULT, OUTPUTS, STREAMED, check_outputs
from unet_jax.predict.outputs.base import Predicted
from unet_jax.predict.planned import check_output, plan_results
from unet_jax.predict.predictor import cut
from unet_jax.predict.store import store_folder
from unet_jax.predict.turns import ONCE, find_turns
from unet_jax.predict.values import OtherValues
from unet_jax.predict.work import Work, check_large, check_suffix
from unet_jax.predict.write import Writer
from unet_jax.process.console import console
from unet_jax.process.multihost import in_any, is_first, wait_for_all
from unet_jax.process.paths import local_path
from unet_jax.restore import mask_classes, restore
from unet_jax.runs import layout
from unet_jax.runs import workdir as run_dir
from unet_jax.runs.cleaned import settle_rules


def predict_run(
    config: ConfigDict,
    workdir: Path,
    *,
    inputs: Sequence[str],
    output: str | Path | None,
    checkpoint: str,
    outputs: Sequence[str] = DEFAULT,
    mask_suffix: str = "",
    replace: bool = False,
    ensemble: Sequence[str] = (),
    tta: bool = False,
) -> None:
    """Writes masks, overlays and what else is asked for of every image, nothing over an input.

    An image that cannot be read has no result and does not keep the others from theirs: those
    whose headers are broken are named before the model is loaded, and all are listed at the end.

    Args:
        config: The run's config.
        workdir: The run's directory.
        inputs: Files and folders; see `find_images`.
        output: Folder, by default "predictions" in the run's directory.
        checkpoint: "best" or "latest".
        outputs: What is written, names in `OUTPUTS`, each of which says what files it has.
        mask_suffix: Of the files of the masks, one of `MASKS`; "" for that of the image's format.
        replace: Whether results that are there are replaced.
        ensemble: Directories of other runs, whose probabilities are averaged with this one's.
        tta: Whether those of mirrored and turned images are, too; see `find_turns`.

    Raises:
        UserError: The run or an input is missing, no image can be read, or the results cannot be
            written where they are asked for; then none is. See `plan_results`. Or the disk is full.
        MissingResultsError: Some images could not be read; all others have their results.
    """
    folder = workdir / "predictions" if output is None else local_path(output, "--output")
    check_output(folder)
    members = find_members(ensemble)
    check_sections(config)
    config = complete(config)
    loading = read_loading(config.data)
    axes = len(loading.image_size)
    check_suffix(mask_suffix, axes)
    outputs = check_outputs(outputs, axes)
    files = find_images(inputs, folder, read_patterns(config.data))
    by_class = mask_classes(config, workdir, checkpoint)
    stores = {name: store_folder(folder, name) for name in files}
    begun = [name for name, store in stores.items() if store.exists()]
    how = {"outputs": outputs, "axes": axes, "suffix": mask_suffix, "replace": replace}
    planned = plan_results(files, folder, by_class, **how, begun=begun)
    for line in run_dir.check_same(workdir, config):
        console.print(line)
    wait_for_all("the results are planned")  # before the first process writes any
    images, failed = open_images(files, loading)
    trained = restore(config, workdir, checkpoint)
    network = trained.network
    runs = [trained, *open_members(members, network, config, checkpoint)]
    needs = {kind.needs for name in outputs if (kind := OUTPUTS[name]).needs}
    ways = find_turns(config.augment, trained.class_names) if tta else ONCE
    predicts, size = make_predicts(runs, ways, needs), network.settings.batch_size
    asked = network.settings.metrics, workdir, trained.step, checkpoint
    cleaner = make_cleaner(network.task, settle_rules(*asked, network.task.names), axes)
    images, others = images.only(network.spec)
    failed |= others
    say_other_scale(images, network.loading, workdir)
    predicts.check(images, size)  # before anything is written
    writer = Writer(folder, planned, trained.class_names) if is_first() else None
    values = OtherValues(network.spec, network.loading.normalise)
    are_large = [False] * len(images)
    if isinstance(predicts, Member) and not cleaner and tuple(outputs) in STREAMED:
        tiling = predicts.step.tiling  # no result needs the whole image at once
        are_large = [tiling.is_large(header.shape) for header in images.headers]
    small = images.pick([i for i, is_large in enumerate(are_large) if not is_large])
    again = {name: files[name] for name in small.ids if name in begun}  # large ones once
    plan_results(again, folder, by_class, **how)
    large, kept = {}, 2 if by_class else len(trained.class_names)
    for i in (i for i, is_large in enumerate(are_large) if is_large):
        name = images.ids[i]
        by_output = planned.results[name].by_output
        results = Results(
            by_output.get("mask", ()), by_output.get("overlay", ()), kept, stores[name]
        )
        large[name] = images.opened(i, results)
    work = None
    if isinstance(predicts, Member):
        of = {"run": run_identity(workdir, trained.step)}
        work = Work(predicts.step, predicts.variables, size, of)
        check_large(work, large, folder, replace=replace)
    if len(small):
        failed |= _predict(predicts.batches(small, size), small, writer, values, cleaner)
    if work:
        failed |= predict_all(work, large, values)
    averaged = describe(len(runs), len(ways)) if ensemble or tta else ""
    closing = writer.close() if writer else []
    for line in filter(None, (values.line(), averaged, cleaner.line(), *closing)):
        console.print(line)
    written = _said(outputs, trained.class_names, by_class)
    console.print(f"{len(files) - len(failed)} {written}: {folder}")
    for name in (name for name in files if name in failed):
        console.print(failed[name])
    if failed:
        raise MissingResultsError(
            f"{len(failed)} of {len(files)} images could not be read and were not predicted, see "
            f"the list above; all others have their results in {folder}."
        )


def _said(outputs: Sequence[str], class_names: Sequence[str], by_class: Sequence[str]) -> str:
    """Says what is written, such as "masks (classes: 0 background, 1 cell) and overlays"."""
    classes = ", ".join(f"{k} {name}" for k, name in enumerate(class_names))
    masks = f"masks of each of {', '.join(by_class)}" if by_class else f"masks (classes: {classes})"
    *firsts, last = (masks if name == "mask" else OUTPUTS[name].said for name in outputs)
    return f"{', '.join(firsts)} and {last}" if firsts else last


def run_identity(workdir: Path, step: int) -> list[Any]:
    """Returns what tells a checkpoint from all others: when it was written, too."""
    folder = workdir / layout.CHECKPOINTS / str(step)
    return [str(workdir), step, folder.stat().st_mtime_ns]


def _predict(
    batches: Iterable[tuple[Batch, dict[str, Any]]],
    images: Images,
    writer: Writer | None,
    values: OtherValues,
    cleaner: Cleaner,
) -> dict[str, str]:
    """Runs over the batches and writes their results.

    Args:
        batches: Of `Predictor.batches`, with their results.
        images: Their source.
        writer: Of the first process; None on all others.
        values: Looks at every image that this process reads.
        cleaner: Cleans labels before they are written.

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
            maps = {kind: cut(result[kind], batch) for kind in result.keys() & MAPS if writer}
            for row, index in enumerate(batch["index"]):
                if is_read[row] and writer:
                    image = batch["samples"].get(index) or _read(images, index)
                    if isinstance(image, Sample):
                        name, file = images.ids[index], images.files[index]
                        listed = f"{name}{file.suffix}"
                        own = {kind: found[index] for kind, found in maps.items()}
                        label = cleaner.clean(labels[index])
                        known = name, listed, image.image, label, image.spacing, own
                        writer.write(Predicted(*known))
                    else:
                        errors[index] = image
                lost[index] = not is_read[row] or index in errors
                progress.advance(task)
    failed = {}
    for index, is_lost in enumerate(in_any(lost)):  # waits until the first process is done
        if is_lost:
            failed[images.ids[index]] = errors.get(index) or elsewhere(images.files[index])
    return failed


def _read(images: Images, index: int) -> Sample | str:
    """Reads an image that another process has read; returns why, where this one cannot."""
    try:
        return images.read(index)
    except UserError as error:
        return str(error)
