"""How often classes are there, and which are mirror images of each other."""

from collections.abc import Iterator, Sequence

import numpy as np

from unet_jax.data.class_weights import median_frequency, sum_counts
from unet_jax.data.sides import find_sides
from unet_jax.doctor.finding import Finding, setting
from unet_jax.doctor.look import Look
from unet_jax.doctor.survey import Survey

RATIO = 20.0  # of the pixels of the most frequent class to those of the rarest


def pixels(survey: Survey) -> dict[str, np.ndarray]:
    """Counts the pixels of every class: int64 [K] by split."""
    counts = {}
    for split, looks in survey.looks.items() if survey.class_names else ():
        counts[split] = np.zeros(len(survey.class_names), np.int64)
        for one in looks:
            if one.classes is not None:
                counts[split] += one.classes[:-1]
    return counts


def absent(survey: Survey) -> Iterator[Finding]:
    """Names classes that a split lacks."""
    by_split = pixels(survey)
    everywhere = np.sum([*by_split.values()], axis=0)
    # Where there is one class alone, that is told as a fault of its own.
    if not survey.is_understood() or (everywhere > 0).sum() <= (0 if survey.by_class else 1):
        return
    never = [k for k, n in enumerate(survey.class_names) if not everywhere[k]]
    if never:
        names = ", ".join(survey.class_names[k] for k in never)
        yield Finding(
            "absent",
            "warning",
            (),
            f"no mask of any split holds {names}, so nothing can be learnt of it and its score is "
            "undefined",
            "Check config.data.folder.class_names and config.data.folder.label_map, or leave the "
            "class out.",
        )
    for split, counts in by_split.items():
        lacking = [k for k in range(len(survey.class_names)) if not counts[k] and everywhere[k]]
        if not lacking or not counts.any():
            continue
        names = ", ".join(survey.class_names[k] for k in lacking)
        effect = "so it cannot be learnt" if split == "train" else "so its score is undefined there"
        yield Finding(
            "absent",
            "error" if split == "train" else "warning",
            (),
            f"the {split} split of {len(survey.looks[split])} images holds no pixel of {names}, "
            f"{effect}",
            _stratified(survey),
        )


def _stratified(survey: Survey) -> str:
    if survey.config.data.split.stratify_classes:
        return "Add images that hold it, or raise config.data.val_fraction."
    return setting("data.split.stratify_classes", True)


def imbalance(survey: Survey) -> Iterator[Finding]:
    """Names classes that are rare, where the loss does not weigh classes yet."""
    counts = pixels(survey).get("train")
    if counts is None or (counts > 0).sum() < 2 or survey.by_class or not survey.is_understood():
        return
    if any("class_weights" in term and term.class_weights for term in survey.config.loss.values()):
        return
    shares = counts / counts.sum()
    there = shares[shares > 0]
    if there.max() <= RATIO * there.min():
        return
    rare = [k for k in range(len(shares)) if 0 < shares[k] * RATIO < there.max()]
    listed = ", ".join(f"{survey.class_names[k]} {shares[k]:.2%}" for k in rare)
    yield Finding(
        "imbalance",
        "warning",
        (),
        f"of the training pixels that count, the most frequent class has {there.max():.1%} and "
        f"these have less than a {RATIO:g}th of that: {listed}",
        setting("loss.cross_entropy.class_weights", suggest_weights(survey.looks["train"])),
    )


def suggest_weights(looks: Sequence[Look]) -> tuple[float, ...]:
    """Returns weights of classes by median frequency, to be read; see `class_weights`."""
    pixels = np.stack([one.classes[:-1] for one in looks if one.classes is not None])
    weights = median_frequency(sum_counts(pixels, pixels.sum(axis=1)))
    return tuple(round(weight, 4) for weight in weights)


def mirrored(survey: Survey) -> Iterator[Finding]:
    """Names classes that are the left and the right of one thing, where images are mirrored."""
    flips = survey.config.augment.get("flip", {})
    axes = [name for name in ("left_right", "up_down") if flips.get(name)]
    pairs = find_sides(survey.class_names)
    if not axes or not pairs:
        return
    listed = ", ".join(f"{one} and {other}" for one, other in pairs)
    keys = " and ".join(f"config.augment.flip.{axis}=True" for axis in axes)
    yield Finding(
        "mirrored",
        "warning",
        (),
        f"{listed} are a left and a right, and {keys} makes one look like the other without "
        "changing its label",
        "\n".join(setting(f"augment.flip.{axis}", False) for axis in axes),
    )
