"""How colours look to three kinds of sight, and colours that stay apart for all of them."""

import numpy as np

from unet_jax.figures import ERROR_COLOUR


def as_seen(rgb: np.ndarray) -> np.ndarray:
    """CIELAB of u8[N,3] colours with normal, protan and deutan sight: float[N,3 sights,3]."""
    srgb = rgb / 255.0
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    sights = np.array(  # linear RGB; the last two after Machado et al. 2009, full severity
        [
            [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
            [
                [0.152286, 1.052583, -0.204868],
                [0.114503, 0.786281, 0.099216],
                [-0.003882, -0.048116, 1.051998],
            ],
            [
                [0.367322, 0.860646, -0.227968],
                [0.280085, 0.672501, 0.047413],
                [-0.011820, 0.042940, 0.968881],
            ],
        ]
    )
    seen = np.clip(np.einsum("sij,nj->nsi", sights, linear), 0, 1)
    to_xyz = np.array(  # scaled by the D65 white point
        [[0.4339, 0.3762, 0.1899], [0.2126, 0.7152, 0.0722], [0.0177, 0.1095, 0.8728]]
    )
    xyz = seen @ to_xyz.T
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    lightness = 116 * f[..., 1] - 16
    return np.stack(
        [lightness, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1
    )


def spread(first: np.ndarray, count: int) -> np.ndarray:
    """Goes on from the first colours u8[N,3]: each is the candidate farthest from all before it."""
    levels = np.linspace(0, 255, 10).round().astype(np.uint8)
    candidates = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(-1, 3)
    lightness = as_seen(candidates)[:, 0, 0]  # very dark or pale: no colour under an overlay
    candidates = candidates[(lightness > 30) & (lightness < 92)]
    # Greys are taken by ignored pixels, contours and paper; the error colour by errors.
    reserved = np.array([(255, 255, 255), (190, 190, 190), (110, 110, 110), ERROR_COLOUR], np.uint8)
    seen = as_seen(candidates)
    distance = np.full(len(candidates), np.inf)
    colours = list(first)

    def take(lab: np.ndarray) -> None:
        # The sight to which two colours look most alike decides how distinct they are.
        np.minimum(distance, np.linalg.norm(seen - lab, axis=-1).min(axis=-1), out=distance)

    for lab in as_seen(np.concatenate([reserved, first])):
        take(lab)
    while len(colours) < count:
        # A candidate taken has distance 0, so it cannot be chosen again.
        best = int(distance.argmax())
        colours.append(candidates[best])
        take(seen[best])
    return np.stack(colours)
