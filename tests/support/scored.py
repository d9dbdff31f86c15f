"""Scores of confusion matrices, by the metric of the program."""

import numpy as np

from unet_jax.metrics import resampling
from unet_jax.metrics.make import values
from unet_jax.metrics.overlap import Overlap


def scores(confusion, class_names):
    """Returns the values of all scores of a confusion matrix [K, K], by name."""
    return values(Overlap(tuple(class_names)).scores({"confusion": np.asarray(confusion)[None]}))


def images(confusion, name="mIoU"):
    """Returns what a score is computed from, of the images of confusion matrices [N, K, K]."""
    class_names = tuple("abcdefgh"[: confusion.shape[-1]])
    return resampling.by_image(Overlap(class_names), name, {"confusion": confusion})
