"""Post-processing of labels: small parts removed, holes filled, class by class."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage

from unet_jax.metrics.regions import components

_CONNECTIVITY = "sides"


class Rule(NamedTuple):
    """What is done to the pixels of a class. Its parts are pixels connected by their sides.

    Attributes:
        least: Parts of fewer pixels are removed.
        largest: Whether all parts but the largest are removed; of equal ones the first stays.
        holes: Whether holes are filled: pixels that the class has all around them, connected by
            their sides, whatever they are.
    """

    least: int = 0
    largest: bool = False
    holes: bool = False


_REMOVALS = {
    "as_it_is": Rule(),
    **{f"least_{size}": Rule(least=size) for size in (16, 64, 256, 1024)},
    "largest": Rule(largest=True),
}
RULES: dict[str, Rule] = {
    **_REMOVALS,
    **{
        "filled" if rule == Rule() else f"{name}_filled": rule._replace(holes=True)
        for name, rule in _REMOVALS.items()
    },
}
"""By name; the first one changes nothing."""
AS_IT_IS = next(iter(RULES))


def clean(label: np.ndarray, rules: Mapping[int, Rule], axes: int) -> np.ndarray:
    """Cleans a label.

    First the small parts of all classes are removed together: a removed pixel takes the class of
    the nearest pixel that stays, by the distance of their middles in pixels; where none stays, the
    label is as it was. Then holes are filled, class by class, in the order of their ids. Of classes
    that may overlap each is cleaned alone, and a removed pixel is not of it.

    Args:
        label: uint8 [*n], class ids; or [*n, K] of 0 and 1, of classes that may overlap.
        rules: By class id.
        axes: Of pixels.

    Returns:
        The same type and shape, another array.
    """
    cleaned = label.copy()
    if label.ndim > axes:
        for k, rule in rules.items():
            kept = keep(label[..., k] > 0, rule)
            cleaned[..., k] = fill(kept) if rule.holes else kept
        return cleaned
    left = np.ones(label.shape, bool)
    for k, rule in rules.items():
        mask = label == k
        left &= ~mask | keep(mask, rule)
    if left.any() and not left.all():
        nearest: Any = ndimage.distance_transform_edt(
            ~left, return_distances=False, return_indices=True
        )
        cleaned = label[tuple(nearest)]
    for k in sorted(k for k, rule in rules.items() if rule.holes):
        cleaned[fill(cleaned == k)] = k
    return cleaned


def keep(mask: np.ndarray, rule: Rule) -> np.ndarray:
    """Returns the pixels of a class that a rule does not remove, bool [*n]."""
    if rule.least <= 1 and not rule.largest:
        return mask
    return keep_parts(components(mask, _CONNECTIVITY), rule)


def keep_parts(numbers: np.ndarray, rule: Rule) -> np.ndarray:
    """Returns the pixels that a rule does not remove, of parts that are numbered from 1 on."""
    sizes = np.bincount(numbers.ravel())
    stays = sizes >= max(rule.least, 1)
    if rule.largest and len(sizes) > 1:
        stays &= np.arange(len(sizes)) == 1 + np.argmax(sizes[1:])
    stays[0] = False
    return stays[numbers]


def fill(mask: np.ndarray) -> np.ndarray:
    """Returns a mask bool [*n] with its holes."""
    outside = components(np.pad(~mask, 1, constant_values=True), _CONNECTIVITY)
    inner = (slice(1, -1),) * mask.ndim
    return outside[inner] != outside.flat[0]
