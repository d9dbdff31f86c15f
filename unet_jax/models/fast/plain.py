"""3x3 convolutions, their kernels' gradients and sums over channels, without Winograd's form."""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax

DIMENSIONS = ("NHWC", "HWIO", "NHWC")
SAME = ((1, 1), (1, 1))
BLOCK = 2**14  # pixels that are summed at once, at most: fewer take longer, more round more


def convolution(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolves with a 3x3 kernel by XLA's convolution.

    Args:
        x: [B, H, W, C].
        kernel: [3, 3, C, F].

    Returns:
        [B, H, W, F].
    """
    return lax.conv_general_dilated(x, kernel, (1, 1), SAME, dimension_numbers=DIMENSIONS)


def affine_convolution(x: jax.Array, kernel: jax.Array, bias: jax.Array, floor: float) -> jax.Array:
    """Convolves as `convolution`, adds bias [F], and takes floor where the result is below."""
    return lift(convolution(x, kernel) + along(bias, x), floor)


def has_known_size(x: jax.Array) -> bool:
    """Tells whether the size of x is known, as it is but where a program is made for any."""
    return all(isinstance(n, int) for n in x.shape)


def lift(x: jax.Array, floor: float) -> jax.Array:
    """Takes floor where x is below."""
    return x if floor == -math.inf else jnp.maximum(x, jnp.asarray(floor, x.dtype))


def data_gradient(dy: jax.Array, kernel: jax.Array) -> jax.Array:
    """Goes back through `convolution` to its images: [B, H, W, C] of [B, H, W, F]."""
    return convolution(dy, turned(kernel))


def turned(kernel: jax.Array) -> jax.Array:
    """Returns the kernel that goes back: turned around, with its channels swapped."""
    return jnp.flip(kernel, (0, 1)).swapaxes(2, 3)


def kernel_gradient(x: jax.Array, dy: jax.Array) -> jax.Array:
    """Goes back through `convolution` to its kernel.

    Args:
        x: [B, H, W, C].
        dy: [B, H, W, F].

    Returns:
        [3, 3, C, F].
    """
    kernel = jax.ShapeDtypeStruct((3, 3, x.shape[-1], dy.shape[-1]), x.dtype)
    (gradient,) = jax.linear_transpose(lambda kernel: convolution(x, kernel), kernel)(dy)
    return gradient


def swapped_kernel_gradient(x: jax.Array, dy: jax.Array) -> jax.Array:
    """Does what `kernel_gradient` does by correlating dy with x, instead of x with dy.

    The matrix product then has C columns, not F.
    """
    gradient = lax.conv_general_dilated(
        dy, x, (1, 1), SAME, dimension_numbers=("CHWN", "IHWO", "NHWC")
    )  # [F, 3, 3, C]
    return jnp.flip(gradient, (1, 2)).transpose(1, 2, 3, 0)


def depthwise(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolves every channel with its own 3x3 kernel by XLA's convolution.

    Args:
        x: [B, H, W, C].
        kernel: [3, 3, 1, C].

    Returns:
        [B, H, W, C].
    """
    return lax.conv_general_dilated(
        x, kernel, (1, 1), SAME, dimension_numbers=DIMENSIONS, feature_group_count=x.shape[-1]
    )


def depthwise_kernel_gradient(x: jax.Array, dy: jax.Array) -> jax.Array:
    """Goes back through `depthwise` to its kernel: [3, 3, 1, C] of [B, H, W, C] each."""
    kernel = jax.ShapeDtypeStruct((3, 3, 1, x.shape[-1]), x.dtype)
    (gradient,) = jax.linear_transpose(lambda kernel: depthwise(x, kernel), kernel)(dy)
    return gradient


def sum_of_shifts(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Does what `depthwise` does as a sum of nine products, of which XLA makes one pass."""
    taps = kernel.reshape(9, 1, 1, 1, -1)
    products = [shifted * tap for shifted, tap in zip(shifts(x), taps, strict=True)]
    return functools.reduce(jnp.add, products)


def shifts(x: jax.Array) -> list[jax.Array]:
    """Returns what each of the nine taps sees: [B, H, W, C] of [B, H, W, C]."""
    _, h, w, _ = x.shape
    padded = jnp.pad(x, ((0, 0), *SAME, (0, 0)))
    return [padded[:, i : i + h, j : j + w] for i in range(3) for j in range(3)]


def along(values: jax.Array, x: jax.Array) -> jax.Array:
    """Brings values [C] to as many axes as x [..., C] has."""
    return values.reshape((1,) * (x.ndim - 1) + (-1,))


def channel_moments(x: jax.Array, center: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Sums x - center and its squares over all axes but the last: [C] of [..., C]."""
    centred = x - along(center, x)
    return sum_all(centred), sum_all(centred * centred)


def channel_products(y: jax.Array, x: jax.Array, center: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Sums y, and y * (x - center), over all axes but the last: [C] of [..., C]."""
    return sum_all(y), sum_all(y * (x - along(center, x)))


def sum_all(x: jax.Array) -> jax.Array:
    """Sums [..., n] over all axes but the last: [n]."""
    return x.sum(range(x.ndim - 1))


def multiply_rows(rows: jax.Array) -> jax.Array:
    """Does what `sum_all` does by a matrix product with ones."""
    *rest, _ = rows.shape
    return jnp.tensordot(
        jnp.ones(rest, rows.dtype), rows, len(rest), precision=lax.Precision.HIGHEST
    )


def blocks(x: jax.Array) -> jax.Array:
    """Reshapes [..., W, C] to blocks [N, m, C] of whole rows, of `BLOCK` pixels or one row."""
    *rest, width, channels = x.shape
    rows = math.prod(rest)
    fitting = (n for n in range(1, rows + 1) if rows % n == 0 and n * width <= BLOCK)
    return x.reshape(-1, max(fitting, default=1) * width, channels)


def sum_blocks(x: jax.Array) -> jax.Array:
    """Sums blocks [N, m, C] over N and m: [C], block by block, which rounds less."""
    ones = jnp.ones(x.shape[:2], x.dtype)
    return jnp.einsum("nmc,nm->nc", x, ones, precision=lax.Precision.HIGHEST).sum(0)


def multiply_blocks(x: jax.Array, y: jax.Array) -> jax.Array:
    """Sums x * y over N and m of blocks [N, m, C]: [C], the diagonal of all channels with all."""
    products = jnp.einsum("nmc,nmd->ncd", x, y, precision=lax.Precision.HIGHEST)
    return jnp.diagonal(products.sum(0))
