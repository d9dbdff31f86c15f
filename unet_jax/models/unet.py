"""The U-Net."""

import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from unet_jax.errors import UserError
from unet_jax.models.blocks import POOLS, Dropout, PlainBlock, Style
from unet_jax.models.dead import check_not_dead
from unet_jax.models.decoders import DECODERS, Wiring
from unet_jax.models.geometry import AxisPath, block_margins, check_valid_size, up_geometry
from unet_jax.models.levels import Levels
from unet_jax.models.options import check_options
from unet_jax.models.resnet import ENCODERS, ResNet, margins
from unet_jax.models.scales import rescale
from unet_jax.models.upsample import Geometry, depth_to_space, space_to_depth


class UNet(nn.Module):
    """U-Net for pictures and volumes (Ronneberger et al., 2015, Fig. 1) and its descendants.

    Level l has `features[l]` channels at a fraction of the resolution. The contracting path is a
    block of convolutions and a pooling per level; the expanding path a way up, the concatenation of
    the encoder's activations of the same level (the skip), and a block; then a 1x1 convolution to
    classes. With same padding the output has the input's size, whatever that is. Combinations with
    a name are in `variants.VARIANTS`.

    A ResNet encoder (He et al., 2016) makes the levels 1 to 5, at strides 2 to 32, of which the
    last is the bottom; level 0 has no skip. It has batch normalisation and relu whatever the
    arguments say, which are then those of the expanding path.

    Attributes:
        num_classes: K.
        features: Channels per level, from full resolution down; with a ResNet encoder those of the
            decoder's levels 0 to 4.
        width: Factor of all features, rounded to multiples of 8 that matrix units like.
        dimensions: 2 for pictures, 3 for volumes.
        input_scale: What the input, which is standardised, is brought to first: "standardised",
            "unit" or "imagenet"; see `scales.rescale`.
        encoder: "blocks", or "resnet18", "resnet34" or "resnet50" for pictures.
        decoder: "unet"; "unet++", nested skips (Zhou et al., 2018); "unet3+", full-scale skips
            (Huang et al., 2020), with blocks of its own and interpolation for the ways up.
        block: "plain", "residual", "bottleneck" or "depthwise", of the contracting path.
        decoder_block: Likewise of the expanding path; "" for the same.
        repeats: Convolutions (or residual units) per level of the contracting path, from full
            resolution down; one for all or one per level.
        decoder_repeats: Likewise of the expanding path, without the bottom.
        stem: Whether one 3x3 convolution comes before the first block.
        padding: "same", or "valid" as in the paper: the output is smaller than the input.
        norm: "batch", "group", "instance" or "none".
        activation: "relu", "leaky_relu", "gelu" or "silu".
        conv_bias: Whether convolutions before a normalisation have a bias too.
        pool: "max", "average", or "stride" for a strided first convolution of the next level.
        up: "transpose", "bilinear", "nearest", "pixel_shuffle" or "unpool".
        up_filters: (f, p, s) of the transposed convolution, from the deepest stage up; one for all
            or one per stage. s is also the pooling's stride there, for every way up; those but the
            transposed convolution take (s, 0, s).
        up_initial: "random" or "bilinear", where a transposed convolution starts.
        skips_off: Levels without a skip.
        attention: Whether skips pass attention gates (Oktay et al., 2018).
        squeeze_excite: Reduction of the squeeze-excitation after every block; 0 for none.
        bottom_dilations: Dilation of every convolution at the bottom; () for 1 each.
        fold: Pixels per axis that are folded into channels before the first level and unfolded
            after the head; 1 for none.
        dropout: Rates after the blocks of the contracting path, one per level; () for none.
        stochastic_depth: Rate at which the bottom's residual units are skipped in training; less
            above (Huang et al., 2016).
        deep_supervision: Levels of the decoder below the first, or columns of "unet++" before the
            last, that have heads of their own in training.
        prune: Column of "unet++" whose head is used, with nothing deeper computed; 0 for the last.
        remat: Levels whose blocks are computed again in the backward pass to save memory; with
            "unet3+" those of the contracting path alone.
        dtype: "float32" or "bfloat16", the type of convolutions and activations. Parameters,
            statistics and logits are float32.
    """

    num_classes: int
    features: tuple[int, ...] = (64, 128, 256, 512, 1024)
    width: float = 1.0
    dimensions: int = 2
    input_scale: str = "standardised"
    encoder: str = "blocks"
    decoder: str = "unet"
    block: str = "plain"
    decoder_block: str = ""
    repeats: tuple[int, ...] = (2,)
    decoder_repeats: tuple[int, ...] = (2,)
    stem: bool = False
    padding: str = "same"
    norm: str = "batch"
    activation: str = "relu"
    conv_bias: bool = False
    pool: str = "max"
    up: str = "transpose"
    up_filters: tuple[tuple[int, int, int], ...] = ((2, 0, 2),)
    up_initial: str = "random"
    skips_off: tuple[int, ...] = ()
    attention: bool = False
    squeeze_excite: int = 0
    bottom_dilations: tuple[int, ...] = ()
    fold: int = 1
    dropout: tuple[float, ...] = ()
    stochastic_depth: float = 0.0
    deep_supervision: int = 0
    prune: int = 0
    remat: tuple[int, ...] = ()
    dtype: str = "float32"

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool) -> jax.Array:
        """Computes the logits of a batch of pictures.

        Heads of deep supervision are sown into the collection "deep_supervision", as float32
        [B, *n, K] by name.

        Args:
            image: [B, *n, C], standardised (see `augment.standardise`): [B, H, W, C] or, with
                dimensions 3, [B, D, H, W, C].
            train: Whether to normalise by the statistics of this batch and update running ones,
                and to drop.

        Returns:
            float32 [B, *n, K]; with valid padding the smaller size that `axis_path` says.

        Raises:
            UserError: A value, or the picture's size, does not fit.
        """
        check_options(self)
        axes, size = self.dimensions, image.shape[1:-1]
        if len(size) != axes:
            raise UserError(
                f"config.model.dimensions={axes} takes [B, {axes} sizes, C], not {image.shape}."
            )
        if self.padding == "valid":
            check_valid_size("config.data.image_size", self.axis_path(), size)
        self.check_not_dead(f"an image of {size} pixels", size, image.shape[0] if train else None)
        x = rescale(image, self.input_scale).astype(self.dtype)
        if self.padding == "same":
            # Repeating the edge keeps the statistics of the padding those of a picture.
            ends = [(0, -n % self.multiple()) for n in size]
            x = jnp.pad(x, ((0, 0), *ends, (0, 0)), mode="edge")
        fold = (self.fold,) * axes
        x = space_to_depth(x, fold)
        levels = self._levels(train)
        encode = self._encode if self.encoder == "blocks" else self._encode_resnet
        skips, bottom = encode(x, levels)
        outputs = DECODERS[self.decoder](levels, self._wiring(), skips, bottom)
        logits = {}
        for name, y in outputs.items():
            channels = self.fold**axes * self.num_classes
            y = nn.Conv(channels, (1,) * axes, dtype=self.dtype, name=name)(y)
            logits[name] = depth_to_space(y, fold).astype(jnp.float32)
        result = logits.pop(f"head_{self.prune}" if self.prune else "head")
        for name, y in logits.items():
            self.sow("deep_supervision", name.replace("head", "logits"), y)
        if self.padding == "valid":
            return result
        return result[(slice(None), *(slice(n) for n in size))]

    def _encode(self, x: jax.Array, levels: Levels) -> tuple[list[jax.Array | None], jax.Array]:
        """Returns the activations of every level above the bottom, and the bottom's."""
        ones = (1,) * self.dimensions
        if self.stem:
            x = PlainBlock(levels.features[0], levels.style, ones, (1,), name="stem")(x)
        skips: list[jax.Array | None] = []
        for level in range(self._depth() + 1):
            strides = levels.strides(level - 1) if level else ones
            pool = POOLS[self.pool]
            if level and pool:
                x, strides = pool(x, strides), ones
            name = f"bottom_{level}" if level == self.bottom() else f"encoder_{level}"
            x = levels.run_block(x, level, name, self.block, self._dilations(level), strides)
            if self.dropout:
                x = Dropout(self._per_level(self.dropout, level), levels.style.train)(x)
            skips.append(x)
        return skips[:-1], x

    def _encode_resnet(
        self, x: jax.Array, levels: Levels
    ) -> tuple[list[jax.Array | None], jax.Array]:
        """Does what `_encode` does; nobody computes those of the maps that nobody reads."""
        resnet = ResNet(self.encoder, self.dtype, name="encoder")
        maps = resnet(x, train=levels.style.train)[: self._depth()]
        return [None, *maps[:-1]], maps[-1]

    def _depth(self) -> int:
        """Returns the deepest level to compute; initialising makes the parameters of all."""
        is_pruned = self.prune and not self.is_initializing()
        return self.prune if is_pruned else self.bottom()

    @nn.nowrap
    def bottom(self) -> int:
        """Returns the deepest level."""
        return len(self.features) - (self.encoder == "blocks")

    @nn.nowrap
    def heads(self) -> int:
        """Returns how many heads are trained: the result's, and those of deep supervision."""
        unused = self.bottom() - self.prune if self.prune else 0
        return 1 + self.deep_supervision - unused

    @nn.nowrap
    def _dilations(self, level: int) -> tuple[int, ...]:
        ones = (1,) * self._per_level(self.repeats, level)
        return self.bottom_dilations or ones if level == self.bottom() else ones

    @nn.nowrap
    def _per_level(self, values: tuple[Any, ...], level: int) -> Any:
        return values[level] if len(values) > 1 else values[0]

    @nn.nowrap
    def _ups(self) -> tuple[Geometry, ...]:
        is_one = len(self.up_filters) == 1
        triples = self.up_filters * self.bottom() if is_one else self.up_filters
        # From the deepest stage up in the config, from full resolution down here.
        return tuple(up_geometry(self.up, *fps) for fps in triples[::-1])

    @nn.nowrap
    def multiple(self) -> int:
        """Returns what same padding rounds sizes up to a multiple of."""
        return self.fold * math.prod(up.stride for up in self._ups())

    @nn.nowrap
    def input_size(self, n: int) -> tuple[int, int]:
        """Returns the least pixels along one axis to read for n or more with logits, and those."""
        if self.padding == "valid":
            return self.axis_path().input_size(n)
        read = -(-n // self.multiple()) * self.multiple()
        return read, read

    @nn.nowrap
    def has_statistics(self) -> bool:
        """Tells whether a layer takes statistics over the image, in evaluation too.

        Then every pixel's logits depend on all of the image, and on what it is padded with.
        """
        return self.norm in ("group", "instance") or self.squeeze_excite > 0

    @nn.nowrap
    def checkerboards(self) -> list[str | None]:
        """Returns `Geometry.checkerboard` of every level's transposed convolution."""
        return [up.checkerboard() if self.up == "transpose" else None for up in self._ups()]

    @nn.nowrap
    def axis_path(self) -> AxisPath:
        """Returns the sizes along one axis: what a decoder "unet" makes of an input, and sees."""
        ups = self._ups()
        if self.encoder == "blocks":
            dilations = [self._dilations(level) for level in range(self.bottom() + 1)]
            strides = [up.stride for up in ups]
            encoder, downs = block_margins(self.block, dilations, strides, self.pool == "stride")
            encoder = (encoder[0] + self.stem, *encoder[1:])
        else:
            encoder, downs = margins(self.encoder)
        wiring = self._wiring()
        reach = 2 if wiring.block == "residual" else 1
        decoder = tuple(reach * n for n in wiring.repeats)
        return AxisPath(encoder, decoder, ups, downs, self.fold)

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

    @nn.nowrap
    def channels(self) -> tuple[int, ...]:
        """Returns the features of every level, with the width taken into account."""
        if self.width == 1.0:
            return self.features
        return tuple(max(8, 8 * round(f * self.width / 8)) for f in self.features)

    @nn.nowrap
    def _levels(self, train: bool) -> Levels:
        features = self.channels()
        if self.encoder != "blocks":
            features = (*features, ENCODERS[self.encoder].channels[-1])
        style = Style(
            self.dimensions,
            train,
            self.norm,
            self.activation,
            self.padding,
            self.conv_bias,
            self.squeeze_excite,
            self.dtype,
        )
        return Levels(
            features,
            self._ups(),
            style,
            self.up,
            self.up_initial,
            self.stochastic_depth,
            self.remat,
        )

    @nn.nowrap
    def _wiring(self) -> Wiring:
        bottom = self.bottom()
        return Wiring(
            self.decoder_block or self.block,
            tuple(self._per_level(self.decoder_repeats, level) for level in range(bottom)),
            tuple(level not in self.skips_off for level in range(bottom)),
            self.attention,
            self.deep_supervision,
        )
