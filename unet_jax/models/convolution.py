"""3x3 convolutions in the form that is fastest where they run; a drop-in for XLA's own."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from unet_jax.models.batch_norm import channel_sums

DIMENSIONS = ("NHWC", "HWIO", "NHWC")
SAME = ((1, 1), (1, 1))
# Measured on CPU: what Winograd's form needs to be faster than XLA's convolution.
WINOGRAD_CHANNELS = 128  # in and out, at least
BATCH_TILES = 2**23  # numbers in the tiles of a batch, at most; above, picture by picture
PICTURE_TILES = 2**24  # numbers in the tiles of a picture, at most
PICTURE_TILES_GRADIENT = 2**22  # likewise for the kernel's gradient


def convolve(x: jax.Array, kernel: jax.Array, *args: Any, **settings: Any) -> jax.Array:
    """Convolves; for `flax.linen.Conv(conv_general_dilated=convolve)`.

    Everywhere but for 3x3 convolutions of float32 pictures on CPU this is XLA's convolution. There,
    XLA's reaches less of the cores' rate than its matrix product, and least of all where every
    channel is alone; `conv3x3` and `depthwise3x3` take its place, equal up to float32 rounding.

    Args:
        x: [B, *n, C].
        kernel: [*f, C, F].
        *args: As of `jax.lax.conv_general_dilated`.
        **settings: Likewise.

    Returns:
        [B, *m, F].
    """
    strides, padding = args
    ones = (1, 1)
    is_plain_3x3 = (
        kernel.shape[:-2] == (3, 3)
        and x.dtype == jnp.float32
        and tuple(strides) == ones
        and tuple(map(tuple, padding)) == SAME
        and tuple(settings.get("rhs_dilation") or ones) == ones
        and tuple(settings.get("lhs_dilation") or ones) == ones
        and settings.get("precision") is None
    )
    groups = settings.get("feature_group_count", 1)
    if is_plain_3x3 and groups == 1:
        return conv3x3(x, kernel)
    if is_plain_3x3 and groups == x.shape[-1] == kernel.shape[-1]:
        return depthwise3x3(x, kernel)
    return lax.conv_general_dilated(x, kernel, *args, **settings)


@jax.custom_vjp
def conv3x3(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolves pictures with a 3x3 kernel and same padding, fast forward and backward.

    On CPU and with many channels it is Winograd's F(2x2, 3x3), with 2.25 times fewer products
    (Lavin & Gray, 2016, section 4.1). Elsewhere it is XLA's convolution. It has a gradient, but no
    forward-mode derivative.

    Args:
        x: float32 [B, H, W, C].
        kernel: float32 [3, 3, C, F].

    Returns:
        float32 [B, H, W, F].
    """
    if not _suits_winograd(x, kernel.shape, PICTURE_TILES):
        return _xla(x, kernel)
    return lax.platform_dependent(x, kernel, cpu=winograd, default=_xla)


def _suits_winograd(x: jax.Array, kernel_shape: tuple[int, ...], picture_tiles: int) -> bool:
    b, h, w, _ = x.shape
    tiles = 4 * x.size
    # Tiles of pictures that lie on several devices would be gathered on each.
    fits = jax.device_count() == 1 and (tiles <= BATCH_TILES or tiles <= b * picture_tiles)
    return h % 2 == w % 2 == 0 and min(kernel_shape[2:]) >= WINOGRAD_CHANNELS and fits


def _conv3x3_backward(
    residuals: tuple[jax.Array, jax.Array], dy: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = residuals
    # The gradient of the input is a convolution itself, with the kernel turned around.
    dx = conv3x3(dy, jnp.flip(kernel, (0, 1)).swapaxes(2, 3))
    c, features = kernel.shape[2:]
    cpu = _xla_kernel_gradient
    if _suits_winograd(x, kernel.shape, PICTURE_TILES_GRADIENT):
        cpu = winograd_kernel_gradient
    elif features < c and features < 32:
        cpu = _swapped_kernel_gradient
    return dx, lax.platform_dependent(x, dy, cpu=cpu, default=_xla_kernel_gradient)


conv3x3.defvjp(lambda x, kernel: (conv3x3(x, kernel), (x, kernel)), _conv3x3_backward)


@jax.custom_vjp
def depthwise3x3(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolves every channel with its own 3x3 kernel and same padding, fast on CPU.

    There it is a sum of nine shifted products, which XLA makes one pass of; elsewhere it is XLA's
    convolution. It has a gradient, but no forward-mode derivative.

    Args:
        x: float32 [B, H, W, C].
        kernel: float32 [3, 3, 1, C].

    Returns:
        float32 [B, H, W, C].
    """
    return lax.platform_dependent(x, kernel, cpu=_sum_of_shifts, default=_xla_depthwise)


def _depthwise3x3_backward(
    residuals: tuple[jax.Array, jax.Array], dy: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = residuals

    def by_shifts(x: jax.Array, dy: jax.Array) -> jax.Array:
        sums = [channel_sums(shifted * dy) for shifted in _shifts(x)]
        return jnp.stack(sums).reshape(kernel.shape)

    def by_xla(x: jax.Array, dy: jax.Array) -> jax.Array:
        (gradient,) = jax.linear_transpose(lambda kernel: _xla_depthwise(x, kernel), kernel)(dy)
        return gradient

    dx = depthwise3x3(dy, jnp.flip(kernel, (0, 1)))
    return dx, lax.platform_dependent(x, dy, cpu=by_shifts, default=by_xla)


depthwise3x3.defvjp(
    lambda x, kernel: (depthwise3x3(x, kernel), (x, kernel)), _depthwise3x3_backward
)


def _xla_depthwise(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return lax.conv_general_dilated(
        x, kernel, (1, 1), SAME, dimension_numbers=DIMENSIONS, feature_group_count=x.shape[-1]
    )


def _sum_of_shifts(x: jax.Array, kernel: jax.Array) -> jax.Array:
    taps = kernel.reshape(9, 1, 1, 1, -1)
    products = [shifted * tap for shifted, tap in zip(_shifts(x), taps, strict=True)]
    return functools.reduce(jnp.add, products)


def _shifts(x: jax.Array) -> list[jax.Array]:
    """Returns what each of the nine taps sees: [B, H, W, C] of [B, H, W, C]."""
    _, h, w, _ = x.shape
    padded = jnp.pad(x, ((0, 0), *SAME, (0, 0)))
    return [padded[:, i : i + h, j : j + w] for i in range(3) for j in range(3)]


def _xla(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return lax.conv_general_dilated(x, kernel, (1, 1), SAME, dimension_numbers=DIMENSIONS)


def _xla_kernel_gradient(x: jax.Array, dy: jax.Array) -> jax.Array:
    kernel = jax.ShapeDtypeStruct((3, 3, x.shape[-1], dy.shape[-1]), x.dtype)
    (gradient,) = jax.linear_transpose(lambda kernel: _xla(x, kernel), kernel)(dy)
    return gradient


def _swapped_kernel_gradient(x: jax.Array, dy: jax.Array) -> jax.Array:
    """Correlates dy with x instead of x with dy, so that the matrix product has C columns, not F.

    Twice as fast on CPU where F is small.
    """
    gradient = lax.conv_general_dilated(
        dy, x, (1, 1), SAME, dimension_numbers=("CHWN", "IHWO", "NHWC")
    )  # [F, 3, 3, C]
    return jnp.flip(gradient, (1, 2)).transpose(1, 2, 3, 0)


def winograd(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolves with a 3x3 kernel and same padding, by tiles of 2x2 output pixels.

    Y = A'[(G k G') * (B'd B)]A per tile of 4x4 input pixels (Lavin & Gray, 2016, eq. 9); the
    elementwise products over all tiles and channels are 16 matrix products. Where the tiles of the
    batch would not stay in the cores' cache, pictures come one by one.

    Args:
        x: float32 [B, H, W, C], H and W even.
        kernel: float32 [3, 3, C, F].

    Returns:
        float32 [B, H, W, F].
    """
    spread = _spread_kernel(kernel)

    def convolve_all(x: jax.Array) -> jax.Array:
        return _from_products(jnp.einsum("tbhwc,tcf->tbhwf", _tiles(x), spread))

    if 4 * x.size <= BATCH_TILES:
        return convolve_all(x)
    return lax.map(lambda picture: convolve_all(picture[None])[0], x)


def winograd_kernel_gradient(x: jax.Array, dy: jax.Array) -> jax.Array:
    """Goes back through `winograd`, whose transforms are linear, to its kernel.

    Args:
        x: float32 [B, H, W, C], H and W even.
        dy: float32 [B, H, W, F].

    Returns:
        float32 [3, 3, C, F].
    """

    def products(x: jax.Array, dy: jax.Array) -> jax.Array:
        return jnp.einsum("tbhwc,tbhwf->tcf", _tiles(x), _to_products(dy))

    if 4 * x.size <= BATCH_TILES:
        return _gather_kernel(products(x, dy))

    def add(total: jax.Array, pair: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        x, dy = pair
        return total + products(x[None], dy[None]), None

    start = jnp.zeros((16, x.shape[-1], dy.shape[-1]), x.dtype)
    return _gather_kernel(lax.scan(add, start, (x, dy))[0])


def _tiles(x: jax.Array) -> jax.Array:
    """Returns B'd B of every tile: [16, B, H/2, W/2, C] of [B, H, W, C]."""
    _, h, w, _ = x.shape
    padded = jnp.pad(x, ((0, 0), *SAME, (0, 0)))
    d = [[padded[:, i : i + h : 2, j : j + w : 2] for j in range(4)] for i in range(4)]

    def transform(a: list[jax.Array]) -> list[jax.Array]:
        return [a[0] - a[2], a[1] + a[2], a[2] - a[1], a[1] - a[3]]

    rows = [transform(row) for row in d]
    columns = [transform([row[j] for row in rows]) for j in range(4)]
    return jnp.stack([columns[j][i] for i in range(4) for j in range(4)])


def _spread_kernel(kernel: jax.Array) -> jax.Array:
    """Returns G k G': [16, C, F] of [3, 3, C, F]."""

    def transform(a: list[jax.Array]) -> list[jax.Array]:
        even, odd = (a[0] + a[2]) / 2, a[1] / 2
        return [a[0], even + odd, even - odd, a[2]]

    rows = transform([kernel[i] for i in range(3)])
    return jnp.stack([u for row in rows for u in transform([row[j] for j in range(3)])])


def _gather_kernel(products: jax.Array) -> jax.Array:
    """Returns G'u G, the adjoint of `_spread_kernel`: [3, 3, C, F] of [16, C, F]."""

    def transform(a: list[jax.Array]) -> list[jax.Array]:
        even, odd = (a[1] + a[2]) / 2, (a[1] - a[2]) / 2
        return [a[0] + even, odd, even + a[3]]

    u = products.reshape(4, 4, *products.shape[1:])
    rows = transform([u[i] for i in range(4)])
    return jnp.stack([jnp.stack(transform([row[j] for j in range(4)])) for row in rows])


def _from_products(products: jax.Array) -> jax.Array:
    """Returns A'm A of every tile: [B, H, W, F] of [16, B, H/2, W/2, F]."""
    _, b, h, w, features = products.shape
    m = products.reshape(4, 4, b, h, w, features)

    def transform(a: list[jax.Array]) -> list[jax.Array]:
        return [a[0] + a[1] + a[2], a[1] - a[2] - a[3]]

    rows = transform([m[i] for i in range(4)])  # two of [4, B, H/2, W/2, F]
    y = [jnp.stack(transform([row[j] for j in range(4)]), axis=3) for row in rows]
    return jnp.stack(y, axis=2).reshape(b, 2 * h, 2 * w, features)


def _to_products(dy: jax.Array) -> jax.Array:
    """Returns A y A', the adjoint of `_from_products`: [16, B, H/2, W/2, F] of [B, H, W, F]."""
    y = [[dy[:, i::2, j::2] for j in range(2)] for i in range(2)]

    def transform(a: list[jax.Array]) -> list[jax.Array]:
        return [a[0], a[0] + a[1], a[0] - a[1], -a[1]]

    rows = [transform(row) for row in y]
    columns = [transform([rows[0][j], rows[1][j]]) for j in range(4)]
    return jnp.stack([columns[j][i] for i in range(4) for j in range(4)])
