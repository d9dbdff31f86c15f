"""Checks the report's statistics on synthetic studies in which the truth is known.

python -m experiments.calibration

Every study has a baseline, variants that are truly equal to it, and one that is truly better.
Images differ in difficulty and classes; a seed moves all variants alike and each on its own, and
every network errs in its own way on every image. Counted are how often the test over seeds, with
Holm's correction, calls an equal variant different, how often any of them, how often it finds the
better one, and how often the interval over images holds the true difference of the same networks
over all images there are. A variant may also be equal over all images, and yet better on some
and worse on others: then the test over seeds finds that of the images at hand, and only the
interval over both is right. A share is given with its own 95% interval (Wilson).
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from absl import app, flags
from scipy import stats

from experiments.calibration.synthetic import Spread, draw_images, draw_networks
from unet_jax.defaults import HEADLINE
from unet_jax.metrics import resampling
from unet_jax.metrics.base import SHARE, Ratio
from unet_jax.metrics.overlap import Overlap
from unet_jax.metrics.resampling import by_image
from unet_jax.report import statistics

STUDIES = flags.DEFINE_integer("studies", 2000, "Synthetic studies of each kind.", 10)
SEEDS = flags.DEFINE_list("seeds", ["2", "3", "5", "10"], "Seeds per variant, 2 or more.")
IMAGES = flags.DEFINE_list(
    "images",
    ["10", "20", "50", "200"],
    f"Images of the interval's check, {resampling.LEAST} or more.",
)
EQUAL = flags.DEFINE_integer("equal", 3, "Variants that are truly equal to the baseline.", 1)
EFFECT = flags.DEFINE_float("effect", 0.15, "Log-odds that the better variant gains.")

POPULATION = 4000  # images there are, of which a study has some
DRAWS = 20  # of images per population
NO_TASTE, SOME_TASTE = Spread(), Spread(taste=0.1)


class Found(NamedTuple):
    """How often, of `studies`, the test said something.

    Attributes:
        studies: How many.
        one: That the first equal variant differs.
        any: That any equal variant differs.
        better: That the better one is better.
        gain: Its mean difference of mIoU.
        sd: Standard deviation of the baseline's mIoU over seeds, the mean.
    """

    studies: int
    one: int
    any: int
    better: int
    gain: float
    sd: float


def reduced(confusion: np.ndarray) -> Any:
    """Reduces confusion matrices int [N, K, K] to what the mIoU is computed from."""
    names = tuple(map(str, range(confusion.shape[-1])))
    return by_image(Overlap(names), HEADLINE, {"confusion": confusion})


def run_tests(
    studies: int,
    seeds: int,
    *,
    equal: int = 3,
    effect: float = 0.15,
    images: int = 100,
    spread: Spread = NO_TASTE,
    paired: bool = True,
    seed: int = 0,
) -> Found:
    """Tests synthetic studies as the report does.

    Args:
        studies: How many.
        seeds: S of each variant.
        equal: Variants that are truly equal to the baseline.
        effect: Log-odds that one more variant gains.
        images: N, drawn anew for every study.
        spread: What varies.
        paired: Whether variants have the same seeds.
        seed: Of all draws.

    Returns:
        What was found.
    """
    rng = np.random.default_rng(seed)
    effects = (0.0,) * (1 + equal) + (effect,)
    one = several = better = 0
    gains, spreads = [], []
    for _ in range(studies):
        confusion = draw_networks(rng, draw_images(rng, images), effects, seeds, spread)
        values = np.array([[reduced(c).whole() for c in row] for row in confusion])
        names = [
            [str(s) for s in range(seeds)],
            [str(s + seeds * (not paired)) for s in range(seeds)],
        ]
        base = _by_seed(names[0], values[0])
        tests = [
            statistics.compare(_by_seed(names[1], row), base, SHARE.difference)
            for row in values[1:]
        ]
        adjusted = statistics.holm([test.p for test in tests])
        called = [p is not None and p < 1 - statistics.LEVEL for p in adjusted]
        one, several = one + called[0], several + any(called[:-1])
        better += called[-1] and tests[-1].difference > 0
        gains.append(tests[-1].difference)
        spreads.append(float(np.std(values[0], ddof=1)))
    return Found(
        studies=studies,
        one=one,
        any=several,
        better=better,
        gain=float(np.mean(gains)),
        sd=float(np.mean(spreads)),
    )


def _by_seed(names: list[str], values: np.ndarray) -> Mapping[str, float]:
    return dict(zip(names, values.tolist(), strict=True))


def run_intervals(
    studies: int,
    images: int,
    *,
    seeds: int = 3,
    effect: float = 0.1,
    spread: Spread = SOME_TASTE,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[int, int]:
    """Checks the interval over images: a population of images, fixed networks, many samples.

    Args:
        studies: How many samples of images, about.
        images: N of each.
        seeds: Networks per variant.
        effect: Log-odds that one variant gains.
        spread: What varies.
        resamples: R of the bootstrap.
        seed: Of all draws.

    Returns:
        Samples that gave an interval, and how many of these held the true difference.
    """
    rng = np.random.default_rng(seed)
    held = count = 0
    for _ in range(-(-studies // DRAWS)):
        everything = draw_images(rng, POPULATION)
        confusion = draw_networks(rng, everything, (0.0, effect), seeds, spread)
        groups = [[reduced(c) for c in row] for row in confusion]
        means = [np.mean([run.whole() for run in runs]) for runs in groups]
        for _ in range(DRAWS):
            drawn = rng.integers(0, POPULATION, images)
            part = [[Ratio(*(array[drawn] for array in run)) for run in runs] for runs in groups]
            found = resampling.bootstrap(part, 0, resamples, int(rng.integers(2**31)))
            if isinstance(found.differences[1], str):
                continue
            low, high = found.differences[1]
            held += low <= means[1] - means[0] <= high
            count += 1
    return count, int(held)


def run_errors(
    studies: int,
    seeds: int,
    *,
    spread: Spread,
    images: int = 100,
    resamples: int = 300,
    seed: int = 0,
) -> tuple[int, int, int]:
    """Counts how often a variant that is equal over all seeds and images seems different.

    Args:
        studies: How many.
        seeds: S.
        spread: What varies.
        images: N.
        resamples: R of the bootstrap.
        seed: Of all draws.

    Returns:
        How often the interval over seeds, that over images, and that over both leave out zero.
    """
    rng = np.random.default_rng(seed)
    out = np.zeros(3, int)
    for _ in range(studies):
        drawn = draw_networks(rng, draw_images(rng, images), (0.0, 0.0), seeds, spread)
        groups = [[reduced(c) for c in row] for row in drawn]
        found = resampling.bootstrap(groups, 0, resamples, int(rng.integers(2**31)))
        scores = [np.array([run.whole() for run in runs]) for runs in groups]
        names = [str(s) for s in range(seeds)]
        base, other = (_by_seed(names, row) for row in scores)
        test = statistics.compare(other, base, SHARE.difference)
        if test.ends is None or isinstance(found.differences[1], str):
            continue
        ends = [test.ends, found.differences[1]]
        ends.append(statistics.over_both(test.difference, ends[0], ends[1], SHARE.difference))
        out += [low > 0 or high < 0 for low, high in ends]
    return int(out[0]), int(out[1]), int(out[2])


def share(found: int, of: int) -> str:
    """Writes a share with its interval."""
    interval = stats.binomtest(found, of).proportion_ci(statistics.LEVEL, method="wilson")
    return f"{found / of:.1%} ({interval.low:.1%} to {interval.high:.1%})"


def _at_least(least: int) -> Callable[[list[str]], bool]:
    return lambda values: all(value.isdecimal() and int(value) >= least for value in values)


flags.register_validator(SEEDS, _at_least(2), "each must be a whole number from 2 on")
flags.register_validator(
    IMAGES, _at_least(resampling.LEAST), f"each must be a whole number from {resampling.LEAST} on"
)


def main(argv: list[str]) -> None:
    """Prints the tables as Markdown."""
    del argv
    settings: dict[str, Any] = {"equal": EQUAL.value, "effect": EFFECT.value}
    headings = ("seeds", "test", "an equal variant called different", "any of the equal ones",
                "the better one found", "its gain of mIoU", "sd over seeds")  # fmt: skip
    print(f"{STUDIES.value} studies each: a baseline, {EQUAL.value} equal variants, 1 better\n")
    print(f"| {' | '.join(headings)} |\n{'|---' * len(headings)}|")
    kinds: dict[str, dict[str, Any]] = {"paired t, Holm": {}, "Welch t, Holm": {"paired": False}}
    for seeds in map(int, SEEDS.value):
        for name, changed in kinds.items():
            found = run_tests(STUDIES.value, seeds, **settings, **changed)
            shares = [share(n, found.studies) for n in (found.one, found.any, found.better)]
            cells = [str(seeds), name, *shares, f"{found.gain:.4f}", f"{found.sd:.4f}"]
            print(f"| {' | '.join(cells)} |", flush=True)
    part = max(10, STUDIES.value // 4)
    print(f"\n{part} studies each: one equal variant, whose difference an interval does not hold\n")
    print("| seeds | images it is better on | seeds | images | both |\n|---|---|---|---|---|")
    for taste in (0.0, 0.3):
        for seeds in map(int, SEEDS.value):
            errors = run_errors(part, seeds, spread=Spread(taste=taste))
            cells = [str(seeds), "yes" if taste else "no", *(share(n, part) for n in errors)]
            print(f"| {' | '.join(cells)} |", flush=True)
    print("\nThe 95% interval over images holds the true difference of the same networks\n")
    print("| images | studies | held |\n|---|---|---|")
    for images in map(int, IMAGES.value):
        count, held = run_intervals(STUDIES.value, images)
        print(f"| {images} | {count} | {share(held, count)} |", flush=True)


if __name__ == "__main__":
    app.run(main)
