"""Small blocks that U-Nets are made of, in two and three dimensions."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from unet_jax.config import choose
from unet_jax.models.fast import BatchNorm, GroupNorm, convolve, convolve_affine, max_pool
from unet_jax.models.gates import SqueezeExcite
from unet_jax.models.options import Options
from unet_jax.traced import is_on

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "relu": nn.relu,
    "leaky_relu": nn.leaky_relu,
    "gelu": nn.gelu,
    "silu": nn.silu,
}


def _batch_norm(x: jax.Array, dtype: str, train: bool) -> jax.Array:
    return _make_batch_norm(dtype, train)(x)


def _make_batch_norm(dtype: str, train: bool) -> BatchNorm:
    return BatchNorm(not train, momentum=0.9, dtype=dtype)


def _group_norm(x: jax.Array, dtype: str, train: bool) -> jax.Array:
    groups = math.gcd(32, max(1, x.shape[-1] // 8))
    return GroupNorm(math.gcd(groups, x.shape[-1]), dtype, epsilon=1e-6)(x)


def _instance_norm(x: jax.Array, dtype: str, train: bool) -> jax.Array:
    return GroupNorm(None, dtype, epsilon=1e-5)(x)


def _no_norm(x: jax.Array, dtype: str, train: bool) -> jax.Array:
    return x


# Statistics, scale and bias are float32 whatever the dtype. Under jit with a batch sharded over
# devices, batch statistics are those of the global batch: the mean is taken over the global array.
NORMS: dict[str, Callable[[jax.Array, str, bool], jax.Array]] = {
    "batch": _batch_norm,  # Ioffe & Szegedy, 2015
    "group": _group_norm,  # Wu & He, 2018; at most 32 groups of at least 8 channels
    "instance": _instance_norm,  # Ulyanov et al., 2016
    "none": _no_norm,
}


@jax.named_scope("activation")
def activate(x: jax.Array, options: Options) -> jax.Array:
    """Applies the activation of the options."""
    return choose(ACTIVATIONS, "config.model.activation", options.activation)(x)


def conv_norm(
    x: jax.Array,
    features: int,
    options: Options,
    train: bool,
    *,
    size: int = 3,
    strides: Sequence[int] | None = None,
    dilation: int = 1,
    groups: int = 1,
    activates: bool = False,
) -> jax.Array:
    """Applies a convolution and a normalisation, as modules of the caller.

    In evaluation batch normalisation is a factor and a shift of each feature, which go into the
    kernel and into what the convolution adds.

    Args:
        x: [B, *n, C].
        features: F.
        options: Those of the model.
        train: Whether to normalise by the batch's statistics.
        size: Filter size along every axis, odd.
        strides: Per axis; None for 1.
        dilation: Of the filter.
        groups: Groups of channels.
        activates: Whether the activation comes after.

    Returns:
        [B, *(n / strides, rounded up), F]; with valid padding the outputs of whole windows alone.
    """
    # A bias before a normalisation that subtracts the mean does nothing.
    use_bias = options.norm == "none" or options.conv_bias
    # Centred windows, also where XLA's "SAME" would shift those of a stride.
    reach = dilation * (size // 2) if options.padding == "same" else 0
    axes = options.dimensions
    folds = options.norm == "batch" and options.dtype == "float32" and not (train or use_bias)
    convolution, is_relu = convolve, activates and options.activation == "relu"
    if folds:
        affine = _make_batch_norm(options.dtype, train).running_affine(features)
        convolution = convolve_affine(*affine, floor=0.0 if is_relu else -math.inf)
    x = nn.Conv(
        features,
        (size,) * axes,
        strides=tuple(strides or (1,) * axes),
        padding=((reach, reach),) * axes,
        kernel_dilation=dilation,
        feature_group_count=groups,
        use_bias=use_bias,
        kernel_init=nn.initializers.he_normal(),
        dtype=options.dtype,
        conv_general_dilated=convolution,
    )(x)
    if not folds:
        x = choose(NORMS, "config.model.norm", options.norm)(x, options.dtype, train)
    return activate(x, options) if activates and not (folds and is_relu) else x


class Dropout(nn.Module):
    """Dropout (Srivastava et al., 2014) at a rate that may be traced, as linen's may not.

    Attributes:
        rate: In [0, 1).
        train: Whether to drop.
        is_whole: Whether an image's activations are dropped together.
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
        options: Those of the model.
        train: Whether to normalise by the batch's statistics, and to drop.
        strides: Of its first convolution, per axis; () for 1 each.
        dilations: One for every convolution or unit of the block.
        drop: Rate at which stochastic depth skips a residual unit in training.
    """

    features: int
    options: Options
    train: bool
    strides: tuple[int, ...] = ()
    dilations: tuple[int, ...] = (1, 1)
    drop: float = 0.0

    def steps(self) -> list[tuple[tuple[int, ...], int]]:
        """Returns (strides, dilation) of every convolution or unit."""
        ones = (1,) * self.options.dimensions
        return [(ones if i else self.strides or ones, d) for i, d in enumerate(self.dilations)]

    def convolve(self, x: jax.Array, features: int | None = None, **form: Any) -> jax.Array:
        """Applies `conv_norm` with the block's features, or others."""
        return conv_norm(x, features or self.features, self.options, self.train, **form)

    def activate(self, x: jax.Array) -> jax.Array:
        """Applies the model's activation."""
        return activate(x, self.options)

    def excite(self, x: jax.Array) -> jax.Array:
        """Applies squeeze-excitation where the model has it."""
        reduction = self.options.squeeze_excite
        return SqueezeExcite(reduction, self.options.dtype)(x) if reduction else x

    def add(self, x: jax.Array, y: jax.Array, strides: tuple[int, ...]) -> jax.Array:
        """Adds a unit's result y to its input x, averaged and projected where shapes differ."""
        if any(s > 1 for s in strides):
            x = average_pool(x, strides)
        if x.shape[-1] != y.shape[-1]:
            bare = dataclasses.replace(self.options, conv_bias=False)
            x = conv_norm(x, y.shape[-1], bare, self.train, size=1)
        y = Dropout(self.drop, self.train, is_whole=True)(y)  # of an image (Huang et al., 2016)
        return self.activate(crop(x, y.shape[1:-1]) + y)


class PlainBlock(Block):
    """3x3 convolution, normalisation, activation, in turn (Ronneberger et al., 2015, Fig. 1)."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps x [B, *n, C] to [B, *(n / strides), F]."""
        for strides, dilation in self.steps():
            x = self.convolve(x, strides=strides, dilation=dilation, activates=True)
        return self.excite(x)


class DepthwiseBlock(Block):
    """3x3 convolution of each channel alone, then 1x1 of all (Chollet, 2017), in turn."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps x [B, *n, C] to [B, *(n / strides), F]."""
        for strides, dilation in self.steps():
            c = x.shape[-1]
            x = self.convolve(x, c, strides=strides, dilation=dilation, groups=c)
            x = self.convolve(x, size=1, activates=True)
        return self.excite(x)


class ResidualBlock(Block):
    """Units of two 3x3 convolutions that add to their input (He et al., 2016, Fig. 2)."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps x [B, *n, C] to [B, *(n / strides), F]."""
        for strides, dilation in self.steps():
            y = self.convolve(x, strides=strides, dilation=dilation, activates=True)
            y = self.convolve(y, dilation=dilation)
            x = self.add(x, self.excite(y), strides)
        return x


class BottleneckBlock(Block):
    """Units of 1x1, 3x3 and 1x1 convolutions that add to their input (He et al., 2016, Fig. 5)."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps x [B, *n, C] to [B, *(n / strides), F]."""
        narrow = max(1, self.features // 4)
        for strides, dilation in self.steps():
            y = self.convolve(x, narrow, size=1, activates=True)
            y = self.convolve(y, narrow, strides=strides, dilation=dilation, activates=True)
            y = self.convolve(y, size=1)
            x = self.add(x, self.excite(y), strides)
        return x


BLOCKS: dict[str, type[Block]] = {
    "plain": PlainBlock,
    "residual": ResidualBlock,
    "bottleneck": BottleneckBlock,
    "depthwise": DepthwiseBlock,
}


@jax.named_scope("pool")
def average_pool(x: jax.Array, strides: Sequence[int]) -> jax.Array:
    """Takes the mean of every window of pixels; see `max_pool`."""
    b, *spatial, f = x.shape
    split = [m for n, s in zip(spatial, strides, strict=True) for m in (n // s, s)]
    return x.reshape(b, *split, f).mean(tuple(range(2, 2 * len(spatial) + 1, 2)))


POOLS = {"max": max_pool, "average": average_pool, "stride": None}


def crop(x: jax.Array, size: Sequence[int]) -> jax.Array:
    """Cuts the middle out of x [B, *n, F]: [B, *size, F]."""
    starts = [(n - m) // 2 for n, m in zip(x.shape[1:-1], size, strict=True)]
    ends = (a + m for a, m in zip(starts, size, strict=True))
    return lax.slice(x, (0, *starts, 0), (x.shape[0], *ends, x.shape[-1]))
