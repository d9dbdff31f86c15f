"""Steps that take from images what worse cameras, scanners and files do not show."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from scipy import fft

from unet_jax.augment.kinds import Intensity
from unet_jax.augment.resample import along, stretch
from unet_jax.traced import Number, Switch, is_on, is_traced

REACH = 3  # standard deviations of a blur, beyond which is nothing
BLOCK = 8
_ROWS = (
    "16 11 10 16 24 40 51 61",
    "12 12 14 19 26 58 60 55",
    "14 13 16 24 40 57 69 56",
    "14 17 22 29 51 87 80 62",
    "18 22 37 56 68 109 103 77",
    "24 35 55 64 81 104 113 92",
    "49 64 78 87 103 121 120 101",
    "72 92 95 98 112 100 103 99",
)
LUMINANCE = np.array([row.split() for row in _ROWS], np.float32)
"""Quantisation of luminance of JPEG (ITU-T T.81, table K.1)."""


def blur(sigma: float = 0.0, probability: Number = 1.0) -> Intensity | None:
    """Makes a step that blurs by a Gaussian; beyond the edge is the outermost pixel.

    Args:
        sigma: Largest standard deviation in pixels, in [0, 16]; each image draws its own evenly.
        probability: Share of the images that take the step.

    Returns:
        The step; None where it does nothing.
    """
    radius = math.ceil(REACH * sigma)
    steps = np.arange(-radius, radius + 1)

    def change(key: jax.Array, image: jax.Array) -> jax.Array:
        drawn = jnp.maximum(jax.random.uniform(key) * sigma, 1e-3)
        weights = jnp.exp(-0.5 * (steps / drawn) ** 2)
        weights /= weights.sum()
        for axis, n in enumerate(image.shape[:-1]):
            ends = [(radius, radius) if other == axis else (0, 0) for other in range(image.ndim)]
            wide = jnp.pad(image, ends, mode="edge")
            parts = [jax.lax.slice_in_dim(wide, k, k + n, axis=axis) for k in range(len(steps))]
            image = sum((w * part for w, part in zip(weights, parts, strict=True)), jnp.zeros(()))
        return image

    return Intensity(change, probability) if sigma else None


def low_resolution(scale: Number = 1.0, probability: Number = 1.0) -> Intensity | None:
    """Makes a step that shows images as if they had fewer pixels.

    They are shrunk by the nearest pixel and grown again linearly, so does nnU-Net (Isensee et al.,
    2021), which grows them by cubic splines.

    Args:
        scale: Smallest part of the pixels along an axis that is left, in [0.05, 1]; each image
            draws its own evenly between it and 1.
        probability: Share of the images that take the step.

    Returns:
        The step; None where it does nothing.
    """

    def change(key: jax.Array, image: jax.Array) -> jax.Array:
        drawn = jax.random.uniform(key, minval=scale, maxval=1.0)
        for axis, n in enumerate(image.shape[:-1]):
            few = jnp.maximum(jnp.round(n * drawn), 1)
            place = jnp.clip((jnp.arange(n) + 0.5) * few / n - 0.5, 0, few - 1)
            lower = jnp.floor(place)
            part = stretch(place - lower, axis, image.ndim)
            both = lower, jnp.minimum(lower + 1, few - 1)
            sources = [jnp.floor((k + 0.5) * n / few).astype(jnp.int32) for k in both]
            low, high = (jnp.take(image, k, axis=axis, mode="clip") for k in sources)
            image = low + part * (high - low)
        return image

    return Intensity(change, probability) if is_traced(scale) or scale != 1 else None


def ringing(cut: Switch = 0.0, probability: Number = 1.0) -> Intensity | None:
    """Makes a step that cuts high frequencies off, so that edges ring, as in magnetic resonance.

    Of each axis of n pixels, taken as periodic, the frequencies up to K are left: multiplying by
    the kernel sin((2 K + 1) pi d / n) / (n sin(pi d / n)) of Dirichlet at distances d.

    Args:
        cut: Largest part of the frequencies along an axis that is cut off, in [0, 0.9]; each image
            draws its own evenly.
        probability: Share of the images that take the step.

    Returns:
        The step; None where it does nothing.
    """

    def change(key: jax.Array, image: jax.Array) -> jax.Array:
        left = 1 - jax.random.uniform(key) * cut
        for axis, n in enumerate(image.shape[:-1]):
            most = jnp.minimum(jnp.floor(left * n / 2), (n - 1) // 2)
            distances = np.arange(n) - np.arange(n)[:, None]
            sines = n * np.sin(np.pi * distances / n) + np.eye(n)  # 1 at distance 0
            # 2 (2 K + 1) d is taken modulo 2 n, as whole numbers, before it is a float.
            turns = ((2 * most.astype(jnp.int32) + 1) * distances) % (2 * n)
            kernel = jnp.sin(jnp.pi * turns / n) / sines + np.eye(n) * (2 * most + 1) / n
            image = along(kernel, image, axis)
        return jnp.clip(image, 0, 1)

    return Intensity(change, probability) if is_on(cut) else None


def jpeg(quality: Number = 100.0, probability: Number = 1.0) -> Intensity | None:
    """Makes a step that quantises blocks of 8 x 8 pixels as JPEG does.

    Every channel is taken as luminance, and none is subsampled; of a volume every slice is one
    image.

    Args:
        quality: The lowest, in [1, 100], on the scale of libjpeg; each image draws its own evenly
            between it and 100.
        probability: Share of the images that take the step.

    Returns:
        The step; None where it does nothing.
    """
    cosines = fft.dct(np.eye(BLOCK), axis=0, norm="ortho").astype(np.float32)

    def change(key: jax.Array, image: jax.Array) -> jax.Array:
        drawn = jnp.round(jax.random.uniform(key, minval=quality, maxval=100.0))
        scale = jnp.where(drawn < 50, 5000 / drawn, 200 - 2 * drawn)
        table = jnp.clip(jnp.floor((LUMINANCE * scale + 50) / 100), 1, 255)
        *front, height, width, channels = image.shape
        ends = [(0, -n % BLOCK) for n in (height, width)]
        wide = jnp.pad(image, [(0, 0)] * len(front) + [*ends, (0, 0)], mode="edge")
        rows, columns = (n // BLOCK for n in wide.shape[-3:-1])
        blocks = wide.reshape(*front, rows, BLOCK, columns, BLOCK, channels) * 255 - 128
        ways = {"precision": "highest"}
        waves = jnp.einsum("ui,...ricjk,vj->...rucvk", cosines, blocks, cosines, **ways)
        size = table.reshape(*(1,) * (waves.ndim - 4), BLOCK, 1, BLOCK, 1)
        waves = jnp.round(waves / size) * size
        blocks = jnp.einsum("ui,...rucvk,vj->...ricjk", cosines, waves, cosines, **ways)
        found = blocks.reshape(wide.shape)[..., :height, :width, :]
        return jnp.clip((found + 128) / 255, 0, 1)

    changes = is_traced(quality) or quality != 100
    return Intensity(change, probability) if changes else None
