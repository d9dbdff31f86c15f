"""The ways up by name: what brings the decoder from one level to the next finer one.

A new way up is a module and its row here.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn

from unet_jax.models.up.geometry import Geometry, stage_geometry
from unet_jax.models.up.resize import ResizeConv, bilinear_geometry, nearest_geometry
from unet_jax.models.up.shuffle import PixelShuffle, shuffle_geometry
from unet_jax.models.up.transposed import TransposeConv
from unet_jax.models.up.unpool import Unpool


class Way(NamedTuple):
    """A way up.

    Attributes:
        module: Makes the module of a stage, `module(stage, name=name)`. Called with x [B, *n, C],
            and where it reads the skip with that too, it returns [B, *(s n), F].
        geometry: (f, p, s) of `config.model.up_filters` to the transposed convolution that sees
            the same pixels.
        label: What it does, in figures.
        has_filter: Whether it has a filter of the given f, p and initial values, as a transposed
            convolution has; the others take (s, 0, s), and make no checkerboard.
        pads: Whether it makes up pixels beyond the edges, as valid convolutions never do.
        reads_skip: Whether it reads the encoder's activations of the level that it reaches.
        pool: The pooling that it undoes, a key of `blocks.POOLS`; "" where any will do.
    """

    module: Callable[..., nn.Module]
    geometry: Callable[[int, int, int], Geometry]
    label: str
    has_filter: bool = False
    pads: bool = False
    reads_skip: bool = False
    pool: str = ""


WAYS: dict[str, Way] = {
    "transpose": Way(TransposeConv, stage_geometry, "transposed conv", has_filter=True),
    "bilinear": Way(ResizeConv, bilinear_geometry, "interpolation, conv", pads=True),
    "nearest": Way(
        functools.partial(ResizeConv, nearest=True),
        nearest_geometry,
        "interpolation, conv",
        pads=True,
    ),
    "pixel_shuffle": Way(PixelShuffle, shuffle_geometry, "conv, pixel shuffle"),
    "unpool": Way(Unpool, shuffle_geometry, "conv, unpooling", reads_skip=True, pool="max"),
}
