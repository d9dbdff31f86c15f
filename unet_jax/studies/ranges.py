"""Ranges that values of a study are drawn from."""

import math
from typing import Any, NamedTuple

from unet_jax.errors import UserError

DIGITS = 4  # significant digits of a number that was drawn, so that its label is exact


class Range(NamedTuple):
    """Where a value is drawn from; made by `uniform`, `log_uniform`, `integers` and `among`.

    Attributes:
        kind: "uniform", "log_uniform", "integers" or "among".
        options: Smallest and largest value, both included; for "among" all values.
    """

    kind: str
    options: tuple[Any, ...]

    def at(self, share: float) -> Any:
        """Returns the value below which lies a share in [0, 1) of the range."""
        low, high = self.options[0], self.options[-1]
        if self.kind == "among":
            return self.options[int(share * len(self.options))]
        if self.kind == "integers":
            return low + int(share * (high - low + 1))
        if self.kind == "log_uniform":
            return self.round(low * math.exp(share * math.log(high / low)))
        return self.round(low + share * (high - low))

    def round(self, value: Any) -> Any:
        """Returns a drawn number with `DIGITS` digits, inside the range; other values as is."""
        if self.kind not in ("uniform", "log_uniform"):
            return value
        return float(min(max(float(f"{value:.{DIGITS}g}"), self.options[0]), self.options[1]))


def uniform(low: float, high: float) -> Range:
    """Makes the range of numbers from low to high."""
    return _range("uniform", low, high)


def log_uniform(low: float, high: float) -> Range:
    """Makes the range of numbers from low to high, both above 0, uniform in their logarithm."""
    if low <= 0:
        raise UserError(f"log_uniform({low}, {high}): both must be above 0.")
    return _range("log_uniform", low, high)


def integers(low: int, high: int) -> Range:
    """Makes the range of whole numbers from low to high, both included."""
    if type(low) is not int or type(high) is not int:
        raise UserError(f"integers({low}, {high}): both must be whole numbers.")
    return _range("integers", low, high)


def among(*options: Any) -> Range:
    """Makes the range of some values without an order, each as likely as the others."""
    if len(set(map(str, options))) < max(1, len(options)):
        raise UserError(f"among{options}: give one or more values, each once.")
    return Range("among", options)


def _range(kind: str, low: float, high: float) -> Range:
    if not low < high:
        raise UserError(f"{kind}({low}, {high}): the first must be below the second.")
    return Range(kind, (low, high))
