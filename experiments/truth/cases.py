"""Small runs in every combination of what decides how an image comes to a network and back."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from unet_jax.models.variants import section

IGNORED = 255
CLASSES = ("ground", "leaf", "stone")
DEEPEST = 2  # pixels of an image per pixel of the deeper of the two levels
MARGIN = 4  # pixels that its three valid convolutions cut off every side


class Case(NamedTuple):
    """A combination.

    Attributes:
        size: (height, width) of the images that decide; others are there as well.
        norm: A key of `blocks.NORMS`, or "squeeze_excite" for it with batch normalisation.
        fit: "resize" or "crop".
        padding: "same" or "valid".
        batch_size: Of evaluation and prediction.
    """

    size: tuple[int, int]
    norm: str
    fit: str
    padding: str
    batch_size: int

    @property
    def name(self) -> str:
        """Returns a name for people."""
        height, width = self.size
        return f"{height}x{width}-{self.norm}-{self.fit}-{self.padding}-{self.batch_size}"


FACTORS: dict[str, tuple[Any, ...]] = {
    "size": ((1, 40), (33, 33), (36, 70), (584, 565)),
    "norm": ("batch", "group", "instance", "none", "squeeze_excite"),
    "fit": ("resize", "crop"),
    "padding": ("same", "valid"),
    "batch_size": (1, 3),
}


def all_cases() -> list[Case]:
    """Returns the full product."""
    return [Case(*values) for values in itertools.product(*FACTORS.values())]


def pairwise() -> list[Case]:
    """Returns cases in which every pair of values of two factors occurs, chosen greedily."""

    def pairs(case: Case) -> set[Any]:
        return set(itertools.combinations(enumerate(case), 2))

    cases = all_cases()
    left, chosen = set().union(*map(pairs, cases)), []
    while left:
        best = max(cases, key=lambda case: len(pairs(case) & left))
        left -= pairs(best)
        chosen.append(best)
    return chosen


def write_folder(root: Path, case: Case) -> None:
    """Writes images and masks of a case, with ignored pixels, and lists of three splits."""
    height, width = case.size
    # 257 is one more than the lengths that are padded in steps of 32.
    other = (width, height) if height != width else (257, 300)
    sizes = {
        "train": [case.size] * 2,
        "val": [case.size, other, case.size],
        "test": [other, case.size],
    }
    rng = np.random.default_rng(0)
    for split, shapes in sizes.items():
        names = []
        for index, shape in enumerate(shapes):
            names.append(f"{split}{index}")
            label = _blobs(rng, shape)
            image = 60 * label[..., None] + rng.integers(0, 90, (*shape, 3))
            label[rng.random(shape) < 0.2] = IGNORED
            for folder, array in (("images", image), ("masks", label)):
                file = root / folder / f"{names[-1]}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array.astype(np.uint8)).save(file, compress_level=1)
        (root / f"{split}.txt").write_text("\n".join(names))


def _blobs(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Draws class ids in patches of several pixels."""
    coarse = rng.integers(0, len(CLASSES), [n // 9 + 1 for n in shape])
    return coarse.repeat(9, 0).repeat(9, 1)[: shape[0], : shape[1]]


def image_size(case: Case) -> tuple[int, int]:
    """Returns the size of training images: with fit "crop" that of a whole one, padded."""
    if case.fit == "resize":
        return (50, 54) if case.padding == "valid" else (30, 35)
    around = 2 * MARGIN if case.padding == "valid" else 0
    height, width = (-(-(n + around) // DEEPEST) * DEEPEST for n in case.size)
    return height, width


def make_config(case: Case, root: Path) -> ConfigDict:
    """Returns the config of a run of two steps, each on all training images."""
    norm = "batch" if case.norm == "squeeze_excite" else case.norm
    one = {"repeats": (1,), "decoder_repeats": (1,)}
    model = section(features=(4, 8), norm=norm, padding=case.padding, **one)
    model["squeeze_excite"] = 2 if case.norm == "squeeze_excite" else 0
    data = {
        "source": "folder",
        "path": str(root),
        "image_size": image_size(case),
        "fit": case.fit,
        "context": MARGIN if (case.fit, case.padding) == ("crop", "valid") else 0,
        "workers": 2,
        "folder": {"class_names": CLASSES, "ignore_values": (IGNORED,)},
    }
    loss = {"cross_entropy": {"class_weights": (1.0, 2.0, 0.5)}, "dice": {"weight": 0.5}}
    optim = {"name": "sgd", "learning_rate": 0.1, "schedule": "constant", "warmup": "0"}
    train = {"duration": "2 steps", "batch_size": 2, "eval_every": "1", "log_every": "1"}
    return ConfigDict(
        {
            "data": data,
            "augment": {},
            "model": model,
            "pretrained": {},
            "task": {},
            "loss": loss,
            "optim": optim,
            "train": train,
            "eval": {"batch_size": case.batch_size, "shown": 1},
            "mesh": {"data": 1},
        }
    )


def read_pair(root: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Reads an image and its mask from the disk."""
    image, mask = (np.array(Image.open(root / f / f"{name}.png")) for f in ("images", "masks"))
    return image, mask


def names_of(root: Path, split: str) -> Iterator[str]:
    """Yields the names that a split's list has."""
    yield from (root / f"{split}.txt").read_text().split()
