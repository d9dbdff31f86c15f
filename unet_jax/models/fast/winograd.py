"""3x3 convolutions by Winograd's minimal filtering (Lavin & Gray, 2016, section 4.1)."""

import jax
import jax.numpy as jnp
from jax import lax

from unet_jax.models.fast.plain import SAME


def winograd(x: jax.Array, kernel: jax.Array, *, by_image: bool = False) -> jax.Array:
    """Convolves with a 3x3 kernel and same padding, by tiles of 2x2 output pixels.

    Y = A'[(G k G') * (B'd B)]A per tile of 4x4 input pixels (Lavin & Gray, 2016, eq. 9); the
    elementwise products over all tiles and channels are 16 matrix products.

    Args:
        x: float32 [B, H, W, C], H and W even.
        kernel: float32 [3, 3, C, F].
        by_image: Whether images come one by one, so that their tiles stay in the cores' cache.

    Returns:
        float32 [B, H, W, F].
    """
    return _convolve("tbhwc,tcf->tbhwf", x, kernel, by_image)


def winograd_data_gradient(
    dy: jax.Array, kernel: jax.Array, *, by_image: bool = False
) -> jax.Array:
    """Goes back through `winograd` to its images.

    That is the convolution of dy with the kernel turned around, its channels swapped. The matrix
    products sum over F as the kernel lies: with swapped channels its transform would read whole
    columns, which for wide layers takes longer than the products.

    Args:
        dy: float32 [B, H, W, F], H and W even.
        kernel: float32 [3, 3, C, F].
        by_image: Whether images come one by one.

    Returns:
        float32 [B, H, W, C].
    """
    return _convolve("tbhwf,tcf->tbhwc", dy, jnp.flip(kernel, (0, 1)), by_image)


def _convolve(products: str, x: jax.Array, kernel: jax.Array, by_image: bool) -> jax.Array:
    spread = _spread_kernel(kernel)

    def convolve_all(x: jax.Array) -> jax.Array:
        return _from_products(jnp.einsum(products, _tiles(x), spread))

    if not by_image:
        return convolve_all(x)
    return lax.map(lambda image: convolve_all(image[None])[0], x)


def winograd_kernel_gradient(x: jax.Array, dy: jax.Array, *, by_image: bool = False) -> jax.Array:
    """Goes back through `winograd`, whose transforms are linear, to its kernel.

    Args:
        x: float32 [B, H, W, C], H and W even.
        dy: float32 [B, H, W, F].
        by_image: Whether images come one by one.

    Returns:
        float32 [3, 3, C, F].
    """

    def products(x: jax.Array, dy: jax.Array) -> jax.Array:
        return jnp.einsum("tbhwc,tbhwf->tcf", _tiles(x), _to_products(dy))

    if not by_image:
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
