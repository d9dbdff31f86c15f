"""What the paths of a U-Net are put together from, level by level."""

from typing import NamedTuple

import flax.linen as nn
import jax

from unet_jax.models.blocks import BLOCKS, Style
from unet_jax.models.upsample import Geometry
from unet_jax.models.ways_up import PixelShuffle, ResizeConv, TransposeConv, Unpool


class Levels(NamedTuple):
    """The levels of a U-Net; its methods make modules of the model that calls them.

    Level 0 has full resolution. There is one geometry less than there are levels.

    Attributes:
        features: F per level.
        ups: The transposed convolution from level l + 1 to l; its stride is also the pooling's.
        style: Of all blocks.
        up: The way up; see `UNet`.
        up_initial: See `UNet`.
        stochastic_depth: Rate at the bottom.
        remat: Levels that are computed again in the backward pass.
    """

    features: tuple[int, ...]
    ups: tuple[Geometry, ...]
    style: Style
    up: str
    up_initial: str
    stochastic_depth: float
    remat: tuple[int, ...]

    def strides(self, level: int) -> tuple[int, ...]:
        """Returns how many pixels of a level, per axis, are one of the next deeper level."""
        return (self.ups[level].stride,) * self.style.axes

    def run_block(
        self,
        x: jax.Array,
        level: int,
        name: str,
        kind: str,
        dilations: tuple[int, ...],
        strides: tuple[int, ...] | None = None,
    ) -> jax.Array:
        """Applies a block.

        Args:
            x: [B, *n, C].
            level: Its level.
            name: Its name among the parameters.
            kind: A key of `blocks.BLOCKS`.
            dilations: One for every convolution or unit.
            strides: Of its first convolution; None for 1.

        Returns:
            [B, *(n / strides), features[level]].
        """
        block = nn.remat(BLOCKS[kind]) if level in self.remat else BLOCKS[kind]
        drop = self.stochastic_depth * level / max(1, len(self.features) - 1)
        strides = strides or (1,) * self.style.axes
        return block(self.features[level], self.style, strides, dilations, drop, name=name)(x)

    def go_up(
        self, x: jax.Array, level: int, name: str, encoder: jax.Array | None = None
    ) -> jax.Array:
        """Brings activations from the next deeper level to this one.

        Args:
            x: [B, *n, C].
            level: The level to reach.
            name: The module's name among the parameters.
            encoder: The encoder's activations at the level, for unpooling.

        Returns:
            [B, *(s * n), features[level]].
        """
        features, dtype, axes = self.features[level], self.style.dtype, self.style.axes
        strides = self.strides(level)
        if self.up == "transpose":
            g = self.ups[level]
            filters, paddings = (g.filter,) * axes, (g.padding,) * axes
            return TransposeConv(
                features, dtype, strides, filters, paddings, self.up_initial, name=name
            )(x)
        if self.up == "pixel_shuffle":
            return PixelShuffle(features, dtype, strides, name=name)(x)
        if self.up == "unpool":
            assert encoder is not None  # the options are checked
            return Unpool(features, dtype, strides, name=name)(x, encoder)
        return ResizeConv(features, dtype, strides, self.up == "nearest", name=name)(x)
