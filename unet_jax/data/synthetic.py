"""Images of textured, overlapping shapes with exact masks, drawn on the fly."""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from unet_jax.config import check_range, choose
from unet_jax.data import solids
from unet_jax.data.base import Dataset
from unet_jax.data.sample import RGB, Sample, Spec, Window, whole
from unet_jax.data.solids import draw_solids
from unet_jax.data.split_rules import NO_RULES, Rules
from unet_jax.data.splits import Facts, say_val, take_val
from unet_jax.durations import MOST_SEED
from unet_jax.errors import UserError

MOST_IMAGES, MOST_SHAPES = 10**6, 1000
MOST_PIXELS = {2: 2**12, 3: 2**9}  # a side, by the number of axes
CLASS_NAMES = ("background", "disk", "square", "triangle", "ring", "cross")


def _distance_to_polygon(x: np.ndarray, y: np.ndarray, sides: int) -> np.ndarray:
    """Returns how far along the nearest side's normal a point lies; 1 on the polygon's edge."""
    angles = 2 * np.pi * np.arange(sides)[:, None, None] / sides
    return np.max(x * np.cos(angles) + y * np.sin(angles), axis=0)


def _inside(kind: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Tells which points lie in a shape of about unit size."""
    radius = np.hypot(x, y)
    if kind == "disk":
        return radius < 0.9
    if kind == "square":
        return _distance_to_polygon(x, y, 4) < 0.8
    if kind == "triangle":
        return _distance_to_polygon(x, y, 3) < 0.6
    if kind == "ring":
        return (radius < 1.0) & (radius > 0.5)
    arm, length = np.minimum(abs(x), abs(y)), np.maximum(abs(x), abs(y))
    return (arm < 0.33) & (length < 1.0)


def _texture(x: np.ndarray, y: np.ndarray, bright: bool, rng: np.random.Generator) -> np.ndarray:
    """Draws a texture [H, W, 3] in [0, 1] that tells nothing about the class it fills."""
    first, second = rng.uniform(0.0, 0.7, (2, 3)) + 0.3 * bright
    angle, frequency = rng.uniform(0, np.pi), rng.uniform(0.3, 1.2)
    u = np.sin(frequency * (x * np.cos(angle) + y * np.sin(angle)) + rng.uniform(0, 6))
    v = np.sin(frequency * (y * np.cos(angle) - x * np.sin(angle)) + rng.uniform(0, 6))
    pattern = (u, u * v, np.zeros_like(u))[rng.integers(3)]
    mix = 0.5 + 0.5 * pattern[..., None]
    return first * mix + second * (1 - mix)


def draw(
    seed: int, index: int, size: int, shapes: int, *, by_class: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Draws one image, a pure function of its arguments.

    Every shape, and the background, is filled with stripes, checks or a plain colour of random
    colours; later shapes cover parts of earlier ones, at most a third of each; noise covers all.
    Bright and dark alternate, so that edges can be seen, but colour tells no class.

    Args:
        seed: Of the data set.
        index: Of the image.
        size: H = W, in pixels.
        shapes: How many shapes are placed.
        by_class: Whether the label says of every class where its shapes are, also where others
            cover them, and not which shape is seen.

    Returns:
        Image uint8 [H, W, 3] and label uint8 [H, W] with indices into `CLASS_NAMES`; by class uint8
        [H, W, K] of 0 and 1, of all classes but the background.
    """
    rng = np.random.default_rng((seed, index))
    y, x = np.mgrid[:size, :size].astype(np.float32)
    bright = bool(rng.integers(2))
    image, label = _texture(x, y, bright, rng), np.zeros((size, size), np.uint8)
    layers = np.zeros((size, size, len(CLASS_NAMES) - 1), np.uint8)
    owner, areas = np.zeros((size, size), int), [0]
    for _ in range(3 * shapes):  # tries; some are rejected
        kind = rng.integers(1, len(CLASS_NAMES))
        radius = size * rng.uniform(0.16, 0.3)
        centre, turn = rng.uniform(0.15, 0.85, 2) * size, rng.uniform(0, 2 * np.pi)
        dx, dy = (x - centre[0]) / radius, (y - centre[1]) / radius
        across, along = np.cos(turn) * dx + np.sin(turn) * dy, np.cos(turn) * dy - np.sin(turn) * dx
        inside = _inside(CLASS_NAMES[kind], across, along)
        left = np.bincount(owner[~inside], minlength=len(areas))
        if len(areas) > shapes or any(3 * left[k] < 2 * areas[k] for k in range(1, len(areas))):
            continue
        texture = _texture(x, y, bright ^ (len(areas) % 2 == 1), rng)
        image = np.where(inside[..., None], texture, image)
        label[inside], layers[inside, kind - 1], owner[inside] = kind, 1, len(areas)
        areas.append(int(inside.sum()))
    image = image + rng.normal(0, 0.03, image.shape)
    return (np.clip(image, 0, 1) * 255).astype(np.uint8), layers if by_class else label


class Kind(NamedTuple):
    """A kind of drawn images.

    Attributes:
        draw: (seed, index, size, shapes) -> image [*n, C] and label uint8 [*n], or [*n, K].
        class_names: K names.
        spec: Of the images.
    """

    draw: Callable[[int, int, int, int], tuple[np.ndarray, np.ndarray]]
    class_names: tuple[str, ...]
    spec: Spec


KINDS = {2: Kind(draw, CLASS_NAMES, RGB), 3: Kind(draw_solids, solids.CLASS_NAMES, solids.SPEC)}
"""By the number of axes: images, and volumes."""
LAYERS = Kind(functools.partial(draw, by_class=True), CLASS_NAMES[1:], RGB)
"""Images whose labels are by class."""


class Member(NamedTuple):
    """A drawn image: the `index`-th of "train", "val" or "test"."""

    set: str
    index: int

    @property
    def id(self) -> str:
        """Returns its name."""
        return f"{self.set}_{self.index:05d}"


class Shapes:
    """A random-access source of drawn images.

    Each is drawn when first asked for and then kept: with two cores, drawing anew each epoch would
    take a third of the time of training.

    Attributes:
        spec: Of its images.
    """

    def __init__(
        self, members: Sequence[Member], size: int, shapes: int, seed: int, kind: Kind
    ) -> None:
        """Describes the images; none is drawn yet.

        Args:
            members: N images.
            size: Pixels along every axis.
            shapes: Shapes per image.
            seed: Of the data set.
            kind: Of the images.
        """
        self._members, self._size, self.spec = members, size, kind.spec

        @functools.cache
        def draw_member(member: Member) -> tuple[np.ndarray, np.ndarray]:
            # Sets differ in the seed, so that no image of one is ever in another.
            set_seed = seed * 1000 + sum(member.set.encode())
            return kind.draw(set_seed, member.index, size, shapes)

        self._draw = draw_member

    @property
    def ids(self) -> list[str]:
        """Returns one name per image."""
        return [member.id for member in self._members]

    def __len__(self) -> int:
        return len(self._members)

    def read(self, index: int, window: Window | None = None) -> Sample:
        """Draws an image, or takes the one that was drawn; see `Source`."""
        member = self._members[int(index)]
        image, label = self._draw(member)
        part = window or whole(image.shape[:-1])
        spacing = (1.0,) * self.spec.axes
        return Sample(image[part], label[part], member.id, spacing)

    def shape(self, index: int) -> tuple[int, ...]:
        """Returns the pixels along each axis, the same for all; see `Source`."""
        del index
        return (self._size,) * self.spec.axes


def open_synthetic(
    *,
    train: int = 2000,
    val: int = 200,
    test: int = 200,
    size: int = 64,
    shapes: int = 3,
    seed: int = 0,
    axes: int = 2,
    by_class: bool = False,
    split_seed: int = 0,
    rules: Rules = NO_RULES,
) -> Dataset:
    """Opens synthetic shapes; see `draw`, and `solids.draw_solids` for volumes.

    Args:
        train: Images for training.
        val: Images for validation.
        test: Images for the test.
        size: Pixels along every axis.
        shapes: Shapes per image.
        seed: Of the data set.
        axes: 2 for images, 3 for volumes.
        by_class: Whether a label says of every class where its shapes are, also where others cover
            them; of images alone. It goes with config.task.kind="multilabel".
        split_seed: Of the folds.
        rules: With folds, the images for training and validation together are dealt to them.

    Returns:
        Its three splits.

    Raises:
        UserError: A number is out of range: `MOST_IMAGES` of a split, `MOST_PIXELS` a side and
            `MOST_SHAPES` are the most.
    """
    kind = choose(KINDS, "config.data.synthetic.axes", axes)
    if by_class and axes != 2:
        raise UserError(
            f"config.data.synthetic.by_class={by_class} must be False for volumes; or set "
            "config.data.synthetic.axes=2."
        )
    kind = LAYERS if by_class else kind
    for name, value, low, high in (
        ("train", train, 1, MOST_IMAGES),
        ("val", val, 1, MOST_IMAGES),
        ("test", test, 1, MOST_IMAGES),
        ("size", size, 1, MOST_PIXELS[axes]),
        ("shapes", shapes, 0, MOST_SHAPES),
        ("seed", seed, 0, MOST_SEED),
    ):
        check_range(f"config.data.synthetic.{name}", value, low, high)
    if rules.is_set():
        raise UserError(
            f"{rules.first()} is for the names and the masks of files; with "
            "config.data.source='synthetic' leave config.data.split as it is."
        )
    counts, split_by = {"train": train, "val": val, "test": test}, ""
    members = {name: [Member(name, i) for i in range(n)] for name, n in counts.items()}
    if rules.folds:
        both = [*members["train"], *members["val"]]
        facts = Facts([member.id for member in both], [""] * len(both), (), (), rules, "")
        parts = take_val(facts, range(len(both)), 0.0, split_seed)
        members["train"], members["val"] = ([both[i] for i in part] for part in parts)
        split_by = f"{say_val(rules, 0.0)}, seed {split_seed}"
    splits = {name: Shapes(part, size, shapes, seed, kind) for name, part in members.items()}
    return Dataset(splits, kind.class_names, by_class=by_class, split_by=split_by)
