"""Counts predicted masks against true ones, exactly, on the host; needs no network."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage

from unet_jax.data.base import decode_counts
from unet_jax.data.files import read_encoded, read_header
from unet_jax.data.formats import FOLDERS
from unet_jax.data.labels import write_values
from unet_jax.data.pipeline import label_and_weight
from unet_jax.data.sample import written
from unet_jax.data.storage import AnyPath
from unet_jax.errors import UserError
from unet_jax.metrics import make as metrics
from unet_jax.metrics.base import Outcome
from unet_jax.metrics.choices import Chosen
from unet_jax.metrics.per_image import PerImage
from unet_jax.process.console import follow
from unet_jax.process.regular import LARGEST
from unet_jax.scoring.meaning import OTHER, Meaning
from unet_jax.scoring.pairs import FIELD, Pair
from unet_jax.task import BACKGROUND, IGNORE, Regions, Task

SCOPES = ("whole", "void", "near", "field_of_view")
"""Where pixels are counted: all but void, void, near true borders, in the field of view."""
SUMS = ("both", "true", "predicted")
"""What is counted of a class there: its pixels in both masks, in the true and in the other one."""


class MaskCounts(NamedTuple):
    """What was counted.

    Attributes:
        ids: Names of the N images.
        counts: int64 or float64 [N, ...]: by "METRIC/COUNT" as an evaluation has them, see
            `metrics.make`; and for each scope of `SCOPES` that there is "SCOPE/both", "SCOPE/true"
            and "SCOPE/predicted" [N, K] and "SCOPE/pixels" [N].
    """

    ids: tuple[str, ...]
    counts: Mapping[str, np.ndarray]


def of_masks(task: Task, chosen: Chosen) -> tuple[metrics.Metrics, tuple[str, ...]]:
    """Makes the metrics of an evaluation that masks suffice for.

    Args:
        task: What a label means.
        chosen: Metrics beside those that every evaluation has; see `make_metrics`.

    Returns:
        The metrics, and the names of those that are computed of probabilities.
    """
    made = metrics.make_metrics(task.names, (), task.decides, chosen)
    counted = {
        key: metric
        for key, metric in made.items()
        if key in _ON_DEVICE or (not metric.on_device and "logits" not in metric.reads)
    }
    return counted, tuple(key for key in made if key not in counted)


def count_masks(
    pairs: Sequence[Pair],
    meaning: Meaning,
    *,
    chosen: Chosen = MappingProxyType({}),
    width: int = 0,
    workers: int = 4,
    largest: int = LARGEST,
) -> MaskCounts:
    """Counts pairs of masks, image by image; a thread holds one at a time.

    Args:
        pairs: N of them, one or more.
        meaning: What they mean.
        chosen: Metrics of `choices.CHOICES`; those that need probabilities are left out.
        width: Of the band along true borders, in pixels; see `near_border`. 0 for none.
        workers: Threads.
        largest: MiB of the largest file that is read.

    Returns:
        The counts.

    Raises:
        UserError: A file cannot be read, sizes differ, or a value means nothing.
    """
    made, _ = of_masks(meaning.task, chosen)

    def count(pair: Pair) -> dict[str, np.ndarray]:
        return _count(pair, meaning, made, width, largest)

    with ThreadPoolExecutor(workers) as pool:
        try:
            rows = follow(pool.map(count, pairs), "scoring", len(pairs))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    stacked = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    types = {name: np.float64 if x.dtype.kind == "f" else np.int64 for name, x in stacked.items()}
    counts = {name: array.astype(types[name]) for name, array in stacked.items()}
    return MaskCounts(tuple(pair.id for pair in pairs), counts)


def near_border(label: np.ndarray, width: int, axes: int) -> np.ndarray:
    """Finds the pixels near borders of true classes: a trimap.

    A pixel is near one where the square of 2 w + 1 pixels around it (the cube of voxels) holds two
    labels. Void is a label, since in PASCAL VOC it is what lies between objects.

    Args:
        label: uint8 [*n], or [*n, K] where classes may overlap, whose borders all count.
        width: w.
        axes: Of pixels.

    Returns:
        bool [*n].
    """
    size = (2 * width + 1,) * axes + (1,) * (label.ndim - axes)
    most, least = (
        each(label, size=size, mode="nearest")
        for each in (ndimage.maximum_filter, ndimage.minimum_filter)
    )
    is_near = most != least
    return is_near if label.ndim == axes else is_near.any(axis=-1)


def _count(
    pair: Pair, meaning: Meaning, made: metrics.Metrics, width: int, largest: int
) -> dict[str, np.ndarray]:
    """Counts one pair."""
    task, classes = meaning.task, len(meaning.task.names)
    label, objects = _read_truth(pair, meaning, largest)
    axes = label.ndim - len(task.label_shape)
    split = label_and_weight(label, axes)
    counted = split["weight"] > 0
    guess, is_named = _read_guess(pair, meaning, counted, largest)
    scopes = {"whole": counted, "void": ~counted}
    if width:
        scopes["near"] = counted & near_border(label, width, axes)
    if pair.field is not None:
        inside = _read_field(pair.field, pair.truth[0], counted.shape, largest)
        scopes["field_of_view"] = counted & inside
    true, guessed = _decide(task, split["label"]), _decide(task, guess)
    found: dict[str, np.ndarray] = {}
    for scope, where in scopes.items():
        named = where & is_named
        own = _sums(true[named], guessed[named], classes)
        if scope == "void":  # where labels are none
            own |= {name: 0 * own[name] for name in ("both", "true")}
        found |= {f"{scope}/{name}": array for name, array in own.items()}
        found[f"{scope}/pixels"] = np.array(np.count_nonzero(where))
    for key in (key for key in made if key in _ON_DEVICE):
        own = _ON_DEVICE[key](made[key], true[counted], guessed[counted])
        found |= {f"{key}/{name}": array for name, array in own.items()}
    is_folder = pair.truth[0].suffix.lower() in FOLDERS  # no other format tells it
    spacing = read_header(pair.truth[0], largest).spacing if is_folder else (1.0,) * axes
    arrays = (array[None] for array in (guessed, true, split["weight"]))
    numbers = None if objects is None else objects[None]
    outcome = Outcome(None, None, *arrays, spacing=spacing, objects=numbers)
    own = metrics.count(made, outcome, on_device=False)
    return found | {name: array[0] for name, array in own.items()}


def _read_truth(pair: Pair, meaning: Meaning, largest: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Reads a label, and the numbers of its objects where there are any; see `Sample`."""
    labels, masks = meaning.truth.read(pair.truth, largest)
    for label, mask, file in zip(labels, masks, pair.truth, strict=True):
        if (label == OTHER).any():
            values = write_values(np.unique(mask.ids[label == OTHER]).tolist())
            raise UserError(
                f"{file} holds the values {values}, which are no class; allowed are "
                f"{write_values(meaning.truth.values)}. Change config.data.folder.class_names, "
                "label_map or ignore_values, or the masks."
            )
        _check_size(file, label.shape, pair.truth[0], labels[0].shape)
    objects = None
    if meaning.instances:
        is_none = (labels[0] == BACKGROUND) | (labels[0] == IGNORE)
        objects = np.where(is_none, 0, masks[0].ids.astype(np.int32) + 1)
    return np.stack(labels, axis=-1) if meaning.by_class else labels[0], objects


def _read_guess(
    pair: Pair, meaning: Meaning, counted: np.ndarray, largest: int
) -> tuple[np.ndarray, np.ndarray]:
    """Reads what is predicted, and where it is a class: bool [*n], True where a pixel counts."""
    is_named = np.ones(counted.shape, bool)
    labels, masks = meaning.prediction.read(pair.prediction, largest)
    for label, mask, file in zip(labels, masks, pair.prediction, strict=True):
        _check_size(file, label.shape, pair.truth[0], counted.shape)
        is_none = label >= OTHER
        if (wrong := is_none & counted).any():
            values = write_values(np.unique(mask.ids[wrong]).tolist())
            ids = [value for value, k in meaning.prediction.values.items() if k < OTHER]
            raise UserError(
                f"{file} holds the values {values} at {np.count_nonzero(wrong)} pixels that count, "
                f"where a predicted mask must hold one of {write_values(ids)}; {meaning.cure}."
            )
        label[is_none] = BACKGROUND
        is_named &= ~is_none
    return np.stack(labels, axis=-1) if meaning.by_class else labels[0], is_named


def _check_size(
    file: AnyPath, shape: tuple[int, ...], other: AnyPath, wanted: tuple[int, ...]
) -> None:
    if shape != wanted:
        raise UserError(
            f"{file} is {written(shape)} and {other} is {written(wanted)}; masks of one image must "
            "have one size, and none is resized here. Predict in the size of the true mask."
        )


def _read_field(file: AnyPath, truth: AnyPath, shape: tuple[int, ...], largest: int) -> np.ndarray:
    """Tells which pixels are in the field of view, bool [*n]."""
    data = read_encoded(file, largest)
    return decode_counts(data, str(file), shape, None, str(truth), f"Change {FIELD}.")


def _decide(task: Task, ids: np.ndarray) -> np.ndarray:
    """Returns the decision that masks stand for, as an evaluation has it: see `Outcome`."""
    if isinstance(task, Regions):
        return np.stack([np.isin(ids, members) for members in task.ids], axis=-1)
    return ids > 0 if task.label_shape else ids


def _sums(true: np.ndarray, guessed: np.ndarray, classes: int) -> dict[str, np.ndarray]:
    """Counts the pixels of `SUMS`, int64 [K], of ids [P] or masks [P, K]."""
    if true.ndim == 1:
        parts = true[true == guessed], true, guessed
        sums = [np.bincount(part, minlength=classes) for part in parts]
    else:
        sums = [np.count_nonzero(part, axis=0) for part in (true & guessed, true, guessed)]
    return dict(zip(SUMS, sums, strict=True))


def confusion(true: np.ndarray, guessed: np.ndarray, classes: int) -> np.ndarray:
    """Counts the pixels of each true and predicted class.

    Args:
        true: uint8 [P], in 0..K-1.
        guessed: Likewise.
        classes: K, 254 at most.

    Returns:
        int64 [K, K], rows are truth.
    """
    codes = true.astype(np.uint16) * np.uint16(classes) + guessed
    return np.bincount(codes, minlength=classes**2).reshape(classes, classes)


def _overlap(metric: Any, true: np.ndarray, guessed: np.ndarray) -> dict[str, np.ndarray]:
    return {"confusion": confusion(true, guessed, len(metric.class_names))}


def _binary_overlap(metric: Any, true: np.ndarray, guessed: np.ndarray) -> dict[str, np.ndarray]:
    masks = true & guessed, guessed & ~true, true & ~guessed, ~(true | guessed)
    counts = [np.count_nonzero(mask, axis=0) for mask in masks]
    return dict(zip(metric.axes, counts, strict=True))


def _per_image(metric: PerImage, true: np.ndarray, guessed: np.ndarray) -> dict[str, np.ndarray]:
    """Computes what `PerImage.count` does, in float32 as it does."""
    classes = len(metric.class_names)
    both, *others = _sums(true, guessed, classes).values()
    chosen = metric.classes or range(true.ndim == 1, classes)
    is_chosen = np.isin(np.arange(classes), chosen)
    both, total = both * is_chosen, sum(others) * is_chosen
    union = np.maximum(total - both, 1)
    return {
        "image_IoU": both.astype(np.float32) / union.astype(np.float32),
        "image_Dice": (2 * both).astype(np.float32) / np.maximum(total, 1).astype(np.float32),
        "images": (total > 0).astype(np.int64),
    }


_ON_DEVICE: dict[str, Callable[..., dict[str, np.ndarray]]] = {
    "overlap": _overlap,
    "binary_overlap": _binary_overlap,
    "per_image": _per_image,
}
"""What an evaluation counts on the device, and masks suffice for: (metric, [P] or [P, K], so)."""
