"""What a run should have found, from the files on the disk, NumPy and plain network calls."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict
from PIL import Image

from experiments.truth.cases import (
    CLASSES,
    DEEPEST,
    IGNORED,
    MARGIN,
    Case,
    image_size,
    make_config,
    names_of,
    read_pair,
)
from unet_jax.models.unet import UNet
from unet_jax.runs.checkpoint import read_arrays

TIE = 1e-4  # difference of two logits below which rounding may decide between their classes
LENGTHS = [*range(32, 257, 32), *(2**k * n // 4 for k in range(8, 13) for n in range(5, 9))]


class Truth(NamedTuple):
    """What one image should give.

    Attributes:
        label: int [H, W], with `IGNORED`.
        prediction: int [H, W].
        is_tie: bool [H, W], where rounding may decide.
        confusion: int [K, K].
        loss: Sum of the cross-entropy of the pixels that count.
    """

    label: np.ndarray
    prediction: np.ndarray
    is_tie: np.ndarray
    confusion: np.ndarray
    loss: float


def read_variables(checkpoint: Path) -> dict[str, Any]:
    """Reads parameters and statistics of a checkpoint."""
    arrays = read_arrays(checkpoint)
    kept = {tuple(k.split("/")): v for k, v in arrays.items() if k.split("/")[0] != "opt_state"}
    tree = unflatten_dict(kept)
    return {"params": tree["params"], "batch_stats": tree.get("batch_stats", {})}


def make_model(case: Case) -> UNet:
    """Returns the network of a case."""
    return UNet(len(CLASSES), **make_config(case, Path()).model)


def whole(case: Case, image: np.ndarray) -> tuple[np.ndarray, tuple[int, int]]:
    """Pads an image by the stated rule; returns it and where its own pixels' logits begin."""
    ends = []
    for n in image.shape[:2]:
        length = n
        if case.fit == "crop" and case.norm in ("batch", "none"):
            length = next(size for size in LENGTHS if size >= n)
        if case.padding == "valid":
            read = -(-(length + 2 * MARGIN) // DEEPEST) * DEEPEST
            ends.append((MARGIN, read - n - MARGIN))
        else:
            ends.append((0, -(-length // DEEPEST) * DEEPEST - n))
    mode: Any = "symmetric" if case.padding == "valid" else "edge"
    return np.pad(image, (*ends, (0, 0)), mode=mode), image.shape[:2]


def logits_of(case: Case, variables: Any, image: np.ndarray) -> np.ndarray:
    """Computes logits float64 [H, W, K] of one image by a plain network call."""
    shape = image.shape[:2]
    if case.fit == "resize":
        size = image_size(case)[::-1]
        image = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
    padded, (height, width) = whole(case, image)
    x = jnp.asarray((padded[None].astype(np.float32) / 255 - 0.5) / 0.25)
    logits = _apply(make_model(case), variables, x)
    logits = np.asarray(logits, np.float64)[0, :height, :width]
    return bilinear(logits, shape) if case.fit == "resize" else logits


@functools.partial(jax.jit, static_argnums=0)
def _apply(model: UNet, variables: Any, x: jax.Array) -> Any:
    return model.apply(variables, x, train=False)


def bilinear(x: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Samples x [h, w, K] at the centres of new pixels, with the edge repeated."""
    for axis, n in enumerate(size):
        old = x.shape[axis]
        at = np.clip((np.arange(n) + 0.5) * old / n - 0.5, 0, old - 1)
        low = np.floor(at).astype(int)
        share = (at - low).reshape(-1, *[1] * (x.ndim - 1 - axis))
        x = x.take(low, axis) * (1 - share) + x.take(np.minimum(low + 1, old - 1), axis) * share
    return x


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Returns log-probabilities over the last axis."""
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def truth_of(case: Case, variables: Any, root: Path, name: str) -> Truth:
    """Works out what one image should give."""
    image, label = read_pair(root, name)
    logits = logits_of(case, variables, image)
    prediction, ordered = logits.argmax(-1), np.sort(logits, -1)
    known = label != IGNORED
    confusion = np.zeros((len(CLASSES),) * 2, int)
    np.add.at(confusion, (label[known], prediction[known]), 1)
    chosen = np.take_along_axis(log_softmax(logits)[known], label[known][:, None].astype(int), -1)
    is_tie = ordered[..., -1] - ordered[..., -2] < TIE
    return Truth(label, prediction, is_tie, confusion, -chosen.sum())


def scores_of(confusion: np.ndarray) -> dict[str, float | None]:
    """Works out every score of a confusion matrix (Long et al., 2015, section 5)."""
    found: dict[str, float | None] = {}
    means: dict[str, list[float]] = {"IoU": [], "Dice": [], "accuracy": []}
    for k, name in enumerate(CLASSES):
        hit, row, column = confusion[k, k], confusion[k].sum(), confusion[:, k].sum()
        ratios = (("IoU", row + column - hit), ("Dice", (row + column) / 2), ("accuracy", row))
        for kind, divisor in ratios:
            found[f"{kind}/{name}"] = float(hit / divisor) if row else None
            means[kind] += [hit / divisor] if row else []
    names = {"mIoU": "IoU", "mDice": "Dice", "mean_class_accuracy": "accuracy"}
    found |= {mean: float(np.mean(means[kind])) for mean, kind in names.items()}
    return found | {"pixel_accuracy": float(np.trace(confusion) / confusion.sum())}


def first_step(case: Case, root: Path, key: jax.Array) -> Mapping[str, float]:
    """Works out the scalars of the first step, which takes all training images.

    The gradient is jax's, of a loss that is written out here.
    """
    pairs = [_training_pair(case, *read_pair(root, name)) for name in names_of(root, "train")]
    images, labels = (np.stack(arrays) for arrays in zip(*pairs, strict=True))
    x = jnp.asarray((images.astype(np.float32) / 255 - 0.5) / 0.25)
    model, config = make_model(case), make_config(case, root)
    init: Any = jax.jit(functools.partial(model.init, train=False))
    variables = init(key, jnp.zeros((1, *images.shape[1:])))
    rest = {name: tree for name, tree in variables.items() if name != "params"}

    def cut(labels: np.ndarray) -> np.ndarray:
        edge = MARGIN if case.padding == "valid" else 0
        return labels[:, edge : labels.shape[1] - edge, edge : labels.shape[2] - edge]

    def loss(params: Any) -> tuple[jax.Array, jax.Array]:
        every = {"params": params, **rest}
        logits, _ = model.apply(every, x, train=True, mutable=["batch_stats"])
        label = cut(labels)
        known, truth = label != IGNORED, np.eye(len(CLASSES))[np.where(label == IGNORED, 0, label)]
        truth = truth * known[..., None]
        log_p = logits - jax.nn.logsumexp(logits, -1, keepdims=True)
        weights = np.reshape(config.loss.cross_entropy.class_weights, (1, 1, 1, -1))
        entropy = -jnp.sum(log_p * truth * weights) / np.sum(truth * weights)
        overlap = jnp.sum(jnp.exp(log_p) * truth, (0, 1, 2))
        total = jnp.sum(jnp.exp(log_p) * known[..., None], (0, 1, 2)) + truth.sum((0, 1, 2))
        present = truth.sum((0, 1, 2)) > 0
        dice = jnp.sum((1 - 2 * overlap / total) * present) / present.sum()
        return entropy + config.loss.dice.weight * dice, logits

    gradient_of: Any = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (value, logits), gradient = gradient_of(variables["params"])
    label = cut(labels)
    hits = (np.asarray(logits).argmax(-1) == label)[label != IGNORED]
    squares = sum(np.sum(np.square(np.asarray(g, np.float64))) for g in jax.tree.leaves(gradient))
    return {
        "train/loss": float(value),
        "train/pixel_accuracy": float(hits.mean()),
        "train/gradient_norm": float(np.sqrt(squares)),
        "learning_rate": config.optim.learning_rate,
    }


def _training_pair(
    case: Case, image: np.ndarray, label: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    height, width = image_size(case)
    if case.fit == "resize":
        size, to = (width, height), Image.Resampling
        image = np.asarray(Image.fromarray(image).resize(size, to.BILINEAR))
        return image, np.asarray(Image.fromarray(label).resize(size, to.NEAREST))
    edge = MARGIN if case.padding == "valid" else 0
    image = np.pad(image, ((edge, edge), (edge, edge), (0, 0)), mode="symmetric")
    label = np.pad(label, edge, constant_values=IGNORED)
    below, right = height - image.shape[0], width - image.shape[1]
    ends = ((0, below), (0, right))
    return (
        np.pad(image, (*ends, (0, 0)), mode="edge"),
        np.pad(label, ends, constant_values=IGNORED),
    )
