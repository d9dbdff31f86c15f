"""Pictures of textured, overlapping shapes with exact masks, made on the fly."""

import functools

import numpy as np

from unet_jax.config import check_range
from unet_jax.data.base import Dataset
from unet_jax.steps import MOST_SEED

MOST_PICTURES, MOST_PIXELS, MOST_SHAPES = 10**7, 2**12, 1000
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


def draw(seed: int, index: int, size: int, shapes: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws one picture, a pure function of its arguments.

    Every shape, and the background, is filled with stripes, checks or a plain colour of random
    colours; later shapes cover parts of earlier ones, at most a third of each; noise covers all.
    Bright and dark alternate, so that edges can be seen, but colour tells no class.

    Args:
        seed: Of the data set.
        index: Of the picture.
        size: H = W, in pixels.
        shapes: How many shapes are placed.

    Returns:
        Image uint8 [H, W, 3] and label uint8 [H, W] with indices into `CLASS_NAMES`.
    """
    rng = np.random.default_rng((seed, index))
    y, x = np.mgrid[:size, :size].astype(np.float32)
    bright = bool(rng.integers(2))
    image, label = _texture(x, y, bright, rng), np.zeros((size, size), np.uint8)
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
        label[inside], owner[inside] = kind, len(areas)
        areas.append(int(inside.sum()))
    image = image + rng.normal(0, 0.03, image.shape)
    return (np.clip(image, 0, 1) * 255).astype(np.uint8), label


class Shapes:
    """A random-access source of such pictures.

    Each is drawn when first asked for and then kept: with two cores, drawing anew each epoch would
    take a third of the time of training.
    """

    def __init__(self, split: str, count: int, size: int, shapes: int, seed: int) -> None:
        """Describes the pictures; none is drawn yet.

        Args:
            split: Name of the split, which also sets its pictures apart from other splits'.
            count: N.
            size: H = W, in pixels.
            shapes: Shapes per picture.
            seed: Of the data set.
        """
        self._split, self._count, self._size = split, count, size
        # Splits differ in the seed, so that no picture of one is ever in another.
        split_seed = seed * 1000 + sum(split.encode())
        self._draw = functools.cache(lambda index: draw(split_seed, index, size, shapes))

    @property
    def ids(self) -> list[str]:
        """Returns one name per picture."""
        return [f"{self._split}_{index:05d}" for index in range(self._count)]

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> dict[str, object]:
        """Returns {"image": uint8 [H, W, 3], "label": uint8 [H, W], "id": str}."""
        image, label = self._draw(int(index))
        return {"image": image, "label": label, "id": f"{self._split}_{index:05d}"}

    def size(self, index: int) -> tuple[int, int]:
        """Returns (height, width), the same for all; see `Source`."""
        del index
        return self._size, self._size


def open_synthetic(
    *,
    train: int = 2000,
    val: int = 200,
    test: int = 200,
    size: int = 64,
    shapes: int = 3,
    seed: int = 0,
) -> Dataset:
    """Opens synthetic shapes (see `draw`).

    Args:
        train: Pictures for training.
        val: Pictures for validation.
        test: Pictures for the test.
        size: H = W, in pixels.
        shapes: Shapes per picture.
        seed: Of the data set.

    Returns:
        Its three splits.

    Raises:
        UserError: A number is out of range.
    """
    for name, value, low, high in (
        ("train", train, 1, MOST_PICTURES),
        ("val", val, 1, MOST_PICTURES),
        ("test", test, 1, MOST_PICTURES),
        ("size", size, 1, MOST_PIXELS),
        ("shapes", shapes, 0, MOST_SHAPES),
        ("seed", seed, 0, MOST_SEED),
    ):
        check_range(f"config.data.synthetic.{name}", value, low, high)
    counts = {"train": train, "val": val, "test": test}
    splits = {name: Shapes(name, count, size, shapes, seed) for name, count in counts.items()}
    return Dataset(splits, CLASS_NAMES)
