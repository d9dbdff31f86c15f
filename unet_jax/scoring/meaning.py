"""What the values of true and of predicted masks mean."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from unet_jax.config import call, choose
from unet_jax.data.base import MaskReader, PairSource, read_each
from unet_jax.data.files import FilePairs, read_encoded
from unet_jax.data.formats.base import MOST_VALUE, Mask
from unet_jax.data.labels import ByColour, Labels, make_labels, make_reader, write_values
from unet_jax.data.sets import pets
from unet_jax.data.sources import open_data
from unet_jax.data.storage import AnyPath
from unet_jax.errors import UserError
from unet_jax.metrics.views import View
from unet_jax.process.console import follow
from unet_jax.process.regular import LARGEST
from unet_jax.scoring.pairs import Pair
from unet_jax.task import BACKGROUND, IGNORE, Exclusive, Task, make_task

OTHER = IGNORE - 1
"""What `Reading.read` gives for a value that means nothing; no class has so high an id."""
FLAG = "--predictions_are"
IDS, LABELS = "ids", "labels"
_LARGEST_ID = OTHER - 1


@dataclasses.dataclass(frozen=True)
class Reading:
    """How masks in files become class ids.

    Attributes:
        values: Class id, or `IGNORE`, of every value that there may be; by class 0 or 1.
        reader: How files become values.
    """

    values: Mapping[int, int]
    reader: MaskReader = read_each

    @functools.cached_property
    def _table(self) -> np.ndarray:
        """Holds what each value means, uint8."""
        table = np.full(MOST_VALUE + 1, OTHER, np.uint8)
        table[list(self.values.keys())] = list(self.values.values())
        return table

    def read(
        self, files: Sequence[AnyPath], largest: int = LARGEST
    ) -> tuple[list[np.ndarray], list[Mask]]:
        """Reads the mask of an image, or those of its classes.

        Args:
            files: One, or one for each class.
            largest: MiB of the largest that is read.

        Returns:
            uint8 [*n] of each file, `OTHER` where a value means nothing; and what was decoded.

        Raises:
            UserError: One cannot be read.
        """
        encoded = [read_encoded(file, largest) for file in files]
        masks = self.reader(encoded, [str(file) for file in files], None)
        return [self._table[mask.ids] for mask in masks], masks


class Meaning(NamedTuple):
    """What masks mean.

    Attributes:
        task: What a label means.
        class_names: Of the labels; those of the scores are the task's.
        truth: How true masks are read.
        prediction: How predicted ones are.
        says: What was assumed, in words.
        by_class: Whether each class has a mask.
        instances: Whether the values of true masks number objects.
        views: Other ways to count the same masks.
        suffix: What the name of a true mask has behind that of its image.
        cure: What to do where a predicted mask holds what is no class.
    """

    task: Task
    class_names: tuple[str, ...]
    truth: Reading
    prediction: Reading
    says: tuple[str, ...] = ()
    by_class: bool = False
    instances: bool = False
    views: tuple[View, ...] = ()
    suffix: str = ""
    cure: str = "a predicted mask has a class wherever the true one has"

    @property
    def layers(self) -> tuple[str, ...]:
        """Returns the classes that have a mask each; () where one mask holds all."""
        return self.class_names if self.by_class else ()


def read_meaning(config: ConfigDict, predictions_are: str | None = None) -> Meaning:
    """Reads what masks mean from a config; no image is read.

    True masks are read as in training. Predicted ones hold class ids, 0 to K-1, as `--mode=predict`
    writes them, or the same values as the true ones. Where a value 0 to K-1 means itself in the
    true masks too, both are one; elsewhere it has to be said.

    Args:
        config: The whole config.
        predictions_are: "ids", "labels", or None where it was not said.

    Returns:
        The meaning.

    Raises:
        UserError: The config does not name the classes, or it has to be said what predictions hold.
    """
    meaning = _of_source(config.data)
    task = call(make_task, "config.task", config.task, class_names=meaning.class_names)
    if (len(task.label_shape) > 0) != meaning.by_class:
        raise UserError(
            f"config.task.kind={config.task.kind!r} does not fit the data: a mask for each class "
            "(by_class=True) goes with kind='multilabel', and one mask of all with no other."
        )
    ids = {k: k for k in range(2 if meaning.by_class else len(meaning.class_names))}
    truth = meaning.truth
    is_one = all(truth.values.get(k) == k for k in ids) and not isinstance(truth.reader, ByColour)
    values = _say_values(truth)
    said = f"class ids, 0 to {len(ids) - 1}"
    if predictions_are is None and not is_one:
        raise UserError(
            f"true masks hold {values}, which are other numbers than those of the classes: say "
            f"what the predicted masks hold, {said}, as --mode=predict writes them ({FLAG}={IDS}), "
            f"or the values of the true masks ({FLAG}={LABELS})."
        )
    if not is_one:
        other = IDS if predictions_are == LABELS else LABELS
        cure = f"where it holds {said if other == IDS else values}, say {FLAG}={other}; else, "
        meaning = meaning._replace(cure=cure + meaning.cure)
    by = {IDS: Reading(ids), LABELS: truth}
    prediction = choose(by, FLAG, predictions_are or LABELS)
    names = ", ".join(f"{k} {name}" for k, name in enumerate(meaning.class_names))
    holds = said if prediction is not truth or is_one else f"the same as true ones, {values}"
    says = f"classes: {names} (of the config)", f"predicted masks hold {holds}"
    return meaning._replace(task=task, prediction=prediction, says=says)


def _say_values(reading: Reading) -> str:
    is_by_colour = isinstance(reading.reader, ByColour)
    return "colours" if is_by_colour else f"the values {write_values(reading.values)}"


def _of_source(data: Any) -> Meaning:
    """Returns what true masks mean; the task, and how predictions are read, come later."""
    if data.source in ("pets", "tfds"):
        return _make(pets.CLASS_NAMES, Reading(pets.LABEL_MAP), views=pets.VIEWS)
    folder = data.folder
    if data.source == "folder" and folder.class_names:
        given = tuple(folder.class_names), tuple(folder.label_map), tuple(folder.ignore_values)
        labels: Labels = make_labels(*given, by_class=folder.by_class)
        default = (0, 255) if folder.by_class else range(len(labels.class_names))
        reader = make_reader(given[1], given[2], default, nearest=folder.nearest)
        how = {"by_class": folder.by_class, "instances": folder.instances}
        reading = Reading(labels.values, reader)
        return _make(labels.class_names, reading, suffix=folder.mask_suffix, **how)
    if data.source == "folder" and not data.path:
        raise UserError(
            "config.data.folder.class_names=() names no class: name them, or give "
            "config.data.path, the data whose layout or list names them."
        )
    dataset, _ = open_data(**data)
    source = dataset.splits["train"]
    found = {"by_class": dataset.by_class, "views": dataset.views}
    if isinstance(source, PairSource) and isinstance(source.pairs, FilePairs):
        reading = Reading(source.label_map, source.pairs.reader)
        found |= {"instances": source.instances, "suffix": folder.mask_suffix}
        return _make(dataset.class_names, reading, **found)
    ids = range(2 if dataset.by_class else len(dataset.class_names))
    return _make(dataset.class_names, Reading({k: k for k in (*ids, IGNORE)}), **found)


def _make(class_names: Sequence[str], truth: Reading, **more: Any) -> Meaning:
    return Meaning(Exclusive(tuple(class_names)), tuple(class_names), truth, truth, **more)


def find_meaning(pairs: Sequence[Pair], workers: int = 4, largest: int = LARGEST) -> Meaning:
    """Finds what masks mean where no config says it: value k is class k, and 255 is void.

    Args:
        pairs: The masks, all of which are read.
        workers: Threads that read.
        largest: MiB of the largest file.

    Returns:
        The meaning: classes 0 to the largest value in any mask.

    Raises:
        UserError: A mask cannot be read, or values are none of classes.
    """

    def values_of(files: Sequence[AnyPath]) -> set[int]:
        (encoded,), names = [read_encoded(file, largest) for file in files], [str(files[0])]
        return set(np.unique(read_each([encoded], names, None)[0].ids).tolist())

    files = [pair.truth for pair in pairs] + [pair.prediction for pair in pairs]
    with ThreadPoolExecutor(workers) as pool:
        try:
            found = follow(pool.map(values_of, files), "looking at values", len(files))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    for own, (file,) in zip(found, files, strict=True):
        if wrong := own - {*range(_LARGEST_ID + 1), IGNORE}:
            raise UserError(
                f"{file} holds {write_values(wrong)}, which are no class ids (0 to {_LARGEST_ID}); "
                "name the classes and their values by --config=folder.py, "
                "--config.data.folder.class_names and --config.data.folder.label_map."
            )
    true: set[int] = set().union(*found[: len(pairs)])
    classes = {*true, *set().union(*found[len(pairs) :])} - {IGNORE}
    if IGNORE in true and true <= {BACKGROUND, IGNORE}:
        raise UserError(
            f"the true masks hold {write_values(true)} alone, and without a config {IGNORE} is "
            "void, which does not count. Where it is a class, say so: --config=folder.py "
            f'--config.data.folder.label_map="((0, 0), ({IGNORE}, 1))".'
        )
    ids = range(max(classes, default=0) + 1)
    void = f", and {IGNORE} of true masks is void" if IGNORE in true else ""
    says = f"classes: 0 to {ids[-1]}, the values in the masks{void} (no config says more)"
    reading = Reading({k: k for k in (*ids, IGNORE)})
    return _make([str(k) for k in ids], reading, says=(says,))
