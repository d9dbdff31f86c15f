"""Folders of runs as training and evaluation leave them, made without a network."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np

from unet_jax.cards.card import counted_of, make_card, write_card
from unet_jax.config import to_json
from unet_jax.data.sample import Sample, Spec
from unet_jax.defaults import PARTS, page
from unet_jax.evaluate import Evaluation, save_counts, summarise
from unet_jax.figures import flat_label
from unet_jax.metrics import make
from unet_jax.metrics.base import Outcome
from unet_jax.metrics.by_image import choose_extremes
from unet_jax.runs import history
from unet_jax.runs.gallery import Gallery
from unet_jax.task import make_task

CHOSEN = {"sizes": PARTS["eval.metrics"]["sizes"]}


@dataclasses.dataclass(frozen=True)
class Made:
    """Random images of blocks, and predictions that are mostly right."""

    task: object
    class_names: tuple
    count: int
    size: tuple
    channels: int
    dtype: str = "uint8"

    @property
    def spec(self):
        return Spec(len(self.size), self.channels, self.dtype, (0.0, 255.0))

    @property
    def ids(self):
        return [f"image_{i}" for i in range(self.count)]

    def __len__(self):
        return self.count

    def shape(self, index):
        return self.size

    def _label(self, seed):
        rng = np.random.default_rng(seed)
        coarse = tuple(-(-n // 3) for n in self.size) + self.task.label_shape
        most = 2 if self.task.label_shape else len(self.class_names)
        label = rng.integers(0, most, coarse, np.uint8)
        for axis, n in enumerate(self.size):
            label = label.repeat(3, axis).take(range(n), axis)
        return label

    def read(self, index, window=None):
        label = self._label(index)
        label[:, 0] = 255
        noise = np.random.default_rng(index).normal(100, 30, (*self.size, self.channels))
        return Sample(noise.astype(self.dtype), label, self.ids[index], (1.0,) * len(self.size))

    def predict(self, index):
        label, other = self._label(index), self._label(index + 1000)
        wrong = np.random.default_rng(index).random(label.shape) < 0.1 * (1 + index % 5)
        return np.where(wrong, other, label)


def evaluate(source):
    """Counts what a network would be counted for that predicts `Made.predict`."""
    task, axes = source.task, len(source.size)
    metrics = make.make_metrics(task.names, (), task.decides, CHOSEN)
    label = np.stack([source.read(index).label for index in range(len(source))])
    weight = (label != 255).reshape(*label.shape[: axes + 1], -1).all(axis=-1).astype(np.uint8)

    @jax.jit
    def count(label, guess, weight):
        truth, decision = task.truth(label), task.truth(guess)
        outcome = Outcome(None, jnp.where(truth, 0.5, 0.2), decision, truth, weight)
        return make.count(metrics, outcome), task.mask(decision), outcome[2:4]

    guess = np.stack([source.predict(index) for index in range(len(source))])
    found = jax.device_get(count(np.where(label == 255, 0, label), guess, weight))
    counts, masks, (decision, truth) = found
    rows = []
    for part in zip(decision, truth, weight, strict=True):
        own = Outcome(None, None, *(x[None] for x in part), spacing=(1.0,) * axes)
        rows.append(make.count(metrics, own, on_device=False))
    counts |= {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
    kinds = {name: np.float64 if x.dtype.kind == "f" else np.int64 for name, x in counts.items()}
    return {name: array.astype(kinds[name]) for name, array in counts.items()}, masks


def make_run(workdir, kind="exclusive", classes=3, count=8, size=(24, 30), channels=3, **more):
    """Leaves a finished run of 40 steps, and returns its gallery, which has drawn nothing."""
    names = tuple(f"class {k}" for k in range(classes))
    regions = (("all", tuple(range(1, classes)), 1), ("last", (classes - 1,), classes - 1))
    section = {"kind": kind} | ({"regions": regions} if kind == "regions" else {})
    config = page(task=section, eval={"metrics": CHOSEN})
    task = make_task(**section, class_names=names)
    source = Made(task, names, count, size, channels, **more)
    headline = make.read_headline("mIoU")
    workdir.mkdir(parents=True)
    (workdir / "config.json").write_text(to_json(config))
    counts, masks = evaluate(source)
    extremes = choose_extremes(counts, headline, task.names)
    result = Evaluation(counts, {0: masks[0]}, {index: masks[index] for index in extremes})
    save_counts(workdir / "evaluations" / "val_00000040.npz", result.counts, source)
    history.save(workdir, 40, result.predictions, result.confusion, result.extremes)
    scores = {"step": 40, **summarise(result, task)}
    results = {"val": scores, "train": {"step": 40, "best_step": 40}}
    (workdir / "results.json").write_text(json.dumps(results))
    lines = [{"step": 20, "train/loss": 1.0, "images_per_s": 64.0}]
    lines.append({"step": 40, "val/mIoU": scores["mIoU"], "images_per_s": 32.0})
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    assert flat_label(masks[0], len(size)).shape[:2] == size[-2:]
    return Gallery(workdir, source, names, task, headline)


def other_card(run, card, moved):
    """Writes a card that is whole, of counts in which some pixels are predicted otherwise."""
    file = run / "cards" / "other.json"
    counted = counted_of(card, file)
    confusion = counted.counts["overlap/confusion"]
    row = np.argmax(confusion[1].diagonal())
    confusion[1, row, row] -= moved
    confusion[1, row, (row + 1) % 6] += moved
    facts = {name: card[name] for name in ("title", "data", "run", "rules")}
    file.write_text(write_card(make_card(counted, **facts)))
    return file
