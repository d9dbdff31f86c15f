"""Masks that do not lie on their images."""

from collections.abc import Iterator, Sequence

import numpy as np
from scipy import stats

from unet_jax.doctor.alignment import REACH, TURNS
from unet_jax.doctor.faults.files import files_of
from unet_jax.doctor.finding import Finding
from unet_jax.doctor.look import Look
from unet_jax.doctor.survey import Survey

CHANCE = 1e-4  # of a false alarm in a data set
ENOUGH = 10  # images
LEAST = 0.05  # by which edges under borders must be stronger than as it is, on average
FAR = 2  # steps that a mask is moved at least


def turned(survey: Survey) -> Iterator[Finding]:
    """Names masks that lie better on their images when all are flipped or turned alike."""
    looks = _looks(survey)
    if len(looks) < ENOUGH:
        return
    scores = np.stack([one.alignment.turns for one in looks])  # pyrefly: ignore
    best: tuple[float, int] | None = None
    for which in range(1, len(TURNS)):
        gain = (scores[..., which] - scores[..., 0])[np.isfinite(scores[:, 0, which])]
        if not len(gain) or gain[:, 0].mean() < 0 or not _is_better(gain[:, 1], len(TURNS) - 1):
            continue
        if best is None or gain[:, 1].mean() > best[0]:
            best = float(gain[:, 1].mean()), which
    if best is not None:
        yield _finding("turned", looks, best[1], scores[:, 1, best[1]], scores[:, 1, 0])


def _finding(
    fault: str, looks: Sequence[Look], which: int, there: np.ndarray, here: np.ndarray
) -> Finding:
    better = int((there > here).sum())
    return Finding(
        fault,
        "error",
        files_of(looks),
        f"masks seem to be {TURNS[which]}: that way the image's edges under their borders are "
        f"stronger in {better} of {len(looks)} images ({1 + np.nanmean(there):.2f} times the mean "
        f"edge, and {1 + np.mean(here):.2f} as they are)",
        "Look at some images with their masks, and save the masks as they lie on the images.",
    )


def moved(survey: Survey) -> Iterator[Finding]:
    """Names masks that lie better on their images when all are moved alike."""
    looks = _looks(survey)
    if len(looks) < ENOUGH:
        return
    scores = np.stack([one.alignment.shifts for one in looks]).astype(np.float32)  # pyrefly: ignore
    mean = scores.mean(axis=0)
    down, right = np.unravel_index(int(mean.argmax()), mean.shape)
    distance = max(abs(down - REACH), abs(right - REACH))
    here = scores[:, REACH, REACH]
    # A mask with bands along its borders is as good moved either way: that is no fault.
    other = scores[:, 2 * REACH - down, 2 * REACH - right]
    gain = scores[:, down, right] - np.maximum(here, other)
    on_edge = distance == REACH
    if distance < FAR or on_edge or not _is_better(gain, mean.size - 1):
        return
    step = float(np.median([one.alignment.step for one in looks]))  # pyrefly: ignore
    yield Finding(
        "moved",
        "error",
        files_of(looks),
        f"masks seem to be moved by about {(down - REACH) * -step:+.0f} pixels down and "
        f"{(right - REACH) * -step:+.0f} to the right: moved back, the image's edges under their "
        f"borders are stronger in {int((gain > 0).sum())} of {len(looks)} images",
        "Look at some images with their masks, and save the masks as they lie on the images.",
    )


def _looks(survey: Survey) -> list[Look]:
    return [one for _, one in survey.all() if one.alignment is not None]


def _is_better(gain: np.ndarray, tries: int) -> bool:
    """Tells whether a gain is positive in more images than chance makes it, and worth telling.

    The sign test: were the mask as good as it is, half of the gains would be negative. Of several
    tries each has its share of the chance of a false alarm (Bonferroni).
    """
    told = gain[gain != 0]
    if len(told) < ENOUGH or gain.mean() < LEAST:
        return False
    better = int((told > 0).sum())
    return stats.binomtest(better, len(told), 0.5, alternative="greater").pvalue < CHANCE / tries
