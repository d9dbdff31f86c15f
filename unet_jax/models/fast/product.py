"""The product of every pixel's channels with a matrix: a transposed convolution with f = s."""

import jax
import jax.numpy as jnp

from unet_jax.models.fast import choice


def multiply(x: jax.Array, matrix: jax.Array) -> jax.Array:
    """Multiplies the channels of every pixel with a matrix.

    Args:
        x: [B, *n, C].
        matrix: [C, F].

    Returns:
        [B, *n, F].
    """
    if choice.keeps_pixels_together():
        return _multiply(x, matrix)
    return jnp.einsum("...c,cf->...f", x, matrix)


@jax.custom_vjp
def _multiply(x: jax.Array, matrix: jax.Array) -> jax.Array:
    """Does what `multiply` does; it has no forward-mode derivative.

    Of gradients that sum over batch, rows and columns one by one, XLA's CPU backend first lays all
    pixels out anew, which takes longer than the product. All pixels as one axis need no such copy.
    """
    return jnp.einsum("...c,cf->...f", x, matrix)


def _backward(residuals: tuple[jax.Array, jax.Array], dy: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, matrix = residuals
    pixels, dpixels = x.reshape(-1, x.shape[-1]), dy.reshape(-1, dy.shape[-1])
    dx = jnp.einsum("pf,cf->pc", dpixels, matrix)
    return dx.reshape(x.shape), jnp.einsum("pc,pf->cf", pixels, dpixels)


_multiply.defvjp(lambda x, matrix: (_multiply(x, matrix), (x, matrix)), _backward)
