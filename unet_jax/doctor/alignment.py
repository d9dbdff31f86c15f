"""How well the borders of a mask lie on the edges of its image, as it is, turned and moved."""

from typing import NamedTuple

import numpy as np
from scipy import fft, ndimage

SIDE, REACH = 192, 12  # pixels along an axis at most, about; along which a mask is moved
BLUR = 9  # pixels along an axis over which edges are blurred
_CAP = 6.0  # times the mean, above which an edge is no stronger
TURNS = (
    "as it is",
    "flipped left to right",
    "flipped upside down",
    "turned by 180 degrees",
    "transposed",
    "turned by 90 degrees to the left",
    "turned by 90 degrees to the right",
    "transposed along the other diagonal",
)


class Alignment(NamedTuple):
    """How strong an image's edges are under the borders of its mask; 0 is as anywhere else.

    Attributes:
        turns: float32 [2, 8], of the mask under each of `TURNS`; NaN where those do not fit, since
            the image is not square. In the second row edges are blurred, so that borders that
            lie beside them, as those of a band along an object do, count too.
        shifts: float16 [2 REACH + 1, 2 REACH + 1], of the mask moved down and to the right by so
            many steps, from -REACH each.
        step: Pixels of a step.
    """

    turns: np.ndarray
    shifts: np.ndarray
    step: int


def turned(mask: np.ndarray, which: int) -> np.ndarray:
    """Returns a mask [H, W] under one of `TURNS`; the last four need H = W to fit the image."""
    return (
        mask,
        mask[:, ::-1],
        mask[::-1],
        mask[::-1, ::-1],
        mask.T,
        np.rot90(mask),
        np.rot90(mask, -1),
        np.rot90(mask, 2).T,
    )[which]


def measure(image: np.ndarray, mask: np.ndarray) -> Alignment | None:
    """Measures how a mask lies on its image.

    The score is the mean over the mask's borders of the size of the image's gradient, by its mean
    over the image, less 1. It needs no threshold for edges, and its sign no scale.

    Args:
        image: [H, W, C].
        mask: [H, W], any values.

    Returns:
        The scores; None of a volume, or where mask or image has no edge.
    """
    if mask.ndim != 2 or min(mask.shape) < 8:
        return None
    step = max(1, -(-max(mask.shape) // SIDE))
    few, label = image[::step, ::step], mask[::step, ::step]
    # Of few channels, one after the other is faster than NumPy's mean.
    grey = sum((few[..., c] for c in range(1, few.shape[-1])), few[..., 0].astype(np.float32))
    edges = _edges(grey / np.float32(few.shape[-1]))
    borders = _borders(label)
    if edges is None or not borders.any():
        return None
    return Alignment(_turns(borders, edges), _shifts(borders, edges), step)


def _turns(borders: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Returns the scores of all turns, which turn the edges back instead of the borders."""
    turns = np.full((2, len(TURNS)), np.nan, np.float32)
    blurred = ndimage.uniform_filter(edges, BLUR, mode="constant")
    strengths = np.stack([edges.ravel(), blurred.ravel()])
    places, lies = np.arange(edges.size).reshape(edges.shape), np.nonzero(borders)
    for which in range(len(TURNS) if edges.shape[0] == edges.shape[1] else 4):
        back = {5: 6, 6: 5}.get(which, which)
        turns[:, which] = strengths.take(turned(places, back)[lies], axis=1).mean(axis=1) - 1
    return turns


def _edges(grey: np.ndarray) -> np.ndarray | None:
    """Returns the size of the gradient by its mean, float32 [H, W]; None where there is none."""
    found = np.zeros_like(grey)
    down, right = grey[2:, 1:-1] - grey[:-2, 1:-1], grey[1:-1, 2:] - grey[1:-1, :-2]
    found[1:-1, 1:-1] = np.sqrt(down * down + right * right)  # in a tenth of the time of hypot
    mean = found.mean()
    if not mean > 0:
        return None
    found = np.minimum(found / mean, _CAP)
    return found / found.mean()


def _borders(label: np.ndarray) -> np.ndarray:
    """Tells which pixels are on either side of a border, bool [H, W]."""
    found = np.zeros(label.shape, bool)
    down, right = label[1:] != label[:-1], label[:, 1:] != label[:, :-1]
    found[1:] |= down
    found[:-1] |= down
    found[:, 1:] |= right
    found[:, :-1] |= right
    return found


def _shifts(borders: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Returns the scores of all shifts, by a product of Fourier transforms."""
    size = [fft.next_fast_len(n + REACH, real=True) for n in borders.shape]
    product = np.conj(fft.rfft2(borders.astype(np.float32), size)) * fft.rfft2(edges - 1, size)
    around = fft.irfft2(product, size)
    places = np.arange(-REACH, REACH + 1)
    return (around[np.ix_(places, places)] / borders.sum()).astype(np.float16)
