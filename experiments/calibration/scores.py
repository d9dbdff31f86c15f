"""Checks how often intervals over images hold the truth, for scores of every kind.

python -m experiments.calibration.scores

Of a population of images that are all known, some are drawn, and the interval is computed from
these: of the mIoU, of a mean over images of a skewed distance (HD95), also where some images miss
the structure, of the area under the ROC curve, and of the expected calibration error. Counted is
how often the interval holds the score of the population. `metrics.resampling.HELD` has the shares
that evaluation prints beside the interval of few images.
"""

import functools
from collections.abc import Callable

import numpy as np
from absl import app, flags

from experiments.calibration.synthetic import Spread, draw_images, draw_networks
from unet_jax.defaults import HEADLINE
from unet_jax.metrics import resampling
from unet_jax.metrics.base import Function, Kind, Ratio, Statistic
from unet_jax.metrics.calibration import BINS, Calibration
from unet_jax.metrics.curves import area_under_roc
from unet_jax.metrics.overlap import Overlap

DRAWS = flags.DEFINE_integer("draws", 1000, "Synthetic draws of images of each kind.", 2)
SIZES = flags.DEFINE_list("sizes", ["10", "20", "30", "50", "200"], "Images of a draw.")

POPULATION = 4000
RESAMPLES = 1000
_SCORES = 64  # bins of the ROC curve
_ANY = Kind(-np.inf, np.inf)


def overlaps(rng: np.random.Generator) -> Statistic:
    """Draws confusion matrices of one network, of images of three classes of very other sizes."""
    [[confusion]] = draw_networks(rng, draw_images(rng, POPULATION), (0.0,), 1, Spread())
    names = tuple(map(str, range(confusion.shape[-1])))
    return resampling.by_image(Overlap(names), HEADLINE, {"confusion": confusion})


def distances(rng: np.random.Generator, missed: float = 0.0) -> Statistic:
    """Draws distances in pixels, skewed, a share of which is the diagonal of its image."""
    values = rng.lognormal(1.0, 0.7, POPULATION)
    values[rng.random(POPULATION) < missed] = 90.5
    there = np.ones((POPULATION, 1))
    return Ratio(values[:, None], there, there)


def areas(rng: np.random.Generator) -> Statistic:
    """Draws histograms of scores, of images that differ in difficulty and in how much there is."""
    edges = np.linspace(-6, 6, _SCORES - 1)
    found = np.zeros((POPULATION, 2, _SCORES))
    for image in found:
        gain, offset = rng.normal(1.5, 0.7), rng.normal(0, 0.5)
        pixels = rng.multinomial(1000, [0.8, 0.2] if rng.random() < 0.5 else [0.95, 0.05])
        for kind, number in enumerate(pixels):
            places = np.searchsorted(edges, rng.normal(offset + gain * kind, 1, number))
            image[kind] = np.bincount(places, minlength=_SCORES)
    flat = found.reshape(POPULATION, -1)
    of = lambda sums: area_under_roc(sums.reshape(*sums.shape[:-1], 2, _SCORES))  # noqa: E731
    return Function(flat, of, np.ones((POPULATION, 1)))


def errors(rng: np.random.Generator) -> Statistic:
    """Draws confidences of networks that are too sure, by an amount of each image's own."""
    counts = {name: np.zeros((POPULATION, BINS)) for name in ("confidence", "right", "elements")}
    for index in range(POPULATION):
        confidence = rng.beta(6, 1.5, 1000)
        right = rng.random(1000) < confidence - np.clip(rng.normal(0.1, 0.05), 0, 0.2) * confidence
        places = np.clip(np.floor(confidence * BINS).astype(int), 0, BINS - 1)
        for name, of in (("confidence", confidence), ("right", right), ("elements", None)):
            counts[name][index] = np.bincount(places, of, BINS)
    return Calibration(()).ratio("ECE", counts)


SCORES: dict[str, Callable[[np.random.Generator], Statistic]] = {
    "overlap": overlaps,
    "distance": distances,
    "distance, 5% missed": functools.partial(distances, missed=0.05),
    "area": areas,
    "error": errors,
}


def take(images: Statistic, drawn: np.ndarray) -> Statistic:
    """Returns what is known of some images."""
    if isinstance(images, Function):
        return Function(images.counts[drawn], images.of, images.present[drawn])
    return Ratio(*(part[drawn] for part in images))


def run(name: str, draws: int, images: int, seed: int = 0) -> tuple[int, int]:
    """Counts draws with an interval, and how many of these hold the truth.

    Args:
        name: Of `SCORES`.
        draws: How many.
        images: N of each.
        seed: Of all.

    Returns:
        Both.
    """
    rng = np.random.default_rng(seed)
    everything = SCORES[name](rng)
    truth, held, count = everything.whole(), 0, 0
    for _ in range(draws):
        part = take(everything, rng.integers(0, POPULATION, images))
        resample = int(rng.integers(2**31))
        found = resampling.bootstrap([[part]], None, RESAMPLES, resample, _ANY).means[0]
        if not isinstance(found, str):
            held, count = held + (found[0] <= truth <= found[1]), count + 1
    return count, held


def main(argv: list[str]) -> None:
    """Prints the table."""
    del argv
    print("| score | images | intervals | hold the truth |\n|---|---|---|---|")
    for name in SCORES:
        for images in map(int, SIZES.value):
            count, held = run(name, DRAWS.value, images)
            print(f"| {name} | {images} | {count} | {held / max(count, 1):.1%} |", flush=True)


if __name__ == "__main__":
    app.run(main)
