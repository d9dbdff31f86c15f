"""What the paths of a U-Net are put together from, level by level."""

from typing import NamedTuple

import flax.linen as nn
import jax

from unet_jax.models.blocks import BLOCKS
from unet_jax.models.options import Options
from unet_jax.models.up.geometry import Geometry
from unet_jax.models.up.stage import Stage
from unet_jax.models.up.ways import WAYS


class Levels(NamedTuple):
    """The levels of a U-Net; its methods make modules of the model that calls them.

    Level 0 has full resolution. There is one geometry less than there are levels.

    Attributes:
        options: Those of the model.
        train: Whether to normalise by the batch's statistics, and to drop.
        features: F per level.
        ups: The way up from level l + 1 to l; its stride is also the pooling's.
    """

    options: Options
    train: bool
    features: tuple[int, ...]
    ups: tuple[Geometry, ...]

    def trains(self, name: str) -> bool:
        """Tells whether a module is in training: not in evaluation, and not frozen."""
        return self.train and not self.options.is_frozen(name)

    def strides(self, level: int) -> tuple[int, ...]:
        """Returns how many pixels of a level, per axis, are one of the next deeper level."""
        return (self.ups[level].stride,) * self.options.dimensions

    def has_skip(self, level: int) -> bool:
        """Tells whether the decoder reads the encoder's activations of a level."""
        return level not in self.options.skips_off

    def encode(
        self, x: jax.Array, level: int, name: str, strides: tuple[int, ...] = ()
    ) -> jax.Array:
        """Applies a block of the contracting path.

        Args:
            x: [B, *n, C].
            level: Its level.
            name: Its name among the parameters.
            strides: Of its first convolution; () for 1 each.

        Returns:
            [B, *(n / strides), features[level]].
        """
        dilations = self.options.dilations(level)
        return self._block(self.options.block, level, name, dilations, strides)(x)

    def decode(self, x: jax.Array, level: int, name: str) -> jax.Array:
        """Applies a block of the expanding path; see `encode`."""
        kind = self.options.decoder_block or self.options.block
        return self._block(kind, level, name, self.options.decoder_dilations(level))(x)

    def _block(
        self,
        kind: str,
        level: int,
        name: str,
        dilations: tuple[int, ...],
        strides: tuple[int, ...] = (),
    ) -> nn.Module:
        options = self.options
        make = nn.remat(BLOCKS[kind]) if level in options.remat else BLOCKS[kind]
        return make(
            features=self.features[level],
            options=options,
            train=self.trains(name),
            strides=strides,
            dilations=dilations,
            drop=options.stochastic_depth * level / max(1, len(self.features) - 1),
            name=name,
        )

    def go_up(
        self, x: jax.Array, level: int, name: str, encoder: jax.Array | None = None
    ) -> jax.Array:
        """Brings activations from the next deeper level to this one.

        Args:
            x: [B, *n, C].
            level: The level to reach.
            name: The module's name among the parameters.
            encoder: The encoder's activations at the level, for ways up that read them.

        Returns:
            [B, *(s * n), features[level]].
        """
        options, way = self.options, WAYS[self.options.up]
        geometry = (self.ups[level],) * options.dimensions
        stage = Stage(self.features[level], geometry, options.dtype, options.up_initial)
        up = way.module(stage, name=name)
        return up(x, encoder) if way.reads_skip else up(x)
