"""Volumes of overlapping solids with exact masks, drawn on the fly."""

from collections.abc import Callable

import numpy as np

from unet_jax.data.sample import make_spec

CLASS_NAMES = ("background", "ball", "box", "tetrahedron", "shell", "cross")
SPEC = make_spec(3, 1, "uint16")
# The outward normals of a regular tetrahedron's sides.
_SIDES = np.array([(1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)]) / np.sqrt(3)


def _cross(p: np.ndarray) -> np.ndarray:
    _, arm, length = np.sort(np.abs(p), axis=0)
    return (arm < 0.33) & (length < 1.0)


# By name, which points [3, D, H, W] lie in a solid of about unit size.
_INSIDE: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "ball": lambda p: np.linalg.norm(p, axis=0) < 0.85,
    "box": lambda p: np.abs(p).max(axis=0) < 0.65,
    "tetrahedron": lambda p: np.tensordot(_SIDES, p, 1).max(axis=0) < 0.45,
    "shell": lambda p: np.abs(np.linalg.norm(p, axis=0) - 0.75) < 0.25,
    "cross": _cross,
}


def _rotation(rng: np.random.Generator) -> np.ndarray:
    """Draws a rotation [3, 3], all as likely, from a unit quaternion."""
    quaternion = rng.normal(size=4)
    w, x, y, z = quaternion / np.linalg.norm(quaternion)
    return np.array(
        [
            (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
            (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
            (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
        ]
    )


def _texture(p: np.ndarray, bright: bool, rng: np.random.Generator) -> np.ndarray:
    """Draws grey values [D, H, W] in [0, 1], plain or in layers, that tell nothing of the class."""
    first, second = rng.uniform(0.0, 0.5, 2) + 0.5 * bright
    direction = rng.normal(size=3)
    wave = np.tensordot(direction / np.linalg.norm(direction), p, 1) * rng.uniform(0.5, 1.2)
    mix = 0.5 + 0.5 * np.sin(wave + rng.uniform(0, 6)) * rng.integers(2)
    return first * mix + second * (1 - mix)


def draw_solids(seed: int, index: int, size: int, shapes: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws one volume, a pure function of its arguments.

    Later solids cover parts of earlier ones, at most a third of each; noise covers all. Bright and
    dark alternate, so that surfaces can be seen, but grey values tell no class.

    Args:
        seed: Of the data set.
        index: Of the volume.
        size: D = H = W, in pixels.
        shapes: How many solids are placed.

    Returns:
        Image uint16 [D, H, W, 1] and label uint8 [D, H, W] with indices into `CLASS_NAMES`.
    """
    rng = np.random.default_rng((seed, index))
    places = np.mgrid[:size, :size, :size].astype(np.float32)
    bright = bool(rng.integers(2))
    image, label = _texture(places, bright, rng), np.zeros((size,) * 3, np.uint8)
    owner, counts = np.zeros(label.shape, int), [0]
    for _ in range(3 * shapes):  # tries; some are rejected
        kind = int(rng.integers(1, len(CLASS_NAMES)))
        radius, centre = size * rng.uniform(0.2, 0.35), size * rng.uniform(0.2, 0.8, 3)
        turned = np.tensordot(_rotation(rng), places - centre[:, None, None, None], 1) / radius
        inside = _INSIDE[CLASS_NAMES[kind]](turned)
        left = np.bincount(owner[~inside], minlength=len(counts))
        if len(counts) > shapes or any(3 * left[k] < 2 * counts[k] for k in range(1, len(counts))):
            continue
        texture = _texture(places, bright ^ (len(counts) % 2 == 1), rng)
        image = np.where(inside, texture, image)
        label[inside], owner[inside] = kind, len(counts)
        counts.append(int(inside.sum()))
    image = np.clip(image + rng.normal(0, 0.03, image.shape), 0, 1)
    return np.rint(image * SPEC.value_range[1]).astype(np.uint16)[..., None], label
