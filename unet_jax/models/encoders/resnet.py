"""ResNets as encoders of a U-Net, laid out as in torchvision so that its weights fit."""

from typing import NamedTuple

import flax.linen as nn
import jax

from unet_jax.config import choose
from unet_jax.models.fast import BatchNorm, convolve


class Layout(NamedTuple):
    """What tells one ResNet from another.

    Attributes:
        bottleneck: Whether blocks are 1x1, 3x3, 1x1 convolutions instead of two 3x3 ones.
        blocks: Blocks in each of the four layers.
        channels: Channels of the five feature maps, at strides 2, 4, 8, 16 and 32.
    """

    bottleneck: bool
    blocks: tuple[int, int, int, int]
    channels: tuple[int, int, int, int, int]


# He et al., 2015, Table 1.
ENCODERS = {
    "resnet18": Layout(False, (2, 2, 2, 2), (64, 64, 128, 256, 512)),
    "resnet34": Layout(False, (3, 4, 6, 3), (64, 64, 128, 256, 512)),
    "resnet50": Layout(True, (3, 4, 6, 3), (64, 256, 512, 1024, 2048)),
}
STRIDES = (2, 4, 8, 16, 32)
EXPANSION = 4  # a bottleneck's output channels by those of its 3x3 convolution


def margins(variant: str) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...]]:
    """Describes a ResNet along one axis: `encoder` and `downs` of a `axis.AxisPath`.

    Level 0 is the image; the 7x7 convolution, the 3x3 pooling and the first strided 3x3
    convolution of each further layer lead down.

    Args:
        variant: A key of `ENCODERS`.

    Returns:
        For six levels and the five ways between them.
    """
    layout = choose(ENCODERS, "config.model.encoder", variant)
    convs = [blocks * (1 if layout.bottleneck else 2) for blocks in layout.blocks]
    return (0, 0, convs[0], *(n - 1 for n in convs[1:])), ((3, 3), *((1, 1),) * 4)


class ResidualBlock(nn.Module):
    """Residual block with batch normalisation after each convolution (He et al., 2015, Fig. 5).

    A bottleneck has its stride in the 3x3 convolution and not in the first 1x1 one, as torchvision
    has it (there called ResNet v1.5).

    Attributes:
        features: F, output channels.
        stride: Of the block.
        bottleneck: Whether the block is a bottleneck; its 3x3 convolution then has F/4 channels.
        dtype: Type that convolutions compute in; parameters stay float32.
    """

    features: int
    stride: int
    bottleneck: bool
    dtype: str

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps x [B, H, W, C] to [B, ceil(H/stride), ceil(W/stride), F]."""
        narrow = self.features // EXPANSION
        plain = ((self.features, 3, self.stride), (self.features, 3, 1))
        bottleneck = ((narrow, 1, 1), (narrow, 3, self.stride), (self.features, 1, 1))
        y = x
        for i, (features, size, stride) in enumerate(bottleneck if self.bottleneck else plain, 1):
            y = nn.relu(y) if i > 1 else y
            y = _conv(features, size, stride, self.dtype, f"conv{i}")(y)
            y = _norm(train, self.dtype, f"bn{i}")(y)
        if self.stride > 1 or x.shape[-1] != self.features:
            x = _conv(self.features, 1, self.stride, self.dtype, "downsample_0")(x)
            x = _norm(train, self.dtype, "downsample_1")(x)
        return nn.relu(x + y)


class ResNet(nn.Module):
    """Residual network without its classifier (He et al., 2015, Table 1).

    Submodules have torchvision's names, with layer1.0 written layer1_0 and downsample.0 written
    downsample_0. Strided convolutions pad both sides alike, as torchvision does: "SAME" would pad
    the far side only and see the image half a pixel off.

    Attributes:
        variant: A key of `ENCODERS`.
        dtype: Type of convolutions and activations; parameters and statistics stay float32.
    """

    variant: str
    dtype: str = "float32"

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool) -> tuple[jax.Array, ...]:
        """Computes the feature maps that a decoder takes as skips.

        Args:
            image: [B, H, W, C]; any H and W.
            train: Whether to normalise by the statistics of this batch and update running ones.

        Returns:
            Five arrays [B, ceil(H/s), ceil(W/s), F] of the dtype, for every s of `STRIDES` and
            F of `ENCODERS[variant].channels`: after the stem and after each of the four layers.
        """
        layout = choose(ENCODERS, "config.model.encoder", self.variant)
        x = _conv(layout.channels[0], 7, 2, self.dtype, "conv1")(image)
        x = nn.relu(_norm(train, self.dtype, "bn1")(x))
        maps = [x]
        x = nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
        for layer, blocks in enumerate(layout.blocks, 1):
            for block in range(blocks):
                stride = 2 if layer > 1 and block == 0 else 1
                features, name = layout.channels[layer], f"layer{layer}_{block}"
                x = ResidualBlock(features, stride, layout.bottleneck, self.dtype, name=name)(
                    x, train=train
                )
            maps.append(x)
        return tuple(maps)


def _conv(features: int, size: int, stride: int, dtype: str, name: str) -> nn.Conv:
    half = (size // 2, size // 2)
    return nn.Conv(
        features,
        (size, size),
        strides=(stride, stride),
        padding=(half, half),
        use_bias=False,
        kernel_init=nn.initializers.variance_scaling(2.0, "fan_out", "normal"),  # He normal
        dtype=dtype,
        conv_general_dilated=convolve,
        name=name,
    )


def _norm(train: bool, dtype: str, name: str) -> BatchNorm:
    return BatchNorm(
        use_running_average=not train, momentum=0.9, epsilon=1e-5, dtype=dtype, name=name
    )
