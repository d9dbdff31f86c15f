"""What an evaluation says a network gets wrong, in a few lines."""

from collections.abc import Iterator

import numpy as np

from unet_jax.figures.sizes import size_names
from unet_jax.glance.material import Evaluated
from unet_jax.metrics.by_image import score_by_image
from unet_jax.metrics.make import Headline
from unet_jax.metrics.sizes import SIZES

_CONFUSIONS = 3  # that are listed
_LEAST_SHARE = 0.005  # of a class's pixels: a rarer confusion is not listed
_LEAST_OF_ALL = 0.02  # of all wrong pixels, likewise
_FEW = 5  # objects of a size, of which a mean says little


def find(evaluated: Evaluated, headline: Headline) -> list[str]:
    """Says what stands out.

    Args:
        evaluated: The evaluation.
        headline: The score that decides.

    Returns:
        Sentences, the most telling ones first.
    """
    found = [*_classes(evaluated), *_confusions(evaluated), *_alone(evaluated)]
    return [*found, *_sizes(evaluated), *_images(evaluated, headline)]


def class_scores(evaluated: Evaluated) -> list[tuple[str, float]]:
    """Returns the classes that have an IoU with it, the worst first."""
    values = [(name, evaluated.scores.get(f"IoU/{name}")) for name in evaluated.class_names]
    return sorted(((n, x) for n, x in values if x is not None), key=lambda pair: pair[1])


def _classes(evaluated: Evaluated) -> Iterator[str]:
    scored = class_scores(evaluated)
    if len(scored) > 1:
        (worst, low), (best, high) = scored[0], scored[-1]
        yield f"The weakest class is {worst}, IoU {low:.3f}; the best is {best}, {high:.3f}."
    absent = [name for name in evaluated.class_names if name not in dict(scored)]
    if absent:
        more = f" and {len(absent) - 3} more" if len(absent) > 3 else ""
        yield f"No pixel of the split is truly {', '.join(absent[:3])}{more}: no score says how."


def _confusions(evaluated: Evaluated) -> Iterator[str]:
    """Names the most frequent confusions of classes that exclude each other."""
    counted = evaluated.counts.get("overlap/confusion")
    if counted is None:
        return
    confusion, names = counted.sum(axis=0), evaluated.class_names
    truth, wrong = confusion.sum(axis=1), confusion * (1 - np.eye(len(confusion), dtype=int))
    order = np.argsort(-wrong, axis=None, kind="stable")[:_CONFUSIONS]
    for true, guess in zip(*np.unravel_index(order, wrong.shape), strict=True):
        share = wrong[true, guess] / max(truth[true], 1)
        of_all = wrong[true, guess] / max(wrong.sum(), 1)
        if share >= _LEAST_SHARE and of_all >= _LEAST_OF_ALL:
            yield (
                f"{share:.1%} of the pixels of {names[true]} are taken for {names[guess]} "
                f"({of_all:.0%} of all wrong pixels)."
            )


def _alone(evaluated: Evaluated) -> Iterator[str]:
    """Names the classes that are missed and invented most, where they may share pixels."""
    sums = {
        name: evaluated.counts[f"binary_overlap/{name}"].sum(axis=0)
        for name in ("true_positive", "false_positive", "false_negative")
        if f"binary_overlap/{name}" in evaluated.counts
    }
    if not sums:
        return
    hit, invented, missed = sums.values()
    for wrong, of, what in (
        (missed, hit + missed, "of the pixels of {} are missed"),
        (invented, hit + invented, "of the pixels that are predicted as {} are not"),
    ):
        index = int(wrong.argmax())
        share = wrong[index] / max(of[index], 1)
        if share >= _LEAST_SHARE:
            yield f"{share:.1%} {what.format(evaluated.class_names[index])}."


def _sizes(evaluated: Evaluated) -> Iterator[str]:
    """Says how much of the smallest and the largest objects is found."""
    if "sizes/objects" not in evaluated.counts:
        return
    sums = (evaluated.counts[f"sizes/{own}"].sum(axis=(0, 1)) for own in ("objects", "shares"))
    objects, shares = sums
    enough = np.flatnonzero(objects >= _FEW)
    if len(enough) > 1:
        names, (small, large) = size_names(SIZES), enough[[0, -1]]
        yield (
            f"Of an object of {names[small]} pixels {shares[small] / objects[small]:.0%} is found "
            f"in the mean ({objects[small]:,.0f} objects), of one of {names[large]} "
            f"{shares[large] / objects[large]:.0%} ({objects[large]:,.0f})."
        )


def _images(evaluated: Evaluated, headline: Headline) -> Iterator[str]:
    scores = score_by_image(evaluated.counts, headline.name, evaluated.class_names)
    if scores is None or np.isfinite(scores).sum() < 2:
        return
    known = np.flatnonzero(np.isfinite(scores))
    worst = known[np.argmin([headline.kind.rank(x) for x in scores[known]])]
    yield (
        f"The worst image is {evaluated.ids[worst]}, {headline.title} {scores[worst]:.3f}; "
        f"the median of {len(known)} images is {np.median(scores[known]):.3f}."
    )
