"""Padding and resizing of images whose sizes are not known when a program is made.

A size is an integer, or a symbol of `jax.export`, of which few comparisons are known: what a
network reads is a multiple of a symbol of its own, and pixels are added to an image, and cut off,
by their indices.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from unet_jax.data.images import round_up
from unet_jax.models.unet import UNet

Length = Any  # an int, or a symbol
OCTAVES = 12  # of lengths above 256 pixels that `images.round_up` rounds to four steps each
BITS = (8, 7, 7)  # of Pillow's weights of 22 bits, in parts whose sums float32 holds exactly


class Grid(NamedTuple):
    """The sizes that a network takes: multiple * k + read pixels, k = 1, 2, ..., along each axis.

    Attributes:
        multiple: Pixels of a step k.
        read: Pixels more, which are read.
        given: Pixels more, which have logits.
        rounds: Whether `images.round_up` comes first.
    """

    multiple: int
    read: int
    given: int
    rounds: bool

    def steps(self, n: int) -> int:
        """Returns the k that is read to have logits for n pixels."""
        n = round_up(n) if self.rounds else n
        return max(1, -(-(n - self.given) // self.multiple))

    def text(self, n: str) -> str:
        """Writes `steps` as arithmetic of a symbol, as `jax.export` writes that of its symbols."""
        rounded = _round_up_text(n) if self.rounds else n
        shifted = f"{rounded} + {self.multiple - 1 - self.given}"
        return f"max(1, floordiv({shifted}, {self.multiple}))"


def make_grid(model: UNet, *, rounds: bool) -> Grid:
    """Makes the grid of a model; see `Grid`."""
    m = model.multiple()
    if model.padding == "same":
        return Grid(m, 0, 0, rounds)
    read, given = model.input_size(1)  # the least; each m more give m more
    return Grid(m, read - m, given - m, rounds)


def _round_up_text(n: str) -> str:
    """Writes `images.round_up`: each octave adds what a length has in it, in four steps."""
    terms = [f"32*floordiv(min({n}, 256) + 31, 32)"]
    for octave in range(OCTAVES):
        start = 256 * 2**octave
        step, inside = start // 4, f"max({n}, {start}) - {start}"
        if octave < OCTAVES - 1:  # the last has no end
            inside = f"min({inside}, {start})"
        terms.append(f"{step}*floordiv({inside} + {step - 1}, {step})")
    return " + ".join(terms)


def pad(image: jax.Array, canvas: Sequence[Length], read: Sequence[Length], mode: str) -> jax.Array:
    """Adds what a network reads beyond images, as `fits.Reach.pad` does.

    Args:
        image: [B, *n, C].
        canvas: Pixels with logits per axis.
        read: Pixels to read per axis.
        mode: "edge" or "symmetric", of `np.pad`.

    Returns:
        [B, *read, C].
    """
    for axis, (given, length) in enumerate(zip(canvas, read, strict=True), start=1):
        n = image.shape[axis]
        place = jnp.arange(length, dtype=jnp.int32) - (length - given) // 2
        if mode == "edge":
            place = jnp.clip(place, 0, n - 1)
        else:  # mirrored again and again, with the edge twice
            place = place % (2 * n)
            place = jnp.minimum(place, 2 * n - 1 - place)
        image = jnp.take(image, place, axis=axis, mode="clip")
    return image


def cut(logits: jax.Array, size: Sequence[Length]) -> jax.Array:
    """Cuts logits [B, *m, K] to [B, *size, K]."""
    for axis, n in enumerate(size, start=1):
        logits = jnp.take(logits, jnp.arange(n, dtype=jnp.int32), axis=axis, mode="clip")
    return logits


def resize(image: jax.Array, size: Sequence[int]) -> jax.Array:
    """Resizes images to known sizes, as `data.resize.resize_image` does.

    Args:
        image: [B, *n, C]; with values of uint8 as integers in float32, or others as they are.
        size: [*m].

    Returns:
        float32 [B, *m, C]; whole numbers where the type of `image` is one of integers.
    """
    is_rgb = len(size) == 2 and image.dtype == jnp.uint8 and image.shape[-1] == 3
    values = image.astype(jnp.float32)
    if is_rgb:
        for axis in (1, 0):  # Pillow's order, with a rounding after each
            values = _along(values, _exact_sums, axis, size[axis])
        return values
    for axis, count in enumerate(size):
        values = _along(values, _sums, axis, count)
    return jnp.round(values) if jnp.issubdtype(image.dtype, jnp.integer) else values


def _along(values: jax.Array, sums: Any, axis: int, count: int) -> jax.Array:
    """Applies sums(values [..., n], weights [m, n]) along an axis of pixels."""
    last = jnp.moveaxis(values, axis + 1, -1)
    return jnp.moveaxis(sums(last, _weights(last.shape[-1], count)), -1, axis + 1)


def _weights(n: Length, m: int) -> jax.Array:
    """Returns how much each of n pixels weighs in each of m, as integers [m, n].

    Pixel x of n lies |(2 x + 1) m - (2 y + 1) n| / 2 m of its lengths from the middle of pixel y of
    m; a triangle is wide max(1, n / m) to either side.
    """
    x, y = jnp.arange(n, dtype=jnp.int32)[None], jnp.arange(m, dtype=jnp.int32)[:, None]
    length = jnp.asarray(n, jnp.int32)
    distance = jnp.abs((2 * x + 1) * m - (2 * y + 1) * length)
    return jnp.maximum(2 * jnp.maximum(length, m) - distance, 0)


def _sums(values: jax.Array, weights: jax.Array) -> jax.Array:
    shares = weights.astype(jnp.float32)
    shares = shares / jnp.sum(shares, axis=1, keepdims=True)
    return jnp.einsum("...n,mn->...m", values, shares, precision=jax.lax.Precision.HIGHEST)


def _exact_sums(values: jax.Array, weights: jax.Array) -> jax.Array:
    """Sums as Pillow does for 8 bits: weights of 22 bits, sums of integers, rounded to 0 to 255.

    The bits of weights w / sum w come by long division, those of every part as one number below
    256: its products with pixels and their sums are integers that float32 holds, whatever the order
    and the precision of the products, for lengths that become up to 250 times shorter.
    """
    total = jnp.sum(weights, axis=1, keepdims=True)
    rest, bits = weights, jnp.zeros_like(weights)
    for step in (4, 4, 4, 4, 4, 2):  # few at once, so that int32 holds the rests
        rest = rest << step
        bits, rest = (bits << step) + rest // total, rest % total
    bits = bits + (2 * rest >= total)
    top = sum(BITS[1:])
    # Weight 1 has a bit more than the parts: it is 256 of the first one, which is exact too.
    parts, shift = [], top
    for width in BITS[1:]:
        shift -= width
        parts.append((bits >> shift) & (2**width - 1))
    first, second, third = (
        _product(values, part).astype(jnp.int32) for part in (bits >> top, *parts)
    )
    first = first + ((second + (third >> BITS[2])) >> BITS[1])
    whole = (first + 2 ** (21 - top)) >> (22 - top)
    return jnp.clip(whole, 0, 255).astype(jnp.float32)


def _product(values: jax.Array, weights: jax.Array) -> jax.Array:
    return jnp.einsum("...n,mn->...m", values, weights.astype(jnp.float32))
