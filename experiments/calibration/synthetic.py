"""Synthetic evaluations with planted effects: confusion matrices of images never drawn."""

from typing import NamedTuple

import numpy as np

_SKILL = (3.0, 1.5, 0.5)  # log-odds of a right pixel by class, before all effects
PIXELS = 4096


class Images(NamedTuple):
    """What all networks have in common.

    Attributes:
        pixels: int [N, K], true pixels by class; some images lack a class.
        difficulty: [N], taken off the log-odds.
    """

    pixels: np.ndarray
    difficulty: np.ndarray


class Spread(NamedTuple):
    """Standard deviations of what varies, in log-odds.

    Attributes:
        shared: Of what a seed does to all variants alike.
        own: Of what a seed does to one variant.
        image: Of what a network does on one image.
        taste: Of what a variant, whatever its seed, does on one image.
    """

    shared: float = 0.03
    own: float = 0.05
    image: float = 0.3
    taste: float = 0.0


def draw_images(rng: np.random.Generator, count: int) -> Images:
    """Draws images whose classes cover very different shares."""
    shares = rng.dirichlet((2.0, 0.7, 0.4), count)
    pixels = np.floor(shares * PIXELS).astype(np.int64)
    return Images(pixels, rng.normal(0, 0.8, count))


def draw_networks(
    rng: np.random.Generator,
    images: Images,
    effects: tuple[float, ...],
    seeds: int,
    spread: Spread,
) -> np.ndarray:
    """Draws what trained networks find on images.

    Args:
        rng: Of all draws.
        images: N images.
        effects: One per variant, added to the log-odds; equal ones are truly equal variants.
        seeds: S.
        spread: What else varies.

    Returns:
        Confusion matrices int64 [variants, S, N, K, K], rows are truth.
    """
    count, variants = len(images.difficulty), len(effects)
    shift = rng.normal(0, spread.shared, (1, seeds, 1)) + np.array(effects)[:, None, None]
    shift = shift + rng.normal(0, spread.own, (variants, seeds, 1))
    shift = shift + rng.normal(0, spread.image, (variants, seeds, count))
    shift = shift + rng.normal(0, spread.taste, (variants, 1, count)) - images.difficulty
    right = 1 / (1 + np.exp(-(np.array(_SKILL) + shift[..., None])))
    hit = np.rint(right * images.pixels).astype(np.int64)
    missed = images.pixels - hit
    classes = len(_SKILL)
    confusion = np.zeros((variants, seeds, count, classes, classes), np.int64)
    for k in range(classes):
        confusion[..., k, k] = hit[..., k]
        confusion[..., k, (k + 1) % classes] = missed[..., k] - missed[..., k] // 3
        confusion[..., k, (k + 2) % classes] = missed[..., k] // 3
    return confusion
