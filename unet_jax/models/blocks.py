"""Small blocks that U-Nets are made of, in two and three dimensions."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from unet_jax.config import choose
from unet_jax.models.batch_norm import BatchNorm, GroupNorm
from unet_jax.models.convolution import convolve
from unet_jax.models.ways_up import resize_bilinear
from unet_jax.traced import is_on

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "relu": nn.relu,
    "leaky_relu": nn.leaky_relu,
    "gelu": nn.gelu,
    "silu": nn.silu,
}


@dataclasses.dataclass(frozen=True)
class Style:
    """What all blocks of a model have in common.

    Attributes:
        axes: Spatial axes, 2 or 3.
        train: Whether to normalise by the batch's statistics, and to drop.
        norm: A key of `NORMS`.
        activation: A key of `ACTIVATIONS`.
        padding: "same" or "valid".
        conv_bias: Whether convolutions before a normalisation have a bias too.
        squeeze_excite: Reduction of a squeeze-excitation after every block; 0 for none.
        dtype: Type that convolutions compute in; parameters stay float32.
    """

    axes: int
    train: bool
    norm: str
    activation: str
    padding: str
    conv_bias: bool
    squeeze_excite: int
    dtype: str

    def activate(self, x: jax.Array) -> jax.Array:
        """Applies the activation."""
        return choose(ACTIVATIONS, "config.model.activation", self.activation)(x)


def _batch_norm(x: jax.Array, style: Style) -> jax.Array:
    return BatchNorm(not style.train, momentum=0.9, dtype=style.dtype)(x)


def _group_norm(x: jax.Array, style: Style) -> jax.Array:
    groups = math.gcd(32, max(1, x.shape[-1] // 8))
    return GroupNorm(math.gcd(groups, x.shape[-1]), style.dtype, epsilon=1e-6)(x)


def _instance_norm(x: jax.Array, style: Style) -> jax.Array:
    return GroupNorm(None, style.dtype, epsilon=1e-5)(x)


def _no_norm(x: jax.Array, style: Style) -> jax.Array:
    return x


# Statistics, scale and bias are float32 whatever the dtype. Under jit with a batch sharded over
# devices, batch statistics are those of the global batch: the mean is taken over the global array.
NORMS: dict[str, Callable[[jax.Array, Style], jax.Array]] = {
    "batch": _batch_norm,  # Ioffe & Szegedy, 2015
    "group": _group_norm,  # Wu & He, 2018; at most 32 groups of at least 8 channels
    "instance": _instance_norm,  # Ulyanov et al., 2016
    "none": _no_norm,
}


def conv_norm(
    x: jax.Array,
    features: int,
    style: Style,
    *,
    size: int = 3,
    strides: Sequence[int] | None = None,
    dilation: int = 1,
    groups: int = 1,
) -> jax.Array:
    """Applies a convolution and a normalisation, as modules of the caller.

    Args:
        x: [B, *n, C].
        features: F.
        style: See `Style`.
        size: Filter size along every axis, odd.
        strides: Per axis; None for 1.
        dilation: Of the filter.
        groups: Groups of channels.

    Returns:
        [B, *(n / strides, rounded up), F]; with valid padding the outputs of whole windows alone.
    """
    # A bias before a normalisation that subtracts the mean does nothing.
    use_bias = style.norm == "none" or style.conv_bias
    # Centred windows, also where XLA's "SAME" would shift those of a stride.
    reach = dilation * (size // 2) if style.padding == "same" else 0
    x = nn.Conv(
        features,
        (size,) * style.axes,
        strides=tuple(strides or (1,) * style.axes),
        padding=((reach, reach),) * style.axes,
        kernel_dilation=dilation,
        feature_group_count=groups,
        use_bias=use_bias,
        kernel_init=nn.initializers.he_normal(),
        dtype=style.dtype,
        conv_general_dilated=convolve,
    )(x)
    return choose(NORMS, "config.model.norm", style.norm)(x, style)


class Dropout(nn.Module):
    """Dropout (Srivastava et al., 2014) at a rate that may be traced, as linen's may not.

    Attributes:
        rate: In [0, 1).
        train: Whether to drop.
        is_whole: Whether a picture's activations are dropped together.
    """

    rate: Any
    train: bool
    is_whole: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Drops from x [B, ...], and scales what stays by 1 / (1 - rate)."""
        if not self.train or not is_on(self.rate):
            return x
        shape = (x.shape[0], *(1,) * (x.ndim - 1)) if self.is_whole else x.shape
        stays = jax.random.bernoulli(self.make_rng("dropout"), 1.0 - self.rate, shape)
        return jnp.where(stays, x / jnp.asarray(1.0 - self.rate, x.dtype), 0)


class Block(nn.Module):
    """What one level of either path computes.

    Attributes:
        features: F.
        style: See `Style`.
        strides: Of its first convolution, per axis.
        dilations: One for every convolution or unit of the block.
        drop: Rate at which stochastic depth skips a residual unit in training.
    """

    features: int
    style: Style
    strides: tuple[int, ...]
    dilations: tuple[int, ...] = (1, 1)
    drop: float = 0.0

    def steps(self) -> list[tuple[tuple[int, ...], int]]:
        """Returns (strides, dilation) of every convolution or unit."""
        ones = (1,) * self.style.axes
        return [(ones if i else self.strides, d) for i, d in enumerate(self.dilations)]

    def excite(self, x: jax.Array) -> jax.Array:
        """Applies squeeze-excitation where the style has it."""
        reduction = self.style.squeeze_excite
        return SqueezeExcite(reduction, self.style.dtype)(x) if reduction else x


class PlainBlock(Block):
    """3x3 convolution, normalisation, activation, in turn (Ronneberger et al., 2015, Fig. 1)."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps x [B, *n, C] to [B, *(n / strides), F]."""
        for strides, dilation in self.steps():
            x = conv_norm(x, self.features, self.style, strides=strides, dilation=dilation)
            x = self.style.activate(x)
        return self.excite(x)


class DepthwiseBlock(Block):
    """3x3 convolution of each channel alone, then 1x1 of all (Chollet, 2017), in turn."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps x [B, *n, C] to [B, *(n / strides), F]."""
        for strides, dilation in self.steps():
            c = x.shape[-1]
            x = conv_norm(x, c, self.style, strides=strides, dilation=dilation, groups=c)
            x = self.style.activate(conv_norm(x, self.features, self.style, size=1))
        return self.excite(x)


class ResidualBlock(Block):
    """Units of two 3x3 convolutions that add to their input (He et al., 2016, Fig. 2)."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps x [B, *n, C] to [B, *(n / strides), F]."""
        for strides, dilation in self.steps():
            y = conv_norm(x, self.features, self.style, strides=strides, dilation=dilation)
            y = conv_norm(self.style.activate(y), self.features, self.style, dilation=dilation)
            x = _add(self.style, x, self.excite(y), strides, self.drop)
        return x


class BottleneckBlock(Block):
    """Units of 1x1, 3x3 and 1x1 convolutions that add to their input (He et al., 2016, Fig. 5)."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps x [B, *n, C] to [B, *(n / strides), F]."""
        narrow = max(1, self.features // 4)
        for strides, dilation in self.steps():
            y = self.style.activate(conv_norm(x, narrow, self.style, size=1))
            y = conv_norm(y, narrow, self.style, strides=strides, dilation=dilation)
            y = conv_norm(self.style.activate(y), self.features, self.style, size=1)
            x = _add(self.style, x, self.excite(y), strides, self.drop)
        return x


def _add(
    style: Style, x: jax.Array, y: jax.Array, strides: tuple[int, ...], drop: float
) -> jax.Array:
    """Adds a unit's result to its input, which is averaged and projected where shapes differ."""
    if any(s > 1 for s in strides):
        x = average_pool(x, strides)
    if x.shape[-1] != y.shape[-1]:
        x = conv_norm(x, y.shape[-1], dataclasses.replace(style, conv_bias=False), size=1)
    y = Dropout(drop, style.train, is_whole=True)(y)  # of a picture (Huang et al., 2016)
    return style.activate(crop(x, y.shape[1:-1]) + y)


BLOCKS: dict[str, type[Block]] = {
    "plain": PlainBlock,
    "residual": ResidualBlock,
    "bottleneck": BottleneckBlock,
    "depthwise": DepthwiseBlock,
}


class SqueezeExcite(nn.Module):
    """Scales channels by what their means say (Hu et al., 2018, Fig. 2).

    Attributes:
        reduction: Hidden channels are F / reduction, at least 4.
        dtype: Type of the computation.
    """

    reduction: int
    dtype: str

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps x [B, *n, F] to the same shape."""
        features = x.shape[-1]
        mean = jnp.mean(x, axis=range(1, x.ndim - 1), keepdims=True, dtype=jnp.float32)
        hidden = nn.Dense(max(4, features // self.reduction), dtype=self.dtype)(mean)
        return x * nn.sigmoid(nn.Dense(features, dtype=self.dtype)(nn.relu(hidden)))


class AttentionGate(nn.Module):
    """Scales the pixels of a skip by what the next deeper level says (Oktay et al., 2018, Fig. 2).

    alpha = sigmoid(psi(relu(W_x skip + W_g g))), computed on the coarse grid and interpolated.

    Attributes:
        features: Hidden channels.
        dtype: Type of the computation.
        strides: From the skip's grid to that of g, per axis.
    """

    features: int
    dtype: str
    strides: tuple[int, ...]

    @nn.compact
    def __call__(self, skip: jax.Array, g: jax.Array) -> jax.Array:
        """Maps skip [B, *(s * n), F] and g [B, *n, C] to the skip, scaled."""
        ones = (1,) * len(self.strides)
        from_skip = nn.Conv(
            self.features, self.strides, self.strides, "VALID", use_bias=False, dtype=self.dtype
        )(skip)
        from_g = nn.Conv(self.features, ones, dtype=self.dtype)(g)
        score = nn.Conv(1, ones, dtype=self.dtype)(nn.relu(from_skip + from_g))
        return skip * resize_bilinear(nn.sigmoid(score), self.strides)


def _pool(x: jax.Array, strides: Sequence[int], reduce: Callable[..., jax.Array]) -> jax.Array:
    b, *spatial, f = x.shape
    split = [m for n, s in zip(spatial, strides, strict=True) for m in (n // s, s)]
    return reduce(x.reshape(b, *split, f), axis=tuple(range(2, 2 * len(spatial) + 1, 2)))


def max_pool(x: jax.Array, strides: Sequence[int] = (2, 2)) -> jax.Array:
    """Takes the largest of every window of pixels.

    Written as a reduction of a reshaped array because its gradient is then an elementwise mask,
    which is several times faster on CPU than the select-and-scatter of a reduce-window. Where
    several of a window are largest, they share the gradient.

    Args:
        x: [B, *n, F], n multiples of the strides.
        strides: Window size per axis.

    Returns:
        [B, *(n / strides), F].
    """
    return _pool(x, strides, jnp.max)


def average_pool(x: jax.Array, strides: Sequence[int]) -> jax.Array:
    """Takes the mean of every window of pixels; see `max_pool`."""
    return _pool(x, strides, jnp.mean)


POOLS = {"max": max_pool, "average": average_pool, "stride": None}


def crop(x: jax.Array, size: Sequence[int]) -> jax.Array:
    """Cuts the middle out of x [B, *n, F]: [B, *size, F]."""
    starts = [(n - m) // 2 for n, m in zip(x.shape[1:-1], size, strict=True)]
    inside = tuple(slice(a, a + m) for a, m in zip(starts, size, strict=True))
    return x[(slice(None), *inside)]
