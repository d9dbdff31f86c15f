"""The U-Net."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from unet_jax.config import choose
from unet_jax.errors import UserError
from unet_jax.models.blocks import DoubleConv, max_pool
from unet_jax.models.ways_up import TransposeConv

DTYPES = ("float32", "bfloat16")


class UNet(nn.Module):
    """U-Net with same padding, for pictures of any size (Ronneberger et al., 2015, Fig. 1).

    Level l has `features[l]` channels at 1/2^l of the resolution. The contracting path is a double
    convolution and 2x2 max pooling per level; the expanding path a 2x2 transposed convolution, the
    concatenation of the encoder's activations of the same level (the skip), and a double
    convolution; then a 1x1 convolution to classes. Other than in the paper, convolutions pad, so
    that the output has the input's size, and may be followed by a normalisation.

    Attributes:
        num_classes: K.
        features: Channels per level, from full resolution down.
        norm: "batch", "group", "instance" or "none".
        activation: "relu", "leaky_relu", "gelu" or "silu".
        dtype: "float32" or "bfloat16", the type of convolutions and activations. Parameters,
            statistics and logits are float32.
    """

    num_classes: int
    features: tuple[int, ...] = (64, 128, 256, 512, 1024)
    norm: str = "batch"
    activation: str = "relu"
    dtype: str = "float32"

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool) -> jax.Array:
        """Computes the logits of a batch of pictures.

        Args:
            image: [B, H, W, C], standardised (see `augment.standardise`); any H and W.
            train: Whether to normalise by the statistics of this batch and update running ones.

        Returns:
            float32 [B, H, W, K].
        """
        if not self.features or not all(type(f) is int and f > 0 for f in self.features):
            raise UserError(
                f"config.model.features={self.features} must be channels per level, each 1 or "
                "more, such as (64, 128, 256)."
            )
        choose(dict.fromkeys(DTYPES), "config.model.dtype", self.dtype)
        _, height, width, _ = image.shape
        multiple = 2 ** (len(self.features) - 1)
        # Repeating the edge keeps the statistics of the padding those of a picture.
        padding = ((0, 0), (0, -height % multiple), (0, -width % multiple), (0, 0))
        x = jnp.pad(image.astype(self.dtype), padding, mode="edge")

        def double_conv(level: int, path: str) -> DoubleConv:
            name = f"{path}_{level}"
            return DoubleConv(
                self.features[level], self.norm, self.activation, self.dtype, name=name
            )

        *levels, bottom = range(len(self.features))
        skips = {}
        for level in levels:
            skips[level] = double_conv(level, "encoder")(x, train=train)
            x = max_pool(skips[level])
        x = double_conv(bottom, "bottom")(x, train=train)
        for level in reversed(levels):
            x = TransposeConv(self.features[level], self.dtype, name=f"up_{level}")(x)
            x = jnp.concatenate([skips[level], x], axis=-1)
            x = double_conv(level, "decoder")(x, train=train)
        logits = nn.Conv(self.num_classes, (1, 1), dtype=self.dtype, name="head")(x)
        return logits[:, :height, :width].astype(jnp.float32)
