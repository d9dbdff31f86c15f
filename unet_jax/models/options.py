"""The arguments of a U-Net, which nothing else repeats; without jax, so that pages open fast."""

import dataclasses
import fnmatch
from typing import Any

from unet_jax.traced import Switch


@dataclasses.dataclass(unsafe_hash=True)
class Options:
    """The arguments of `unet.UNet`, which has them as fields; its parts take them as a whole.

    Combinations with a name are in `variants.VARIANTS`.

    Attributes:
        num_classes: K.
        features: Channels per level, from full resolution down; with a ResNet encoder those of the
            decoder's levels 0 to 4.
        width: Factor of all features, rounded to multiples of 8 that matrix units like.
        dimensions: 2 for images, 3 for volumes.
        input_scale: What the input, which is standardised, is brought to first, a key of
            `scales.SCALES`.
        encoder: "blocks", or a key of `encoders.resnet.ENCODERS` for images.
        decoder: "unet"; "unet++", nested skips (Zhou et al., 2018); "unet3+", full-scale skips
            (Huang et al., 2020), with blocks of its own and interpolation for the ways up.
        block: Of the contracting path, a key of `blocks.BLOCKS`.
        decoder_block: Of the expanding path; "" for the same.
        repeats: Convolutions (or residual units) per level of the contracting path, from full
            resolution down; one for all or one per level.
        decoder_repeats: Those of the expanding path, without the bottom.
        stem: Whether one 3x3 convolution comes before the first block.
        padding: "same", or "valid" as in the paper: the output is smaller than the input.
        norm: Normalisation after a convolution, a key of `blocks.NORMS`.
        activation: A key of `blocks.ACTIVATIONS`.
        conv_bias: Whether convolutions before a normalisation have a bias too.
        pool: "max", "average", or "stride" for a strided first convolution of the next level.
        up: The way up, a key of `up.ways.WAYS`.
        up_filters: (f, p, s) of the transposed convolution, from the deepest stage up; one for all
            or one per stage. s is also the pooling's stride there, for every way up; those but the
            transposed convolution take (s, 0, s).
        up_initial: Where a transposed convolution starts, a key of `up.transposed.INITIALS`.
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
        frozen: Patterns of the names of modules, such as ("encoder*", "stem"), that training leaves
            as they are: their parameters and running statistics stay, and in training they compute
            what they do in evaluation.
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
    dropout: tuple[Switch, ...] = ()
    stochastic_depth: Switch = 0.0
    deep_supervision: int = 0
    prune: int = 0
    remat: tuple[int, ...] = ()
    frozen: tuple[str, ...] = ()
    dtype: str = "float32"

    def options(self) -> "Options":
        """Returns the arguments alone, which modules can have as a field."""
        return Options(**{name: getattr(self, name) for name in NAMES})

    def has_resnet(self) -> bool:
        """Tells whether the encoder is a ResNet, without blocks of its own at level 0."""
        return self.encoder != "blocks"

    def bottom(self) -> int:
        """Returns the deepest level."""
        return len(self.features) - (not self.has_resnet())

    def channels(self) -> tuple[int, ...]:
        """Returns the features of every level, with the width taken into account."""
        if self.width == 1.0:
            return self.features
        return tuple(max(8, 8 * round(f * self.width / 8)) for f in self.features)

    def is_frozen(self, name: str) -> bool:
        """Tells whether training leaves a module of the U-Net as it is; see `frozen`."""
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in self.frozen)

    def heads(self) -> int:
        """Returns how many heads are trained: the result's, and those of deep supervision."""
        unused = self.bottom() - self.prune if self.prune else 0
        return 1 + self.deep_supervision - unused

    def has_statistics(self) -> bool:
        """Tells whether a layer takes statistics over the image, in evaluation too.

        Then every pixel's logits depend on all of the image, and on what it is padded with.
        """
        return self.norm in ("group", "instance") or self.squeeze_excite > 0

    def dilations(self, level: int) -> tuple[int, ...]:
        """Returns one for every convolution or unit of a level's block in the encoder."""
        ones = (1,) * at_level(self.repeats, level)
        return self.bottom_dilations or ones if level == self.bottom() else ones

    def decoder_dilations(self, level: int) -> tuple[int, ...]:
        """Returns one for every convolution or unit of a level's block in the decoder."""
        return (1,) * at_level(self.decoder_repeats, level)

    def dropout_at(self, level: int) -> float:
        """Returns the rate of dropout after a level's block in the encoder."""
        return at_level(self.dropout, level) if self.dropout else 0.0


NAMES = tuple(field.name for field in dataclasses.fields(Options))


def at_level(values: tuple[Any, ...], level: int) -> Any:
    """Returns a level's value of one per level, or of one for all."""
    return values[level] if len(values) > 1 else values[0]
