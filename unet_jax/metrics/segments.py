"""V_rand and V_info of cells that a border parts, as in electron microscopy, on the host."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from scipy import ndimage
from scipy.special import logsumexp, xlogy

from unet_jax.config import check_range
from unet_jax.errors import UserError
from unet_jax.metrics.base import SHARE, Counts, Function, Kind, Metric, Outcome, Ratio
from unet_jax.metrics.tubes import skeletonize

THRESHOLDS = np.arange(1, 20) / 20
_T = len(THRESHOLDS)
_BEYOND = 32  # pixels by which a border goes on beyond the image before it is thinned


def rand_and_info(truth: np.ndarray, guess: np.ndarray) -> tuple[float, float]:
    """Compares two segmentations (Arganda-Carreras et al., 2015, with alpha = 1/2).

    With p_ij the share of the pixels that are in segment i of the guess and j of the truth, s_i and
    t_j its sums, V_rand = 2 sum_ij p_ij^2 / (sum_i s_i^2 + sum_j t_j^2) and V_info = 2 I(S; T) /
    (H(S) + H(T)). Pixels that are of no true segment do not count (foreground-restricted), and one
    of no predicted segment is a segment of its own, as the SNEMI3D challenge has it.

    Args:
        truth: Integers [*n], numbers of segments, 0 for none; one pixel or more has one.
        guess: Likewise.

    Returns:
        Both, 0 to 1; V_info is 1 where both have one segment alone.
    """
    known = truth > 0
    true, guessed = truth[known].astype(np.int64), guess[known].astype(np.int64)
    alone, total, width = int((guessed == 0).sum()), len(true), int(guessed.max()) + 1
    pairs, both = np.unique(true * width + guessed, return_counts=True)
    shares = [both[pairs % width > 0], np.bincount(guessed)[1:], np.bincount(true)]
    joint, guess_sum, true_sum = (float((x.astype(np.float64) ** 2).sum()) for x in shares)
    rand = 2 * (joint + alone) / (guess_sum + alone + true_sum)
    entropies = [-float(xlogy(x / total, x / total).sum()) for x in shares]
    singles = alone / total * np.log(total)
    h_joint, h_guess, h_true = entropies[0] + singles, entropies[1] + singles, entropies[2]
    info = 2 * (h_guess + h_true - h_joint) / (h_guess + h_true) if h_guess + h_true > 0 else 1.0
    return rand, float(np.clip(info, 0, 1))


def part(border: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Numbers the segments that a border parts once it is thinned to lines.

    Thinning shortens lines at their ends, also where they leave the image, and would join all
    segments at its sides; so the image is thinned with its edge repeated beyond it.

    Args:
        border: bool [H, W].
        counts: Likewise; a pixel that does not count is of no segment.

    Returns:
        Integers [H, W], the number of a pixel's segment, 4-connected; 0 for none.
    """
    inner = (slice(_BEYOND, -_BEYOND),) * 2
    line = skeletonize(np.pad(border & counts, _BEYOND, mode="edge"))[inner]
    labelled: Any = ndimage.label(~line & counts)
    return labelled[0]


@dataclasses.dataclass(frozen=True)
class Segments(Metric):
    """Segments that a border parts: "V_rand" and "V_info", means over images of both.

    A true segment is a 4-connected component of what is left when the border, all that is not of
    the class inside, was thinned to lines; a predicted one is a 4-connected component of the pixels
    whose probability of being inside is above a threshold, or of what is left when all others were
    thinned too. Slices of volumes are images. See `rand_and_info`.

    "V_rand" and "V_info" are at one threshold for both: the one that is given, or of val
    "V_rand_threshold", where "V_rand" of val is highest; on val itself they are there too. Beside
    them "V_rand_best" and "V_info_best" are the highest means at any of `THRESHOLDS`, each at its
    own "V_rand_threshold" and "V_info_threshold": what no choice on other images may reach.

    Attributes:
        class_names: K names.
        inside: Id of the class that is inside of segments.
        threshold: Of the probability; 0.0 for the one that is chosen on val, and then "V_rand" and
            "V_info" are counted as -1.
        thin: Whether predicted borders are thinned too, as in the challenge of ISBI 2012. Then a
            mask that equals the truth has 1; without, the less the wider its borders are.
    """

    class_names: tuple[str, ...]
    inside: int = 1
    threshold: float = 0.0
    thin: bool = False
    on_device: ClassVar[bool] = False
    reads: ClassVar[tuple[str, ...]] = ("logits", "label", "weight")
    axes: ClassVar[Mapping[str, tuple[int, ...]]] = {
        **dict.fromkeys(("V_rand", "V_info", "images"), ()),
        **dict.fromkeys(("V_rand_by_threshold", "V_info_by_threshold"), (_T,)),
    }

    def count(self, outcome: Outcome) -> dict[str, Any]:
        """Sums both over the slices of one image, float64; see `Metric`."""
        found = {name: np.zeros((1, *axes)) for name, axes in self.axes.items()}
        logits, label, weight = (np.asarray(x[0]) for x in (outcome[0], *outcome[3:5]))
        k, axes = self.inside, logits.ndim - 1
        if label.ndim > axes:  # classes that overlap
            odds, inside = logits[..., k].astype(np.float64), label[..., k] > 0
        else:
            others = np.delete(logits.astype(np.float64), k, axis=-1)
            odds, inside = logits[..., k] - logsumexp(others, axis=-1), label == k
        counts = (weight[..., k] if weight.ndim > axes else weight) > 0
        flat = (-1, *label.shape[axes - 2 : axes])
        slices = (array.reshape(flat) for array in (odds, ~inside, counts))
        for score, border, known in zip(*slices, strict=True):
            truth = part(border, known)
            if not truth.any():
                continue
            values = [self._at(truth, score, known, t) for t in THRESHOLDS]
            rands, infos = zip(*values, strict=True)
            given = self.threshold
            rand, info = self._at(truth, score, known, given) if given else (-1.0, -1.0)
            own_counts = {"V_rand": rand, "V_info": info, "images": 1}
            own_counts |= {"V_rand_by_threshold": rands, "V_info_by_threshold": infos}
            for name, value in own_counts.items():
                found[name][0] += value
        return found

    def _at(
        self, truth: np.ndarray, odds: np.ndarray, known: np.ndarray, threshold: float
    ) -> tuple[float, float]:
        inside = odds > np.log(threshold / (1 - threshold))
        labelled: Any = ndimage.label(inside)
        return rand_and_info(truth, part(~inside, known) if self.thin else labelled[0])

    def kinds(self) -> dict[str, Kind]:
        """Returns the names of the scores; see `Metric`."""
        ends = ("", "_best", "_threshold")
        return {f"{name}{end}": SHARE for name in ("V_rand", "V_info") for end in ends}

    def ratio(self, name: str, counts: Counts) -> Ratio | Function:
        """Returns what a score is computed from; see `Metric`."""
        images = counts["images"][..., None]
        if name in counts:
            if not (counts[name] < 0).any():
                return Ratio(counts[name][..., None], images, images)
            parts = [counts["V_rand_by_threshold"], counts[f"{name}_by_threshold"], images]
            return Function(np.concatenate(parts, axis=-1), _at_threshold, images)
        kind, _, end = name.rpartition("_")
        sums = np.concatenate([counts[f"{kind}_by_threshold"], images], axis=-1)
        return Function(sums, _best if end == "best" else _threshold, images)


def _best(sums: np.ndarray) -> np.ndarray:
    return sums[..., :-1].max(axis=-1) / np.maximum(sums[..., -1], 1)


def _at_threshold(sums: np.ndarray) -> np.ndarray:
    """Computes a mean at the threshold where that of V_rand is highest."""
    rands, own = sums[..., :_T], sums[..., _T:-1]
    chosen = rands.argmax(axis=-1)[..., None]
    return np.take_along_axis(own, chosen, axis=-1)[..., 0] / np.maximum(sums[..., -1], 1)


def _threshold(sums: np.ndarray) -> np.ndarray:
    return THRESHOLDS[sums[..., :-1].argmax(axis=-1)]


def check_segments(values: Mapping[str, Any], num_classes: int) -> None:
    """Checks the arguments of `Segments`, by name.

    Raises:
        UserError: One does not fit, or scikit-image is missing.
    """
    key = "config.eval.metrics.segments"
    skeletonize(np.zeros((1, 1), bool))
    if not 0 <= values["threshold"] < 1:
        raise UserError(
            f"{key}.threshold={values['threshold']} must be between 0 and 1, or 0.0 for the one "
            "that is chosen on val."
        )
    check_range(f"{key}.inside", values["inside"], 0, num_classes - 1)
