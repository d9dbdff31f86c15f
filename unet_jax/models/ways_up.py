"""Ways up: the modules that bring the decoder from one level to the next finer one."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from unet_jax.models.upsample import Geometry, depth_to_space, space_to_depth, transpose_conv

INITIALS = ("random", "bilinear")
UPS = ("transpose", "bilinear", "nearest", "pixel_shuffle", "unpool")


class TransposeConv(nn.Module):
    """Transposed convolution to `strides` times the size; see `upsample.transpose_conv`.

    Where f - 2p is below s, output padding makes up for it.

    Attributes:
        features: F, output channels.
        dtype: Type of the computation; parameters stay float32.
        strides: s per axis.
        filters: f per axis; None for the strides, so that placements do not overlap.
        paddings: p per axis; None for 0.
        initial: "random", or "bilinear" for a random 1x1 convolution of a bilinear interpolation
            (Long et al., 2015, section 4).
        use_bias: Whether to add one.
    """

    features: int
    dtype: str
    strides: tuple[int, ...] = (2, 2)
    filters: tuple[int, ...] | None = None
    paddings: tuple[int, ...] | None = None
    initial: str = "random"
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps x [B, *n, C] to [B, *(s * n), F]; larger by f - 2p - s where that is above 0."""
        filters = self.filters or self.strides
        paddings = self.paddings or (0,) * len(filters)
        missing = [
            max(0, s - f + 2 * p) for f, p, s in zip(filters, paddings, self.strides, strict=True)
        ]
        init = _bilinear_init if self.initial == "bilinear" else _per_output_init
        shape = (*filters, x.shape[-1], self.features)
        kernel = self.param("kernel", lambda key: init(key, shape, self.strides))
        bias = (
            self.param("bias", nn.initializers.zeros, (self.features,)) if self.use_bias else None
        )
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        return transpose_conv(
            x, kernel, stride=self.strides, padding=paddings, output_padding=missing, bias=bias
        )


def _per_output_init(key: jax.Array, shape: tuple[int, ...], strides: tuple[int, ...]) -> jax.Array:
    # An output pixel sums about f / s taps per axis, so its fan-in is C times these, not f * C.
    *taps, c, features = shape
    seen = math.prod(max(1.0, f / s) for f, s in zip(taps, strides, strict=True))
    init = nn.initializers.variance_scaling(1 / seen, "fan_in", "truncated_normal")
    flat = init(key, (c, math.prod(taps) * features)).reshape(c, *taps, features)
    return jnp.moveaxis(flat, 0, -2)


def _bilinear_init(key: jax.Array, shape: tuple[int, ...], strides: tuple[int, ...]) -> jax.Array:
    *taps, c, features = shape
    mix = nn.initializers.lecun_normal()(key, (c, features))
    window = np.ones(())
    for f, s in zip(taps, strides, strict=True):
        distance = np.abs(np.arange(f) - (f - 1) / 2)
        window = np.multiply.outer(window, np.maximum(0.0, 1 - distance / s))
    return jnp.asarray(window[..., None, None], jnp.float32) * mix.reshape(
        (1,) * len(taps) + mix.shape
    )


def resize_nearest(x: jax.Array, strides: tuple[int, ...]) -> jax.Array:
    """Repeats every pixel: x [B, *n, C] to [B, *(s * n), C]."""
    for axis, s in enumerate(strides, start=1):
        x = jnp.repeat(x, s, axis=axis)
    return x


def resize_bilinear(x: jax.Array, strides: tuple[int, ...]) -> jax.Array:
    """Interpolates linearly along every axis, pixel centres at halves, edges repeated.

    Every output pixel is a weighted sum of its two nearest input pixels, computed for all pixels of
    one phase at once; equal to `jax.image.resize`, which multiplies with n x (s n) matrices.

    Args:
        x: [B, *n, C].
        strides: s per axis.

    Returns:
        [B, *(s * n), C].
    """
    for axis, s in enumerate(strides, start=1):
        n = x.shape[axis]
        edge = [(1, 1) if i == axis else (0, 0) for i in range(x.ndim)]
        padded = jnp.pad(x, edge, mode="edge")
        before, here, after = (
            jax.lax.slice_in_dim(padded, start, start + n, axis=axis) for start in range(3)
        )
        phases = []
        for r in range(s):
            at = (r + 0.5) / s - 0.5  # where the output pixel lies between input pixels
            near = before if at < 0 else after
            phases.append((1 - abs(at)) * here + abs(at) * near)
        x = jnp.stack(phases, axis=axis + 1)
        x = x.reshape(*x.shape[:axis], n * s, *x.shape[axis + 2 :])
    return x


class ResizeConv(nn.Module):
    """Interpolation followed by a 3x3 convolution (Odena et al., 2016).

    Attributes:
        features: F.
        dtype: Type of the computation.
        strides: s per axis.
        nearest: Whether to repeat pixels instead of interpolating.
    """

    features: int
    dtype: str
    strides: tuple[int, ...]
    nearest: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps x [B, *n, C] to [B, *(s * n), F]."""
        resize = resize_nearest if self.nearest else resize_bilinear
        x = resize(x.astype(self.dtype), self.strides)
        return nn.Conv(self.features, (3,) * len(self.strides), dtype=self.dtype)(x)


class PixelShuffle(nn.Module):
    """A 1x1 convolution to s channels per axis, moved to pixels (Shi et al., 2016).

    Initialised so that it repeats pixels at first (ICNR: Aitken et al., 2017), without the
    checkerboard of independent phases.

    Attributes:
        features: F.
        dtype: Type of the computation.
        strides: s per axis.
    """

    features: int
    dtype: str
    strides: tuple[int, ...]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps x [B, *n, C] to [B, *(s * n), F]."""
        phases = math.prod(self.strides)

        def icnr(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype) -> jax.Array:
            one = nn.initializers.he_normal()(key, (*shape[:-1], self.features), dtype)
            return jnp.tile(one, (1,) * (len(shape) - 1) + (phases,))

        ones = (1,) * len(self.strides)
        conv = nn.Conv(phases * self.features, ones, kernel_init=icnr, dtype=self.dtype)
        return depth_to_space(conv(x), self.strides)


class Unpool(nn.Module):
    """A 1x1 convolution, its results placed where the encoder's maxima were (Noh et al., 2015).

    Attributes:
        features: F, equal to the channels of the encoder at this level.
        dtype: Type of the computation.
        strides: s per axis.
    """

    features: int
    dtype: str
    strides: tuple[int, ...]

    @nn.compact
    def __call__(self, x: jax.Array, skip: jax.Array) -> jax.Array:
        """Maps x [B, *n, C] and the encoder's activations [B, *(s * n), F] to [B, *(s * n), F]."""
        x = nn.Conv(self.features, (1,) * len(self.strides), dtype=self.dtype)(x)
        return max_unpool(x, skip, self.strides)


def max_unpool(x: jax.Array, pooled_from: jax.Array, strides: tuple[int, ...]) -> jax.Array:
    """Places values where max pooling found the maxima, zeros elsewhere.

    Args:
        x: [B, *n, F].
        pooled_from: [B, *(s * n), F]; of equal maxima in a window the first counts.
        strides: s per axis.

    Returns:
        [B, *(s * n), F].
    """
    b, *spatial, features = x.shape
    phases = math.prod(strides)
    windows = _windows(pooled_from, strides)  # [B, *n, phases, F]
    where = jnp.argmax(windows, axis=-2, keepdims=True)
    taps = jnp.arange(phases).reshape((1,) * (x.ndim - 1) + (phases, 1))
    placed = jnp.where(where == taps, jnp.expand_dims(x, -2), 0)
    return depth_to_space(placed.reshape(b, *spatial, phases * features), strides)


def _windows(x: jax.Array, strides: tuple[int, ...]) -> jax.Array:
    folded = space_to_depth(x, strides)
    return folded.reshape(*folded.shape[:-1], math.prod(strides), x.shape[-1])


def transpose_geometry(f: int, p: int, s: int) -> Geometry:
    """Describes a decoder stage of filter size f, padding p and stride s.

    Returns:
        The geometry; output padding makes up for f - 2p below s, so that n pixels become s * n.
    """
    return Geometry(f, s, p, max(0, s - f + 2 * p))
