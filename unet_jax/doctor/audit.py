"""Ranks the labels of images by how much a trained network speaks against them."""

import functools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from unet_jax.data.base import Dataset
from unet_jax.data.sample import Source
from unet_jax.errors import UserError
from unet_jax.predict.predictor import Outputs, cut, make_predictor
from unet_jax.process.console import follow
from unet_jax.restore import Trained
from unet_jax.task import Task

TEMPERATURE = 0.1
"""Of the soft minimum over the pixels of an image, as in the paper."""


class Region(NamedTuple):
    """Neighbouring pixels whose labels are suspect.

    Attributes:
        id: Of the image.
        split: Of the image.
        box: (start, stop) along each axis of pixels.
        pixels: How many there are.
        given: What most of their labels say.
        found: What the network says of these.
        evidence: Sum over the pixels of the probability of what the network says minus that of
            what the label says; higher is worse.
    """

    id: str
    split: str
    box: tuple[tuple[int, int], ...]
    pixels: int
    given: str
    found: str
    evidence: float


class Judged(NamedTuple):
    """An image and what speaks against its label.

    Attributes:
        id: Of the image.
        split: Its split.
        evidence: Sum of that of its regions.
        score: In [0, 1], higher is better: the soft minimum over its pixels of the probability
            that the network gives to the label. 1 where no pixel counts.
        suspect: Share of the pixels that count whose label is suspect.
        regions: Of these pixels, the worst first.
    """

    id: str
    split: str
    evidence: float
    score: float
    suspect: float
    regions: tuple[Region, ...]


class Audit(NamedTuple):
    """What an audit of labels found.

    Attributes:
        images: The worst first.
        thresholds: By what labels say, the mean probability that the network gives it where labels
            say so; None where no label does.
    """

    images: tuple[Judged, ...]
    thresholds: dict[str, float | None]

    def regions(self) -> list[Region]:
        """Returns the regions of all images, the worst first."""
        found = [region for image in self.images for region in image.regions]
        return sorted(found, key=lambda region: -region.evidence)


Sink = Callable[[str, np.ndarray], None]
"""Takes the id of an image and which of its pixels still count, bool [*n], where what is suspect is
left out."""


class Auditor(NamedTuple):
    """A trained network, and the splits of a data set that it looks at."""

    trained: Trained
    dataset: Dataset
    splits: Sequence[str]


class _Kept(NamedTuple):
    """What is known of an image before anything is decided."""

    id: str
    split: str
    file: Path
    sums: np.ndarray


def audit_labels(auditors: Sequence[Auditor], sink: Sink | None = None) -> Audit:
    """Ranks images and regions by how much trained networks speak against their labels.

    A pixel agrees with its label by the probability that the network gives to it. The score of an
    image is the soft minimum of that over its pixels that count: sum_i a_i w_i, with w_i in
    proportion to exp((1 - a_i) / `TEMPERATURE`) (Lad & Mueller, 2023, "Estimating label quality and
    errors in semantic segmentation data via any model", section 3). A label is suspect where the
    network decides otherwise, with a probability that is at least the mean one of pixels whose
    labels say what it decides (Northcutt et al., 2021, "Confident learning", equation 1). Of
    suspect pixels only those count that a square of 3 pixels a side holds: a border that is drawn a
    pixel further out is no error.

    Images with the most evidence come first, then those with the lowest score. Planted errors are
    found that way much sooner than by the score alone, since a network that is unsure, as it is
    along every border, has a low probability there for a label that is right.

    Where classes may overlap, the class on which the network disagrees most stands for a pixel.

    Args:
        auditors: Trained networks, each with a data set and the splits of it to look at. Labels
            that a network was trained on are found less surely.
        sink: Takes which pixels of an image still count, where some do not.

    Returns:
        What was found.

    Raises:
        UserError: See `Predictor.batches`; or the networks have other classes.
    """
    task = auditors[0].trained.network.task
    names = task.names if task.decides == "ids" else (*task.names, *(f"no {n}" for n in task.names))
    if any(trained.network.task != task for trained, _, _ in auditors):
        raise UserError("the runs of an audit have other classes; give runs of one config.")
    with tempfile.TemporaryDirectory() as folder:
        kept: list[_Kept] = []
        for number, (trained, dataset, splits) in enumerate(auditors):
            for split in splits:
                begin = Path(folder) / f"{number}_{split}_"
                images = _predict(trained, dataset.splits[split], split, begin, len(names))
                total = len(dataset.splits[split])
                kept += follow(images, f"auditing the labels of the {split} split", total)
        sums, counts = np.sum([one.sums for one in kept], axis=0)
        thresholds = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
        judged = (_judge(one, names, thresholds, sink) for one in kept)
        images = follow(judged, "ranking the labels", len(kept))
    written = zip(names, thresholds.tolist(), strict=True)
    return Audit(
        tuple(sorted(images, key=lambda image: (-image.evidence, image.score, image.id))),
        {name: None if np.isnan(mean) else mean for name, mean in written},
    )


def _predict(
    trained: Trained, source: Source, split: str, begin: Path, names: int
) -> Iterator[_Kept]:
    """Writes what `compare` says of every image to a file of its own."""
    network = trained.network
    outputs = Outputs(network.task.label_shape, functools.partial(compare, network.task))
    predictor = make_predictor(network, outputs)
    size = network.settings.batch_size
    for batch, result in predictor.batches(trained.variables, source, size):
        fields = {name: cut(values, batch) for name, values in result.items()}
        for index in batch["index"]:
            own = {name: values[index] for name, values in fields.items()}
            counts = own["counts"].astype(bool)
            given, agreement = own["given"][counts], own["agreement"][counts].astype(np.float64)
            sums = np.stack([np.bincount(given, w, names) for w in (agreement, None)])
            file = begin.with_name(f"{begin.name}{index}.npz")
            np.savez(file, allow_pickle=False, **own)
            yield _Kept(source.ids[index], split, file, sums)


def compare(task: Task, logits: jax.Array, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """Compares what the network says of every pixel with its label.

    Args:
        task: What a label means.
        logits: float32 [B, *n, K].
        batch: A batch of `images.image_batches` with labels.

    Returns:
        By name, [B, *n]: "agreement", the probability of what the label says, that of the class
        which agrees least where classes may overlap; "given" and "found", what the label and the
        network say of it, class k as k and, where classes may overlap, its absence as K + k;
        "confidence", the probability of "found"; and "counts", whether the pixel counts.
    """
    label = batch["label"].astype(jnp.int32)
    probability, target = task.probability(logits), task.target(label)
    # Of exclusive classes the least is that of the label's own class.
    agreement = 1 - jnp.abs(target - probability)
    least = agreement.min(axis=-1)
    if task.decides == "ids":
        given, found = task.truth(label), task.decide(logits)
        confidence = probability.max(axis=-1)
    else:
        k, worst = task.channels, jnp.argmin(agreement, axis=-1)
        is_on = jnp.take_along_axis(target, worst[..., None], axis=-1)[..., 0] > 0
        agrees = least >= 0.5
        given = jnp.where(is_on, worst, worst + k)
        found = jnp.where(is_on == agrees, worst, worst + k)
        confidence = jnp.where(agrees, least, 1 - least)
    return {
        "agreement": least,
        "confidence": confidence,
        "given": given.astype(jnp.uint16),
        "found": found.astype(jnp.uint16),
        "counts": batch["weight"],
    }


def soft_minimum(values: np.ndarray) -> float:
    """Returns the soft minimum of values in [0, 1]; see `audit_labels`. 1 of none."""
    if not values.size:
        return 1.0
    values = values.astype(np.float64).ravel()
    weights = np.exp((values.min() - values) / TEMPERATURE)
    return float(values @ weights / weights.sum())


def find_suspects(
    arrays: dict[str, np.ndarray], counts: np.ndarray, thresholds: np.ndarray
) -> np.ndarray:
    """Tells which pixels' labels are suspect: bool [*n]; see `audit_labels`.

    Args:
        arrays: "confidence", "given" and "found" of `compare`, [*n].
        counts: bool [*n].
        thresholds: By what labels say; NaN where no label does, so that nothing can be said.
    """
    found = arrays["found"]
    differs = counts & (found != arrays["given"]) & (arrays["confidence"] >= thresholds[found])
    return ndimage.binary_opening(differs, np.ones((3,) * differs.ndim))


def _judge(kept: _Kept, names: Sequence[str], thresholds: np.ndarray, sink: Sink | None) -> Judged:
    name, split, file, _ = kept
    with np.load(file) as stored:
        arrays = dict(stored)
    file.unlink()
    counts = arrays.pop("counts").astype(bool)
    suspects = find_suspects(arrays, counts, thresholds)
    still = counts & ~suspects
    if sink is not None and not still.all():
        sink(name, still)
    regions, _ = ndimage.label(suspects)
    evidence = arrays["confidence"].astype(np.float64) - arrays["agreement"]
    rows = []
    for number, box in enumerate(ndimage.find_objects(regions), 1):
        inside = regions[box] == number
        pairs = arrays["given"][box][inside].astype(int) * len(names) + arrays["found"][box][inside]
        given, found = divmod(int(np.bincount(pairs).argmax()), len(names))
        ends = tuple((part.start, part.stop) for part in box)
        worst = float(evidence[box][inside].sum())
        pixels = int(inside.sum())
        rows.append(Region(name, split, ends, pixels, names[given], names[found], worst))
    share = float(suspects.sum() / max(1, counts.sum()))
    ordered = tuple(sorted(rows, key=lambda region: (-region.evidence, region.box)))
    worth = sum(region.evidence for region in ordered)
    return Judged(name, split, worth, soft_minimum(arrays["agreement"][counts]), share, ordered)
