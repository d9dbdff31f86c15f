"""What a way up is told of the stage that it is made for."""

from typing import NamedTuple

from unet_jax.models.up.geometry import Geometry


class Stage(NamedTuple):
    """The stage from one level to the next finer one.

    Attributes:
        features: F, output channels.
        geometry: One per axis, of the way's row in `ways.WAYS`.
        dtype: Type of the computation; parameters stay float32.
        initial: Of a transposed convolution's filter, a key of `transposed.INITIALS`.
    """

    features: int
    geometry: tuple[Geometry, ...]
    dtype: str = "float32"
    initial: str = "random"

    @property
    def strides(self) -> tuple[int, ...]:
        """Output pixels per input pixel, per axis."""
        return tuple(g.stride for g in self.geometry)

    @property
    def ones(self) -> tuple[int, ...]:
        """1 per axis, the filter of a convolution of every pixel alone."""
        return (1,) * len(self.geometry)
