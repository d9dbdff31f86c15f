"""Random and adversarial masks, for metrics against brute force."""

import numpy as np

from unet_jax.metrics.base import Outcome

SIZES = ((12, 17), (1, 9), (7, 7), (5, 6, 4))


def cases(count, classes=3):
    """Yields outcomes of one image each, with ignored pixels in every third, and their arrays."""
    rng = np.random.default_rng(0)
    for index in range(count):
        size = SIZES[index % len(SIZES)]
        label, decision = (draw(rng, size, classes) for _ in range(2))
        if index % 2:  # near the truth, as networks are
            decision = np.where(rng.random(size) < 0.15, decision, label)
        weight = np.ones(size, np.uint8)
        if index % 3 == 0:
            weight[rng.random(size) < 0.2] = 0
        sides = tuple(rng.choice([0.5, 1.0, 3.0], len(size)).tolist())
        yield outcome_of(label, decision, weight, sides), (label, decision, weight > 0, sides)


def outcome_of(label, decision, weight, sides=None, objects=None):
    """Makes the outcome of one image on the host."""
    arrays = (array[None] for array in (decision, label, weight))
    sides = sides or (1.0,) * label.ndim
    objects = None if objects is None else objects[None]
    return Outcome(None, None, *arrays, spacing=sides, objects=objects)


def draw(rng, size, classes):
    """Draws a mask: noise, boxes, one pixel, a border, all of one class, or nothing."""
    mask = np.zeros(size, np.int64)
    kind = rng.integers(0, 7)
    if kind == 0:
        mask[:] = rng.integers(0, classes, size)
    elif kind == 1:
        mask[tuple(rng.integers(0, n) for n in size)] = rng.integers(1, classes)
    elif kind == 2:
        mask[:] = rng.integers(0, classes)
    elif kind == 3:
        mask[0], mask[..., -1] = rng.integers(1, classes, 2)
    elif kind < 6:
        for _ in range(rng.integers(1, 5)):
            start = [rng.integers(0, n) for n in size]
            ends = [s + rng.integers(1, 6) for s in start]
            mask[tuple(map(slice, start, ends))] = rng.integers(1, classes)
    return mask


def neighbours(pixel, size, *, corners=False):
    """Yields a pixel's neighbours, None for one outside."""
    for step in np.ndindex(*(3,) * len(size)):
        step = np.subtract(step, 1)
        moved = int(np.abs(step).sum())
        if moved == 1 or (corners and moved > 1):
            there = tuple(np.add(pixel, step).tolist())
            yield there if all(0 <= i < n for i, n in zip(there, size, strict=True)) else None


def flood(mask, *, corners):
    """Returns the components as sets of pixels."""
    left, found = {tuple(map(int, p)) for p in np.argwhere(mask)}, []
    while left:
        grown, edge = set(), {left.pop()}
        while edge:
            grown |= edge
            around = {q for p in edge for q in neighbours(p, mask.shape, corners=corners)}
            edge = around & left
            left -= edge
        found.append(grown)
    return found
