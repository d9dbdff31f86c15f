"""Normalisation: which values of an image become black and white, where a network begins to see.

Whatever the kind, values x become (x - black) / (white - black): 0 is black, 1 white and 1/2 grey.
`augment.scale.standardise` then makes of them what the network reads: grey is 0, black -2, white 2.
So a mean that is grey with a white two standard deviations above becomes mean 0, deviation 1.

Statistics are taken of all pixels of a file as it is decoded, each channel by itself, before
anything is resized, cropped or padded. Labels, ignored values and weights have no say in them:
an image to predict has none, and has to become what it was in training.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from unet_jax.config import choose
from unet_jax.data.sample import Ends, Range, Spec
from unet_jax.errors import UserError

DEVIATIONS = 2.0  # from the mean to black and to white; see `scale.standardise`


def z_score(mean: float, deviation: float) -> tuple[float, float]:
    """Returns black and white with which a channel of this mean and deviation gets 0 and 1."""
    return mean - DEVIATIONS * deviation, mean + DEVIATIONS * deviation


class Kind(NamedTuple):
    """A way to find black and white.

    Attributes:
        of_image: (values [N] of a channel of an image, percentiles) -> black and white; None where
            neither depends on what images hold.
        is_bounded: Whether what is less than black or more than white is an exception, which
            augmentation may cut.
        cuts: Whether it is cut everywhere.
        says: In words, with {these} for the two numbers or where they are from, and {low} and
            {high} for percentiles.
    """

    of_image: Callable[[np.ndarray, Sequence[float]], tuple[float, float]] | None
    is_bounded: bool
    cuts: bool
    says: str


def _min_max(values: np.ndarray, percentiles: Sequence[float]) -> tuple[float, float]:
    return float(values.min()), float(values.max())


def _z_score(values: np.ndarray, percentiles: Sequence[float]) -> tuple[float, float]:
    return z_score(float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64)))


def _percentiles(values: np.ndarray, percentiles: Sequence[float]) -> tuple[float, float]:
    low, high = np.percentile(values.astype(np.float64), percentiles).tolist()
    return low, high


KINDS: dict[str, Kind] = {
    "range": Kind(None, True, False, "{these} become 0 and 1"),
    "min_max": Kind(_min_max, True, False, "smallest and largest {these} become 0 and 1"),
    "z_score": Kind(_z_score, False, False, "mean and deviation {these} become 0 and 1"),
    "percentiles": Kind(
        _percentiles,
        True,
        True,
        "percentiles {low:g} and {high:g} {these} become 0 and 1; values are cut there",
    ),
}
OF = ("image", "train")


class Normalise(NamedTuple):
    """How the values of images become those that augmentation and network read.

    Attributes:
        kind: Key of `KINDS`.
        of: Whose statistics, "image" or "train"; of no matter for "range".
        percentiles: Of the values that become black and white, for that kind.
        ends: Black and white of each channel of the training split; None where each image has its
            own, or where they are not found yet.
    """

    kind: str = "range"
    of: str = "train"
    percentiles: tuple[float, float] = (0.5, 99.5)
    ends: Ends | None = None

    @property
    def is_bounded(self) -> bool:
        """Returns whether augmentation may cut values at black and white."""
        return KINDS[self.kind].is_bounded

    @property
    def cuts(self) -> bool:
        """Returns whether values are cut there in any case."""
        return KINDS[self.kind].cuts

    @property
    def is_of_image(self) -> bool:
        """Returns whether each image has its own black and white."""
        return KINDS[self.kind].of_image is not None and self.of == "image"

    @property
    def is_of_train(self) -> bool:
        """Returns whether black and white are those of the training split."""
        return KINDS[self.kind].of_image is not None and self.of == "train"

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """Does what is done on the host: what needs the whole image.

        Args:
            image: [*n, C], as it is decoded.

        Returns:
            float32 [*n, C] with black 0 and white 1, where each image has its own; else the image.
        """
        if not self.is_of_image:
            return image
        return self.scale(image, [self.find(image[..., k]) for k in range(image.shape[-1])])

    def scale(self, image: np.ndarray, ends: Sequence[tuple[float, float]]) -> np.ndarray:
        """Scales an image, or a window of it, by its own black and white of each channel.

        Args:
            image: [*n, C].
            ends: What `find` found of all pixels of each channel.

        Returns:
            float32 [*n, C].
        """
        unit = np.empty(image.shape, np.float32)
        for channel, (black, white) in enumerate(ends):
            values = image[..., channel].astype(np.float64)
            unit[..., channel] = (values - black) / (white - black)
        return np.clip(unit, 0, 1) if self.cuts else unit

    def find(self, values: np.ndarray) -> tuple[float, float]:
        """Finds black and white of a channel of an image.

        Args:
            values: [*n].

        Returns:
            The two.
        """
        of_image = KINDS[self.kind].of_image
        assert of_image is not None, f"{self.kind} looks at no image"
        low, high = float(values.min()), float(values.max())
        # What has a single value has no deviation, whatever rounding says.
        pair = of_image(values.ravel(), self.percentiles) if low < high else (low, high)
        return apart(*pair)

    def dtype(self, spec: Spec) -> str:
        """Returns the type of the values of images of a spec as they come to the devices."""
        return "float32" if self.is_of_image else spec.dtype

    def value_range(self, spec: Spec) -> Range:
        """Returns the values of images of a spec that become 0 and 1 on the devices."""
        if self.is_of_image:
            return 0.0, 1.0
        if self.is_of_train:
            assert self.ends, "the training split has not been read"
            return self.ends
        return spec.value_range

    def describe(self, spec: Spec) -> str:
        """Says in words what becomes of values of images of a spec, with the numbers."""
        says, low, high = KINDS[self.kind].says, *self.percentiles
        if self.ends is None:
            own = "{:g} and {:g}".format(*spec.value_range)
            these = "of each channel of every image" if self.is_of_image else own
            return says.format(these=these, low=low, high=high)
        pairs = list(zip(*self.ends, strict=True))
        if self.kind == "z_score":
            pairs = [((x + y) / 2, (y - x) / 2 / DEVIATIONS) for x, y in pairs]
        written = ", ".join(f"{one:.6g} and {other:.6g}" for one, other in pairs)
        these = f"of each channel of the training images ({written})"
        return says.format(these=these, low=low, high=high)


RANGE = Normalise()
"""What is done where a config does not say: black and white are those of the type."""


def apart(black: float, white: float) -> tuple[float, float]:
    """Moves black and white apart where they are one: what has a single value becomes grey."""
    if white > black:
        return black, white
    middle = (black + white) / 2
    return middle - 0.5, middle + 0.5


def make_normalise(
    kind: str = "range", of: str = "train", percentiles: tuple[float, ...] = (0.5, 99.5)
) -> Normalise:
    """Checks how a config normalises; nothing is read.

    Args:
        kind: What becomes black and white: "range" for config.data.value_range, or the smallest and
            the largest value of the type; "min_max" for the smallest and the largest that there is;
            "percentiles" for two percentiles, where values are cut; "z_score" brings the mean to 0
            and the standard deviation to 1.
        of: Whose they are: "train" for all pixels of all training images, found once when a run
            begins and kept in it; "image" for those of each image. Each channel has its own.
        percentiles: (low, high), for that kind.

    Returns:
        How to normalise.

    Raises:
        UserError: A value does not fit.
    """
    choose(KINDS, "config.data.normalise.kind", kind)
    if of not in OF:
        raise UserError(f"config.data.normalise.of={of!r} is not known; allowed are {OF}.")
    are_numbers = len(percentiles) == 2 and all(type(n) in (int, float) for n in percentiles)
    if not are_numbers or not 0 <= percentiles[0] < percentiles[1] <= 100:
        raise UserError(
            f"config.data.normalise.percentiles={percentiles} must be (low, high), such as "
            "(0.5, 99.5), from 0 to 100."
        )
    return Normalise(kind, of, (float(percentiles[0]), float(percentiles[1])))
