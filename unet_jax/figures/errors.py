"""Errors by class: where each class is found, missed and invented."""

import os
from collections.abc import Sequence

import numpy as np

from unet_jax.figures.colours import IGNORED, hatch, ignored_pixels, same_size
from unet_jax.figures.pages import save_pages, shown, shown_mask

FOUND, MISSED, INVENTED = (86, 180, 233), (213, 94, 0), (40, 10, 90)
"""Pixels of a class that are predicted so, that are not, and that are wrongly predicted so: a light
blue, an orange and a dark violet, which differ in lightness too."""

MOST = 6
"""Classes that have a panel."""


def class_mask(label: np.ndarray, index: int) -> np.ndarray:
    """Tells bool [H, W] where a class is in a label map, [H, W] of ids or [H, W, K] by class."""
    return label == index if label.ndim == 2 else label[..., index] == 1


def class_ignored(label: np.ndarray, index: int) -> np.ndarray:
    """Tells bool [H, W] where it is not known whether a class is there."""
    return (label if label.ndim == 2 else label[..., index]) == IGNORED


def class_errors(
    image: np.ndarray, label: np.ndarray, prediction: np.ndarray, index: int
) -> np.ndarray:
    """Marks where a class is found, missed and invented, on a pale grey version of an image.

    Args:
        image: uint8 [H, W, 3].
        label: uint8 [H, W] true class ids, or uint8 [H, W, K] by class; 255 is ignored.
        prediction: uint8, predicted ids, or by class likewise.
        index: Of the class.

    Returns:
        uint8 [H, W, 3]: `FOUND`, `MISSED` and `INVENTED` at exactly these pixels, grey stripes of
        110 and 200 at ignored ones, grey of 150..255 elsewhere.

    Raises:
        ValueError: The shapes do not match.
    """
    same_size(image, label, prediction)
    luma = image @ np.array([0.299, 0.587, 0.114])
    marked = np.rint(150 + luma * (105 / 255)).astype(np.uint8)[..., None].repeat(3, axis=-1)
    truth, guess = class_mask(label, index), class_mask(prediction, index)
    ignored = class_ignored(label, index)
    marked[truth & guess] = FOUND
    marked[truth & ~guess] = MISSED
    marked[guess & ~truth] = INVENTED
    marked[ignored] = hatch(*ignored.shape)[ignored][:, None]
    return marked


def class_sums(label: np.ndarray, prediction: np.ndarray, index: int) -> np.ndarray:
    """Counts the pixels of a class that are found, missed and invented, int [3]."""
    truth, guess = class_mask(label, index), class_mask(prediction, index)
    known = ~class_ignored(label, index)
    parts = truth & guess, truth & ~guess & known, guess & ~truth & known
    return np.array([part.sum() for part in parts])


def choose_classes(
    labels: Sequence[np.ndarray], predictions: Sequence[np.ndarray], num_classes: int
) -> tuple[list[int], int]:
    """Chooses the classes whose errors are shown: those that overlap least with the truth.

    Args:
        labels: True label maps.
        predictions: Predicted ones.
        num_classes: K.

    Returns:
        At most `MOST` ids, that of the lowest IoU over all these images first; and how many other
        classes are in one of the images. Those that are in none have no errors.
    """
    pairs = list(zip(labels, predictions, strict=True))
    found = [[class_sums(*pair, k) for pair in pairs] for k in range(num_classes)]
    sums = np.sum(found, axis=1)
    there = np.flatnonzero(sums.any(axis=1)).tolist()
    there.sort(key=lambda k: sums[k, 0] / sums[k].sum())
    return there[:MOST], len(there[MOST:])


def _caption(sums: np.ndarray) -> str:
    if not sums.any():
        return "not there"
    if not sums[:2].any():
        return f"not there, {sums[2]:,} px invented"
    return f"IoU {sums[0] / sums.sum():.2f}"


def class_error_grid(
    path: str | os.PathLike[str],
    images: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    predictions: Sequence[np.ndarray],
    class_names: Sequence[str],
    title: str,
    ids: Sequence[str],
) -> None:
    """Writes a PNG with a row per image: the input, and a panel of errors for each class.

    Args:
        path: File to write; missing folders are made.
        images: N >= 1 images uint8 [H, W, 3]; each may have its own size.
        labels: N true label maps uint8 [H, W], or uint8 [H, W, K] by class; 255 is ignored.
        predictions: N predicted label maps, likewise.
        class_names: K names, by class id.
        title: Heading of the figure.
        ids: N names of the images.

    Raises:
        ValueError: There is no image, or counts or shapes do not match.
    """
    if not len(images):
        raise ValueError("class_error_grid needs at least one image")
    chosen, others = choose_classes(labels, predictions, len(class_names))
    rows = []
    for name, image, label, guess in zip(ids, images, labels, predictions, strict=True):
        small, truth, said = shown(image), shown_mask(label), shown_mask(guess)
        tiles = [small, *(class_errors(small, truth, said, k) for k in chosen)]
        captions = ["", *(_caption(class_sums(label, guess, k)) for k in chosen)]
        rows.append((name, tiles, captions))
    colours = {"found": FOUND, "missed": MISSED, "invented": INVENTED}
    legend = [(name, np.full((13, 20, 3), c, np.uint8)) for name, c in colours.items()]
    if any(ignored_pixels(label).any() for label in labels):
        legend.append(("ignored", hatch(13, 20)[..., None].repeat(3, axis=-1)))
    note = "classes of these images, the lowest IoU first"
    if others:
        note += f"; left out: {others} with a higher one"
    headings = ["input", *(class_names[k] for k in chosen)]
    save_pages(path, title, headings, rows, legend, note)
