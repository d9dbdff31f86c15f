"""Classes that are the left and the right of one thing, by their names."""

import re
from collections.abc import Sequence

SIDES = {"left": "right", "l": "r", "lh": "rh"}  # words of names, and what mirroring makes of them


def find_sides(class_names: Sequence[str]) -> list[tuple[str, str]]:
    """Finds the classes that are the left and the right of one thing, by their names.

    Args:
        class_names: K names, such as "left_lung", "Lung (R)" or "lh-cortex".

    Returns:
        Pairs of names that differ in one word alone, left in the one and right in the other.
    """
    words = {name: _words(name) for name in class_names}
    pairs = []
    for name, own in words.items():
        for place, word in enumerate(own):
            if word not in SIDES:
                continue
            other = [*own[:place], SIDES[word], *own[place + 1 :]]
            pairs += [(name, found) for found, theirs in words.items() if theirs == other]
    return pairs


def _words(name: str) -> list[str]:
    """Splits a name into words and numbers, as "LeftLung", "lung_1" and "Lung (L)"."""
    return re.findall(r"[^\W\d_]+|\d+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())
