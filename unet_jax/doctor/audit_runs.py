"""The audit of the labels that trained runs have seen, from their directories to files."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from unet_jax import figures
from unet_jax.config import load
from unet_jax.data.base import Dataset
from unet_jax.data.files import read_image
from unet_jax.data.formats import find_format
from unet_jax.doctor.audit import Audit, Auditor, audit_labels
from unet_jax.errors import UserError
from unet_jax.process import records
from unet_jax.process.console import console
from unet_jax.process.whole import write_whole
from unet_jax.restore import restore
from unet_jax.runs import layout
from unet_jax.runs import splits as run_splits
from unet_jax.runs import workdir as run_dir

KEY = "data.folder.ignore_masks"
MASKS = "ignore_masks"
"""The folder of the masks that leave out what is suspect."""
FILE = "audit.json"
MOST_REGIONS = 1000
"""Regions that audit.json names, the worst first."""


def audit_runs(workdirs: Sequence[Path], folder: Path) -> Audit:
    """Audits the labels that trained runs have seen, and writes what was found.

    audit.json ranks images and regions. For every image with suspect pixels `MASKS` has an image
    that is black there, which `config.data.folder.ignore_masks` reads.

    Args:
        workdirs: Of the runs. Of one run all splits are looked at, though labels that it was
            trained on are found less surely. Of several, such as one for each fold, the
            validation split of each.
        folder: Where to write; the files of an earlier audit are replaced.

    Returns:
        What was found.

    Raises:
        UserError: A run has no checkpoint, its data have changed, or an image is in the validation
            split of two runs.
    """
    auditors = [_open(workdir, all_splits=len(workdirs) == 1) for workdir in workdirs]
    _check_apart(workdirs, auditors)
    masks = folder / MASKS
    folder.mkdir(parents=True, exist_ok=True)
    suffix = ".png" if auditors[0].trained.network.spec.axes == 2 else ".npy"
    written: list[str] = []

    def write(name: str, counts: np.ndarray) -> None:
        file = masks / f"{name}{suffix}"
        file.parent.mkdir(parents=True, exist_ok=True)
        values = np.where(counts, np.uint8(255), np.uint8(0))
        if counts.ndim == 2:
            figures.save_png(file, values[..., None].repeat(3, axis=-1))
        else:
            find_format(file.name).write_mask(file, values, 256)
        written.append(f"{name}{suffix}")

    audit = audit_labels(auditors, write)
    for name in set(_written_before(folder)).difference(written):
        if (masks / name).resolve().is_relative_to(masks.resolve()):
            (masks / name).unlink(missing_ok=True)
    fields = ("id", "split", "evidence", "score", "suspect")
    content = {
        "version": 1,
        "thresholds": audit.thresholds,
        "images": [{name: getattr(image, name) for name in fields} for image in audit.images],
        "regions": [region._asdict() for region in audit.regions()[:MOST_REGIONS]],
        MASKS: sorted(written),
    }
    write_whole(folder / FILE, json.dumps(content, indent=2).encode())
    return audit


def _written_before(folder: Path) -> list[str]:
    """Returns the masks that an earlier audit wrote, whose pixels the runs may have left out."""
    found = records.recall(folder / FILE, {MASKS: [str]})
    return found[MASKS] if found else []


def masks_of(folder: Path) -> Path:
    """Returns where an audit's masks are: the value of `KEY` that leaves out what is suspect."""
    return (folder / MASKS).absolute()


def read_suspects(folder: Path, name: str) -> np.ndarray:
    """Reads which pixels of an image do not count after an audit: bool [*n]."""
    [file] = (
        file for end in (".png", ".npy") if (file := folder / MASKS / f"{name}{end}").exists()
    )
    return read_image(file, 2 if file.suffix == ".png" else 3).max(axis=-1) == 0


def _open(workdir: Path, *, all_splits: bool) -> Auditor:
    config = load(workdir / layout.CONFIG)
    run_dir.check_same(workdir, config)
    trained = restore(config, workdir, "best")
    names = ("train", "val", "test") if all_splits else ("val",)
    splits = {}
    for number, name in enumerate(names):
        dataset, _ = run_splits.open_run(config.data, workdir, name, says=not number)
        if name in dataset.splits:
            splits[name] = dataset.splits[name]
    if all_splits:
        console.print(
            "the audit's network was trained on the train split: errors there are found less "
            "surely than with the runs of folds, each of which has its own validation split"
        )
    return Auditor(trained, Dataset(splits, trained.class_names), tuple(splits))


def _check_apart(workdirs: Sequence[Path], auditors: Sequence[Auditor]) -> None:
    owner: dict[str, Path] = {}
    for workdir, auditor in zip(workdirs, auditors, strict=True):
        for source in auditor.dataset.splits.values():
            for name in source.ids:
                if owner.setdefault(name, workdir) != workdir:
                    raise UserError(
                        f"image {name!r} is in the validation split of {owner[name]} and of "
                        f"{workdir}; give runs of the folds of one data set, such as "
                        "config.data.folds=5 with config.data.fold=0 to 4."
                    )
