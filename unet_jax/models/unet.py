"""The U-Net."""

import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from unet_jax.errors import UserError
from unet_jax.models.axis import AxisPath, block_margins, check_valid_size
from unet_jax.models.blocks import POOLS, Dropout, PlainBlock
from unet_jax.models.dead import check_not_dead
from unet_jax.models.decoders import DECODERS
from unet_jax.models.encoders.resnet import ENCODERS, ResNet, margins
from unet_jax.models.fast import convolve, has_known_size
from unet_jax.models.levels import Levels
from unet_jax.models.options import Options
from unet_jax.models.scales import rescale
from unet_jax.models.up.geometry import Geometry
from unet_jax.models.up.pixels import depth_to_space, space_to_depth
from unet_jax.models.up.ways import WAYS

Encoded = tuple[list[jax.Array | None], jax.Array]


class UNet(Options, nn.Module):
    """U-Net for images and volumes (Ronneberger et al., 2015, Fig. 1) and its descendants.

    Its arguments are those of `options.Options`, which `rules.check_options` checks.

    Level l has `features[l]` channels at a fraction of the resolution. The contracting path is a
    block of convolutions and a pooling per level; the expanding path a way up, the concatenation of
    the encoder's activations of the same level (the skip), and a block; then a 1x1 convolution to
    classes. With same padding the output has the input's size, whatever that is.

    A ResNet encoder (He et al., 2016) makes the levels 1 to 5, at strides 2 to 32, of which the
    last is the bottom; level 0 has no skip. It has batch normalisation and relu whatever the
    arguments say, which are then those of the expanding path.
    """

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool) -> jax.Array:
        """Computes the logits of a batch of images.

        Heads of deep supervision are sown into the collection "deep_supervision", as float32
        [B, *n, K] by name.

        Args:
            image: [B, *n, C], standardised (see `scale.standardise`): [B, H, W, C] or, with
                dimensions 3, [B, D, H, W, C].
            train: Whether to normalise by the statistics of this batch and update running ones,
                and to drop.

        Returns:
            float32 [B, *n, K]; with valid padding the smaller size that `axis_path` says.

        Raises:
            UserError: The image's size does not fit.
        """
        axes, size = self.dimensions, image.shape[1:-1]
        if len(size) != axes:
            raise UserError(
                f"config.model.dimensions={axes} takes [B, {axes} sizes, C], not {image.shape}."
            )
        if has_known_size(image):  # else it is a program for any, which its maker has padded
            if self.padding == "valid":
                check_valid_size("config.data.image_size", self.axis_path(), size)
            batch_size = image.shape[0] if train else None
            self.check_not_dead(f"an image of {size} pixels", size, batch_size)
        x = rescale(image, self.input_scale).astype(self.dtype)
        if self.padding == "same":
            # Repeating the edge keeps the statistics of the padding those of an image.
            ends = [(0, -n % self.multiple()) for n in size]
            if any(end for _, end in ends):
                x = jnp.pad(x, ((0, 0), *ends, (0, 0)), mode="edge")
        fold = (self.fold,) * axes
        x = space_to_depth(x, fold)
        levels = self._levels(train)
        encode = self._encode_resnet if self.has_resnet() else self._encode
        outputs = DECODERS[self.decoder](levels, *encode(x, levels))
        logits = {}
        for name, y in outputs.items():
            channels = self.fold**axes * self.num_classes
            own = {"dtype": self.dtype, "conv_general_dilated": convolve}
            y = nn.Conv(channels, (1,) * axes, name=name, **own)(y)
            logits[name] = depth_to_space(y, fold).astype(jnp.float32)
        result = logits.pop(f"head_{self.prune}" if self.prune else "head")
        for name, y in logits.items():
            self.sow("deep_supervision", name.replace("head", "logits"), y)
        if self.padding == "valid":
            return result
        return result[(slice(None), *(slice(n) for n in size))]

    def _encode(self, x: jax.Array, levels: Levels) -> Encoded:
        """Returns the activations of every level above the bottom, and the bottom's."""
        if self.stem:
            stem = levels.options, levels.trains("stem")
            x = PlainBlock(levels.features[0], *stem, dilations=(1,), name="stem")(x)
        skips: list[jax.Array | None] = []
        for level in range(self._depth() + 1):
            strides = levels.strides(level - 1) if level else ()
            pool = POOLS[self.pool]
            if level and pool:
                x, strides = pool(x, strides), ()
            name = f"bottom_{level}" if level == self.bottom() else f"encoder_{level}"
            x = levels.encode(x, level, name, strides)
            if self.dropout:
                x = Dropout(self.dropout_at(level), levels.trains(name))(x)
            skips.append(x)
        return skips[:-1], x

    def _encode_resnet(self, x: jax.Array, levels: Levels) -> Encoded:
        """Does what `_encode` does; nobody computes those of the maps that nobody reads."""
        resnet = ResNet(self.encoder, self.dtype, name="encoder")
        maps = resnet(x, train=levels.trains("encoder"))[: self._depth()]
        return [None, *maps[:-1]], maps[-1]

    def _depth(self) -> int:
        """Returns the deepest level to compute; initialising makes the parameters of all."""
        is_pruned = self.prune and not self.is_initializing()
        return self.prune if is_pruned else self.bottom()

    @nn.nowrap
    def _levels(self, train: bool) -> Levels:
        deepest = (ENCODERS[self.encoder].channels[-1],) if self.has_resnet() else ()
        features = (*self.channels(), *deepest)
        return Levels(self.options(), train, features, self.ups())

    @nn.nowrap
    def ups(self) -> tuple[Geometry, ...]:
        """Returns the geometry of the way up from level l + 1 to l, from full resolution down."""
        is_one = len(self.up_filters) == 1
        triples = self.up_filters * self.bottom() if is_one else self.up_filters
        # From the deepest stage up in the config.
        return tuple(WAYS[self.up].geometry(f, p, s) for f, p, s in triples[::-1])

    @nn.nowrap
    def multiple(self) -> int:
        """Returns what same padding rounds sizes up to a multiple of."""
        return self.fold * math.prod(up.stride for up in self.ups())

    @nn.nowrap
    def input_size(self, n: int) -> tuple[int, int]:
        """Returns the least pixels along one axis to read for n or more with logits, and those."""
        if self.padding == "valid":
            return self.axis_path().input_size(n)
        read = -(-n // self.multiple()) * self.multiple()
        return read, read

    @nn.nowrap
    def checkerboards(self) -> list[str | None]:
        """Returns `Geometry.checkerboard` of every level's way up, where that has a filter."""
        return [up.checkerboard() if WAYS[self.up].has_filter else None for up in self.ups()]

    @nn.nowrap
    def axis_path(self) -> AxisPath:
        """Returns the layers along one axis, whose sizes are those of a decoder "unet"."""
        ups, bottom = self.ups(), self.bottom()
        if self.has_resnet():
            encoder, downs = margins(self.encoder)
        else:
            dilations = [self.dilations(level) for level in range(bottom + 1)]
            strides = [up.stride for up in ups]
            encoder, downs = block_margins(self.block, dilations, strides, self.pool == "stride")
            encoder = (encoder[0] + self.stem, *encoder[1:])
        block = self.decoder_block or self.block
        decoder, _ = block_margins(
            block, [self.decoder_dilations(level) for level in range(bottom)], (), False
        )
        return AxisPath(encoder=encoder, decoder=decoder, ups=ups, downs=downs, fold=self.fold)

    @nn.nowrap
    def check_not_dead(self, what: str, size: Sequence[int], batch_size: int | None = None) -> None:
        """Checks that no normalisation sees a single value; see `dead.check_not_dead`.

        Args:
            what: The size as the error names it, such as "config.data.image_size=(16, 16)".
            size: Pixels of an image per axis.
            batch_size: Images of a batch in training; None in evaluation.

        Raises:
            UserError: One does.
        """
        check_not_dead(self, what, size, batch_size)
