"""Whether images to predict have values of another range than those of the training."""

from typing import Any

import numpy as np

from unet_jax.data.normalise import Normalise
from unet_jax.data.sample import Spec

# Of the length from black to white: more, or less, is another unit.
_LONGEST, _SHORTEST = 4.0, 0.01


def is_other_range(low: Any, high: Any, ends: tuple[float, float], *, is_float: bool) -> Any:
    """Tells whether the values of an image and the range from black to white have little in common.

    Args:
        low: Smallest value of the image; or of each, an array.
        high: Largest value, likewise.
        ends: Black and white.
        is_float: Whether values are fractions.

    Returns:
        Whether they have; of arrays an array.
    """
    black, white = ends
    is_outside = (low > white) | (high < black)
    is_long = high - low > _LONGEST * (white - black)
    # A dark image of whole numbers is one; fractions are values of another unit.
    is_short = is_float & (high > low) & (high - low < _SHORTEST * (white - black))
    return is_outside | is_long | is_short


class OtherValues:
    """Finds images whose values and the range from black to white have little in common."""

    def __init__(self, spec: Spec, normalise: Normalise) -> None:
        """Takes the spec of the training images, and how they were normalised."""
        low, high = normalise.value_range(spec)
        self._low, self._high = float(np.min(low)), float(np.max(high))
        # Images that tell their range themselves may have any.
        self._counts = not normalise.is_of_image
        self._ends: dict[str, tuple[float, float, bool]] = {}

    def look(self, file: str, image: np.ndarray) -> None:
        """Looks at the values of an image [*n, C] of a file, or of one more window of it."""
        low, high = float(image.min()), float(image.max())
        before = self._ends.get(file, (low, high, False))
        is_float = image.dtype.kind == "f"
        self._ends[file] = min(low, before[0]), max(high, before[1]), is_float

    def _is_other(self, low: float, high: float, is_float: bool) -> bool:
        ends = self._low, self._high
        return self._counts and bool(is_other_range(low, high, ends, is_float=is_float))

    def line(self) -> str:
        """Says in one line which images have other values; "" where none has."""
        found = {file: ends for file, ends in self._ends.items() if self._is_other(*ends)}
        if not found:
            return ""
        file, (low, high, _) = next(iter(found.items()))
        count, total = len(found), len(self._ends)
        return (
            f"{count} of {total} images {'has' if count == 1 else 'have'} values of a wholly "
            f"other range than those that the model was trained on, such as {file} ({low:g} to "
            f"{high:g}); there black and white are {self._low:g} and {self._high:g}, by "
            "config.data.normalise and config.data.value_range. Its masks are likely wrong: bring "
            "images to the range of the training."
        )
